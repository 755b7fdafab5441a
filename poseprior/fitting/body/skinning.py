"""Joints and a few skinned vertices of a posed body, with a hand-written gradient.

Forward kinematics and linear blend skinning,

    R_j = R_parent(j) Exp(pose_j),   p_j = p_parent(j) + R_parent(j) (J_j - J_parent(j)),
    x_v = sum_j w_vj (R_j (v - J_j) + p_j).

Backward is statics: with forces g on points, joint j feels the torque of its whole subtree about p_j,

    tau_j = M_j - p_j x F_j,   F_j = sum of forces below j,   M_j = sum of x cross g below j,

and the gradient of its rotvec r is J_l(r)^T R_parent^T tau_j with the left Jacobian J_l of SO(3). Sums over subtrees are
one product with the matrix of ancestors, so that the cost does not grow with the depth of the tree as autograd's does.

Source: Loper et al., "SMPL" (2015) for the skinning; Featherstone, "Rigid Body Dynamics Algorithms" (2008), chapter 2,
for the torques; Chirikjian vol. 2, section 10, for J_l.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..._tracing import is_traced


@dataclass(frozen=True)
class Tree:
    """A part of the skeleton that holds the parents of its joints.

    Attributes:
        parents: (J,) place of each joint's parent, 0 for the root (place 0).
        levels: per depth below the root: joints, and where their parents stand in the level above.
        order: (J,) brings joints listed by depth back to their places.
        below: (J, J) 1 where the second joint is the first or hangs from it.
        is_root: (J, 1) 1 for the root.
    """

    parents: Tensor
    levels: tuple[tuple[Tensor, Tensor], ...]
    order: Tensor
    below: Tensor
    is_root: Tensor

    @classmethod
    def of(cls, parents: list[int], like: Tensor) -> Tree:
        """From the place of each joint's parent, -1 for the root, which stands first."""
        device = like.device
        levels: list[list[int]] = [[0]]
        while found := [j for j, p in enumerate(parents) if p in levels[-1] and j > 0]:
            levels.append(found)
        pairs = tuple(
            (
                torch.tensor(level, device=device),
                torch.tensor([above.index(parents[j]) for j in level], device=device),
            )
            for above, level in pairwise(levels)
        )
        below = torch.eye(len(parents))
        for j, p in enumerate(parents):
            while p >= 0:
                below[p, j] = 1.0
                p = parents[p]
        order = torch.tensor([j for level in levels for j in level], device=device).argsort()
        is_root = torch.zeros(len(parents), 1)
        is_root[0] = 1.0
        clipped = torch.tensor([max(p, 0) for p in parents], device=device)
        return cls(clipped, pairs, order, below.to(like), is_root.to(like))


