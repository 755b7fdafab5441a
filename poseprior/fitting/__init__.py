"""Fitting SMPL-X bodies: energy terms, and a fitting loop."""
