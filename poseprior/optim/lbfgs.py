"""Batched L-BFGS: limited-memory BFGS with a backtracking line search (Nocedal and Wright 2006, chapters 3 and 7).

Every row is a problem of its own, whatever it shares a batch with. `torch.optim.LBFGS` solves one problem at a time: its
line search takes one step length for all rows, so that one bad row slows every other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from .._checks import check_number, check_whole
from .._inference_mode import leaves_inference_mode
from .energy import Energy, Minimum, Select, value_and_gradient

_LINE_SEARCH_STEPS = 12
_SUFFICIENT_DECREASE = 1e-4
#: Rows are left out of an evaluation only where a third of them, and at least this many, can be: making the energy of the
#: other rows has a cost of its own.
_FEWEST_LEFT_OUT = 4


@leaves_inference_mode
def lbfgs(
    energy: Energy,
    start: Tensor,
    *,
    iterations: int = 200,
    history: int = 10,
    tolerance: float = 1e-3,
    least_gain: float = 0.0,
    precondition: Callable[[Tensor], Tensor] | None = None,
    select: Select | None = None,
    idle: Tensor | None = None,
) -> Minimum:
    """A local minimum of every row's energy, at or below that of its start. Deterministic.

    Args:
        energy: differentiable, (R, D) to (R,). Where it is not finite, the line search steps back.
        start: (R, D), scaled so that one unit is a natural step.
        iterations: most steps.
        history: pairs of steps and gradient changes that are remembered.
        tolerance: a row is done when its gradient is no longer than this, or no descent is left in its precision.
        least_gain: a row is done too when two steps in a row lower its energy by no more than this.
        precondition: gradients (R, D) times an approximate inverse Hessian of each row, positive definite; what the
            two-loop recursion starts from. None is a multiple of the identity, chosen anew in each step.
        select: gives the energy of some rows alone, so that rows that have converged, or whose line search is over, are
            not evaluated again; None evaluates all rows every time.
        idle: (R,) bool, rows that stay where they start and need not be evaluated: their values mean nothing.

    Raises:
        ValueError: numbers out of range.

    >>> found = lbfgs(lambda x: (x - 3.0).square().sum(-1), torch.zeros(2, 4))
    >>> found.point.round().unique().tolist(), found.converged.tolist()
    ([3.0], [True, True])
    """
    check_whole("iterations", iterations)
    check_whole("history", history, least=1)
    check_number("tolerance", tolerance, least=0.0)
    check_number("least_gain", least_gain, least=0.0)
    resolution = 8.0 * torch.finfo(start.dtype).eps
    point = start.detach()
    evaluate = _Rows(energy, select)
    idle = torch.zeros_like(point[:, 0], dtype=torch.bool) if idle is None else idle
    evaluate.leave_out(idle)
    value, gradient = evaluate(point, ~idle)
    memory: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=history)
    active = (gradient.norm(dim=-1) > tolerance) & ~idle
    small_before = torch.zeros_like(active)
    done = 0
    for _ in range(iterations):
        if not bool(active.any()):
            break
        done += 1
        evaluate.leave_out(~active)
        direction = _descent(gradient, memory, precondition)
        slope = (direction * gradient).sum(-1)
        step = torch.ones_like(value)
        if not memory and precondition is None:
            step = 1.0 / gradient.norm(dim=-1).clamp_min(1.0)
        waiting = active.clone()
        moved, new_value, new_gradient = point, value, gradient
        for _ in range(_LINE_SEARCH_STEPS):
            trial = torch.where(waiting[:, None], point + step[:, None] * direction, moved)
            reached, slope_there = evaluate(trial, waiting)
            good = waiting & (reached <= value + _SUFFICIENT_DECREASE * step * slope)
            moved = torch.where(good[:, None], trial, moved)
            new_value = torch.where(good, reached, new_value)
            new_gradient = torch.where(good[:, None], slope_there, new_gradient)
            waiting = waiting & ~good
            step = torch.where(waiting, _shorter(step, slope, reached - value), step)
            # A row gives up its line search where a step can no longer gain what an evaluation of all rows is worth.
            waiting = waiting & (-step * slope > 0.5 * least_gain)
            if not bool(waiting.any()):
                break
        s, y = moved - point, new_gradient - gradient
        curvature = (s * y).sum(-1)
        useful = curvature > 1e-8 * y.square().sum(-1)
        inverse = torch.where(useful, 1.0 / curvature.where(useful, torch.ones_like(curvature)), 0.0)
        memory.append((s, y, inverse))
        gain = value - new_value
        small = gain <= least_gain
        settled = (gain <= resolution * new_value.abs().clamp_min(1.0)) | (small & small_before)
        active, small_before = active & ~settled & (new_gradient.norm(dim=-1) > tolerance), small
        point, value, gradient = moved, new_value, new_gradient
    return Minimum(point, value, ~active & (torch.isfinite(value) | idle), done)


class _Rows:
    """Evaluates the rows of an energy that are wanted, and all others too where leaving them out gains nothing."""

    def __init__(self, energy: Energy, select: Select | None) -> None:
        self._energy, self._select = energy, select
        self._rows: Tensor | None = None

    def leave_out(self, done: Tensor) -> None:
        """Rows (R,) that are never wanted again."""
        rows = self._fewer(~done)
        if rows is not None:
            assert self._select is not None
            self._rows, self._energy = rows, self._select(rows)

    def __call__(self, point: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (R,) and gradients (R, D) at points (R, D), right in the rows `wanted` (R,) bool."""
        rows, energy = self._fewer(wanted), self._energy
        if rows is None:
            rows = self._rows
        else:
            assert self._select is not None
            energy = self._select(rows)
        if rows is None:
            return value_and_gradient(energy, point)
        some, slope = value_and_gradient(energy, point[rows])
        value, gradient = torch.full_like(point[:, 0], math.inf), torch.zeros_like(point)
        return value.index_copy(0, rows, some), gradient.index_copy(0, rows, slope)

    def _fewer(self, wanted: Tensor) -> Tensor | None:
        """The rows that are wanted, if they are so few that a problem of their own pays."""
        if self._select is None:
            return None
        now = len(wanted) if self._rows is None else len(self._rows)
        if now <= _FEWEST_LEFT_OUT:
            return None
        rows = wanted.nonzero()[:, 0]
        return rows if len(rows) <= min(now * 2 // 3, now - _FEWEST_LEFT_OUT) else None


def _shorter(step: Tensor, slope: Tensor, rise: Tensor) -> Tensor:
    """The next trial of a line search: the minimum of the parabola through what is known, a tenth to half of the step.

    Source: Nocedal and Wright (2006), equation 3.58.

    Args:
        step: (R,) that did not lower the energy enough.
        slope: (R,) derivative along the line at its start, negative.
        rise: (R,) energy at the step minus that at the start; anything where it is not finite.
    """
    bend = rise - step * slope  # above 0 for a step that was too long
    lowest = -0.5 * step.square() * slope / bend
    return torch.where(torch.isfinite(lowest), lowest, 0.5 * step).clamp(0.1 * step, 0.5 * step)


def _descent(
    gradient: Tensor, memory: deque[tuple[Tensor, Tensor, Tensor]], precondition: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """Minus the L-BFGS inverse Hessian times the gradient (two-loop recursion), minus the gradient where that fails."""
    direction = gradient.clone()
    weights = []
    for s, y, inverse in reversed(memory):
        weight = inverse * (s * direction).sum(-1)
        direction = direction - weight[:, None] * y
        weights.append(weight)
    if precondition is None:
        scale = torch.ones_like(gradient[:, 0])
        for _, y, inverse in memory:  # the newest useful pair sets the scale
            known = inverse > 0
            length = (inverse * y.square().sum(-1)).where(known, torch.ones_like(inverse))
            scale = torch.where(known, 1.0 / length, scale)
        direction = direction * scale[:, None]
    else:
        direction = precondition(direction)
    for (s, y, inverse), weight in zip(memory, reversed(weights), strict=True):
        direction = direction + (weight - inverse * (y * direction).sum(-1))[:, None] * s
    downhill = (direction * gradient).sum(-1) > 0
    return -torch.where(downhill[:, None], direction, gradient)
