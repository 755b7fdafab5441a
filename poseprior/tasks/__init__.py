"""What people do with a pose prior: check it on poses, adapt it to a rig, score, denoise and interpolate poses.

Everything here goes through `PosePrior.log_prob`, `sample` and, for priors with a latent space, `encode` and `decode`,
so it works with every prior; where one cannot, the error or the result says so.
"""

from ..training.adapt import adapt
from ._check import CheckResult, JointCheck, check
from ._denoise import denoise
from ._hints import Hint
from ._interpolate import interpolate
from ._score import ScoreResult, score

__all__ = [
    "CheckResult", "Hint", "JointCheck", "ScoreResult", "adapt", "check", "denoise", "interpolate", "score",
]  # fmt: skip
