"""The lowest mode of fits to exact points: arms turned about their own bones, which joints in 3D do not show.

The joints of an arm stay where they are when the upper arm turns about its own length by theta, if the elbow takes the turn
back, and when the forearm then turns by phi:

    R_shoulder Exp(theta b),   Exp(-theta b) R_elbow Exp(phi f),   Exp(-phi f) R_wrist,

with the directions b and f of the two bones, each in the frame of its upper joint. The wrist takes phi back only where points
beyond it are measured; otherwise the hand turns along. So every such pose costs the targets the same, and along theta, at the
best phi of each, priors with several modes have several minima. They are looked for on a grid, by energies alone; only poses
that are lower than their neighbours there are minimised.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...rotations import geodesic_distance, tangent_to_rotvec
from .minimise import minimise
from .outcome import Outcome
from .problem import FitProblem
from .stages import Stage
from .state import BodyState

#: Shoulder, elbow and wrist of each arm.
_ARMS = ((16, 18, 20), (17, 19, 21))
#: Angles theta and phi of the grid.
_THETAS, _PHIS = 16, 8
#: A pose of the grid is worth minimising when its energy is at most this above the body's own, nats, and when its neighbours
#: along theta are higher by more than `_DEEPER`; at most so many of an arm.
_WORTH, _DEEPER, _MOST_MODES = 20.0, 0.05, 2
#: Steps after which a pose is given up when its energy is still this above the body's own, nats, or when it is no lower and
#: the upper arm has come back to within this angle, radians.
_STEPS, _STILL_ABOVE, _BACK = 25, 3.0, 0.5
#: A mode is another one when its energy is lower by more than this, nats; then the body looks around again.
_CLEARLY = 0.5
_ROUNDS = 4
_MOST_ROWS = 8192


@torch.no_grad()
def lowest_mode(problem: FitProblem, found: Outcome, stage: Stage) -> Outcome:
    """Bodies in the lowest mode that turns of their arms lead to, each from where it ended.

    Args:
        problem, stage: what was minimised, at its last stage.
        found: one start of B bodies, at minima.

    Returns:
        The outcome. A body that still finds clearly lower modes in the last round has not converged.
    """
    state, converged, steps = found.state, found.converged, found.steps
    energy = problem.total(state, stage)[0]
    bodies = len(energy)
    rows = torch.arange(bodies, device=energy.device)
    for _ in range(_ROUNDS):
        candidates, of, joint = _modes(
            problem.of_bodies(rows), state.bodies(rows), energy[rows], stage.rows(rows, bodies)
        )
        candidates, of, count = _promising(problem, state, energy, stage, candidates, rows[of], joint)
        steps += count
        if not len(of):
            return Outcome(state, converged, steps)
        part, own = problem.of_bodies(of), stage.rows(of, bodies)
        candidates, last, count = minimise(part, candidates, own, near=True)
        reached = torch.where(part.num_outliers(candidates)[0] == 0, part.total(candidates, own)[0], torch.inf)
        steps += count
        best = torch.full_like(energy, torch.inf).scatter_reduce(0, of, reached, "amin")
        rows, place = _first(of, reached == best[of], bodies)
        lower = best[rows] < energy[rows]
        rows, place = rows[lower], place[lower]
        state = state.replaced(rows, candidates.bodies(place))
        converged = converged.index_copy(0, rows, last.converged[place])
        clearly = energy[rows] - best[rows] > _CLEARLY
        energy = energy.index_copy(0, rows, best[rows])
        rows = rows[clearly]
        if not len(rows):
            return Outcome(state, converged, steps)
    return Outcome(state, converged.index_fill(0, rows, False), steps)


def _modes(problem: FitProblem, state: BodyState, energy: Tensor, stage: Stage) -> tuple[BodyState, Tensor, Tensor]:
    """Poses of the grid that are worth minimising: one start (1, R) of them, whose they are (R,), and which shoulder turned."""
    found = state.bodies(torch.zeros(0, dtype=torch.long, device=energy.device))
    whose, joints = [found.pose.new_zeros(0, dtype=torch.long)], [found.pose.new_zeros(0, dtype=torch.long)]
    for arm in _arms(problem):
        takes_back = _moves_points(problem, stage, arm[2])
        half = turned(problem, state, arm, takes_back, (0.0, math.pi), (0.0, math.pi))
        unseen = (
            (problem.num_outliers(half) == 0).all(0).nonzero()[:, 0]
        )  # points on the skin show turns, joints do not
        for some in unseen.split(_MOST_ROWS // (_THETAS * _PHIS)):
            part, own = problem.of_bodies(some), stage.rows(some, len(energy))
            poses = turned(part, state.bodies(some), arm, takes_back[some], _angles(_THETAS), _angles(_PHIS))
            total = torch.nan_to_num(part.total(poses, own), nan=torch.inf).unflatten(0, (_THETAS, _PHIS))
            lowest, phi = total.min(1)
            around = torch.minimum(lowest.roll(1, 0), lowest.roll(-1, 0))
            mode = (lowest + _DEEPER < around) & (lowest < energy[some] + _WORTH)
            mode[[0, 1, -1]] = False  # where the body is
            order = torch.where(mode, lowest, torch.inf).argsort(0)[:_MOST_MODES]
            number, body = mode.gather(0, order).nonzero().unbind(1)
            theta = order[number, body]
            chosen = poses.rows((theta * _PHIS + phi[theta, body]) * len(some) + body)
            found = found.beside(chosen)
            whose.append(some[body])
            joints.append(torch.full_like(body, arm[0]))
    return found, torch.cat(whose), torch.cat(joints)


def _promising(
    problem: FitProblem, state: BodyState, energy: Tensor, stage: Stage, candidates: BodyState, of: Tensor, joint: Tensor
) -> tuple[BodyState, Tensor, int]:  # fmt: skip
    """The first steps of candidates (1, R) of bodies `of` (R,): those that go on, whose they are, and the steps."""
    if not len(of):
        return candidates, of, 0
    part, own = problem.of_bodies(of), replace(stage.rows(of, len(energy)), iterations=_STEPS)
    candidates, _, steps = minimise(part, candidates, own, near=True)
    gain = energy[of] - part.total(candidates, own)[0]
    row = torch.arange(len(of), device=of.device)
    away = geodesic_distance(candidates.pose[0, row, joint], state.pose[0, of, joint]) > _BACK
    keep = ((gain > _CLEARLY) | ((gain > -_STILL_ABOVE) & away)).nonzero()[:, 0]
    return candidates.bodies(keep), of[keep], steps


def _arms(problem: FitProblem) -> Iterator[tuple[int, int, int]]:
    """The arms that the fit moves and whose turns some term or regulariser judges."""
    judged = {joint for term in problem.terms for joint in term.joints}
    if problem.config.rest_sigma is not None:
        judged |= set(problem.resting)
    for arm in _ARMS:
        if set(arm[:2]) <= set(problem.free) and judged & set(arm):
            yield arm


def _angles(count: int) -> tuple[float, ...]:
    return tuple(2.0 * math.pi * k / count for k in range(count))


def turned(
    problem: FitProblem, state: BodyState, arm: tuple[int, int, int], takes_back: Tensor, thetas: Sequence[float],
    phis: Sequence[float],
) -> BodyState:  # fmt: skip
    """The grid of poses, theta by theta: (T P, B) of one start of B bodies.

    Args:
        problem: of the bodies.
        state: (1, B).
        arm: shoulder, elbow and wrist.
        takes_back: (B,) bool, whether the wrist takes back the turn of the forearm.
        thetas, phis: T angles of the upper arm and P of the forearm, radians.
    """
    shoulder, elbow, wrist = arm
    pose = state.pose[0]
    rotation, position = problem.points.frames(pose, betas=state.betas[0], expression=state.expression[0])
    place = {joint: k for k, joint in enumerate(problem.points.chain)}

    def bone(upper: int, lower: int) -> Tensor:
        along = position[:, place[lower]] - position[:, place[upper]]
        return normalize((rotation[:, place[upper]].mT @ along[..., None])[..., 0], dim=-1)

    theta, phi = (torch.tensor(angles).to(pose)[:, None, None] for angles in (thetas, phis))
    first = (theta * bone(shoulder, elbow))[:, None]
    second = (phi * bone(elbow, wrist))[None]
    many = pose.expand(len(theta), len(phi), *pose.shape).clone()
    many[..., shoulder, :] = tangent_to_rotvec(first, pose[:, shoulder])
    many[..., elbow, :] = tangent_to_rotvec(second, tangent_to_rotvec(pose[:, elbow], -first))
    back = tangent_to_rotvec(pose[:, wrist], -second)
    many[..., wrist, :] = torch.where(takes_back[:, None], back, pose[:, wrist])
    return replace(state.expand(len(theta) * len(phi)), pose=many.flatten(0, 1))


def _moves_points(problem: FitProblem, stage: Stage, joint: int) -> Tensor:
    """(B,) bool: whether the joint's rotation moves a measured point."""
    moves = torch.zeros_like(stage.chosen[0][:, 0])
    for number, target in enumerate(problem.targets):
        below = problem.points.carried[problem.place_of(number), problem.points.chain.index(joint)] > 0
        itself = torch.tensor([j == joint for j in target.joints] + [False] * len(target.vertices), device=below.device)
        moves = moves | ((target.confidence > 0) & stage.chosen[number] & below & ~itself).any(-1)
    return moves


def _first(of: Tensor, good: Tensor, bodies: int) -> tuple[Tensor, Tensor]:
    """Bodies that have a good candidate, and the place of the first of each among the candidates (R,) of bodies `of`."""
    places = torch.arange(len(of), device=of.device)
    first = torch.full((bodies,), len(of), device=of.device).scatter_reduce(0, of[good], places[good], "amin")
    rows = (first < len(of)).nonzero()[:, 0]
    return rows, first[rows]
