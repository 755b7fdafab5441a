"""Training: `fit`, the loop, its options, and what it returns."""

from .config import FitConfig, FitResult
from .fit import fit, start_from

__all__ = ["FitConfig", "FitResult", "fit", "start_from"]
