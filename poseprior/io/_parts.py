"""Poses kept by parts (`global_orient`, `body_pose`, ..., hands together or apart): what each array of a file says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..params import pose_from_smplx
from ..skeleton import PART_SLICES
from . import _forms
from ._hand_files import (
    LEFT,
    RIGHT,
    each_side,
    hand_rotations,
    refuse_one_side,
    split_pair,
    stored_fingers,
    stored_side,
)
from ._keys import EYES, HANDS, PARTS
from ._open import ArrayFile
from ._options import Options, require_floating, to_tensor
from ._order_evidence import bends_backwards


@dataclass(frozen=True)
class Claim:
    """What an array says of a part: rotvecs (N, J, 3), of the rows (N,) that it speaks of."""

    part: str
    key: str
    value: Tensor
    rows: Tensor


def body_claims(file: ArrayFile, options: Options, model: str, notes: list[str]) -> list[Claim]:
    """Of the root, the body, the jaw and the eyes."""
    claims = []
    for part, keys in PARTS.items():
        for key in keys:
            if key not in file or part in (LEFT, RIGHT):
                continue
            count = PART_SLICES[part].stop - PART_SLICES[part].start
            if part == "body_pose":
                value = _body(key, file[key], options, model, notes)
            else:
                value = part_rotations(key, file[key], count, options)
            claims.append(_whole_claim(part, key, value))
    if EYES in file:
        require_floating(EYES, file[EYES])
        both = part_rotations(EYES, file[EYES], 2, options)
        claims += [_whole_claim("leye_pose", EYES, both[:, :1]), _whole_claim("reye_pose", EYES, both[:, 1:])]
    return claims


def hand_claims(file: ArrayFile, options: Options, *, with_body: bool, notes: list[str]) -> list[Claim]:
    """Of the hands: each under its own name, both in one array, or one hand whose side is told."""
    claims = []
    for part in (LEFT, RIGHT):
        for key in PARTS[part]:
            if key in file:
                claims += _hand(file, key, file[key], part, options, notes)
    for key in HANDS:
        if key not in file:
            continue
        pair = split_pair(key, file[key], options)
        if pair is not None:
            refuse_one_side(file, key, options)
            for part, value in zip((LEFT, RIGHT), pair, strict=True):
                claims += _hand(file, key, value, part, options, notes)
        elif key == "pose_hand":
            raise ValueError(f"key '{key}': expected (N, 90) rotvecs, left then right, got {file[key].shape}.")
        else:
            claims += single_hands(file, key, options, with_body=with_body, notes=notes)
    return claims


def single_hands(
    file: ArrayFile, key: str, options: Options, *, with_body: bool = False, notes: list[str]
) -> list[Claim]:
    """One hand a row, on the side that the file or the caller says; MANO's wrist before the fingers is left out."""
    array = file[key]
    require_floating(key, array)
    form = options.form(key, array)
    array = _without_wrist(key, array, form, notes)
    fingers = _forms.rows_of(array, 15, form)
    n = len(np.atleast_2d(array) if fingers is None else fingers)
    right = stored_side(file, options, n)
    if right is None:
        more = "; or, for both hands in one array, save (N, 90), left then right" if with_body else ""
        raise ValueError(
            f"key 'side': expected 0 (left) or 1 (right) beside '{key}' {file[key].shape}, got none; pass side='left' or "
            f"side='right'{more}."
        )
    value = hand_rotations(key, array, options, right, stored_fingers(file))
    claims = []
    for part, rows in each_side(right):
        picked = _expanded(file, key, value, part, options)
        if bends_backwards(picked[rows].numpy(), right[rows].numpy()):
            at = PART_SLICES[part]
            notes.append(
                f"the {part[: -len('_pose')].replace('_', ' ')}s of '{key}' bend backwards: a right-hand model's result on a "
                f"mirrored image is turned by poses[:, {at.start}:{at.stop}] * (1, -1, -1)"
            )
        claims.append(Claim(part, key, picked, rows))
    return claims


def _without_wrist(key: str, array: NDArray[Any], form: str, notes: list[str]) -> NDArray[Any]:
    """The fifteen joints of MANO's sixteen; any other array as it is."""
    hand = _forms.rows_of(array, 16, form)
    if hand is None:
        return array
    notes.append(
        f"the first of the 16 joints of '{key}' is the wrist in the world, which says nothing of a body: it is left out"
    )
    return hand[:, 1:]


def part_rotations(key: str, array: NDArray[Any], count: int, options: Options) -> Tensor:
    """(N, count, 3) rotvecs of an array of `count` joints."""
    require_floating(key, array)
    form = options.form(key, array)
    joints = _forms.rows_of(array, count, form)
    if joints is not None:
        return _forms.to_rotvecs(key, to_tensor(joints), form)
    width = _forms.FORMS[form]
    hint = _forms.batch_hint(array, (count,), form) or _forms.other_form_hint(array, count, form)
    hint = hint or f"if it is something else, pass ignore=({key!r},)"
    raise ValueError(
        f"key '{key}': expected (N, {count * width}) or (N, {count}, {width}) as {form}, got {array.shape}; {hint}."
    )


def _body(key: str, array: NDArray[Any], options: Options, model: str, notes: list[str]) -> Tensor:
    """The 21 body joints of an array, or of SMPL's 23."""
    require_floating(key, array)
    form = options.form(key, array)
    if _forms.rows_of(array, 23, form) is None:
        return part_rotations(key, array, 21, options)
    if model != "smpl":
        raise ValueError(
            f"key '{key}': got 23 joints {array.shape}, expected 21 (63 columns); if it is SMPL, whose last "
            "two are whole hands, pass model_type='smpl'."
        )
    every = part_rotations(key, array, 23, options)
    if bool((every[:, 21:].nan_to_num() != 0).any()):
        notes.append(
            f"the last two joints of '{key}' are SMPL's whole hands, which SMPL-X does not have: they are left out"
        )
    return every[:, :21]


def _hand(file: ArrayFile, key: str, array: NDArray[Any], part: str, options: Options, notes: list[str]) -> list[Claim]:
    require_floating(key, array)
    array = _without_wrist(key, array, options.form(key, array), notes)
    right = torch.tensor([part == RIGHT])
    value = hand_rotations(key, array, options, right, stored_fingers(file))
    return [_whole_claim(part, key, _expanded(file, key, value, part, options))]


def _expanded(file: ArrayFile, key: str, value: Tensor, part: str, options: Options) -> Tensor:
    """(N, 15, 3) rotations on the flat hand, of rotations or PCA coefficients relative to what the file or the caller says."""
    flat = None
    if "flat_hand_mean" in file:
        said = np.unique(file["flat_hand_mean"])
        if said.size != 1:
            raise ValueError(f"key 'flat_hand_mean': expected one value, got {said.tolist()}; pass flat_hand_mean=.")
        flat = bool(said[0])
    try:
        pose, _ = pose_from_smplx({part: value}, **options.hand_space(flat))
    except ValueError as error:
        raise ValueError(f"key '{key}': {str(error).removeprefix(f'{part}: ')}") from None
    return pose[:, PART_SLICES[part]]


def _whole_claim(part: str, key: str, value: Tensor) -> Claim:
    return Claim(part, key, value, torch.ones(len(value), dtype=torch.bool))
