"""Rotations of a sequence as rotvecs that go on from frame to frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..rotations import wrap_rotvec

#: A joint without a longer step, radians, stays as it is.
_SHORT = 1.0
#: Radians; longer steps are jumps, which are rare before they are short.
_JUMP = math.pi
#: What a jump costs beside the square of its length, and how much more where the rotation is half a turn.
_COST, _FAR = 1e4, 0.1
#: Whole turns that a rotvec may have at most.
_MOST_TURNS = 32
#: Joints at once, which bounds memory.
_TOGETHER = 8
#: Below this angle a rotvec has no axis of its own.
_NO_AXIS = 1e-6


def continuous(pose: Tensor) -> Tensor:
    """The same rotations (F, J, 3), as rotvecs whose norms may grow beyond pi so that neighbouring frames are near.

    Each v has the equals v + 2 pi k v / |v|. Of all sequences of such equals that begin with the first rotvec below pi, the
    one is taken that has the fewest steps above pi, and of these the one with the smallest sum of squared steps (Viterbi's
    algorithm, joint by joint). No step is longer than the longest between rotvecs below pi.

    The nearest equal to the frame before, frame by frame, is not enough: after a whole turn with a little tilt the axis
    turns round within a few frames, and rotvecs with norms near 2 pi then jump from one side of that sphere to the other.
    Where no sequence avoids a jump, it is left to frames that are near the identity if it can be.
    """
    long = ((pose[1:] - pose[:-1]).norm(dim=-1) > _SHORT).any(0)
    if not bool(long.any()):
        return pose
    result = pose.clone()
    for joints in long.nonzero()[:, 0].split(_TOGETHER):
        result[:, joints] = _best(wrap_rotvec(pose[:, joints].double())).to(pose)
    return result


def _best(rotvec: Tensor) -> Tensor:
    """(F, J, 3) equals of rotvecs (F, J, 3) below pi."""
    angle, axis = rotvec.norm(dim=-1), _axes(rotvec)
    given = (rotvec[1:] - rotvec[:-1]).norm(dim=-1)
    most = min(_MOST_TURNS, max(1, int((given > _JUMP).sum(0).max())))
    turns = torch.arange(-most, most + 1).to(rotvec)
    equals = (angle[..., None] + 2.0 * math.pi * turns)[..., None] * axis[:, :, None]  # (F, J, K, 3)
    longest = given.amax(0)[:, None, None] + 1e-9
    jump = _COST * (1.0 + _FAR * (angle[1:] + angle[:-1]) / (2.0 * math.pi))
    cost = torch.where(turns == 0, 0.0, math.inf).expand(rotvec.shape[1], -1)
    came_from = []
    for frame in range(1, len(rotvec)):
        step = torch.cdist(equals[frame - 1], equals[frame], compute_mode="donot_use_mm_for_euclid_dist")
        price = step.square() + jump[frame - 1][:, None, None] * (step > _JUMP)
        price = torch.where(step > longest, math.inf, price)
        cost, origin = (cost[..., None] + price).min(1)
        came_from.append(origin)
    chosen = [cost.argmin(1)]
    for origin in reversed(came_from):
        chosen.append(origin.gather(1, chosen[-1][:, None])[:, 0])
    index = torch.stack(chosen[::-1])[..., None, None].expand(-1, -1, 1, 3)
    return equals.gather(2, index)[:, :, 0]


def _axes(rotvec: Tensor) -> Tensor:
    """(F, J, 3) unit axes; a frame at the identity has the axis of the last frame that has one."""
    angle = rotvec.norm(dim=-1, keepdim=True)
    frames = torch.arange(len(rotvec), device=rotvec.device)[:, None]
    last = torch.where(angle[..., 0] > _NO_AXIS, frames, 0).cummax(0).values
    axis = rotvec / angle.clamp_min(1e-300)
    return axis.gather(0, last[..., None].expand_as(axis))
