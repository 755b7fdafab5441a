"""`Outcome`: where bodies ended."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .state import BodyState


@dataclass(frozen=True)
class Outcome:
    """Where bodies ended.

    Attributes:
        state: (S, B).
        converged: (S B,) bool, whether a minimum was reached and no other attempt ended clearly lower.
        steps: iterations.
    """

    state: BodyState
    converged: Tensor
    steps: int
