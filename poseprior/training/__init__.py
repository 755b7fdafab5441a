"""Training: `fit`, the loop, its options, and what it returns; `adapt`, for the rig of some poses.

For loops of your own: `start_from`, `BatchSource` and `jittered_rows` give the start, the batches and the held-out poses
that `fit` uses.
"""

from .adapt import adapt
from .batches import BatchSource
from .config import FitConfig, FitResult
from .fit import fit, start_from
from .initial_poses import InitialPoses
from .rig_noise import RigNoise
from .validation import jittered_rows

__all__ = [
    "BatchSource",
    "FitConfig",
    "FitResult",
    "InitialPoses",
    "RigNoise",
    "adapt",
    "fit",
    "jittered_rows",
    "start_from",
]
