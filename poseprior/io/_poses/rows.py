"""The rows of one pose file: its arrays put together as poses `(N, 55, 3)` with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..._text import printable
from ...rotations import geodesic_distance
from ...skeleton import JOINT_NAMES, NUM_JOINTS, PART_SLICES
from .._files.array_file import ArrayFile, is_pickle
from .._files.plain_code import conversion_code
from . import forms
from .keys import HANDS, PARTS, WHOLE, looks_like_rotations, unused_rotations
from .masks import joint_flags
from .options import Options
from .parts import Claim, body_claims, hand_claims, hands_of
from .whole import model_type, read_whole

_SAME = 1e-3
_STILL = 1e-6
#: Names that a message lists.
_SHOWN = 6
#: Of markers on a body at rest, which files of motions have beside poses.
_STAGE_I = ("markers_latent", "latent_labels")


@dataclass
class Rows:
    """What a file held.

    Attributes:
        pose: (N, 55, 3) as stored, maybe beyond pi and not finite.
        mask: (N, 55), the joints that the file has, and that its `observed` says are measured.
        imputed: (N, 55) or None.
        told: whether the file says what it observed.
        keys: the arrays that were read, for messages.
        notes: what a reader of the result should know.
        ignored: names of arrays that look like rotations and were not read.
    """

    pose: Tensor
    mask: Tensor
    imputed: Tensor | None
    told: bool
    keys: str
    notes: tuple[str, ...]
    ignored: tuple[str, ...]


def read_rows(file: ArrayFile, options: Options) -> Rows:
    """Read a file; a ValueError names the key, not the file."""
    notes: list[str] = []
    claims: list[Claim] = []
    columns: dict[int, Sequence[int]] = {NUM_JOINTS: range(NUM_JOINTS)}  # what `observed` and `imputed` may have
    key = _whole_key(file)
    model = model_type(file, options)
    body = [name for part in ("body_pose", "jaw_pose", "leye_pose", "reye_pose") for name in PARTS[part]]
    pose, mask = torch.zeros(0, NUM_JOINTS, 3), torch.zeros(0, NUM_JOINTS, dtype=torch.bool)
    if key is not None and options.layout.joints is None and _is_a_hand(file, key, body, options):
        claims = hands_of(file, key, options, notes=notes)
    elif key is not None:
        whole = read_whole(key, file, options)
        pose, mask = whole.pose, whole.mask
        notes += whole.notes
        if {25, 40} & set(whole.order) and "flat_hand_mean" in file and not file["flat_hand_mean"].all():
            notes.append(
                f"flat_hand_mean=False of the file is about hands that stand apart: the fingers of '{key}' were read as "
                "rotations on the flat hand, as smplx's full_pose holds them"
            )
        columns[len(whole.order)] = [whole.order.index(j) if j in whole.order else -1 for j in range(NUM_JOINTS)]
    with_body = any(name in file for name in body) or (key is not None and not claims)
    hand = None if with_body else _one_hand(file, key)
    if hand is None:
        claims += body_claims(file, options, model, notes)
    elif any(name in file for name in PARTS["global_orient"]):
        notes.append(
            f"the rotation beside '{hand}' is the wrist's in the world, which says nothing of a body: it is left out"
        )
    claims += _hands(file, options, claims, pose, notes)
    if not claims and key is None:
        raise ValueError(_nothing(file))
    if any(claim.key in HANDS or claim.key in WHOLE for claim in claims):
        columns.setdefault(15, [*[-1] * 25, *range(15), *range(15)])
    pose, mask, left_out = _together(pose, mask, claims, notes)
    file.used -= left_out
    keys = "', '".join(dict.fromkeys(([] if key is None else [key]) + [claim.key for claim in claims]))
    if len(pose) == 0:
        raise ValueError(f"key '{keys}': expected at least one pose, got none; leave the file out.")
    told = "observed" in file
    if told:
        mask = mask & joint_flags("observed", file["observed"], len(pose), columns)
    imputed = joint_flags("imputed", file["imputed"], len(pose), columns) if "imputed" in file else None
    return Rows(pose, mask, imputed, told, keys, tuple(notes), unused_rotations(file))


def _whole_key(file: ArrayFile) -> str | None:
    """The array of all joints; more than one must hold the same numbers."""
    found = [key for key in WHOLE if key in file]
    for other in found[1:]:
        first, second = file.floating(found[0]), file.floating(other)
        if first.shape != second.shape or not np.array_equal(first, second):
            raise ValueError(
                f"keys '{found[0]}' and '{other}': expected one array of poses, or the same numbers twice, got two; pass "
                f"ignore=('{other}',) or ignore=('{found[0]}',)."
            )
    return found[0] if found else None


def _is_a_hand(file: ArrayFile, key: str, body: Sequence[str], options: Options) -> bool:
    """Whether an array under a name for all joints has MANO's 15 or 16, of one hand or of both."""
    header = file.headers[key]
    if isinstance(header, str) or any(name in file for name in body):
        return False
    array = np.broadcast_to(np.float32(0.0), header.shape)  # of its shape, unread
    form = options.told(key) or ("matrix" if header.shape[-2:] == (3, 3) else "rotvec")
    shapes = [shape for count in (15, 16) for shape in forms.joint_shapes(count, form)]
    shapes += [(2, *shape) for shape in shapes]
    return any(shape in (a.shape, a.shape[1:]) for a in forms.readings(array) for shape in shapes)


