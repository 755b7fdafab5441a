"""Pose priors for SMPL-X bodies and hands: one tensor layout, one density interface."""

from ._version import __version__
from .io import PoseDataset, read_poses
from .io.pretrained import load
from .models import (
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    JointFlow,
    OrderAgnosticPrior,
    ProductPrior,
)
from .prior import LatentPosePrior, PosePrior
from .training import FitConfig, FitResult

__all__ = [
    "FitConfig",
    "FitResult",
    "GaussianMixturePrior",
    "GaussianPrior",
    "GlobalFlow",
    "JointFlow",
    "LatentPosePrior",
    "OrderAgnosticPrior",
    "PoseDataset",
    "PosePrior",
    "ProductPrior",
    "__version__",
    "load",
    "read_poses",
]
