"""Posterior weights of the modes that a fit found: Laplace's approximation."""

from __future__ import annotations

import torch
from torch import Tensor

from ...optim import value_and_gradient
from .problem import FitProblem
from .stages import Stage
from .state import BodyState

#: Modes whose body points are closer together than this on average, metres, count as one.
SAME_MODE = 0.02
_DIFFERENCE = 1e-2
_MOST_ROWS = 512


def mode_weights(problem: FitProblem, state: BodyState, stage: Stage, energy: Tensor) -> Tensor:
    """(S, B) weights of modes: proportional to exp(-E) det(H)^(-1/2), by Laplace's approximation.

    H is the Hessian of the energy in the fit's natural steps, from differences of gradients. Its eigenvalues count as at
    least 1e-2, so that a direction that nothing fixes counts the same for all modes. A mode that repeats a better one gets 0.
    The weights say how the posterior mass divides among the modes that were *found*; modes that no start reached have none.

    Args:
        problem, stage: the energy of the last stage.
        state: (S, B) minima, in any order.
        energy: (S, B) their `FitProblem.evidence`: a mode that leaves points out is wide, and its energy alone would make it
            the heavier one.
    """
    log_volume = torch.stack([_half_log_det(problem, state.pick(_row(k, state)), stage) for k in range(len(energy))])
    score = -energy - log_volume
    repeated = repeats(problem.body(state), energy)
    return torch.where(repeated, torch.full_like(score, -torch.inf), score).softmax(0)


def repeats(points: Tensor, energy: Tensor) -> Tensor:
    """(S, B) bool: starts within `SAME_MODE` of one with a lower energy that does not repeat another itself.

    Args:
        points: (S, B, K, 3) metres.
        energy: (S, B).
    """
    order = energy.argsort(0)
    repeated = torch.zeros_like(energy, dtype=torch.bool)
    for place in range(1, len(energy)):
        own = _at(points, order[place])
        for better in range(place):
            near = (_at(points, order[better]) - own).norm(dim=-1).mean(-1) < SAME_MODE
            kept = ~repeated.gather(0, order[better][None])[0]
            again = repeated.gather(0, order[place][None])[0] | (near & kept)
            repeated.scatter_(0, order[place][None], again[None])
    return repeated


def _half_log_det(problem: FitProblem, state: BodyState, stage: Stage) -> Tensor:
    """(B,) half the log-determinant of the Hessian at one start of B bodies."""
    variables = stage.variables
    bodies = state.transl.shape[1]
    size = variables.zero(state).shape[1]
    steps = _DIFFERENCE * torch.eye(size, dtype=state.pose.dtype, device=state.pose.device)
    columns = []
    for some in steps.split(max(1, _MOST_ROWS // bodies)):
        many = state.pick(torch.zeros(2 * len(some), bodies, dtype=torch.long, device=state.pose.device))

        def energy(vector: Tensor, many: BodyState = many) -> Tensor:
            return problem.total(variables.apply(many, vector), stage).flatten()

        both = torch.cat((some, -some))[:, None].expand(-1, bodies, -1).flatten(0, 1)
        gradient = value_and_gradient(energy, both)[1].unflatten(0, (2, len(some), bodies))
        columns.append((gradient[0] - gradient[1]) / (2.0 * _DIFFERENCE))
    hessian = torch.cat(columns).transpose(0, 1).double()
    values = torch.linalg.eigvalsh(0.5 * (hessian + hessian.mT))
    return (0.5 * values.clamp_min(1e-2).log().sum(-1)).to(state.pose)


def _row(number: int, state: BodyState) -> Tensor:
    return torch.full((1, state.transl.shape[1]), number, dtype=torch.long, device=state.pose.device)


def _at(points: Tensor, which: Tensor) -> Tensor:
    return points[which, torch.arange(points.shape[1], device=points.device)]
