"""Training: `fit`, the loop, its options, and what it returns."""

from .config import FitConfig, FitResult
from .fit import fit, start_from
from .rig_noise import RigNoise

__all__ = ["FitConfig", "FitResult", "RigNoise", "fit", "start_from"]
