"""What a pose file observed or imputed: its own arrays of flags, or what the values give away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..skeleton import JOINT_NAMES, NUM_JOINTS, PART_SLICES

_STILL = 1e-6


def joint_flags(key: str, stored: NDArray[Any], n: int, columns: Mapping[int, Sequence[int]]) -> Tensor:
    """The file's flags at the 55 joints.

    Args:
        key: 'observed' or 'imputed'.
        stored: (n, J) or (J,) bool, for all rows alike then.
        n: number of poses in the file.
        columns: for each J that fits the file, the column of each of the 55 joints; -1 for none.

    Returns:
        (n, 55) bool.
    """
    flags = np.atleast_2d(stored)
    if flags.dtype != bool and not np.isin(flags, (0, 1)).all():
        raise ValueError(f"key '{key}': expected bool or 0/1, got {stored.dtype} with other values; save it as bool.")
    if flags.ndim != 2 or flags.shape[1] not in columns or len(flags) not in (1, n):
        wanted = " or ".join(f"({n}, {count})" for count in sorted(columns))
        raise ValueError(f"key '{key}': expected {wanted}, a flag per pose and joint, got {stored.shape}.")
    column = np.asarray(columns[flags.shape[1]])
    mask = flags[:, column].astype(bool) & (column >= 0)
    return torch.from_numpy(np.broadcast_to(mask, (n, NUM_JOINTS)).copy())


def without_still_joints(pose: Tensor, mask: Tensor, *, parts: bool) -> tuple[Tensor, str | None]:
    """The mask without what never moves in a recording of two poses or more, and words that say so.

    A joint that is zero throughout was filled in, not measured; and so, with `parts`, were jaw, eyes and hands that are
    constant.
    """
    if len(pose) < 2:
        return mask, None
    moves = (pose.amax(0) - pose.amin(0)).amax(-1)
    still = ~(moves > _STILL) & torch.isfinite(moves)
    unseen = still & (pose[0].abs().amax(-1) <= _STILL)
    for name in ("jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose") if parts else ():
        unseen[PART_SLICES[name]] |= still[PART_SLICES[name]].all()
    lost = unseen & mask.any(0)
    if not bool(lost.any()):
        return mask, None
    return mask & ~unseen, (
        f"joints that never move are unobserved: {_names(lost)} (constant_parts_unobserved=False keeps them)"
    )


def without_zero_joints(pose: Tensor, mask: Tensor, recording: NDArray[Any]) -> tuple[Tensor, str | None]:
    """The mask without joints that are zero throughout one of several recordings of two poses or more, and words that say so.

    Args:
        pose, mask: (N, 55, 3) and (N, 55).
        recording: (N,) name or number of the recording of each pose.
    """
    names, place, count = np.unique(recording, return_inverse=True, return_counts=True)
    rows = torch.from_numpy(place.reshape(-1))
    size = pose.nan_to_num(nan=1.0).abs().amax(-1)
    most = size.new_zeros(len(names), NUM_JOINTS).scatter_reduce_(0, rows[:, None].expand_as(size), size, "amax")
    unseen = ((most <= _STILL) & torch.from_numpy(count >= 2)[:, None])[rows]
    lost = (unseen & mask).any(0)
    if not bool(lost.any()):
        return mask, None
    return mask & ~unseen, (
        f"joints that are zero throughout a recording are unobserved there: {_names(lost)} (constant_parts_unobserved=False "
        "keeps them)"
    )


def _names(joints: Tensor) -> str:
    """Parts that are all among the joints, and the rest by name."""
    rest, words = joints.clone(), []
    for name, part in PART_SLICES.items():
        if bool(joints[part].all()):
            words.append(name)
            rest[part] = False
    return ", ".join(words + [JOINT_NAMES[j] for j in torch.nonzero(rest).flatten().tolist()])
