"""The priors: a package per family, and what they are built from.

`charts` are coordinates of rotations, `shared` holds parts that several families use, `fused` hand-written kernels that
only make frozen priors faster.
"""

from .gaussian import GaussianMixturePrior, GaussianPrior
from .global_flow import GlobalFlow
from .joint_flow import JointFlow
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
