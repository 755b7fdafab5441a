"""Hands with the fingers of samples: a prior of hands has several modes, and a fit ends in the one next to where it began.

Fits begin with the prior's mean pose. So hands that a picture shows are also given the fingers of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...rotations import rotmat_to_rotvec
from ...skeleton import JOINT_SETS
from ..energy import EnergyTerm
from ..targets import Keypoints2D
from ..term import PosePriorTerm
from .depths import mirrored_hands
from .descent import descend
from .initial import hand_coefficients
from .lowest_mode import Poses, chunks, finite_total
from .problem import FitProblem
from .stages import Stage
from .starts import prior_poses
from .state import BodyState
from .twists import moves_points, with_joints_of

#: Wrists, and the fingers beyond them.
_HANDS = ((20, JOINT_SETS["left_hand"]), (21, JOINT_SETS["right_hand"]))
#: Samples of each prior of fingers.
_SAMPLES = 64
#: Factor on the standard deviation of points under which the samples of a hand are compared, since no sample meets the points
#: exactly; and how many are minimised.
_SOFT, _MOST = 3.0, 2
#: Their first steps, and the thresholds of these as of the stages before the last.
_STEPS, _TOLERANT, _MEDIAN_FACTOR = 8, 2.0, 2.0
#: A hand is worth going on with when the energy is then at most this above the body's own, nats.
_WORTH = 30.0


def samples_of_fingers(terms: Sequence[EnergyTerm], generator: torch.Generator) -> tuple[Tensor, frozenset[int]]:
    """Poses (N, 55, 3) with the fingers of samples of the priors that judge them, and the fingers that have any."""
    poses, known = torch.zeros(_SAMPLES, 55, 3), set[int]()
    fingers = {finger for _, hand in _HANDS for finger in hand}
    for term in terms:
        joints = fingers.intersection(term.joints) - known
        if isinstance(term, PosePriorTerm) and term.weight > 0 and joints:
            index = sorted(joints)
            poses[:, index] = prior_poses(term.prior, _SAMPLES, generator, latent=False)[0][1:, index].to(poses)
            known |= joints
    return poses, frozenset(known)


def other_hands(
    problem: FitProblem, state: BodyState, energy: Tensor, stage: Stage, samples: tuple[Tensor, frozenset[int]]
) -> Iterator[Poses]:
    """Bodies with the fingers of samples where points of the hand are measured, as `lowest_mode` takes them.

    The hand stays as it is, or is mirrored along the line of sight.

    Args:
        problem, stage: what is minimised, with 2D targets alone.
        state: (1, B).
        energy: (B,) of the bodies.
        samples: of `samples_of_fingers`.
    """
    target = problem.targets[0]
    assert isinstance(target, Keypoints2D)
    rotation, position = problem.frames(state)
    position = position + state.transl[0][:, None]
    poses, known = samples
    for wrist, hand in _HANDS:
        moved = known.intersection(hand, problem.free)
        if not moved:
            continue
        joints = torch.isin(torch.arange(state.pose.shape[-2]), torch.tensor(sorted(moved))).to(energy.device)
        place = problem.points.chain.index(wrist)
        above = rotation[:, problem.points.tree.parents[place]]
        ends = [rotation[:, place]]
        if wrist in problem.free:
            ends.append(mirrored_hands(rotation[:, place], position[:, place], target.camera))
        seen = moves_points(problem, stage, wrist).nonzero()[:, 0]
        for some in chunks(seen, len(ends) * len(poses)):
            part, own = problem.of_bodies(some), stage.rows(some, len(energy))
            sampled = with_joints_of(state.bodies(some), poses, joints.expand(len(some), -1))
            every = sampled.pose.repeat(len(ends), 1, 1, 1)
            turns = torch.stack([rotmat_to_rotvec(above[some].mT @ end[some]) for end in ends])
            every[:, :, wrist] = turns.repeat_interleave(len(poses), 0)
            many = replace(state.bodies(some).expand(len(every)), pose=every)
            if many.hands is not None:  # what coefficients can take of the samples
                many = replace(many, hands=hand_coefficients(every, own.variables.convention))
                many = own.variables.apply(many, own.variables.zero(many))
            candidates, body = _lowest(part, many, own)
            of = some[body]
            cost = finite_total(problem.of_bodies(of), candidates, stage.rows(of, len(energy)))[0]
            rows = (cost < energy[of] + _WORTH).nonzero()[:, 0]
            yield candidates.bodies(rows), of[rows], joints.expand(len(rows), -1)


def _lowest(problem: FitProblem, many: BodyState, stage: Stage) -> tuple[BodyState, Tensor]:
    """The poses (1, R) of poses (N, B) that explain their bodies best, after their first steps, and whose they are (R,)."""
    bodies = many.transl.shape[1]
    cost = finite_total(problem, many, replace(stage, outlier_scale=_SOFT, data_weight=1.0 / _SOFT**2))
    rows = cost.topk(_MOST, 0, largest=False).indices.flatten() * bodies
    body = torch.arange(bodies, device=rows.device).repeat(_MOST)
    part, own = problem.of_bodies(body), stage.rows(body, bodies)
    first = replace(own, iterations=_STEPS, outlier_scale=_TOLERANT, median_factor=_MEDIAN_FACTOR)
    candidates = many.rows(rows + body)
    return descend(part, candidates, part.with_outlier_scales(candidates, first), near=True)[0], body
