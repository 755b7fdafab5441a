"""`lowest_mode`: of several minima that cost the targets nearly the same, the lowest.

Pictures do not show depths: `depths.other_depths` puts limbs at others, and `hands.other_hands` tries the fingers of samples.

Joints in 3D do not show how a limb is turned about its bones, nor where a hand points whose fingers nobody measured. There
priors with several modes have several minima, which `other_turns` looks for by energies alone: on a grid of turns of each
arm, with arms, legs, spines and necks turned as in samples, and with the hands, feet, heads and fingers of samples. Rotvecs
that have grown beyond pi are another: their shorter twins may cost less. Only the promising poses are minimised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ...rotations import geodesic_distance, wrap_rotvec
from .descent import descend
from .outcome import Outcome
from .problem import FitProblem
from .stages import Stage
from .state import BodyState
from .twists import (
    PHIS,
    THETAS,
    arms,
    chains,
    grid_of_turns,
    hidden_joints,
    hidden_turns,
    with_joints_of,
    with_turns_of,
)

#: A pose is worth minimising when its energy is at most this above the body's own, nats; a turn of an arm when its neighbours
#: along theta are higher by more than `_DEEPER`, besides. At most so many turns of an arm are.
_WORTH, _DEEPER, _MOST_TURNS = 20.0, 0.05, 2
#: A mode nearby may show only once all other joints have followed the arm. So turns of few steps of theta are worth it too
#: when their energy, at the best phi or at phi = 0, is at most so much above the body's own, nats.
_NEARBY, _WORTH_NEARBY = [1, 2, 3, -3, -2, -1], 4.0
_ALONE, _WORTH_ALONE = [2, 3, -3, -2], 8.0
#: Steps after which a pose is given up when its energy is still this above the body's own, nats, or when it is no lower and
#: all joints have come back to within this angle, radians.
_STEPS, _STILL_ABOVE, _BACK = 25, 3.0, 0.5
#: A mode is clearly lower when its energy is lower by more than this, nats.
_CLEARLY = 0.5
#: A body that has found a mode lower by more than this, nats, looks around again: others may be near that one. Most times
#: that it does.
_LOWER, _ROUNDS = 0.1, 4
#: Of the poses in which a chain is turned as in samples, at most so many are minimised, whose energies are at most so much
#: above the body's own, nats.
_MOST_SAMPLES, _WORTH_SAMPLE = 2, 6.0
_MOST_ROWS = 8192

#: Poses of some bodies: one start (1, R), whose they are (R,), and the joints that were moved, (R, 55) bool.
Poses = tuple[BodyState, Tensor, Tensor]
#: Gives other poses of bodies that are worth minimising, from the problem, the bodies (1, B), their energies and the stage.
OtherPoses = Callable[[FitProblem, BodyState, Tensor, Stage], Iterator[Poses]]


@torch.no_grad()
def lowest_mode(problem: FitProblem, found: Outcome, stage: Stage, *other_poses: OtherPoses) -> Outcome:
    """Bodies in the lowest mode that is found, each from where it ended.

    Args:
        problem, stage: what was minimised, at its last stage.
        found: one start of B bodies, at minima.
        other_poses: where other minima may be.

    Returns:
        The outcome. A body that still finds lower modes in the last round has not converged.
    """
    state, steps = found.state, found.steps
    energy = problem.total(state, stage)[0]
    bodies = len(energy)
    rows = torch.arange(bodies, device=energy.device)
    for _ in range(_ROUNDS):
        part, own = problem.of_bodies(rows), stage.rows(rows, bodies)
        every = (other(part, state.bodies(rows), energy[rows], own) for other in other_poses)
        candidates, of, moved = _joined(state, itertools.chain.from_iterable(every))
        candidates, of, count = _promising(problem, state, energy, stage, candidates, rows[of], moved)
        steps += count
        if not len(of):
            rows = of
            break
        part, own = problem.of_bodies(of), stage.rows(of, bodies)
        candidates, last, count = descend(part, candidates, own, near=True)
        steps += count
        gain = energy[of] - part.total(candidates, own)[0]
        better = ((gain > 0) & last.converged) | (gain > _CLEARLY)
        explained = part.num_outliers(candidates)[0] <= part.num_outliers(state.bodies(of))[0]
        gain = torch.where(better & explained, gain, 0.0)
        rows, place = _best(of, gain, bodies)
        state = state.replaced(rows, candidates.bodies(place))
        energy = energy.index_add(0, rows, -gain[place])
        rows = rows[gain[place] > _LOWER]
        if not len(rows):
            break
    # Along flat directions a descent may stop early. Where a new one goes nowhere, it was a minimum.
    state, last, count = descend(problem, state, stage, near=True)
    return Outcome(state, last.converged.index_fill(0, rows, False), steps + count)


def other_turns(
    problem: FitProblem, state: BodyState, energy: Tensor, stage: Stage, samples: Tensor
) -> Iterator[Poses]:
    """Poses with the same joints in 3D, by the prior's `samples` (N, 55, 3) and grids of turns."""
    for arm in arms(problem):
        shoulder = torch.arange(state.pose.shape[-2], device=energy.device) == arm[0]
        rows = hidden_turns(problem, state, stage, arm).nonzero()[:, 0]
        for some in chunks(rows, THETAS * PHIS):
            part, own = problem.of_bodies(some), stage.rows(some, len(energy))
            poses = grid_of_turns(part, state.bodies(some), own, arm)
            number, body = _worth(finite_total(part, poses, own), energy[some]).nonzero().unbind(1)
            yield poses.rows(number * len(some) + body), some[body], shoulder.expand(len(body), -1)
    for together in chains(problem):
        moved = torch.tensor([joint for chain in together for joint in chain])
        turns = torch.isin(torch.arange(state.pose.shape[-2]), moved).to(energy.device)
        for some in chunks(torch.arange(len(energy), device=energy.device), len(samples)):
            part, own = problem.of_bodies(some), stage.rows(some, len(energy))
            poses = with_turns_of(part, state.bodies(some), own, samples, together)
            away = (geodesic_distance(poses.pose[..., turns, :], state.pose[0, some][:, turns]) > _BACK).any(-1)
            cost = torch.where(away, finite_total(part, poses, own), torch.inf)
            lowest, number = cost.topk(min(_MOST_SAMPLES, len(cost)), 0, largest=False)
            place, body = (lowest < energy[some] + _WORTH_SAMPLE).nonzero().unbind(1)
            yield poses.rows(number[place, body] * len(some) + body), some[body], turns.expand(len(body), -1)
    long = state.pose[0].norm(dim=-1) > math.pi
    poses = replace(state, pose=wrap_rotvec(state.pose))  # the same rotations, which regularisers of rotvecs may prefer
    rows = (finite_total(problem, poses, stage)[0] < energy - _CLEARLY).nonzero()[:, 0]
    yield poses.bodies(rows), rows, long[rows]
    for joints in hidden_joints(problem, stage):
        for some in chunks(joints.any(-1).nonzero()[:, 0], len(samples)):
            part, own = problem.of_bodies(some), stage.rows(some, len(energy))
            poses = with_joints_of(state.bodies(some), samples, joints[some])
            lowest, number = finite_total(part, poses, own).min(0)
            body = (lowest < energy[some] + _WORTH).nonzero()[:, 0]
            yield poses.rows(number[body] * len(some) + body), some[body], joints[some[body]]


