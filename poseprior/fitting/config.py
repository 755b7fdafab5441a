"""`FitBodyConfig`: options of `fit_body`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._checks import check_choice, check_effect, check_number, check_switch, check_whole

#: Starts, and hypotheses, that one fit keeps of each body.
MOST_STARTS = 4096
_ADAM_RATE = 0.1


@dataclass(frozen=True)
class FitBodyConfig:
    """How `fit_body` searches. Targets and terms decide what is minimised; here only the regularisers change it.

    Attributes:
        optimizer: "lbfgs" (batched, a line search for each body), or "adam": Adam runs the last stage, and L-BFGS goes on
            from where it ends. Bodies whose points in 3D are exact (`sigma` of 5 mm or less) start next to the minimum, and
            L-BFGS alone fits them.
        iterations: upper limit on the steps of the last stage, twice as many for points in 3D that are exact. The stages
            before it only look for the basin of attraction, in at most 13 steps each.
        num_starts: starts of each body, all in one batch: in 2D different facing directions first, then samples of the
            prior, or without a prior draws around the rest pose, N(0, rest_sigma^2 I). None is 16 for 2D keypoints (4
            without a prior); for points in 3D it is 1, or 4 in latent space.
        space: "pose", or "latent" to move the latent of a `LatentPosePrior` in place of its joints.
        fit_shape: move betas, under N(0, I).
        fit_expression: move the expression, under N(0, I), when a face is seen.
        rest_sigma: radians; joints that move and that no term judges stay near the rest pose, N(0, rest_sigma^2 I). None
            leaves them to the data alone. Without a prior this is an L2 regulariser of the whole pose.
        smooth_sigma: for a sequence of one person: standard deviation of the second difference of each rotation
            (radians a frame squared) and of the position (metres, the same number); one shape for all frames. None
            fits every frame alone.
        learning_rate: in the natural steps of the fit (0.2 rad, 5 cm, one unit of a coefficient). Only with "adam".
        tolerance: a body has converged when two steps in a row each lower its energy by no more than this, nats.
        seed: of the samples and draws that starts come from.
    """

    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    iterations: int = 100
    num_starts: int | None = None
    space: Literal["pose", "latent"] = "pose"
    fit_shape: bool = True
    fit_expression: bool = True
    rest_sigma: float | None = 0.3
    smooth_sigma: float | None = None
    learning_rate: float = _ADAM_RATE
    tolerance: float = 0.002
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, ("lbfgs", "adam"))
        check_choice("space", self.space, ("pose", "latent"))
        check_whole("iterations", self.iterations, least=1)
        if self.num_starts is not None:
            check_whole("num_starts", self.num_starts, least=1, most=MOST_STARTS)
        check_whole("seed", self.seed)
        for name in ("fit_shape", "fit_expression"):
            check_switch(name, getattr(self, name))
        for name in ("rest_sigma", "smooth_sigma"):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, least=1e-6, most=1e6)
        check_number("learning_rate", self.learning_rate, above=0.0, most=100.0)
        if self.optimizer == "lbfgs":
            check_effect("learning_rate", self.learning_rate, _ADAM_RATE, "optimizer='lbfgs'", "optimizer='adam'")
        check_number("tolerance", self.tolerance, above=0.0)
