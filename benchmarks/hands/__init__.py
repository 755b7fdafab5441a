"""Priors of hands beside PCA."""