def _worth(grid: Tensor, energy: Tensor) -> Tensor:
    """Which turns of an arm are worth minimising, (T P, B) bool.

    Args:
        grid: (T P, B) energies of the turns, as of `grid_of_turns`.
        energy: (B,) of the bodies.
    """
    grid = grid.unflatten(0, (THETAS, PHIS))
    lowest, phi = grid.min(1)
    around = torch.minimum(lowest.roll(1, 0), lowest.roll(-1, 0))
    mode = (lowest + _DEEPER < around) & (lowest < energy + _WORTH)
    mode[[0, 1, -1]] = False  # where the body is
    order = torch.where(mode, lowest, torch.inf).argsort(0)[:_MOST_TURNS]
    best = torch.zeros_like(mode).scatter(0, order, mode.gather(0, order))
    best[_NEARBY] |= lowest[_NEARBY] < energy + _WORTH_NEARBY
    worth = torch.zeros_like(grid, dtype=torch.bool).scatter(1, phi[:, None], best[:, None])
    worth[_ALONE, 0] |= grid[_ALONE, 0] < energy + _WORTH_ALONE
    return worth.flatten(0, 1)


def chunks(bodies: Tensor, poses: int) -> Iterator[Tensor]:
    """The bodies, a few at a time, for so many poses of each."""
    return (some for some in bodies.split(max(1, _MOST_ROWS // poses)) if len(some))


def _promising(
    problem: FitProblem, state: BodyState, energy: Tensor, stage: Stage, candidates: BodyState, of: Tensor, moved: Tensor
) -> tuple[BodyState, Tensor, int]:  # fmt: skip
    """The first steps of candidates (1, R) of bodies `of` (R,): those that go on, whose they are, and the steps."""
    if not len(of):
        return candidates, of, 0
    part, own = problem.of_bodies(of), replace(stage.rows(of, len(energy)), iterations=_STEPS)
    candidates, _, steps = descend(part, candidates, own, near=True)
    gain = energy[of] - part.total(candidates, own)[0]
    away = (moved & (geodesic_distance(candidates.pose[0], state.pose[0, of]) > _BACK)).any(-1)
    keep = ((gain > _CLEARLY) | ((gain > -_STILL_ABOVE) & away)).nonzero()[:, 0]
    return candidates.bodies(keep), of[keep], steps


def _joined(state: BodyState, every: Iterator[Poses]) -> Poses:
    """All poses in one; `state` says what bodies are like."""
    none = torch.zeros(0, dtype=torch.long, device=state.pose.device)
    found, whose, moved = state.bodies(none), [none], [state.pose.new_zeros(0, state.pose.shape[-2], dtype=torch.bool)]
    for poses, of, joints in every:
        found = found.beside(poses)
        whose.append(of)
        moved.append(joints)
    return found, torch.cat(whose), torch.cat(moved)


def finite_total(problem: FitProblem, poses: BodyState, stage: Stage) -> Tensor:
    """(S, B) energies; what has none is infinitely bad."""
    return torch.nan_to_num(problem.total(poses, stage), nan=torch.inf)


def _best(of: Tensor, gain: Tensor, bodies: int) -> tuple[Tensor, Tensor]:
    """Bodies to which a candidate is a gain, and the place of the best of each among the candidates (R,) of bodies `of`."""
    most = torch.zeros(bodies, dtype=gain.dtype, device=gain.device).scatter_reduce(0, of, gain, "amax")
    best = (gain > 0) & (gain == most[of])
    places = torch.arange(len(of), device=of.device)
    first = torch.full((bodies,), len(of), device=of.device).scatter_reduce(0, of[best], places[best], "amin")
    rows = (first < len(of)).nonzero()[:, 0]
    return rows, first[rows]
