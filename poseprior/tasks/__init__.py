"""What people do with a pose prior: score poses, denoise them, interpolate between them.

Everything here goes through `PosePrior.log_prob`, `sample` and, for priors with a latent space, `encode` and `decode`,
so it works with every prior; where one cannot, the error or the result says so.
"""

from ._adapt import adapt
from ._denoise import denoise
from ._interpolate import interpolate
from ._score import ScoreResult, score

__all__ = ["ScoreResult", "adapt", "denoise", "interpolate", "score"]
