"""Gaussians and mixtures of Gaussians in the tangent space, with missing joints."""

from .gaussian import GaussianPrior
from .mixture import GaussianMixturePrior

__all__ = ["GaussianMixturePrior", "GaussianPrior"]
