"""Poses kept by parts (`global_orient`, `body_pose`, ..., hands together or apart): what each array of a file says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...params import pose_from_smplx
from ...skeleton import PART_SLICES
from .._files.array_file import ArrayFile
from . import forms
from .hand_files import hand_rotations
from .hand_pairs import split_pair
from .joint_names import LEFT_HAND, hand_joint, listed_order
from .keys import EYES, HANDS, PARTS
from .options import Options, to_tensor
from .order_evidence import are_positions, positions_error
from .orders import Order
from .sides import LEFT, RIGHT, each_side, stored_side

_BODY = tuple(range(1, 22))


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
                value = _body(file, key, options, model, notes)
            else:
                value = part_rotations(key, file.floating(key), count, options)
            claims.append(_whole_claim(part, key, value))
    if EYES in file:
        both = part_rotations(EYES, file.floating(EYES), 2, options)
        claims += [_whole_claim("leye_pose", EYES, both[:, :1]), _whole_claim("reye_pose", EYES, both[:, 1:])]
    return claims


def hand_claims(file: ArrayFile, options: Options, *, rows: int | None, notes: list[str]) -> list[Claim]:
    """Of the hands: each under its own name, both in one array, or one hand whose side is told.

    Args:
        file: of the hands.
        options: of the caller.
        rows: of what the file holds of the body; None where it holds nothing of it.
        notes: what to tell is added.
    """
    claims = []
    for part in (LEFT, RIGHT):
        for key in PARTS[part]:
            if key in file:
                array = file.floating(key)
                claims.append(_hand(file, key, array, options.form(key, array), part, options, notes))
    for key in HANDS:
        if key in file:
            claims += hands_of(file, key, options, rows=rows, notes=notes)
    return claims


def hands_of(file: ArrayFile, key: str, options: Options, *, rows: int | None = None, notes: list[str]) -> list[Claim]:
    """Of an array of both hands, or of one hand a row; arguments as of `hand_claims`."""
    array = file.floating(key)
    form = options.form(key, array)
    pair = split_pair(file, key, array, form, options, rows, notes)
    if pair is not None:
        return [
            _hand(file, key, value, form, part, options, notes, listed=False)
            for part, value in zip((LEFT, RIGHT), pair, strict=True)
        ]
    if key == "pose_hand":
        raise ValueError(f"key '{key}': expected (N, 90) rotvecs, left then right, got {array.shape}.")
    return _single_hands(file, key, array, form, options, with_body=rows is not None, notes=notes)


def _single_hands(
    file: ArrayFile, key: str, array: NDArray[Any], form: str, options: Options, *, with_body: bool, notes: list[str]
) -> list[Claim]:
    """One hand a row, on the side that the file or the caller says; MANO's wrist before the fingers is left out."""
    hand, places = _fingers(file, key, array, form, options, notes)
    fingers = forms.rows_of(hand, 15, form)
    n = len(np.atleast_2d(hand) if fingers is None else fingers)
    right = stored_side(file, options, n)
    if right is None:
        more = "; or, for both hands in one array, save (N, 90), left then right" if with_body else ""
        raise ValueError(
            f"key 'side': expected 0 (left) or 1 (right) beside '{key}' {array.shape}, got none; pass side='left' or "
            f"side='right'{more}."
        )
    value = hand_rotations(key, hand, form, options, right, places)
    return [Claim(part, key, _expanded(file, key, value, part, options), rows) for part, rows in each_side(right)]


