"""Fits of a body to measurements of held-out poses."""
