"""Both hands in one array: `(N, 90)`, `(N, 30, 3)`, `(N, 2, 45)`, ..., left then right unless the file says otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files.array_file import ArrayFile
from . import forms
from .joint_names import listed_order
from .options import Options
from .sides import is_pair, keys_of_sides, right_first

_FINGERS = tuple(range(25, 55))


def split_pair(
    file: ArrayFile, key: str, array: NDArray[Any], form: str, options: Options, rows: int | None, notes: list[str]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The left and the right hand, (N, 15, width) each, of an array of both; None if it is of single hands.

    Args:
        file: where the array is.
        key: of the array.
        array: what stands there.
        form: of its rotations, a name in `forms.FORMS`.
        options: of the caller.
        rows: of what the file holds of the body, or None.
        notes: what to tell is added.

    Raises:
        ValueError: an array that may be of both hands or of single ones, or sides that are not one of each.
    """
    both = _both(file, key, array, form, options, rows)
    if both is None:
        return None
    if both.shape[2] == 16:
        notes.append(f"the first of the 16 joints of each hand of '{key}' is its wrist: it is left out")
        both = both[:, :, 1:]
    _refuse_one_side(file, key, array, options)
    order = listed_order(key, _FINGERS, file, options, notes)
    if order is not None:
        flat = both.reshape(len(both), 30, -1)
        both = flat[:, np.argsort(order)].reshape(both.shape)
    swapped = right_first(file, f"'{key}' {array.shape}", len(both))
    if swapped is None:
        return both[:, 0], both[:, 1]
    if order is not None:
        raise ValueError(
            f"key '{key}': expected its sides under one key of the file, got joint_names and sides; pass "
            f"ignore=('joint_names',) or ignore=({keys_of_sides(file)[0]!r},)."
        )
    swap = swapped.numpy()[:, None, None]
    return np.where(swap, both[:, 1], both[:, 0]), np.where(swap, both[:, 0], both[:, 1])


def _both(
    file: ArrayFile, key: str, array: NDArray[Any], form: str, options: Options, rows: int | None
) -> NDArray[Any] | None:
    """(N, 2, 15, width) of an array of both hands, or 16 joints with the wrist first."""
    one = forms.joint_shapes(15, form)
    shapes = {shape: 15 for shape in (*forms.joint_shapes(30, form), *((2, *shape) for shape in one))}
    shapes |= {(2, *shape): 16 for shape in forms.joint_shapes(16, form)}
    for candidate in forms.readings(array):
        count = shapes.get(candidate.shape[1:])
        if candidate.ndim < 2 or count is None or (count == 16 and candidate.ndim > array.ndim):
            continue
        if array.shape[0] == 2 and array.shape[1:] in one:
            if options.side is not None or keys_of_sides(file):
                return None
            if rows != 1:
                raise ValueError(
                    f"key '{key}': expected one hand in each row, or both, got {array.shape}, which may be two poses of one "
                    f"hand, or both hands of one pose; pass side='left' or side='right', or save {key}[None] for both hands."
                )
        return candidate.reshape(len(candidate), 2, count, forms.FORMS[form])
    return None


def _refuse_one_side(file: ArrayFile, key: str, array: NDArray[Any], options: Options) -> None:
    """Refuse (N, 90), both hands as rotvecs, of which file or caller say one side: it may be fifteen joints as 6D."""
    stored = [name for name in keys_of_sides(file) if file[name].size != 2 and not is_pair(file.headers[name])]
    flat = any(a.ndim == 2 and a.shape[1] == 90 for a in forms.readings(array))
    if options.told(key) is not None or not flat or not (stored or options.side is not None):
        return
    without = f"ignore=({stored[0]!r},)" if stored else "leave side= out"
    raise ValueError(
        f"key '{key}': expected one hand, as {stored[0] if stored else 'side='} says, got {array.shape}, which is both hands "
        f"as rotvecs, or 15 joints as 6D. For both hands {'pass ' if stored else ''}{without}; if it holds {forms.HINTS[6]}."
    )