def _fingers(
    file: ArrayFile, key: str, array: NDArray[Any], form: str, options: Options, notes: list[str]
) -> tuple[NDArray[Any], Order | None]:
    """The fifteen joints of a hand's fifteen or sixteen, and their places where they are listed; other arrays as they are."""
    hand = forms.rows_of(array, 16, form)
    if hand is None:
        hand = forms.rows_of(array, 15, form)
        order = None if hand is None else listed_order(key, LEFT_HAND[1:], file, options, notes, hand_joint)
        return array, order and tuple(joint - LEFT_HAND[1] for joint in order)
    notes.append(
        f"the first of the 16 joints of '{key}' is the wrist in the world, which says nothing of a body: it is left out"
    )
    order = listed_order(key, LEFT_HAND, file, options, notes, hand_joint)
    if order is None:
        return hand[:, 1:], None
    kept = [k for k, joint in enumerate(order) if joint != LEFT_HAND[0]]
    return hand[:, kept], tuple(order[k] - LEFT_HAND[1] for k in kept)


def part_rotations(key: str, array: NDArray[Any], count: int, options: Options) -> Tensor:
    """(N, count, 3) rotvecs of an array of `count` joints."""
    form = options.form(key, array)
    joints = forms.rows_of(array, count, form)
    if joints is not None:
        return forms.to_rotvecs(key, to_tensor(joints), form)
    width = forms.FORMS[form]
    counts = (21, 23) if count == 21 else (count,)  # SMPL-X and SMPL
    hint = forms.batch_hint(array, counts, form) or forms.other_form_hint(array, count, form)
    hint = hint or f"if it is something else, pass ignore=({key!r},)"
    raise ValueError(
        f"key '{key}': expected (N, {count * width}) or (N, {count}, {width}) as {form}, got {array.shape}; {hint}."
    )


def _body(file: ArrayFile, key: str, options: Options, model: str, notes: list[str]) -> Tensor:
    """The 21 body joints of an array, or of SMPL's 23."""
    array = file.floating(key)
    form = options.form(key, array)
    if forms.rows_of(array, 23, form) is None:
        with_root = next((n for n in (22, 24) if forms.rows_of(array, n, form) is not None), 0)
        if with_root:
            raise ValueError(
                f"key '{key}': expected 21 body joints, got {with_root}, {array.shape}, as with the root before them; call the "
                f"array poses if it holds all joints, or save its first joint as global_orient and the next 21 as {key}."
            )
        value = part_rotations(key, array, 21, options)
        order = listed_order(key, _BODY, file, options, notes)
        value = value if order is None else value[:, np.argsort(order)]
        if form == "rotvec" and options.told(key) is None and are_positions(value.numpy(), _BODY):
            raise positions_error(key)
        return value
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


def _hand(
    file: ArrayFile, key: str, array: NDArray[Any], form: str, part: str, options: Options, notes: list[str], *,
    listed: bool = True,
) -> Claim:  # fmt: skip
    """Of one side; `listed` is whether `layout=` and the file's `joint_names` may order its joints."""
    places = None
    if listed:
        array, places = _fingers(file, key, array, form, options, notes)
    value = hand_rotations(key, array, form, options, torch.tensor([part == RIGHT]), places)
    return _whole_claim(part, key, _expanded(file, key, value, part, options))


def _expanded(file: ArrayFile, key: str, value: Tensor, part: str, options: Options) -> Tensor:
    """(N, 15, 3) rotations on the flat hand, of rotations or PCA coefficients relative to what the file or the caller says."""
    flat = None
    if "flat_hand_mean" in file:
        said = np.unique(file["flat_hand_mean"])
        if said.size != 1 and options.flat_hand_mean is None and options.hands_mean is None:
            raise ValueError(f"key 'flat_hand_mean': expected one value, got {said.tolist()}; pass flat_hand_mean=.")
        flat = bool(said[0])
    try:
        pose, _ = pose_from_smplx({part: value}, **options.hand_space(flat))
    except ValueError as error:
        raise ValueError(f"key '{key}': {str(error).removeprefix(f'{part}: ')}") from None
    return pose[:, PART_SLICES[part]]


def _whole_claim(part: str, key: str, value: Tensor) -> Claim:
    return Claim(part, key, value, torch.ones(len(value), dtype=torch.bool))
