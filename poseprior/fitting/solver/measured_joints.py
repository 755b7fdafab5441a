"""Which joints move the measured points, and which measured points belong to the torso and the face."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ... import skeleton
from ..targets import Target

#: Joints whose points place the torso in space.
_TORSO = (0, 1, 2, 3, 6, 9, 12, 13, 14, 16, 17)
#: The first joint of smplx that is a face landmark.
_FIRST_LANDMARK = 76


def torso_points(target: Target, model: nn.Module) -> Tensor:
    """(B, K) bool: the measured points of the torso; in frames with fewer than three of them, all measured points."""
    driven = [j in _TORSO for j in target.joints] + [_driver(model, v) in _TORSO for v in target.vertices]
    torso = torch.tensor(driven, device=target.points.device)
    seen = target.confidence > 0
    enough = (seen & torso).sum(-1, keepdim=True) >= 3
    return torch.where(enough, seen & torso, seen)


def _driver(model: nn.Module, vertex: int) -> int:
    weights = model.lbs_weights
    assert isinstance(weights, Tensor)
    return int(weights[vertex].argmax())


def movable_joints(model: nn.Module, targets: Sequence[Target]) -> set[int]:
    """Joints whose rotation moves some measured point; the root and the eyes are left out."""
    return set(shown_joints(model, targets).any(0).nonzero()[:, 0].tolist()) - {0}


def shown_joints(model: nn.Module, targets: Sequence[Target]) -> Tensor:
    """(B, 55) bool: the joints whose rotation moves some point that is measured in the frame; eyes are left out."""
    weights = model.lbs_weights
    assert isinstance(weights, Tensor)
    shown = torch.zeros(targets[0].num_frames, skeleton.NUM_JOINTS, dtype=torch.bool, device=targets[0].points.device)
    for target in targets:
        names = [*(("j", j) for j in target.joints), *(("v", v) for v in target.vertices)]
        for (kind, index), seen in zip(names, (target.confidence > 0).unbind(1), strict=True):
            if not bool(seen.any()):
                continue
            moving = {0}
            for joint in _moving(model, weights, kind, index):
                while joint > 0:
                    moving.add(joint)
                    joint = skeleton.PARENTS[joint]
            shown[:, list(moving - {23, 24})] |= seen[:, None]
    return shown


def _moving(model: nn.Module, weights: Tensor, kind: str, index: int) -> list[int]:
    """Joints whose rotation moves a point, without their ancestors; a joint's own position is moved by its parent."""
    if kind == "j" and index < skeleton.NUM_JOINTS:
        return [skeleton.PARENTS[index]]
    if kind == "j":
        extra = model.vertex_joint_selector.extra_joints_idxs.tolist()  # type: ignore[union-attr,operator]
        index -= skeleton.NUM_JOINTS
        if index >= len(extra):
            return [22]  # face landmarks: the jaw, and the head above it
        index = int(extra[index])
    return (weights[index] > 0.05).nonzero()[:, 0].tolist()


def landmarks(target: Target) -> Tensor:
    """(K,) bool: points that the expression moves."""
    marks = [j >= _FIRST_LANDMARK for j in target.joints] + [False] * len(target.vertices)
    return torch.tensor(marks, device=target.points.device)
