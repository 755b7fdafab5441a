"""Fits that start from inverse kinematics on the measured points in 3D.

Under a tolerant outlier threshold, a limb that starts far from its points can treat them as outliers; the smaller the
expected noise, the more often. A body whose bones already point at the measured points needs no tolerance: all points
count, and the minimum is a few steps away in the same basin. `fit_from_points` is the whole fit where the points are exact;
`restart` gives further attempts to bodies that left points out after the usual stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from .descent import descend
from .inverse_kinematics import point_bones
from .lowest_mode import lowest_mode, other_turns
from .outcome import Outcome
from .problem import FitProblem
from .stages import Stage
from .state import BodyState

#: Steps of the first minimisation from inverse kinematics.
_STEPS = 25
#: A candidate is minimised only if its farthest point is nearer than this, metres, or nearer than this share of the
#: body's present distance.
_NEAR, _NEARER = 0.1, 0.5
#: Outlier threshold of the first steps, in units of the farthest point's distance: no point is an outlier.
_TOLERANCE = 2.0
#: Energies that differ by more than this, nats, belong to different minima.
_CLEARLY = 0.5
#: Standard deviation of points, metres, up to which they count as exact.
_EXACT = 0.005
#: Fewest points of a body that is fitted from its points alone, and most points that a restart may leave out.
_FEWEST_POINTS = 3
_MOST_LEFT_OUT = 3
#: Most attempts of a body that leaves points out.
_ATTEMPTS = 4
#: Standard deviation given to exact points in the very first steps, metres, and the number of these steps. With a smaller
#: one a chain of joints is so stiff that it turns about its bones in small steps only.
_LOOSE, _LOOSE_STEPS = 0.005, 25
#: Exact points make energies stiff: their last stage may take this many times the usual steps.
_LONGER = 2


def fit_from_points(
    problem: FitProblem, starts: BodyState, samples: Tensor, stage: Stage, consistent: Callable[[BodyState], BodyState]
) -> tuple[Outcome, Tensor]:
    """Fit bodies whose points are exact: to the minimum next to inverse kinematics, then to the lowest mode around it.

    Args:
        problem, stage, consistent: as of `restart`.
        starts: (S, B) poses that inverse kinematics begins with; those after the first are for bodies that it does not fit.
        samples: poses (N, 55, 3), as of `other_turns`.

    Returns:
        The outcome, one start of each body, and for which bodies (B,) bool it is a fit: all points are within the outlier
        threshold. The others are where their first start is.
    """
    count, bodies = starts.transl.shape[:2]
    state, steps = starts.expand(1), 0
    reached = torch.zeros(bodies, dtype=torch.bool, device=state.transl.device)
    converged = reached
    if problem.noise_in_3d() > _EXACT or not problem.can_split(bodies):
        return Outcome(state, converged, 0), reached
    for number in range(count):
        rows = (~reached).nonzero()[:, 0]
        if not len(rows):
            break
        start = starts.bodies(rows).pick(torch.full((1, len(rows)), number, device=rows.device))
        found, good = _minimum(problem.of_bodies(rows), start, stage.rows(rows, bodies), consistent)
        good = good.nonzero()[:, 0]
        rows, steps = rows[good], steps + found.steps
        state = state.replaced(rows, found.state.bodies(good))
        converged = converged.index_copy(0, rows, found.converged[good])
        reached = reached.index_fill(0, rows, True)
    rows = reached.nonzero()[:, 0]
    if not len(rows):
        return Outcome(state, converged, steps), reached
    part = Outcome(state.bodies(rows), converged[rows], steps)
    part = lowest_mode(problem.of_bodies(rows), part, stage.rows(rows, bodies), partial(other_turns, samples=samples))
    converged = converged.index_copy(0, rows, part.converged)
    return Outcome(state.replaced(rows, part.state), converged, part.steps), reached


@torch.no_grad()
def with_fits(several: Outcome, found: Outcome, done: Tensor) -> Outcome:
    """What several starts came to, and after it what `fit_from_points` found; for bodies that it did not fit, the first again.

    Args:
        several: (S, B).
        found, done: of `fit_from_points`.
    """
    state = several.state.join(found.state.where(done[None], several.state.expand(1)))
    last = torch.where(done, found.converged, several.converged[: len(done)])
    return Outcome(state, torch.cat((several.converged, last)), several.steps + found.steps)


@torch.no_grad()
def lowest(problem: FitProblem, every: Outcome, stage: Stage) -> Outcome:
    """Of several outcomes (S, B) the one that `FitProblem.evidence` prefers for each body."""
    evidence = torch.nan_to_num(problem.evidence(every.state, stage), nan=torch.inf)
    best = evidence.argmin(0, keepdim=True)
    return Outcome(every.state.pick(best), every.converged.view(evidence.shape).gather(0, best)[0], every.steps)


def _minimum(
    problem: FitProblem, start: BodyState, stage: Stage, consistent: Callable[[BodyState], BodyState]
) -> tuple[Outcome, Tensor]:
    """The minimum that one start of B bodies leads to by way of inverse kinematics, and whether (B,) it is a fit."""
    bodies = start.transl.shape[1]
    good = torch.zeros(bodies, dtype=torch.bool, device=start.transl.device)
    with torch.no_grad():
        candidates = consistent(point_bones(problem, start, stage.chosen))
        near = _farthest(problem, candidates, stage.chosen)[0] < _NEAR
        rows = (near & (problem.num_points() >= _FEWEST_POINTS)).nonzero()[:, 0]
    if not len(rows):
        return Outcome(start, good, 0), good
    part, own_stage = problem.of_bodies(rows), stage.rows(rows, bodies)
    candidates, steps = _first_steps(part, candidates.bodies(rows), own_stage)
    own_stage = replace(own_stage, iterations=_LONGER * own_stage.iterations)
    candidates, last, count = descend(part, candidates, own_stage, near=True)
    with torch.no_grad():
        fits = (part.num_outliers(candidates) == 0) & torch.isfinite(part.total(candidates, own_stage))
    converged = good.index_copy(0, rows, last.converged)
    return Outcome(start.replaced(rows, candidates), converged, steps + count), good.index_copy(0, rows, fits[0])


def restart(
    problem: FitProblem, state: BodyState, converged: Tensor, start: BodyState, stage: Stage,
    consistent: Callable[[BodyState], BodyState],
) -> Outcome:  # fmt: skip
    """Further attempts for bodies that left points out, as long as one of them leads to a clearly lower energy.

    An attempt has two candidates: inverse kinematics from where the body stands, and from where the fit began. Of a body
    before and after it, `FitProblem.evidence` decides. With a term that cannot be split by body (`EnergyTerm.select`) all
    bodies take part; the result is used only for those that left points out.

    Args:
        problem: what is fitted.
        state: (1, B) bodies after the stage.
        converged: (B,) bool, of these bodies.
        start: (1, B) bodies where the fit began.
        stage: the stage of the final energies.
        consistent: makes latents and hand coefficients those of a state's pose.
    """
    steps = 0
    for _ in range(_ATTEMPTS):
        found = _attempt(problem, state, converged, start, stage, consistent)
        steps += found.steps
        with torch.no_grad():
            lower = problem.total(found.state, stage) < problem.total(state, stage) - _CLEARLY
            unfinished = lower[0] & (problem.num_outliers(found.state)[0] > 0)
        state, converged = found.state, found.converged
        if not bool(unfinished.any()):
            break
    return Outcome(state, converged, steps)


def _attempt(
    problem: FitProblem, state: BodyState, converged: Tensor, start: BodyState, stage: Stage,
    consistent: Callable[[BodyState], BodyState],
) -> Outcome:  # fmt: skip
    """One attempt of `restart`."""
    bodies = len(converged)
    split = problem.can_split(bodies)
    with torch.no_grad():
        wanted = problem.num_outliers(state)[0] > 0
        if not bool(wanted.any()):
            return Outcome(state, converged, 0)
        rows = wanted.nonzero()[:, 0] if split else torch.arange(bodies, device=wanted.device)
        part, before = _of(problem, state, rows, split)
        chosen = stage.rows(rows, bodies).chosen
        candidates, chosen = _without_outliers(part, before.join(start.rows(rows)), chosen)
        candidates = consistent(candidates)
        nearer = _NEARER * _farthest(part, before, chosen)[0]
        near = _farthest(part, candidates, chosen).amin(0) < nearer.clamp_min(_NEAR)
        wanted = wanted.index_copy(0, rows, near & wanted[rows])
    if not bool(wanted.any()):
        return Outcome(state, converged, 0)
    if split:
        chosen = [points[wanted[rows]] for points in chosen]
    rows, candidates = _narrowed(rows, wanted, candidates, split)
    part, before = _of(problem, state, rows, split)
    own_stage = stage.rows(rows, bodies)
    candidates, steps = _first_steps(part, candidates, replace(own_stage, chosen=chosen), loose=False)
    with torch.no_grad():
        evidence, present = (torch.nan_to_num(part.evidence(s, own_stage), nan=torch.inf) for s in (candidates, before))
        best = evidence.argmin(0, keepdim=True)
        candidate, evidence = candidates.pick(best), evidence.gather(0, best)
        hopeful = (evidence < present) | (part.num_outliers(candidate) < part.num_outliers(before))
        wanted = wanted.index_copy(0, rows, hopeful[0] & wanted[rows])
    if not bool(wanted.any()):
        return Outcome(state, converged, steps)
    rows, candidate = _narrowed(rows, wanted, candidate, split)
    part, before = _of(problem, state, rows, split)
    own_stage = stage.rows(rows, bodies)
    candidate, last, count = descend(part, candidate, own_stage, near=True)
    with torch.no_grad():
        better = (part.evidence(candidate, own_stage) < part.evidence(before, own_stage))[0] & wanted[rows]
        lower = (part.total(before, own_stage) - part.total(candidate, own_stage))[0]  # above 0: the candidate is lower
        margin = torch.where(better, lower, -lower)  # by how much the attempt that is taken is below the other
        settled = torch.where(better, last.converged, converged[rows]) & ~((margin < -_CLEARLY) & wanted[rows])
        state = state.replaced(rows[better], candidate.bodies(better.nonzero()[:, 0]))
        return Outcome(state, converged.index_copy(0, rows, settled), steps + count)


def _farthest(problem: FitProblem, state: BodyState, chosen: Sequence[Tensor]) -> Tensor:
    """(S, B) metres to the farthest chosen point in 3D."""
    return torch.cat([far * some for far, some in zip(problem.gaps(state), chosen, strict=True)], -1).amax(-1)


def _without_outliers(
    problem: FitProblem, state: BodyState, chosen: Sequence[Tensor]
) -> tuple[BodyState, list[Tensor]]:
    """Inverse kinematics, and the points (B, K) of each target that it used.

    It is repeated without the farthest point as long as that is farther than `_NEAR`: no bone ends there, so it seems to
    be a true outlier. At most `_MOST_LEFT_OUT` points of a body are left out.
    """
    kept = list(chosen)
    for _ in range(_MOST_LEFT_OUT):
        candidates = point_bones(problem, state, kept)
        far = torch.cat([gap.amin(0) * some for gap, some in zip(problem.gaps(candidates), kept, strict=True)], -1)
        worst = (far >= far.amax(-1, keepdim=True).clamp_min(_NEAR)).split([some.shape[-1] for some in kept], -1)
        if not any(bool(w.any()) for w in worst):
            return candidates, kept
        kept = [some & ~w for some, w in zip(kept, worst, strict=True)]
    return point_bones(problem, state, kept), kept


def _first_steps(
    problem: FitProblem, candidates: BodyState, stage: Stage, *, loose: bool = True
) -> tuple[BodyState, int]:
    """The first steps from inverse kinematics, with thresholds under which no point is an outlier; and their number.

    With `loose`, exact points weigh little at first, so that what they leave open (turns about bones, the shape) settles.
    Bodies that then still leave points out go on: stiff limbs come back slowly. Without it points have their full weight
    from the start, and the body keeps to them.
    """
    weight, full = min(1.0, (problem.noise_in_3d() / _LOOSE) ** 2), (1.0, _STEPS)
    idle, done = None, 0
    for number, (data_weight, steps) in enumerate(((weight, _LOOSE_STEPS), full, full) if loose else (full,)):
        if number == 2:
            with torch.no_grad():
                idle = problem.num_outliers(candidates) == 0
            if bool(idle.all()):
                break
        scales = problem.inlier_scales(candidates, _TOLERANCE)
        first = replace(stage, iterations=steps, coarse=True, outlier_scales=scales, data_weight=data_weight)
        candidates, _, count = descend(problem, candidates, first, idle)
        done += count
    return candidates, done


def _of(problem: FitProblem, state: BodyState, rows: Tensor, split: bool) -> tuple[FitProblem, BodyState]:
    """The problem and the state of some bodies; of all, where a term cannot be split."""
    return (problem.of_bodies(rows), state.rows(rows)) if split else (problem, state)


def _narrowed(rows: Tensor, wanted: Tensor, candidates: BodyState, split: bool) -> tuple[Tensor, BodyState]:
    """Those of the rows that are still wanted; all of them, where a term cannot be split."""
    if not split:
        return rows, candidates
    keep = wanted[rows].nonzero()[:, 0]
    return rows[keep], candidates.bodies(keep)
