"""The priors."""

from .gaussian import GaussianPrior
from .global_flow import GlobalFlow
from .joint_flow import JointFlow
from .mixture import GaussianMixturePrior
from .order_agnostic import OrderAgnosticPrior
from .product import ProductPrior

__all__ = [
    "GaussianMixturePrior",
    "GaussianPrior",
    "GlobalFlow",
    "JointFlow",
    "OrderAgnosticPrior",
    "ProductPrior",
]
