"""Inverse kinematics: turns each joint, from the root outwards, so that its bones point at the measured points in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...rotations import nearest_rotmat, rotmat_to_rotvec
from ..targets import Keypoints2D
from .problem import FitProblem
from .state import BodyState

#: Factor on the weight of a point for each joint between it and the joint that turns. The nearest points decide where a
#: bone points; those farther out decide only how it turns about its own length.
_DECAY = 1e-3
#: Weight of the identity in each alignment: of all rotations that align the points equally well it selects the smallest.
_SMALLEST_TURN = 1e-6


def point_bones(problem: FitProblem, state: BodyState, chosen: Sequence[Tensor]) -> BodyState:
    """The bodies (S, B) with every joint turned so that the points that it carries come near where they were measured.

    From the root outwards each joint takes the weighted least-squares rotation (Procrustes) from its points to the measured
    ones; where these leave the rotation open, the smallest. There is no iteration and no randomness. Where every joint is
    measured, bones point exactly at the measured joints, and only differences in bone length are left.

    Args:
        problem: what is fitted; 2D targets are not used.
        state: the poses that joints are turned from; joints that no measured point decides stay as they are.
        chosen: of each target, (B, K) bool, the points that count.
    """
    starts, bodies = state.transl.shape[:2]
    points = problem.points
    place, measured, weight = _measured(problem, chosen)
    measured, weight = (v.repeat(starts, 1, *[1] * (v.dim() - 2)) for v in (measured, weight))
    pose, transl = state.pose.flatten(0, 1), state.transl.flatten(0, 1)[:, None]
    rotation, position = points.frames(pose, betas=state.betas.flatten(0, 1), expression=state.expression.flatten(0, 1))
    position = position + transl
    own = problem.body(state).flatten(0, 1)[:, place]
    carried, distance = _carriers(problem, place)
    chain, parents = points.chain, points.tree.parents.tolist()
    anchor, anchored = _anchors(problem, place, measured, weight)
    turned = torch.eye(3, dtype=pose.dtype, device=pose.device).expand(len(pose), len(chain), 3, 3).clone()
    moved = position.clone()
    movable = {0, *problem.free}
    for level in [torch.zeros(1, dtype=torch.long, device=pose.device), *(joints for joints, _ in points.tree.levels)]:
        above = [parents[c] for c in level.tolist()]
        share = weight[:, None] * carried[level] * _DECAY ** distance[level]
        share = share / share.sum(-1, keepdim=True).clamp_min(1e-12)
        if int(level[0]) == 0:
            ours, origin = own[:, None], (share @ own)[:, :, None]
            there = (share @ measured)[:, :, None]
            arm, wanted = ours - origin, measured[:, None] - there
        else:
            before = turned[:, above]
            moved[:, level] = moved[:, above] + (before @ (position[:, level] - position[:, above])[..., None])[..., 0]
            there = torch.where(anchored[:, level, None], anchor[:, level], moved[:, level])[:, :, None]
            arm = (own[:, None] - position[:, level, None]) @ before.mT
            wanted = measured[:, None] - there
        arm, wanted, share = arm.double(), wanted.double(), share.double()  # single precision would lose small turns
        covariance = (share[..., None] * wanted).mT @ arm
        size = (share * wanted.norm(dim=-1) * arm.norm(dim=-1)).sum(-1)[..., None, None]
        eye = torch.eye(3, dtype=size.dtype, device=pose.device)
        covariance = torch.where(size > 0, covariance + _SMALLEST_TURN * size * eye, eye)
        turn = nearest_rotmat(covariance)
        still = torch.tensor([chain[c] not in movable for c in level.tolist()], device=pose.device)
        turn = torch.where(still[:, None, None], eye, turn).to(pose)
        if int(level[0]) == 0:
            turned[:, level] = turn
            shift = (turn @ (position[:, level] - origin[:, :, 0])[..., None])[..., 0]
            seen = (weight.sum(-1) > 0)[:, None, None]
            moved[:, level] = torch.where(seen, there[:, :, 0] + shift, position[:, level])
        else:
            turned[:, level] = turn @ before
    placed = turned @ rotation
    local = torch.cat((placed[:, :1], placed[:, parents[1:]].mT @ placed[:, 1:]), 1)
    found = pose.index_copy(1, torch.tensor(chain, device=pose.device), rotmat_to_rotvec(local.double()).to(pose))
    return replace(
        state, pose=found.unflatten(0, (starts, bodies)),
        transl=state.transl + (moved[:, 0] - position[:, 0]).unflatten(0, (starts, bodies)),
    )  # fmt: skip


def _measured(problem: FitProblem, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """All points in 3D: their places (M,) among the body's own, measured positions (B, M, 3) and weights (B, M), at most 1."""
    place, points, weights = [], [], []
    for number, target in enumerate(problem.targets):
        if not isinstance(target, Keypoints2D):
            place.append(problem.place_of(number))
            points.append(target.points)
            weights.append(target.confidence * chosen[number] / target.sigma.square())
    weight = torch.cat(weights, -1)
    return torch.cat(place), torch.cat(points, -2), weight / weight.amax(-1, keepdim=True).clamp_min(1e-12)


def _carriers(problem: FitProblem, place: Tensor) -> tuple[Tensor, Tensor]:
    """(C, M): 1 where a joint of the chain carries more than half of a point, and how many joints stand between the two."""
    points = problem.points
    carried = points.carried[place].T > 0.5
    depth = points.tree.below.sum(0)
    deepest = torch.where(carried, depth[:, None], torch.zeros_like(depth[:, None])).amax(0)
    return carried.to(depth), (deepest - depth[:, None]).clamp_min(0.0)


def _anchors(problem: FitProblem, place: Tensor, measured: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Measured positions (N, C, 3) of the joints of the chain, and (N, C) bool, which of them were measured."""
    chain = problem.points.chain
    joint_at = {k: joint for k, joint in enumerate(problem.joints)}
    is_joint = torch.tensor(
        [[joint_at.get(k) == joint for k in place.tolist()] for joint in chain], device=place.device
    )
    share = weight[:, None] * is_joint
    total = share.sum(-1, keepdim=True)
    return share @ measured / total.clamp_min(1e-12), total[..., 0] > 0
