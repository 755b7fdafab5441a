"""The training loop, its options, and the metrics."""

from .config import FitConfig, FitResult

__all__ = ["FitConfig", "FitResult"]
