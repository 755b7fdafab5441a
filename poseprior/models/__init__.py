"""The priors."""

from .gaussian.gaussian import GaussianPrior
from .gaussian.mixture import GaussianMixturePrior
from .global_flow.global_flow import GlobalFlow
from .joint_flow.joint_flow import JointFlow
from .order_agnostic.order_agnostic import OrderAgnosticPrior
from .product import ProductPrior
from .vae.vae import BodyVAE, HandVAE, VAEPrior

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