def posed_points(pose: Tensor, rest: Tensor, vertices: Tensor, weights: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """Positions of joints and vertices.

    Args:
        pose: (B, J, 3) rotvecs of the tree's joints, radians, any norm.
        rest: (B, J, 3) joints in the rest pose, metres.
        vertices: (B, N, 3) vertices in the rest pose, corrections included.
        weights: (N, J) skinning weights; constant.
        tree: the joints.

    Returns:
        joints (B, J, 3) and vertices (B, N, 3).
    """
    if is_traced():
        return _eager_points(pose, rest, vertices, weights, tree)
    joints, skinned = _PosedPoints.apply(pose, rest, vertices, weights, tree)
    return joints, skinned


def _eager_points(pose: Tensor, rest: Tensor, vertices: Tensor, weights: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """`posed_points` by operations that autograd can derive again and again."""
    rotation, position = joint_frames(pose, rest, tree)
    return position, _skinned(rotation, position, rest, vertices, weights)[0] if vertices.shape[1] else vertices


def joint_frames(pose: Tensor, rest: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """Rotations (B, J, 3, 3) to the world and positions (B, J, 3) of the joints; arguments as in `posed_points`."""
    a, b, _ = _coefficients(pose)
    return _frames(_exp(pose, a, b), rest, tree)


def turn_axes(pose: Tensor, rest: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """What joints turn about when their rotvecs change.

    Args:
        pose, rest, tree: as in `posed_points`.

    Returns:
        axes (B, J, 3, 3), whose row c is the angular velocity of everything below a joint when component c of its rotvec
        grows at one radian a second, R_parent J_l(r) e_c; the root's is that of a turn about its own axis, R e_c. And
        positions (B, J, 3) of the joints, through which the axes go.
    """
    a, b, c = _coefficients(pose)
    rotation, position = _frames(_exp(pose, a, b), rest, tree)
    basis = torch.eye(3, dtype=pose.dtype, device=pose.device).expand(*pose.shape[:2], 3, 3)
    r = pose[:, :, None].expand_as(basis)
    twist = torch.linalg.cross(r, basis)
    local = basis + b[..., None] * twist + c[..., None] * torch.linalg.cross(r, twist)
    axes = local @ rotation[:, tree.parents].mT
    return torch.cat((rotation[:, :1].mT, axes[:, 1:]), 1), position


def _frames(local: Tensor, rest: Tensor, tree: Tree) -> tuple[Tensor, Tensor]:
    """Rotations (B, J, 3, 3) to the world and positions (B, J, 3), from rotations to the parent (B, J, 3, 3)."""
    offset = rest - rest[:, tree.parents]
    rotations, positions = [local[:, :1]], [rest[:, :1]]
    for joints, slots in tree.levels:
        above = rotations[-1][:, slots]
        positions.append(positions[-1][:, slots] + (above @ offset[:, joints, :, None])[..., 0])
        rotations.append(above @ local[:, joints])
    return torch.cat(rotations, 1)[:, tree.order], torch.cat(positions, 1)[:, tree.order]


def _skinned(
    rotation: Tensor, position: Tensor, rest: Tensor, vertices: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices (B, N, 3); p_j - R_j J_j (B, J, 3) of the joints, and the blended rotations (B, N, 3, 3)."""
    shift = position - (rotation @ rest[..., None])[..., 0]
    transform = weights @ torch.cat((rotation.flatten(2), shift), -1)
    turn = transform[..., :9].unflatten(-1, (3, 3))
    return (turn @ vertices[..., None])[..., 0] + transform[..., 9:], shift, turn


class _PosedPoints(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pose: Tensor, rest: Tensor, vertices: Tensor, weights: Tensor, tree: Tree
    ) -> tuple[Tensor, Tensor]:
        a, b, c = _coefficients(pose)
        rotation, position = _frames(_exp(pose, a, b), rest, tree)
        if vertices.shape[1]:
            skinned, shift, turn = _skinned(rotation, position, rest, vertices, weights)
            ctx.save_for_backward(pose, rest, vertices, weights, b, c, rotation, position, shift, turn)
        else:
            skinned = vertices
            ctx.save_for_backward(pose, rest, vertices, weights, b, c, rotation, position)
        ctx.tree = tree
        return position, skinned

    @staticmethod
    def backward(ctx: Any, force: Tensor, skin_force: Tensor) -> tuple[Tensor | None, ...]:
        pose, rest, vertices, weights, b, c, rotation, position, *skin = ctx.saved_tensors
        tree: Tree = ctx.tree
        if torch.is_grad_enabled() or is_traced():  # the gradient is differentiable itself, and can be transformed
            create_graph = torch.is_grad_enabled()
            with torch.enable_grad():
                outputs = _eager_points(pose, rest, vertices, weights, tree)
                wanted = [t for t, needed in zip((pose, rest, vertices), ctx.needs_input_grad, strict=False) if needed]
                found = iter(
                    torch.autograd.grad(
                        outputs, wanted, (force, skin_force), create_graph=create_graph, materialize_grads=True
                    )
                )
            return (*(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None, None)
        moment = torch.linalg.cross(position, force)
        to_rest = to_vertices = None
        pushed = None
        if skin:
            shift, turn = skin
            outer = (vertices[..., :, None] * skin_force[..., None, :]).flatten(2)
            gathered = weights.mT @ torch.cat((outer, skin_force), -1)
            pushed = gathered[..., 9:]
            spun = rotation @ gathered[..., :9].unflatten(-1, (3, 3))
            about = torch.stack(
                (
                    spun[..., 1, 2] - spun[..., 2, 1],
                    spun[..., 2, 0] - spun[..., 0, 2],
                    spun[..., 0, 1] - spun[..., 1, 0],
                ),
                -1,
            )
            moment = moment + about + torch.linalg.cross(shift, pushed)
            force = force + pushed
            if ctx.needs_input_grad[2]:
                to_vertices = (turn.mT @ skin_force[..., None])[..., 0]
        both = tree.below @ torch.cat((force, moment), -1)
        total, torque = both[..., :3], both[..., 3:] - torch.linalg.cross(position, both[..., :3])
        parent = rotation[:, tree.parents].mT
        local_torque = (parent @ torque[..., None])[..., 0]
        local_torque = local_torque + tree.is_root * (torque - local_torque)
        twist = torch.linalg.cross(pose, local_torque)
        to_pose = local_torque - b * twist + c * torch.linalg.cross(pose, twist)
        if ctx.needs_input_grad[1]:
            pull = (parent @ total[..., None])[..., 0]
            pull = pull + tree.is_root * (total - pull)
            to_rest = pull - torch.zeros_like(pull).index_add(1, tree.parents[1:], pull[:, 1:])
            if pushed is not None:
                to_rest = to_rest - (rotation.mT @ pushed[..., None])[..., 0]
        return to_pose, to_rest, to_vertices, None, None


def _coefficients(rotvec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, J, 1) sin t / t, (1 - cos t) / t^2 and (t - sin t) / t^3 for t = |rotvec|; series near zero."""
    squared = rotvec.square().sum(-1, keepdim=True)
    small = squared < 1e-2
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine, half = torch.sin(angle), torch.sin(0.5 * angle)
    a = torch.where(small, 1.0 - squared / 6.0 * (1.0 - squared / 20.0 * (1.0 - squared / 42.0)), sine / angle)
    b = torch.where(small, 0.5 - squared / 24.0 * (1.0 - squared / 30.0 * (1.0 - squared / 56.0)), 2.0 * half**2 / safe)
    c = torch.where(
        small, (1.0 - squared / 20.0 * (1.0 - squared / 42.0 * (1.0 - squared / 72.0))) / 6.0,
        (angle - sine) / (safe * angle),
    )  # fmt: skip
    return a, b, c


def _exp(rotvec: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(B, J, 3, 3) rotation matrices, I + a K + b K^2 with K^2 = r r^T - t^2 I."""
    x, y, z = (a * rotvec).unbind(-1)
    outer = (b * rotvec)[..., None] * rotvec[..., None, :]
    zero = torch.zeros_like(x)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    diagonal = 1.0 - (b * rotvec.square().sum(-1, keepdim=True))[..., None]
    return skew + outer + diagonal * torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
