"""The border of a prior: what users pass is checked and flattened here, once; models see flat batches of their own joints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from . import skeleton

_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")


def in_full_precision(method: Callable[_Given, _Got]) -> Callable[_Given, _Got]:
    """Out of autocast: half a precision would cost whole nats."""

    @functools.wraps(method)
    def outside(*args: _Given.args, **kwargs: _Given.kwargs) -> _Got:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return method(*args, **kwargs)
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return method(*args, **kwargs)

    return outside


def check_pose(pose: Tensor, observed: Tensor | None, index: Tensor, like: Tensor) -> tuple[torch.Size, Tensor, Tensor]:
    """Poses and masks as models take them.

    Args:
        pose: (*batch, 55, 3) rotvecs.
        observed: (*batch, 55) bool or broadcastable to it; None means all.
        index: (J,) SMPL-X indices of the modelled joints.
        like: gives dtype and device.

    Returns:
        The batch shape, (B, J, 3) rotvecs with zeros where unobserved, and (B, J) bool.

    Raises:
        ValueError: another type or shape, a mask that does not broadcast, or values that are not finite on observed
            modelled joints.
    """
    n = skeleton.NUM_JOINTS
    if not isinstance(pose, Tensor) or not pose.is_floating_point():
        kind = pose.dtype if isinstance(pose, Tensor) else type(pose).__name__
        raise ValueError(f"pose: expected a floating-point tensor (*batch, {n}, 3), got {kind}; use torch.as_tensor.")
    if pose.shape[-2:] != (n, 3):
        hint = ""
        if pose.shape[-2:] == (53, 3) or pose.shape[-1:] == (159,):
            hint = "; poseprior.params.pose_from_joints53 adds the eyes"
        elif pose.shape[-1] in (165, 156, 72):
            hint = "; poseprior.params.pose_from_vector takes flat vectors"
        raise ValueError(f"pose: expected shape (*batch, {n}, 3), got {tuple(pose.shape)}{hint}.")
    batch = pose.shape[:-2]
    rotvec = pose.index_select(-2, index.to(pose.device)).to(like)
    if observed is None:
        seen = torch.ones(rotvec.shape[:-1], dtype=torch.bool, device=rotvec.device)
    else:
        if observed.dtype != torch.bool or observed.shape[-1:] != (n,):
            raise ValueError(
                f"observed: expected a bool tensor (*batch, {n}), got {observed.dtype} {tuple(observed.shape)}."
            )
        try:
            seen = observed.to(rotvec.device).index_select(-1, index.to(rotvec.device)).expand(rotvec.shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"observed: shape {tuple(observed.shape)} does not broadcast to the pose batch {tuple(batch)}."
            ) from None
        rotvec = torch.where(seen[..., None], rotvec, torch.zeros_like(rotvec))
    rotvec = rotvec.reshape(-1, len(index), 3)
    if not torch.isfinite(rotvec).all():
        row, place, _ = (~torch.isfinite(rotvec)).nonzero()[0].tolist()
        raise ValueError(
            f"pose: expected finite rotvecs, got a NaN or infinity at {skeleton.JOINT_NAMES[int(index[place])]} of pose "
            f"{row}; mark missing joints in `observed` instead."
        )
    return batch, rotvec, seen.reshape(-1, len(index))


def check_context(context: Tensor, batch: Sequence[int], size: int, like: Tensor) -> Tensor:
    """(B, size) of a conditioning vector (*batch, size) or broadcastable to it.

    Raises:
        ValueError: another size, or a shape that does not broadcast.
    """
    if context.shape[-1:] != (size,):
        raise ValueError(f"context: expected (*batch, {size}), got {tuple(context.shape)}.")
    try:
        wide = context.to(like).expand(*batch, size)
    except RuntimeError:
        raise ValueError(
            f"context: shape {tuple(context.shape)} does not broadcast to the batch {tuple(batch)}."
        ) from None
    return wide.reshape(-1, size)
