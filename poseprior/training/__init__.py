"""Training: `fit`, the loop, its options, and what it returns; `adapt`, for the rig of some poses."""

from .adapt import adapt
from .config import FitConfig, FitResult
from .fit import fit, start_from
from .rig_noise import RigNoise

__all__ = ["FitConfig", "FitResult", "RigNoise", "adapt", "fit", "start_from"]
