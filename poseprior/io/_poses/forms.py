"""Rotations in the forms that files keep them in, as rotvecs: matrices, quaternions, and the halves of matrices called 6D."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._checks import quoted
from ...rotations import nearest_rotmat, rotmat_to_rotvec, unitquat_to_rotvec
from .._files.npy import as_float64

#: Forms that `rotations` names, and the numbers that a rotation has in each.
FORMS: dict[str, int] = {
    "rotvec": 3, "matrix": 9, "quaternion_xyzw": 4, "quaternion_wxyz": 4, "6d_rows": 6, "6d_columns": 6,
    "6d_interleaved": 6,
}  # fmt: skip
_SIX = {
    "6d_rows": "the first two rows of the matrix, one after the other (PyTorch3D)",
    "6d_columns": "its first two columns, one after the other (Zhou et al.)",
    "6d_interleaved": "a (3, 2) matrix row by row (SPIN, HMR, roma)",
}
_LOOSE = 1e-2
#: About as many rows of an array show whether it holds halves of matrices.
_SOME_ROWS = 64
#: Joints of a pose that show where quaternions keep the scalar, and the share of them that may turn far.
_MANY_JOINTS, _FEW = 10, 0.2
HINTS = {
    3: "",
    4: "quaternions: pass rotations='quaternion_wxyz' (SciPy's scalar_first) or rotations='quaternion_xyzw' (SciPy, roma)",
    6: "6D: pass rotations=" + ", ".join(f"{name!r}, {what}" for name, what in _SIX.items()),
    9: "rotation matrices: pass rotations='matrix'",
}


def check_form(rotations: object) -> None:
    """Refuse what `rotations` of `read_poses` does not take."""
    given = list(rotations.values()) if isinstance(rotations, Mapping) else [rotations]
    if bad := [form for form in given if form is not None and not (isinstance(form, str) and form in FORMS)]:
        raise ValueError(
            f"rotations: expected one of {', '.join(FORMS)}, or a dict of key to one, got {quoted(bad[0])}."
        )


def joint_shapes(count: int, form: str) -> list[tuple[int, ...]]:
    """Trailing shapes of arrays of `count` joints."""
    width = FORMS[form]
    shapes: list[tuple[int, ...]] = [(count * width,), (count, width)]
    if form == "matrix":
        shapes.append((count, 3, 3))
    elif form == "6d_interleaved":
        shapes.append((count, 3, 2))
    elif form.startswith("6d"):
        shapes.append((count, 2, 3))
    if count == 1:
        shapes += [shape[1:] for shape in shapes[1:]]
    return list(dict.fromkeys(shapes))


def readings(array: NDArray[Any]) -> list[NDArray[Any]]:
    """An array as one of poses, as one pose, and without an axis of length 1, which batches and lists of frames leave."""
    single = [axis for axis in (1, 0) if array.ndim > 2 and array.shape[axis] == 1]
    return [array, array[None], *(array.squeeze(axis) for axis in single)]


def rows_of(array: NDArray[Any], count: int, form: str) -> NDArray[Any] | None:
    """(N, count, width) of an array of `count` joints; None if it is no such array."""
    for candidate in readings(array):
        if candidate.ndim > 1 and candidate.shape[1:] in joint_shapes(count, form):
            return candidate.reshape(len(candidate), count, FORMS[form])
    return None


def batch_hint(array: NDArray[Any], counts: Iterable[int], form: str) -> str:
    """What to do with an array of several recordings, or of several people a frame; empty for any other."""
    if array.ndim > 2 and any(array.shape[2:] in joint_shapes(count, form) for count in counts):
        rest = ", ".join(map(str, array.shape[2:]))
        return (
            "if its first two axes are recordings or people and their poses, save each by itself, array[0] or array[:, 0], or "
            f"all together, array.reshape(-1, {rest})"
        )
    return ""


def other_form_hint(array: NDArray[Any], count: int, form: str) -> str:
    """What an array of `count` joints may hold in place of a form, and how to have it read; empty if its shape does not say."""
    last = (9,) if array.shape[-2:] == (3, 3) and array.ndim > 2 else array.shape[-1:]
    widths = (w for w in HINTS if HINTS[w] and w != FORMS[form] and last in ((w,), (w * count,)))
    return next((f"if it holds {HINTS[w]}" for w in widths), "")


def count_joints(shape: tuple[int, ...], form: str) -> int | None:
    """How many joints an array (N, ...) of this shape may have in a form; None if it is no such array."""
    if len(shape) < 2 or 0 in shape[1:]:
        return None
    count, rest = divmod(int(np.prod(shape[1:])), FORMS[form])
    return count if not rest and shape[1:] in joint_shapes(count, form) else None


def are_matrices(array: NDArray[Any]) -> bool:
    """Whether (..., 3, 3) are rotations, which nothing else is by chance."""
    if array.ndim < 2 or array.shape[-2:] != (3, 3) or not np.issubdtype(array.dtype, np.floating) or not array.size:
        return False
    value = as_float64(array.reshape(-1, 3, 3))
    value = value[np.isfinite(value).all((1, 2))]
    value = value.clip(-2.0, 2.0)  # larger numbers are of no rotation, and their squares may overflow
    off = np.abs(value @ value.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0)
    return bool(len(value)) and off < _LOOSE and bool((np.linalg.det(value) > 0).all())


def refuse_halves(key: str, array: NDArray[Any]) -> None:
    """Refuse an array of rotvecs that are halves of matrices: nobody's rotvecs are pairs of orthonormal vectors.

    Raises:
        ValueError: naming the forms that fit.
    """
    width = int(np.prod(array.shape[1:]))
    if array.ndim < 2 or not width or width % 6 or not np.issubdtype(array.dtype, np.floating):
        return
    rows = as_float64(array[:: 1 + len(array) // _SOME_ROWS]).reshape(-1, 6)
    value = torch.from_numpy(rows[np.isfinite(rows).all(1)])
    exact = [name for name in _SIX if _orthonormal(value, name)]
    if exact:
        fix = " or ".join(f"rotations={name!r} ({_SIX[name]})" for name in exact)
        fix += "" if array.shape[-1] == 6 else ", or rotations='rotvec' if they are rotvecs after all"
        raise ValueError(
            f"key '{key}': expected rotvecs, got {array.shape}, pairs of orthonormal vectors as 6D has them; pass {fix}."
        )


def to_rotvecs(key: str, value: Tensor, form: str) -> Tensor:
    """(N, J, 3) rotvecs of (N, J, width); rows that are not finite become NaN.

    Raises:
        ValueError: matrices, halves or quaternions that are far from any, or that fit another form.
    """
    if form == "rotvec":
        return value
    precise = value.double()
    broken = ~torch.isfinite(precise).all(-1)
    precise = torch.where(broken[..., None], torch.zeros_like(precise), precise)
    present = precise[~broken]
    if form.startswith("quaternion"):
        rotvec = _from_quaternions(key, precise, broken, form)
    elif form == "matrix":
        matrix = precise.unflatten(-1, (3, 3))
        off = (matrix @ matrix.mT - torch.eye(3, dtype=precise.dtype)).abs().amax((-1, -2)).masked_fill(broken, 0.0)
        bad = ((off > _LOOSE) | (torch.linalg.det(matrix) < 0)) & ~broken
        _require_none(
            key, bad, "rotation matrices (orthonormal, determinant 1)", f"others, off by up to {float(off.max()):.2g}"
        )
        identity = torch.eye(3, dtype=precise.dtype).expand_as(matrix)
        rotvec = rotmat_to_rotvec(nearest_rotmat(torch.where(broken[..., None, None], identity, matrix)))
    else:
        rotvec = _from_halves(key, precise, present, form)
    return torch.where(broken[..., None], torch.full_like(rotvec, torch.nan), rotvec)


def _require_none(key: str, bad: Tensor, wanted: str, got: str, fix: str = "") -> None:
    """Refuse joints (N, J) that are no rotations in the form that was told."""
    rows = bad.any(1).nonzero().flatten().tolist()
    if not rows:
        return
    shown = f"{', '.join(map(str, rows[:5]))}{', ...' if len(rows) > 5 else ''}"
    few = f"drop these rows, or write NaN there and mark the joints false in an array 'observed'{fix}"
    raise ValueError(
        f"key '{key}': expected {wanted}, got {got}, in {len(rows)} of {len(bad)} rows ({shown}); "
        f"{few if len(rows) < 0.5 * len(bad) else f'pass rotations= as what the file holds{fix}'}."
    )


def _from_quaternions(key: str, precise: Tensor, broken: Tensor, form: str) -> Tensor:
    norm = precise.norm(dim=-1).masked_fill(broken, 1.0)
    lengths = f"lengths {float(norm.min()):.3g} to {float(norm.max()):.3g}"
    fix = ", or divide them by their lengths" if float(norm.min()) > _LOOSE else ""
    _require_none(key, (norm - 1).abs() > _LOOSE, "quaternions of length 1", lengths, fix)
    present = precise[~broken]
    if precise.shape[1] >= _MANY_JOINTS:
        # Most joints of people turn by less than 120 degrees, so that the scalar part is the largest by far.
        first, last = (float((present[..., k].abs() > 0.5).double().mean()) for k in (0, 3))
        said, other = (first, last) if form == "quaternion_wxyz" else (last, first)
        if said < _FEW and other > 1 - _FEW:
            right = "quaternion_xyzw" if form == "quaternion_wxyz" else "quaternion_wxyz"
            raise ValueError(
                f"key '{key}': expected {form}, got values whose scalar part stands at the other end: all but a few joints would "
                f"turn by more than 120 degrees; pass rotations={right!r}."
            )
    xyzw = precise.roll(-1, -1) if form == "quaternion_wxyz" else precise
    length = xyzw.norm(dim=-1, keepdim=True)
    unit = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=precise.dtype)
    return unitquat_to_rotvec(torch.where(length > 0, xyzw / length.clamp_min(1e-30), unit))


def _from_halves(key: str, precise: Tensor, present: Tensor, form: str) -> Tensor:
    exact = [name for name in _SIX if _orthonormal(present, name)]
    if exact and form not in exact:
        fix = " or ".join(f"rotations={name!r} ({_SIX[name]})" for name in exact)  # rows and columns look alike
        raise ValueError(
            f"key '{key}': expected {form}, {_SIX[form]}, got values that are not orthonormal that way; pass {fix}."
        )
    first, second = _pair(precise, form)
    if bool((torch.linalg.cross(*_pair(present, form)).norm(dim=-1) < 1e-6).any()):
        raise ValueError(
            f"key '{key}': expected 6D of two directions, got two that are parallel or zero; drop the rows."
        )
    first = torch.nn.functional.normalize(first, dim=-1)
    second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    matrix = torch.stack((first, second, torch.linalg.cross(first, second)), -1)
    lost = (matrix.square().sum((-1, -2)) < 2.5)[..., None, None]
    matrix = torch.where(lost, torch.eye(3, dtype=precise.dtype), matrix)
    return rotmat_to_rotvec(matrix.mT.contiguous() if form == "6d_rows" else matrix)


def _pair(value: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """The two directions, which are rows or columns of the matrix."""
    if form == "6d_interleaved":
        return value[..., 0::2], value[..., 1::2]
    return value[..., :3], value[..., 3:]


def _orthonormal(value: Tensor, form: str) -> bool:
    first, second = _pair(value, form)
    gap = torch.stack((first.norm(dim=-1) - 1, second.norm(dim=-1) - 1, (first * second).sum(-1)))
    return bool(value.numel()) and float(gap.abs().max()) < 1e-3
