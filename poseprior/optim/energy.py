"""Energies of a batch of rows, each a problem of its own, and the minimum that a minimiser reports for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: From (*rows, D) points to (*rows,) energies; row by row.
Energy = Callable[[Tensor], Tensor]
#: From (R',) row numbers to the energy of those rows alone.
Select = Callable[[Tensor], Energy]


@dataclass(frozen=True)
class Minimum:
    """Where a minimiser ended, row by row.

    Attributes:
        point: (R, D), of every row the best point met.
        value: (R,) its energy, never above that of the start.
        converged: (R,) bool: the gradient is below the tolerance, or no descent is left in the precision of the type.
        steps: iterations of the longest row.
    """

    point: Tensor
    value: Tensor
    converged: Tensor
    steps: int


def value_and_gradient(energy: Energy, point: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (R,) and gradients (R, D), detached."""
    with torch.enable_grad():
        leaf = point.detach().requires_grad_()
        value = energy(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient
