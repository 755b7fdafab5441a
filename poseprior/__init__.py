"""Pose priors for SMPL-X bodies and hands: one tensor layout, one density interface."""

from importlib import import_module
from typing import Any

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
from .training import FitConfig, FitResult, RigNoise

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
    "RigNoise",
    "VAEPrior",
    "__version__",
    "list_pretrained",
    "load",
    "read_poses",
]

#: Submodules that load on first use, so that `import poseprior` stays quick.
_SUBMODULES = (
    "compat", "evaluation", "fitting", "kinematics", "latent", "optim", "params", "recipes", "rigs", "rotations",
    "skeleton", "tasks", "training", "viz",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})
