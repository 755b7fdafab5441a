"""Fits from the measured points in 3D themselves, by inverse kinematics.

A tolerant outlier threshold lets a limb that starts far from its points take them for outliers, the more so the smaller
the noise that the user expects. Bones that point where the points are need no tolerance: all points count, and what
remains is a short way in one basin. `fit_from_points` is the whole fit where the points are exact; `restart` is another
try for bodies that came through the stages of a fit and leave points out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .inverse_kinematics import point_bones
from .minimise import minimise
from .problem import FitProblem
from .stages import Stage
from .state import BodyState

_STEPS = 25
#: A restart is promising when its farthest point is nearer than this, metres, or than this share of where it is now.
_NEAR, _NEARER = 0.1, 0.5
#: The threshold of the first steps, in units of the farthest point's distance: no point is an outlier.
_TOLERANCE = 2.0
#: Energies so many nats apart, and no less, are of different minima.
_CLEARLY = 0.5


#: Standard deviation of points, metres, up to which they say more of a pose than where it starts.
_EXACT = 0.005
_FEWEST_POINTS = 3
_MOST_LEFT_OUT = 3
#: Standard deviation, metres, with which points count at first: a stiff chain turns about its bones in small steps only.
_LOOSE, _LOOSE_STEPS = 0.005, 25


@dataclass(frozen=True)
class Outcome:
    """Where bodies ended.

    Attributes:
        state: (S, B).
        converged: (S B,) bool, whether a minimum was reached that no other try was clearly below.
        steps: iterations.
    """

    state: BodyState
    converged: Tensor
    steps: int


def fit_from_points(
    problem: FitProblem, start: BodyState, stage: Stage, consistent: Callable[[BodyState], BodyState]
) -> tuple[Outcome, Tensor]:
    """Fit bodies whose points are exact, and say which of them (B,) that reached: all points are within the threshold.

    Args: as of `restart`.
    """
    bodies = start.transl.shape[1]
    rows = torch.arange(bodies, device=start.transl.device)
    done = torch.zeros(bodies, dtype=torch.bool, device=rows.device)
    nothing = Outcome(start, torch.zeros_like(done), 0), done
    if problem.noise_in_3d() > _EXACT or not problem.can_split(bodies):
        return nothing
    with torch.no_grad():
        tries = consistent(point_bones(problem, start, stage.chosen))
        wanted = (_farthest(problem, tries, stage.chosen)[0] < _NEAR) & (problem.num_points() >= _FEWEST_POINTS)
    if not bool(wanted.any()):
        return nothing
    rows, tries = _narrowed(rows, wanted, tries, True)
    part, own = problem.of_bodies(rows), stage.rows(rows, bodies)
    tries, steps = _settled(part, tries, own)
    with torch.no_grad():
        wanted = wanted.index_copy(0, rows, part.num_outliers(tries)[0] == 0)
    if not bool(wanted.any()):
        return nothing
    rows, tries = _narrowed(rows, wanted, tries, True)
    part, own = problem.of_bodies(rows), stage.rows(rows, bodies)
    tries, last, count = minimise(part, tries, own, near=True)
    with torch.no_grad():
        reached = (part.num_outliers(tries)[0] == 0) & torch.isfinite(part.total(tries, own)[0])
        converged = torch.zeros_like(done).index_copy(0, rows, last.converged)
        outcome = Outcome(start.replaced(rows, tries), converged, steps + count)
    return outcome, done.index_copy(0, rows, reached)


def restart(
    problem: FitProblem, state: BodyState, converged: Tensor, start: BodyState, stage: Stage,
    consistent: Callable[[BodyState], BodyState],
) -> Outcome:  # fmt: skip
    """Try again where points were left out, and take what has the lower evidence (`FitProblem.evidence`).

    Args:
        problem: what is fitted.
        state: (1, B) bodies after the stage.
        converged: (B,) bool.
        start: (1, B) bodies where the fit began.
        stage: the stage of the final energies.
        consistent: makes latents and hand coefficients those of a state's pose.
    """
    bodies = len(converged)
    split = problem.can_split(bodies)
    with torch.no_grad():
        wanted = problem.num_outliers(state)[0] > 0
        rows = wanted.nonzero()[:, 0] if split else torch.arange(bodies, device=wanted.device)
        if not bool(wanted.any()):
            return Outcome(state, converged, 0)
        part, before = _of(problem, state, rows, split)
        chosen = stage.rows(rows, bodies).chosen
        tries, chosen = _plausible(part, before.join(start.rows(rows)), chosen)
        tries = consistent(tries)
        near = _farthest(part, tries, chosen).amin(0) < (_NEARER * _farthest(part, before, chosen)[0]).clamp_min(_NEAR)
        wanted = wanted.index_copy(0, rows, near & wanted[rows])
    if not bool(wanted.any()):
        return Outcome(state, converged, 0)
    if split:
        chosen = [points[wanted[rows]] for points in chosen]
    rows, tries = _narrowed(rows, wanted, tries, split)
    part, before = _of(problem, state, rows, split)
    own = stage.rows(rows, bodies)
    tries, steps = _settled(part, tries, replace(own, chosen=chosen), loose=False)
    with torch.no_grad():
        evidence, present = (torch.nan_to_num(part.evidence(s, own), nan=torch.inf) for s in (tries, before))
        best = evidence.argmin(0, keepdim=True)
        tries, evidence = tries.pick(best), evidence.gather(0, best)
        hopeful = (evidence < present) | (part.num_outliers(tries) < part.num_outliers(before))
        wanted = wanted.index_copy(0, rows, hopeful[0] & wanted[rows])
    if not bool(wanted.any()):
        return Outcome(state, converged, steps)
    rows, tries = _narrowed(rows, wanted, tries, split)
    part, before = _of(problem, state, rows, split)
    own = stage.rows(rows, bodies)
    tries, last, count = minimise(part, tries, own, near=True)
    with torch.no_grad():
        better = (part.evidence(tries, own) < part.evidence(before, own))[0] & wanted[rows]
        lower = (part.total(before, own) - part.total(tries, own))[0]  # above 0: the new try is lower in energy
        gain = torch.where(better, lower, -lower)
        settled = torch.where(better, last.converged, converged[rows]) & ~((gain < -_CLEARLY) & wanted[rows])
        state = state.replaced(rows[better], tries.bodies(better.nonzero()[:, 0]))
        return Outcome(state, converged.index_copy(0, rows, settled), steps + count)


def _farthest(problem: FitProblem, state: BodyState, chosen: Sequence[Tensor]) -> Tensor:
    """(S, B) metres to the farthest chosen point in 3D."""
    return torch.cat([far * some for far, some in zip(problem.gaps(state), chosen, strict=True)], -1).amax(-1)


def _plausible(problem: FitProblem, state: BodyState, chosen: Sequence[Tensor]) -> tuple[BodyState, list[Tensor]]:
    """Bones that point at the points, and these without a few where no bone ends: true outliers, as it seems."""
    kept = list(chosen)
    for _ in range(_MOST_LEFT_OUT):
        tries = point_bones(problem, state, kept)
        far = torch.cat([gap.amin(0) * some for gap, some in zip(problem.gaps(tries), kept, strict=True)], -1)
        worst = (far >= far.amax(-1, keepdim=True).clamp_min(_NEAR)).split([some.shape[-1] for some in kept], -1)
        if not any(bool(w.any()) for w in worst):
            return tries, kept
        kept = [some & ~w for some, w in zip(kept, worst, strict=True)]
    return point_bones(problem, state, kept), kept


def _settled(problem: FitProblem, tries: BodyState, stage: Stage, *, loose: bool = True) -> tuple[BodyState, int]:
    """A first way from the points, on which none is an outlier: what they leave open settles while they weigh little.

    Without `loose` they weigh all that they do from the start: a stiffer way, which keeps to the points.
    """
    weight, done = min(1.0, (problem.noise_in_3d() / _LOOSE) ** 2), 0
    for data_weight, steps in ((weight, _LOOSE_STEPS if loose else 0), (1.0, _STEPS)):
        scales = problem.inlier_scales(tries, _TOLERANCE)
        first = replace(stage, iterations=steps, coarse=True, outlier_scales=scales, data_weight=data_weight)
        if steps:
            tries, _, count = minimise(problem, tries, first)
            done += count
    return tries, done


def _of(problem: FitProblem, state: BodyState, rows: Tensor, split: bool) -> tuple[FitProblem, BodyState]:
    """The problem and the state of some bodies; of all, where a term cannot be split."""
    return (problem.of_bodies(rows), state.rows(rows)) if split else (problem, state)


def _narrowed(rows: Tensor, wanted: Tensor, tries: BodyState, split: bool) -> tuple[Tensor, BodyState]:
    """Those of the rows that are still wanted; all of them, where a term cannot be split."""
    if not split:
        return rows, tries
    keep = wanted[rows].nonzero()[:, 0]
    return rows[keep], tries.bodies(keep)
