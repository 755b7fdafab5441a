"""The arrays of one pose file to `(N, 55, 3)` and `(N, 55)`: foreign key names and layouts, and what they can mean.

The number of joints says which layout an array has, except where it does not: 52 joints are SMPL-H (columns 66:69 are a
finger) or 53 joints without the root (63:66 are the jaw), 22 may end in the jaw or begin without the root. There the
declared model type decides (`surface_model_type` in the file, or the reader's `model_type=`), and without one the
file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..params import JOINTS_53, JOINTS_SMPL, JOINTS_SMPLH, pose_from_smplx
from ..rotations import wrap_rotvec
from ..skeleton import JOINT_NAMES, NUM_JOINTS
from ._hand_files import (
    Arrays,
    Options,
    hand_options,
    refuse_pca45,
    require_floating,
    single_hand,
    to_tensor,
)
from ._masks import joint_flags, without_constant_parts

WHOLE = ("poses", "fullpose")
PARTS: dict[str, tuple[str, ...]] = {
    "global_orient": ("global_orient", "root_orient"),
    "body_pose": ("body_pose", "pose_body"),
    "jaw_pose": ("jaw_pose", "pose_jaw"),
    "leye_pose": ("leye_pose",),
    "reye_pose": ("reye_pose",),
    "left_hand_pose": ("left_hand_pose", "lhand_pose"),
    "right_hand_pose": ("right_hand_pose", "rhand_pose"),
}
PAIRS = {"pose_eye": ("leye_pose", "reye_pose"), "pose_hand": ("left_hand_pose", "right_hand_pose")}
AMASS_KEYS = ("mocap_framerate", "mocap_frame_rate", "mocap_time_length", "dmpls")
KEYS = frozenset(
    [
        *WHOLE,
        *(k for names in PARTS.values() for k in names),
        *PAIRS,
        *AMASS_KEYS,
        "hand_pose",
        "side",
        "observed",
        "imputed",
        "surface_model_type",
        "flat_hand_mean",
    ]
)

_ALL = tuple(range(NUM_JOINTS))
_LAYOUTS: dict[str, dict[int, tuple[int, ...]]] = {
    "smplx": {55: _ALL, 53: JOINTS_53, 22: JOINTS_SMPL},
    "smplh": {52: JOINTS_SMPLH, 22: JOINTS_SMPL},
    "smpl": {24: JOINTS_SMPL, 22: JOINTS_SMPL},
    "": {55: _ALL, 53: JOINTS_53, 24: JOINTS_SMPL},
}


def to_joints55(arrays: Arrays, options: Options) -> tuple[Tensor, Tensor, Tensor | None]:
    """Wrapped float32 poses (N, 55, 3), observed and maybe imputed (N, 55); a ValueError names the key, not the file."""
    model = _model_type(arrays, options)
    key = next((k for k in WHOLE if k in arrays), None)
    columns: dict[int, Sequence[int]] = {NUM_JOINTS: _ALL}  # what `observed` and `imputed` may have: see `joint_flags`
    if key is not None:
        pose, mask, stored = _whole(key, arrays, model)
        columns.update(stored)
    elif any(k in arrays for names in PARTS.values() for k in names) or any(k in arrays for k in PAIRS):
        key, pose, mask = _parts(arrays, model, options)
    elif "hand_pose" in arrays:
        key = "hand_pose"
        pose, mask = single_hand(arrays, options)
        columns[15] = (*[-1] * 25, *range(15), *range(15))
    else:
        raise ValueError(
            f"expected poses under one of the keys {', '.join(WHOLE)}, global_orient, root_orient, body_pose, "
            f"pose_body, ... or hand_pose, got {', '.join(arrays) or 'none of them'}; rename the array to 'poses'."
        )
    if len(pose) == 0:
        raise ValueError(f"key '{key}': expected at least one pose, got none; leave the file out.")
    if "observed" in arrays:
        mask = mask & joint_flags("observed", arrays["observed"], len(pose), columns)
    elif options.constant_parts_unobserved and key != "hand_pose":
        mask = without_constant_parts(pose, mask)
    broken = ~torch.isfinite(pose).all(-1) & mask
    if broken.any():
        rows = torch.nonzero(broken.any(1)).flatten().tolist()
        joint = JOINT_NAMES[int(torch.nonzero(broken[rows[0]])[0])]
        raise ValueError(
            f"key '{key}': expected finite values on observed joints, got nan or inf in {len(rows)} of {len(pose)} "
            f"rows (rows {', '.join(map(str, rows[:5]))}{', ...' if len(rows) > 5 else ''}; first joint {joint}); drop "
            "the rows, or mark the joints false in an 'observed' array."
        )
    pose = torch.where(mask[..., None], pose, torch.zeros_like(pose))
    imputed = joint_flags("imputed", arrays["imputed"], len(pose), columns) if "imputed" in arrays else None
    return wrap_rotvec(pose).float(), mask, imputed


def _model_type(arrays: Arrays, options: Options) -> str:
    """'smplx', 'smplh', 'smpl', or '' when nobody says."""
    declared, source = options.model_type, "model_type"
    if declared is None and "surface_model_type" in arrays:
        value = arrays["surface_model_type"].ravel()[:1].tolist()
        declared, source = (value[0] if value else ""), "key 'surface_model_type'"
        declared = declared.decode() if isinstance(declared, bytes) else str(declared)
    if declared is None:
        return ""
    plain = re.sub(r"[^a-z]", "", declared.lower())
    for name in ("smplx", "smplh", "smpl"):
        if plain.startswith(name):
            return name
    raise ValueError(f"{source}: expected smplx, smplh or smpl, got {declared!r}; pass the right one as model_type=.")


def _joints(key: str, array: NDArray[Any]) -> Tensor:
    """(N, J, 3) from (N, J, 3), (N, J * 3), (J, 3) or (J * 3,), float32 or float64."""
    require_floating(key, array)
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 3 and array.shape[0] in (22, 24, 52, 53, 55)):
        array = array[None]
    if array.ndim == 2 and array.shape[1] % 3 == 0 and array.shape[1] > 3:
        array = array.reshape(len(array), array.shape[1] // 3, 3)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"key '{key}': expected (N, J, 3) or (N, J * 3) rotvecs, got {array.shape}; rotation matrices, quaternions "
            "and 6D must be converted to rotvecs before."
        )
    return to_tensor(array)


def _index(key: str, count: int, arrays: Arrays, model: str) -> tuple[int, ...]:
    """SMPL-X indices of the leading joints of an array with `count` joints."""
    known = dict(_LAYOUTS[model])
    if not model and any(k in arrays for k in AMASS_KEYS):
        known[52] = JOINTS_SMPLH  # files of the first AMASS release declare no model type
    if count in known:
        return known[count]
    what = f"key '{key}': got {count} joints ({count * 3} columns)"
    others = [m for m, layouts in _LAYOUTS.items() if m and count in layouts]
    if model:
        fix = f"pass model_type={others[0]!r} if that is what the file holds" if others else "save 55 joints"
        raise ValueError(f"{what}, expected {sorted(known)} joints for model type {model!r}; {fix}.")
    if count == 52:
        why = "SMPL-H (columns 66:69 are the left index finger) or 53 joints without the root (63:66 are the jaw)"
        raise ValueError(f"{what}, which may be {why}; if it is SMPL-H pass model_type='smplh', else save 55 joints.")
    if others:
        raise ValueError(
            f"{what}, which may be the root and 21 body joints or not (66:69 would be jaw or finger); pass "
            f"model_type='{others[0]}' if they are the first {count} of that model."
        )
    raise ValueError(
        f"{what}, expected 55 (SMPL-X), 53 (no eyes), 52 (SMPL-H) or 24 (SMPL) with the root first; save the "
        "parts under their names (global_orient, body_pose, left_hand_pose, ...) instead."
    )


def _whole(key: str, arrays: Arrays, model: str) -> tuple[Tensor, Tensor, dict[int, Sequence[int]]]:
    """Pose, mask, and where the 55 joints are among the joints stored."""
    joints = _joints(key, arrays[key])
    count = joints.shape[1]
    index = list(_index(key, count, arrays, model))
    pose = joints.new_zeros(len(joints), NUM_JOINTS, 3)
    pose[:, index] = joints[:, : len(index)]
    mask = torch.zeros(len(joints), NUM_JOINTS, dtype=torch.bool)
    mask[:, index] = True
    return pose, mask, {count: [index.index(j) if j in index else -1 for j in _ALL]}


def _parts(arrays: Arrays, model: str, options: Options) -> tuple[str, Tensor, Tensor]:
    params: dict[str, Tensor] = {}
    used = []
    for pair, names in PAIRS.items():
        if pair in arrays:
            require_floating(pair, arrays[pair])
            both = arrays[pair].reshape(len(arrays[pair]), -1)
            if both.shape[1] not in (6 if pair == "pose_eye" else 90,):
                wanted = "(N, 6)" if pair == "pose_eye" else "(N, 90)"
                raise ValueError(f"key '{pair}': expected {wanted} rotvecs, left then right, got {arrays[pair].shape}.")
            params[names[0]], params[names[1]] = to_tensor(both).chunk(2, dim=1)
            used.append(pair)
    for part, keys in PARTS.items():
        key = next((k for k in keys if k in arrays), None)
        if key is None:
            continue
        require_floating(key, arrays[key])
        params[part] = to_tensor(arrays[key])
        used.append(key)
        if part == "body_pose":
            params[part] = _body(key, params[part], model)
        elif part.endswith("hand_pose"):
            refuse_pca45(key, arrays[key], options)
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in params.values()) else torch.float32
    pose, mask = pose_from_smplx({k: v.to(dtype) for k, v in params.items()}, **hand_options(arrays, options))
    if pose.dim() == 2:
        pose, mask = pose[None], mask[None]
    if pose.dim() != 3:
        raise ValueError(f"keys {', '.join(used)}: expected one batch axis, got {tuple(pose.shape[:-2])}.")
    return "', '".join(used), pose, mask


def _body(key: str, value: Tensor, model: str) -> Tensor:
    """The 21 body joints of (N, 63), (N, 21, 3), or of SMPL's 23."""
    if value.dim() and (value.shape[-1] == 69 or value.shape[-2:] == (23, 3)):
        if model != "smpl":
            raise ValueError(
                f"key '{key}': got 23 joints {tuple(value.shape)}, expected 21 (63 columns); if it is SMPL, whose last "
                "two are whole hands, pass model_type='smpl'."
            )
        return value[..., :63] if value.shape[-1] == 69 else value[..., :21, :]
    return value