def _one_hand(file: ArrayFile, key: str | None) -> str | None:
    """The array of one hand, beside which a root's rotation is that of a wrist; None where both hands have arrays of their own.

    `key` is an array under a name for all joints that holds a hand.
    """
    sides = [[k for k in PARTS[part] if k in file] for part in ("left_hand_pose", "right_hand_pose")]
    if key is not None or all(sides):
        return key
    return next((k for k in ("hand_pose", *sides[0], *sides[1]) if k in file), None)


def _hands(file: ArrayFile, options: Options, claims: list[Claim], pose: Tensor, notes: list[str]) -> list[Claim]:
    """Claims of the hands; where another array has bent fingers already, ones that cannot be read are left out."""
    lengths = [len(claim.value) for claim in claims] + [len(pose)] * bool(len(pose))
    try:
        return hand_claims(file, options, rows=max(lengths, default=None), notes=notes)
    except ValueError as error:
        if not bool((pose[:, 25:].abs() > _STILL).any()):
            raise
        for key in (*HANDS, *PARTS["left_hand_pose"], *PARTS["right_hand_pose"]):
            file.used.discard(key)
        notes.append(f"the hands that stand apart were not read ({error})")
        return []


def _together(pose: Tensor, mask: Tensor, claims: list[Claim], notes: list[str]) -> tuple[Tensor, Tensor, set[str]]:
    """Poses and mask of the whole array and of the parts, which must agree where both say something; and what was not
    taken, as the array of all joints has the fingers."""
    lengths = {claim.key: len(claim.value) for claim in claims} | ({"the poses": len(pose)} if len(pose) else {})
    n = max(lengths.values(), default=len(pose))
    if any(length not in (1, n) for length in lengths.values()) or (len(pose) and len(pose) != n):
        raise ValueError(f"expected parts of one length, or of one row, got {lengths}; cut them to the same frames.")
    dtype = (
        torch.float64 if any(t.dtype == torch.float64 for t in [pose, *(c.value for c in claims)]) else torch.float32
    )
    if not len(pose):
        pose, mask = torch.zeros(n, NUM_JOINTS, 3, dtype=dtype), torch.zeros(n, NUM_JOINTS, dtype=torch.bool)
    pose, mask = pose.to(dtype), mask.clone()
    sources: dict[str, str] = {}
    left_out = set()
    for claim in claims:
        part = PART_SLICES[claim.part]
        value, rows = claim.value.to(dtype).expand(n, -1, -1), claim.rows.expand(n)
        if len(claim.value) < n:
            notes.append(f"'{claim.key}' has one row, which stands for all {n}")
        have = mask[:, part].any(1) & rows
        filler = claim.part.endswith("hand_pose") and claim.part not in sources
        if filler and bool(have.any()) and not bool((pose[:, part].abs() > _STILL).any()):
            have = torch.zeros_like(have)  # hands at rest in an array of all joints: nobody measured them there
        if bool(have.any()):
            joint = _differs(pose[:, part][have], value[have])
            if joint is not None and filler:
                notes.append(f"'{claim.key}' holds other fingers than the array of all joints, which was taken")
                left_out.add(claim.key)
            elif joint is not None:
                name = JOINT_NAMES[part.start + joint]
                raise ValueError(
                    f"keys '{sources.get(claim.part, 'poses')}' and '{claim.key}': expected the same rotations, got others at "
                    f"{name}; pass ignore=('{claim.key}',) to read the file without it."
                )
        fresh = rows & ~have
        if bool(fresh.any()):
            pose[fresh, part] = value[fresh]
            mask[fresh, part] = True
        sources.setdefault(claim.part, claim.key)
    return pose, mask, left_out


def _differs(first: Tensor, second: Tensor) -> int | None:
    """The joint at which rotations (N, J, 3) are not the same, if any."""
    if torch.equal(first, second):
        return None
    known = torch.isfinite(first).all(-1) & torch.isfinite(second).all(-1)
    apart = torch.where(known, geodesic_distance(first.nan_to_num().double(), second.nan_to_num().double()), 0.0)
    worst = apart.amax(0)
    return int(worst.argmax()) if float(worst.max()) > _SAME else None


def _nothing(file: ArrayFile) -> str:
    """What to say of a file in which no pose was found."""
    if any(key in file for key in _STAGE_I):
        return (
            "expected poses, got a body shape and markers, as the first stage of MoSh++ writes them (*_stagei.npz); give the "
            "file of the second stage (*_stageii.npz, *_poses.npz)."
        )
    objects = [key for key, header in file.headers.items() if is_pickle(header)]
    if objects:
        return (
            f"expected poses as plain arrays, got Python objects (a pickle) under {', '.join(map(printable, objects[:6]))}, "
            f"which are never loaded. For a file that you trust:\n{conversion_code(file.path, 'npz')}\n"
        )
    likely = [key for key, header in file.headers.items() if looks_like_rotations(key, header)]
    fix = (
        f"rename the array to 'poses', or to the part it holds ({', '.join(map(printable, likely[:_SHOWN]))})"
        if likely
        else "no array looks like poses, so give the file that holds the motion"
    )
    return (
        f"expected poses under one of the keys {', '.join(WHOLE)}, global_orient, root_orient, body_pose, "
        f"pose_body, ... or hand_pose, got {', '.join(printable(key) for key in file) or 'none of them'}; {fix}."
    )
