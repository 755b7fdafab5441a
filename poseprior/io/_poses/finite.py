"""Rotations of files as they are kept: finite, and no longer than half a turn."""

from __future__ import annotations

import torch
from torch import Tensor

from ...rotations import wrap_rotvec
from ...skeleton import JOINT_NAMES


def wrapped(pose: Tensor) -> Tensor:
    """`wrap_rotvec`, of the joints that may need it: few recordings have one."""
    long = torch.linalg.vector_norm(pose, dim=-1) > 3.14
    return pose.index_put((long,), wrap_rotvec(pose[long])) if bool(long.any()) else pose


def require_finite(pose: Tensor, mask: Tensor, keys: str) -> None:
    """Refuse observed joints that are not finite; `keys` are the arrays that were read."""
    finite = torch.isfinite(pose)
    if bool(finite.all()):
        return
    broken = ~finite.all(-1) & mask
    if not bool(broken.any()):
        return
    rows = torch.nonzero(broken.any(1)).flatten().tolist()
    joint = JOINT_NAMES[int(torch.nonzero(broken[rows[0]])[0])]
    raise ValueError(
        f"key '{keys}': expected finite values on observed joints, got nan or inf in {len(rows)} of {len(pose)} "
        f"rows (rows {', '.join(map(str, rows[:5]))}{', ...' if len(rows) > 5 else ''}; first joint {joint}); drop "
        "the rows, or mark the joints false in an 'observed' array."
    )
