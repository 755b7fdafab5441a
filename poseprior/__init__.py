"""Pose priors for SMPL-X bodies and hands: one tensor layout, one density interface.

Everything loads on first use, so that `import poseprior` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
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
    from .pretrained.listing import list_pretrained
    from .pretrained.loading import load
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

#: The modules that define public names; names that are not listed are in `models`.
_HOMES = {
    "FitConfig": "training", "FitResult": "training", "RigNoise": "training",
    "PoseDataset": "io", "read_poses": "io",
    "LatentPosePrior": "prior", "PosePrior": "prior",
    "list_pretrained": "pretrained.listing", "load": "pretrained.loading",
}  # fmt: skip
#: Importing these registers every class that a saved file may name, so that `load` of any class finds it.
_DEFINE_PRIORS = ("models", "rigs")
_SUBMODULES = (
    "compat", "evaluation", "export", "fitting", "importer", "io", "kinematics", "latent", "models", "optim", "params",
    "pretrained", "prior", "recipes", "rigs", "rotations", "scale", "skeleton", "tasks", "training", "viz",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        home = _HOMES.get(name, "models")
        for module in _DEFINE_PRIORS if home in ("models", "prior") else ():
            import_module(f"{__name__}.{module}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})
