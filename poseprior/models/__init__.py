"""The priors."""

from .gaussian import GaussianPrior
from .mixture import GaussianMixturePrior

__all__ = ["GaussianMixturePrior", "GaussianPrior"]
