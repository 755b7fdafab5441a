"""Hands in pose files: single-hand files, which side they are, and telling rotations from PCA coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..params import pose_from_smplx
from ..skeleton import NUM_JOINTS, PART_SLICES

Arrays = Mapping[str, NDArray[Any]]

_MAX_HAND_NORM = 1.5 * np.pi


@dataclass(frozen=True)
class Options:
    """What the caller of `read_poses` says about the files; see there."""

    model_type: str | None = None
    side: Any = None
    constant_parts_unobserved: bool = True
    hands_components: tuple[Tensor, Tensor] | None = None
    hands_mean: tuple[Tensor, Tensor] | None = None
    flat_hand_mean: bool | None = None
    num_pca_comps: int | None = None


def single_hand(arrays: Arrays, options: Options) -> tuple[Tensor, Tensor]:
    require_floating("hand_pose", arrays["hand_pose"])
    hand = to_tensor(arrays["hand_pose"])
    hand = hand[None] if hand.dim() == 1 or hand.shape == (15, 3) else hand
    if hand.dim() == 2 and hand.shape[1] == 48:
        raise ValueError(
            "key 'hand_pose': got 48 columns, expected 45; drop the first 3 (the wrist or global rotation)."
        )
    refuse_pca45("hand_pose", arrays["hand_pose"], options)
    stored = None if "side" not in arrays else _right_side(arrays["side"], len(hand))
    right = stored if options.side is None and stored is not None else _right_side(options.side, len(hand))
    if stored is not None and bool((stored != right).any()):
        raise ValueError(
            f"side: expected what the file's own key 'side' says, got {options.side!r}; leave it out (poseprior.skeleton.mirror "
            "turns right hands into left ones)."
        )
    pose = hand.new_zeros(len(hand), NUM_JOINTS, 3)
    mask = torch.zeros(len(hand), NUM_JOINTS, dtype=torch.bool)
    for name, rows in (("left_hand_pose", ~right), ("right_hand_pose", right)):
        if rows.any() or not len(hand):
            part, _ = pose_from_smplx({name: hand[rows]}, **hand_options(arrays, options))
            pose[rows] = part
            mask[rows, PART_SLICES[name]] = True
    return pose, mask


def _right_side(side: Any, n: int) -> Tensor:
    """(n,) bool: whether each hand is a right one."""
    if side is None:
        raise ValueError(
            "key 'side': expected 0 (left) or 1 (right) beside 'hand_pose', got none; pass side='left' or side='right'."
        )
    value = np.asarray(side)
    if value.dtype.kind in "US":
        text = np.char.lower(value.astype(np.str_))
        left, right = np.isin(text, ("left", "l", "0")), np.isin(text, ("right", "r", "1"))
    else:
        left, right = value == 0, value == 1
    if not np.all(left | right) or value.shape not in ((), (1,), (n,)):
        odd = np.unique(value[~(left | right)])[:3].tolist() if value.shape in ((), (1,), (n,)) else value.shape
        raise ValueError(f"side: expected 0/'left' or 1/'right', one or {n}, got {odd}; pass side= to read_poses.")
    return torch.from_numpy(np.broadcast_to(right, (n,)).copy())


def hand_options(arrays: Arrays, options: Options) -> dict[str, Any]:
    flat = options.flat_hand_mean
    if flat is None and "flat_hand_mean" in arrays and options.hands_mean is None:
        flat = bool(arrays["flat_hand_mean"].ravel()[0])
    return {
        "hands_components": options.hands_components,
        "hands_mean": options.hands_mean,
        "flat_hand_mean": flat,
        "num_pca_comps": options.num_pca_comps,
    }


def refuse_pca45(key: str, array: NDArray[Any], options: Options) -> None:
    """45 PCA coefficients look like 15 rotvecs, except that theirs are often far longer than any rotation."""
    if options.num_pca_comps is not None or array.size == 0 or array.size % 45:
        return
    norm = np.linalg.norm(np.nan_to_num(array.astype(np.float64), posinf=0, neginf=0).reshape(-1, 3), axis=1).max()
    if norm > _MAX_HAND_NORM:
        raise ValueError(
            f"key '{key}': expected joint rotations of at most 1.5 pi, got {norm:.1f} rad, so these are PCA "
            "coefficients or degrees; pass num_pca_comps=45 with hands_components= and hands_mean= of the model, or "
            "convert to radians."
        )


def require_floating(key: str, array: NDArray[Any]) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"key '{key}': expected floating-point radians, got {array.dtype}; save it as float32.")


def to_tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float64 if array.dtype.itemsize > 4 else np.float32))
