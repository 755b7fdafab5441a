"""Poses that cost the targets the same: limbs turned about their own bones, and joints that move no measured point.

The joints of an arm stay where they are when the upper arm turns about its own length by theta, if the elbow takes the turn
back, and when the forearm then turns by phi:

    R_shoulder Exp(theta b),   Exp(-theta b) R_elbow Exp(phi f),   Exp(-phi f) R_wrist,

with the directions b and f of the two bones, each in the frame of its upper joint. The wrist takes phi back only where points
beyond it are measured; otherwise the hand turns along.

Longer chains have too many such turns for a grid: `with_turns_of` takes them from poses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...rotations import rotmat_to_rotvec, rotvec_to_rotmat, tangent_to_rotvec
from ...skeleton import JOINT_SETS
from .problem import FitProblem
from .stages import Stage
from .state import BodyState

#: Shoulder, elbow and wrist of each arm.
_ARMS = ((16, 18, 20), (17, 19, 21))
_LEFT_ARM, _RIGHT_ARM = (13, 16, 18, 20), (14, 17, 19, 21)
#: Chains of joints whose turns are taken from samples, and those that are turned together: each arm, each leg, the spine, the
#: neck with the head, and both arms, since a prior may like either pair of turns and no mixed one.
_CHAINS = (
    (_LEFT_ARM,), (_RIGHT_ARM,), ((1, 4, 7, 10),), ((2, 5, 8, 11),), ((3, 6, 9),), ((12, 15),), (_LEFT_ARM, _RIGHT_ARM),
)  # fmt: skip
#: Joints whose hidden ones are taken from samples together: of the body, of either hand.
_PARTS = (range(22), JOINT_SETS["left_hand"], JOINT_SETS["right_hand"])
#: Angles theta and phi of the grid.
THETAS, PHIS = 16, 8


def arms(problem: FitProblem) -> Iterator[tuple[int, int, int]]:
    """The arms that the fit moves and whose turns some term or regulariser judges: shoulder, elbow and wrist."""
    judged = _judged(problem)
    for arm in _ARMS:
        if set(arm[:2]) <= set(problem.free) and judged & set(arm):
            yield arm


def _judged(problem: FitProblem) -> set[int]:
    """The joints whose rotations cost something by themselves: those of terms, and those that a regulariser holds."""
    resting = () if problem.config.rest_sigma is None else problem.resting
    return {*problem.judged, *resting}


def hidden_turns(problem: FitProblem, state: BodyState, stage: Stage, arm: tuple[int, int, int]) -> Tensor:
    """(B,) bool: whether the turns of an arm leave all measured points of a body, fitted to them, where they are.

    Points on the skin of an arm show its turns, joints do not.
    """
    takes_back = moves_points(problem, stage, arm[2])
    half = turned(problem, state, arm, takes_back, (0.0, math.pi), (0.0, math.pi))
    return (problem.num_outliers(half) == 0).all(0)


def grid_of_turns(problem: FitProblem, state: BodyState, stage: Stage, arm: tuple[int, int, int]) -> BodyState:
    """All turns of an arm on the grid: (T P, B) of one start of B bodies, theta by theta; the first is the body as it is."""
    thetas, phis = (tuple(2.0 * math.pi * k / n for k in range(n)) for n in (THETAS, PHIS))
    return turned(problem, state, arm, moves_points(problem, stage, arm[2]), thetas, phis)


def turned(
    problem: FitProblem, state: BodyState, arm: tuple[int, int, int], takes_back: Tensor, thetas: Sequence[float],
    phis: Sequence[float],
) -> BodyState:  # fmt: skip
    """Turns of an arm, theta by theta: (T P, B) of one start of B bodies.

    Args:
        problem: of the bodies.
        state: (1, B).
        arm: shoulder, elbow and wrist.
        takes_back: (B,) bool, whether the wrist takes back the turn of the forearm.
        thetas, phis: T angles of the upper arm and P of the forearm, radians.
    """
    shoulder, elbow, wrist = arm
    pose = state.pose[0]
    rotation, position = problem.frames(state)
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


def hidden_joints(problem: FitProblem, stage: Stage) -> Iterator[Tensor]:
    """(B, 55) bool each: joints that a term judges and that move no measured point, of the body, then of each hand's fingers.

    A wrist beyond which no finger is measured, for one, and then the fingers.
    """
    for part in _PARTS:
        hidden = torch.zeros(len(stage.chosen[0]), 55, dtype=torch.bool, device=stage.chosen[0].device)
        for joint in problem.judged.intersection(part, problem.free):
            hidden[:, joint] = ~moves_points(problem, stage, joint)
        yield hidden


def with_joints_of(state: BodyState, poses: Tensor, joints: Tensor) -> BodyState:
    """(N, B) of one start of B bodies: some of the joints, (B, 55) bool, as in each of N poses (N, 55, 3)."""
    pose = torch.where(joints[..., None], poses.to(state.pose)[:, None], state.pose[0])
    return replace(state.expand(len(poses)), pose=pose)


def chains(problem: FitProblem) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Chains that are turned together: their parts that the fit moves, each from the joint nearest to the pelvis.

    Only parts whose turns cost something are turned.
    """
    judged = _judged(problem)
    for together in _CHAINS:
        parts = tuple(
            part
            for chain in together
            for free, joints in groupby(chain, set(problem.free).__contains__)
            if free and len(part := tuple(joints)) > 1 and judged.intersection(part)
        )
        if len(parts) == len(together):
            yield parts


