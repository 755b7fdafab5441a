"""The priors."""

from .gaussian import GaussianPrior
from .mixture import GaussianMixturePrior
from .product import ProductPrior

__all__ = ["GaussianMixturePrior", "GaussianPrior", "ProductPrior"]
