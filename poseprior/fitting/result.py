"""`BodyFit`: what `fit_body` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..io.fitted import write_fitted
from .body.hand_convention import HandConvention
from .solver.state import BodyState, smplx_params


@dataclass(frozen=True)
class BodyFit:
    """Fitted bodies, the best hypothesis first.

    Attributes:
        energies: (B,) nats by term, of the best hypothesis; their sum is what was minimised.
        converged: (B,) bool, the last minimisation of the best hypothesis reached a point of no descent.
        steps: iterations of all stages.
        weights: (H, B) posterior weight of each hypothesis, summing to 1 for each body; 0 for what repeats a better one.
        num_observed: (B,) points that were measured.
    """

    energies: dict[str, Tensor]
    converged: Tensor
    steps: int
    weights: Tensor
    num_observed: Tensor
    state: BodyState
    convention: HandConvention

    @property
    def params(self) -> dict[str, Tensor]:
        """Keyword arguments for the model, `model(**fit.params)`, of the best hypothesis; hands as the model stores them."""
        return self.hypothesis(0)

    @property
    def pose(self) -> Tensor:
        """(B, 55, 3) rotvecs, hands on the flat hand, of the best hypothesis."""
        return self.state.pose[0]

    @property
    def energy(self) -> Tensor:
        """(B,) nats: the sum of `energies`."""
        return sum(self.energies.values(), self.energies[next(iter(self.energies))].new_zeros(()))

    @property
    def num_hypotheses(self) -> int:
        """H, the hypotheses that were kept."""
        return len(self.state.pose)

    def save(
        self, path: str | Path, *, gender: str = "neutral", fps: float = 30.0, frame_names: Sequence[str] | None = None
    ) -> Path:
        """Write the best hypothesis as an `.npz` for smplx and for readers of AMASS; see `poseprior.io.fitted`."""
        return write_fitted(path, self.params, self.pose, gender=gender, fps=fps, frame_names=frame_names)

    def hypothesis(self, number: int) -> dict[str, Tensor]:
        """Keyword arguments for the model of a hypothesis; 0 is the best."""
        if not 0 <= number < self.num_hypotheses:
            raise ValueError(f"number: expected 0 to {self.num_hypotheses - 1}, got {number}; ask fit_body for more.")
        return smplx_params(self.state, number, self.convention)
