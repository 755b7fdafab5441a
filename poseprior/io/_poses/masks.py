"""What a pose file observed or imputed: its own arrays of flags, or what the values give away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...skeleton import JOINT_NAMES, NUM_JOINTS, PART_SLICES

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


def without_unmeasured(pose: Tensor, mask: Tensor, recording: NDArray[Any] | None) -> tuple[Tensor, list[str]]:
    """The mask without what was filled in, and notes: empty rows, and joints that never move, in all and by recording.

    Args:
        pose, mask: (N, 55, 3) and (N, 55).
        recording: (N,) number of the recording of each pose; None for one recording.
    """
    parts = not _single_hands(mask)
    mask, empty = without_empty_rows(pose, mask)
    mask, still = without_still_joints(pose, mask, parts=parts)
    apart = None
    if recording is not None:
        mask, apart = without_still_joints(pose, mask, parts=parts, recording=recording)
    return mask, [note for note in (empty, still, apart) if note is not None]


def _single_hands(mask: Tensor) -> bool:
    """Whether the rows are single hands, left or right: a hand that never moves was held still."""
    return not bool(mask[:, :25].any()) and not bool((mask[:, 25:40].any(1) & mask[:, 40:].any(1)).any())


def without_empty_rows(pose: Tensor, mask: Tensor) -> tuple[Tensor, str | None]:
    """The mask without rows that are zero, or NaN, throughout, root included, among others that are not, and words that say so.

    Trackers write them where they found nobody.
    """
    zero = mask.any(1) & ~((pose != 0).any(-1) & mask).any(1)
    lost = mask.any(1) & ~(~torch.isnan(pose).all(-1) & mask).any(1)
    empty = zero | lost
    if not bool(empty.any()) or bool(empty.all()):
        return mask, None
    rows = torch.nonzero(empty).flatten().tolist()
    what = " or ".join(name for name, found in (("zero", zero), ("NaN", lost)) if bool(found.any()))
    kept = "; constant_parts_unobserved=False keeps them" if not bool(lost.any()) else ""
    return mask & ~empty[:, None], (
        f"{len(rows)} of {len(pose)} rows are {what} throughout, as trackers write where nobody was found: they are unobserved "
        f"(rows {', '.join(map(str, rows[:5]))}{', ...' if len(rows) > 5 else ''}{kept})"
    )


def without_still_joints(
    pose: Tensor, mask: Tensor, *, parts: bool, recording: NDArray[Any] | None = None
) -> tuple[Tensor, str | None]:
    """The mask without what never moves in a recording of two poses or more, and words that say so.

    A joint that is zero throughout was filled in, not measured; and so, with `parts`, were jaw, eyes and hands that are
    constant. Rows that observe nothing say nothing.

    Args:
        pose, mask: (N, 55, 3) and (N, 55).
        parts: whether constant parts count.
        recording: (N,) name or number of the recording of each pose; None for one recording.
    """
    rows = np.flatnonzero(mask.any(1).numpy())
    if len(rows) < 2:
        return mask, None
    place = np.zeros(len(rows), np.int64) if recording is None else np.unique(recording[rows], return_inverse=True)[1]
    order = np.argsort(place.reshape(-1), kind="stable")
    rows, place = rows[order], place.reshape(-1)[order]
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    values = pose.numpy() if len(rows) == len(pose) and recording is None else pose.numpy()[rows]
    high, low = np.maximum.reduceat(values, starts, axis=0), np.minimum.reduceat(values, starts, axis=0)
    with np.errstate(invalid="ignore"):
        moves = (high - low).max(-1)
    still = ~(moves > _STILL) & np.isfinite(moves) & (np.diff(starts, append=len(rows)) > 1)[:, None]
    unseen = still & (np.abs(high).max(-1) <= _STILL)
    for name in ("jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose") if parts else ():
        unseen[:, PART_SLICES[name]] |= still[:, PART_SLICES[name]].all(1, keepdims=True)
    unmeasured = torch.zeros_like(mask)
    unmeasured[torch.from_numpy(rows)] = torch.from_numpy(unseen[place])
    lost = (unmeasured & mask).any(0)
    if not bool(lost.any()):
        return mask, None
    where = ("never move", "unobserved") if recording is None else ("never move in a recording", "unobserved there")
    return mask & ~unmeasured, (
        f"joints that {where[0]} are {where[1]}: {_names(lost)} (constant_parts_unobserved=False keeps them)"
    )


def _names(joints: Tensor) -> str:
    """Parts that are all among the joints, and the rest by name."""
    rest, words = joints.clone(), []
    for name, part in PART_SLICES.items():
        if bool(joints[part].all()):
            words.append(name)
            rest[part] = False
    return ", ".join(words + [JOINT_NAMES[j] for j in torch.nonzero(rest).flatten().tolist()])