def with_turns_of(
    problem: FitProblem, state: BodyState, stage: Stage, poses: Tensor, chains: Sequence[Sequence[int]]
) -> BodyState:
    """(N, B) of one start of B bodies: some chains in each of N poses (N, 55, 3), their joints left where they are.

    Each joint takes its rotation from the pose, and then the smallest turn that points its bone at where the next joint of the
    chain is: bones point where they did, and are turned about their own lengths as in the pose. The last joint takes its
    rotation from the pose; if it moves measured points, it keeps the one that it has in the world.
    """
    rotation, position = problem.frames(state)
    place = {joint: k for k, joint in enumerate(problem.points.chain)}
    many = state.pose[0].expand(len(poses), *state.pose[0].shape).clone()
    for chain in chains:
        above = rotation[:, problem.points.tree.parents[place[chain[0]]]]
        for joint, end in pairwise(chain):
            first = above @ rotvec_to_rotmat(poses[:, None, joint].to(many))
            bone = normalize(position[:, place[end]] - position[:, place[joint]], dim=-1)
            turned = pointed(first, rotation[:, place[joint]], bone, bone)
            many[..., joint, :] = rotmat_to_rotvec(above.mT @ turned)
            above = turned
        last = chain[-1]
        kept = rotmat_to_rotvec(above.mT @ rotation[:, place[last]])
        own = poses[:, None, last].to(many).expand_as(kept)
        many[..., last, :] = torch.where(moves_points(problem, stage, last)[:, None], kept, own)
    return replace(state.expand(len(poses)), pose=many)


def pointed(first: Tensor, own: Tensor, bone: Tensor, wanted: Tensor) -> Tensor:
    """Rotations `first` (..., 3, 3) of joints, turned by the smallest angle that points their bones where they are wanted.

    Args:
        first: (..., B, 3, 3).
        own: (B, 3, 3), the rotations with which the bones point along `bone` (B, 3).
        wanted: (B, 3).
    """
    carried = (first @ (own.mT @ bone[..., None]))[..., 0]
    wanted = wanted.expand_as(carried)
    axis = torch.linalg.cross(carried, wanted)
    angle = torch.atan2(axis.norm(dim=-1), (carried * wanted).sum(-1))
    return rotvec_to_rotmat(normalize(axis, dim=-1) * angle[..., None]) @ first


def moves_points(problem: FitProblem, stage: Stage, joint: int) -> Tensor:
    """(B,) bool: whether the joint's rotation moves a measured point."""
    return num_moved(problem, stage, joint) > 0


def num_moved(problem: FitProblem, stage: Stage, joint: int) -> Tensor:
    """(B,) number of the measured points that the joint's rotation moves."""
    moved = torch.zeros_like(stage.chosen[0][:, 0], dtype=torch.long)
    for number, target in enumerate(problem.targets):
        below = problem.points.carried[problem.place_of(number), problem.points.chain.index(joint)] > 0
        itself = torch.tensor([j == joint for j in target.joints] + [False] * len(target.vertices), device=below.device)
        moved = moved + ((target.confidence > 0) & stage.chosen[number] & below & ~itself).sum(-1)
    return moved
