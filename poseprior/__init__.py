"""Pose priors for SMPL-X bodies and hands: one tensor layout, one density interface."""

from ._version import __version__
from .io import PoseDataset, read_poses
from .models import (
    BodyVAE,
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    HandVAE,
    JointFlow,
    OrderAgnosticPrior,
    ProductPrior,
    VAEPrior,
)
from .pretrained.loading import list_pretrained, load
from .prior import LatentPosePrior, PosePrior
from .training import FitConfig, FitResult

__all__ = [
    "BodyVAE",
    "FitConfig",
    "FitResult",
    "GaussianMixturePrior",
    "GaussianPrior",
    "GlobalFlow",
    "HandVAE",
    "JointFlow",
    "LatentPosePrior",
    "OrderAgnosticPrior",
    "PoseDataset",
    "PosePrior",
    "ProductPrior",
    "VAEPrior",
    "__version__",
    "list_pretrained",
    "load",
    "read_poses",
]
