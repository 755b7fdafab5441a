"""The priors."""

from .gaussian import GaussianPrior
from .global_flow import GlobalFlow
from .joint_flow import JointFlow
from .mixture import GaussianMixturePrior
from .order_agnostic import OrderAgnosticPrior
from .product import ProductPrior
from .vae import BodyVAE, HandVAE, VAEPrior

__all__ = [
    "BodyVAE",
    "GaussianMixturePrior",
    "GaussianPrior",
    "GlobalFlow",
    "HandVAE",
    "JointFlow",
    "OrderAgnosticPrior",
    "ProductPrior",
    "VAEPrior",
]
