"""How good a prior is: held-out likelihood, calibration, sample metrics, completion."""

from .calibration import Calibration, calibrate, standard_scores
from .completion import COMPLETION_PATTERNS, completion_metrics, moved_keypoint_mask
from .report import evaluate, format_table
from .samples import sample_metrics

__all__ = [
    "COMPLETION_PATTERNS",
    "Calibration",
    "calibrate",
    "completion_metrics",
    "evaluate",
    "format_table",
    "moved_keypoint_mask",
    "sample_metrics",
    "standard_scores",
]
