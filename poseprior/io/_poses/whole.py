"""Poses kept in one array, `(N, J, 3)` or `(N, J * 3)`: which joints the J are.

The number of joints says it, except where it does not. 53 joints have the jaw before the hands or after them, and 55 may,
too: there the values decide, or the file is refused with both candidates. 52 are SMPL-H or lack the root, 22 may end in the
jaw: there the declared model type decides. A file's own `joint_names` and the reader's `layout=` come first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...skeleton import NUM_JOINTS
from .._files.array_file import ArrayFile
from . import forms
from .joint_names import all_known, refuse_other_order, stored_names, unused_names
from .keys import AMASS_KEYS
from .options import Options, to_tensor
from .order_evidence import are_positions, decide, fingers_speak_for, positions_error, same_joints
from .orders import MEANINGS, MOTION_X_COLUMNS, MOTION_X_ROTATIONS, ORDERS, Order

_CANDIDATES = {53: ("smplx_53", "smplx_53_jaw_last"), 55: ("smplx", "smplx_hands_first")}
_MODELS: dict[str, dict[int, str]] = {
    "smplx": {55: "smplx", 53: "smplx_53", 22: "smplx_22"},
    "smplh": {52: "smplh", 22: "smplx_22"},
    "smpl": {24: "smpl", 22: "smplx_22"},
    "": {55: "smplx", 53: "smplx_53", 24: "smpl"},
}
_COUNTS = (22, 24, 52, 53, 55)
#: Poses that show whether a file's values contradict what it declares.
_FEW_ROWS = 64


@dataclass(frozen=True)
class Whole:
    """What one array held.

    Attributes:
        pose, mask: (N, 55, 3) and (N, 55).
        order: SMPL-X index of each joint stored, -1 for what is none.
        notes: what a reader of the result should know.
    """

    pose: Tensor
    mask: Tensor
    order: Order
    notes: tuple[str, ...] = ()


def read_whole(key: str, file: ArrayFile, options: Options) -> Whole:
    """The poses of an array of all joints."""
    array = file.floating(key)
    notes = []
    form = options.form(key, array)
    motion_x = next((a for a in forms.readings(array) if a.ndim == 2 and a.shape[1] == MOTION_X_COLUMNS), None)
    order: Order | None = None
    if form == "rotvec" and motion_x is not None:
        array = motion_x[:, :MOTION_X_ROTATIONS]
        notes.append(f"'{key}' has the {MOTION_X_COLUMNS} columns of Motion-X; the rotations are the first 159")
        order = ORDERS["smplx_53_jaw_last"] if options.layout.order is None and options.layout.joints is None else None
    joints = split_joints(key, array, form)
    if len(joints) == 0:
        raise ValueError(f"key '{key}': expected at least one pose, got none; leave the file out.")
    joints = forms.to_rotvecs(key, joints, form)
    if order is None:
        order, said, certain = _order(key, joints, file, options)
        notes += said
        if not certain and not options.layout.fingers:
            _require_usual_fingers(key, joints, order)
        if options.layout.joints is None and options.layout.order is None and (names := stored_names(file)):
            refuse_other_order(key, names, order)
    if form == "rotvec" and options.told(key) is None and are_positions(joints.numpy(), order):
        raise positions_error(key)
    if options.layout.fingers:
        options.applied.add("layout")
        order = options.layout.whole(order)
    places = [k for k, index in enumerate(order) if index >= 0]
    index = [order[k] for k in places]
    pose = joints.new_zeros(len(joints), NUM_JOINTS, 3)
    pose.index_copy_(1, torch.tensor(index), joints if len(places) == len(order) else joints[:, places])
    mask = torch.zeros(len(joints), NUM_JOINTS, dtype=torch.bool)
    mask[:, index] = True
    if order[22:] == (-1, -1) and bool((joints[:, 22:].nan_to_num() != 0).any()):
        notes.append(
            f"the last two joints of '{key}' are SMPL's whole hands, which SMPL-X does not have: they are left out"
        )
    return Whole(pose, mask, order, tuple(notes))


def split_joints(key: str, array: NDArray[Any], form: str) -> Tensor:
    """(N, J, width) of an array of poses, or of one pose."""
    for candidate in forms.readings(array):
        count = forms.count_joints(candidate.shape, form) or 0
        if count > 1 and (candidate is array or array.ndim == 1 or count in _COUNTS):
            return to_tensor(candidate.reshape(len(candidate), count, forms.FORMS[form]))
    expected = "(N, J, 3) or (N, J * 3) rotvecs" if form == "rotvec" else f"(N, J * {forms.FORMS[form]}) as {form}"
    hint = forms.batch_hint(array, _COUNTS, form) or _form_hint(array)
    raise ValueError(
        f"key '{key}': expected {expected}, got {array.shape}; {hint}; "
        f"if it is no pose, ignore=({key!r},) leaves it unread."
    )


def _form_hint(array: NDArray[Any]) -> str:
    """What an array that holds no rotvecs looks like, and how to have it read."""
    if array.shape[-2:] == (4, 4):
        return "if it holds transforms, save the rotations alone, array[..., :3, :3]"
    last = 9 if array.ndim == 4 and array.shape[-2:] == (3, 3) else array.shape[-1] if array.ndim else 0
    if array.ndim > 2 and last in (4, 6, 9):
        return f"if it holds {forms.HINTS[last]}"
    found = [w for w in (4, 6, 9) if array.ndim == 2 and last % w == 0 and last // w in _COUNTS]
    if found:
        return " or ".join(f"if it holds {last // w} joints as {forms.HINTS[w]}" for w in found)
    return "rotation matrices, quaternions and 6D need rotations=, and parts (root_orient, pose_body, ...) keys of their own"


def _order(key: str, joints: Tensor, file: ArrayFile, options: Options) -> tuple[Order, list[str], bool]:
    """The order of the joints, what to note about it, and whether the file itself says it down to the fingers."""
    count, layout = joints.shape[1], options.layout
    told = layout.joints if layout.joints is not None else ORDERS.get(layout.order or "")
    if told is not None:
        options.applied.add("layout")
        if len(told) != count:
            raise ValueError(
                f"layout: expected one of {count} joints for key '{key}', got {layout.order or 'names'} of {len(told)}."
            )
        return told, [], layout.joints is not None
    names, notes = stored_names(file), []
    if names is not None:
        stored = all_known(names) if len(names) == count else None
        if stored is not None:
            return stored, [], True
        notes = [unused_names(count)]
    model = model_type(file, options)
    order = ORDERS[_by_count(key, count, file, model)]
    candidates = {name: ORDERS[name] for name in _CANDIDATES.get(count, ())}
    ours = "observed" in file or "imputed" in file
    declared = count == NUM_JOINTS and (model or any(k in file for k in AMASS_KEYS))
    if not candidates or ours or same_joints(joints.numpy(), candidates):
        return order, notes, bool(ours or declared)
    usual = next(iter(candidates))
    if declared:
        few = joints[:: max(1, len(joints) // _FEW_ROWS)].numpy()
        if decide(few, candidates, default=usual) == usual:
            return order, notes, True
        both = " or ".join(f"layout={name!r} ({MEANINGS[name]})" for name in candidates)
        raise ValueError(
            f"key '{key}': expected the order of SMPL-X, which the file declares, got values that bend as if the hands came "
            f"before the jaw; pass {both}."
        )
    found = decide(joints.numpy(), candidates, default=usual if count == NUM_JOINTS else None)
    if found is None:
        both = " or ".join(f"layout={name!r} ({MEANINGS[name]})" for name in candidates)
        raise ValueError(
            f"key '{key}': got {count} joints in one of two orders, and their values do not tell which; pass {both}, or "
            "save the names of the joints in the file's order as an array joint_names."
        )
    if found == usual:
        return order, notes, False
    note = f"'{key}' was read as {found} ({MEANINGS[found]}), which its values show; layout= says it for certain"
    return candidates[found], [*notes, note], False


def _require_usual_fingers(key: str, joints: Tensor, order: Order) -> None:
    """Refuse hands that bend as if the thumb came first, which shapes do not show."""
    for first, right in ((25, False), (40, True)):
        if all(index in order for index in range(first, first + 15)):
            hand = joints[:, [order.index(index) for index in range(first, first + 15)]].numpy()
            if fingers_speak_for(hand, np.full(len(hand), right)) == "thumb_first":
                name = next(name for name, known in ORDERS.items() if known == order)
                raise ValueError(
                    f"key '{key}': expected the fingers in the order of SMPL-X and MANO (index, middle, pinky, ring, thumb), got "
                    f"values that bend as if the thumb came first; pass layout='{name}+mano' or layout='{name}+thumb_first'."
                )


def _by_count(key: str, count: int, file: ArrayFile, model: str) -> str:
    """Name of the order of an array with `count` joints."""
    known = dict(_MODELS[model])
    if not model and any(k in file for k in AMASS_KEYS):
        known[52] = "smplh"  # files of the first AMASS release declare no model type
    if count in known:
        return known[count]
    what = f"key '{key}': got {count} joints ({count * 3} columns)"
    others = [m for m, layouts in _MODELS.items() if m and count in layouts]
    if model:
        fix = (
            f"pass model_type={others[0]!r} if that is what the file holds"
            if others
            else f"save 55 joints{_other_forms(count)}"
        )
        raise ValueError(f"{what}, expected {sorted(known)} joints for model type {model!r}; {fix}.")
    if count == 52:
        why = "SMPL-H (columns 66:69 are the left index finger) or 53 joints without the root (63:66 are the jaw)"
        raise ValueError(
            f"{what}, which may be {why}; if it is SMPL-H pass model_type='smplh', if the root is missing pass "
            "layout='smplx_52_without_root'."
        )
    if others:
        raise ValueError(
            f"{what}, which may be the root and 21 body joints or not (66:69 would be jaw or finger); pass "
            f"model_type='{others[0]}' if they are the first {count} of that model."
        )
    raise ValueError(
        f"{what}, expected 55 (SMPL-X), 53 (no eyes), 52 (SMPL-H) or 24 (SMPL) with the root first; "
        f"{'call the array hand_pose if it holds both hands, ' if count == 30 else ''}save the parts under their names "
        "(global_orient, body_pose, left_hand_pose, ...) instead, or pass layout= as the list of "
        f"joint names{_other_forms(count)}."
    )


def _other_forms(count: int) -> str:
    """What so many joints of three numbers would be as other rotations."""
    known = [w for w in (4, 6, 9) if count * 3 % w == 0 and count * 3 // w in _COUNTS]
    return "".join(f"; or, if it holds {count * 3 // w} joints as {forms.HINTS[w]}" for w in known)


def model_type(file: ArrayFile, options: Options) -> str:
    """'smplx', 'smplh', 'smpl', or '' when nobody says."""
    declared, source = options.model_type, "model_type"
    if declared is None and "surface_model_type" in file:
        value: Sequence[Any] = file["surface_model_type"].ravel()[:1].tolist()
        declared, source = (value[0] if value else ""), "key 'surface_model_type'"
        declared = declared.decode("utf-8", "replace") if isinstance(declared, bytes) else str(declared)
    if declared is None:
        return ""
    found = re.match(r"smpl(?:[-_+ ]?([xh]))?(?![a-z])", str(declared).strip().lower())  # smplx_locked_head, SMPL-X
    if found:
        return f"smpl{found[1] or ''}"
    raise ValueError(f"{source}: expected smplx, smplh or smpl, got {declared!r}; pass the right one as model_type=.")
