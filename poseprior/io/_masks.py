"""What a pose file observed or imputed: its own arrays of flags, or what the values give away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..skeleton import NUM_JOINTS, PART_SLICES

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


def without_constant_parts(pose: Tensor, mask: Tensor) -> Tensor:
    """Jaw, eyes and hands that never move in a file were filled in, not measured."""
    mask = mask.clone()
    for name in ("jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose"):
        part = pose[:, PART_SLICES[name]]
        if len(pose) > 1 and float((part.amax(0) - part.amin(0)).max()) <= _STILL:
            mask[:, PART_SLICES[name]] = False
    return mask
