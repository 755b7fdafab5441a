"""Which side each hand of a file is on, as its arrays `side`, `is_right`, `handedness`, ... or the caller say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._files.array_file import ArrayFile
from .._files.npy import Header
from .keys import SIDES
from .options import Options

LEFT, RIGHT = "left_hand_pose", "right_hand_pose"


def keys_of_sides(file: ArrayFile) -> list[str]:
    """The keys under which the file says sides: of single hands, or of both hands of each pose."""
    return [key for key in SIDES if key in file and (_is_single(file.headers[key]) or is_pair(file.headers[key]))]


def stored_side(file: ArrayFile, options: Options, n: int) -> Tensor | None:
    """(n,) bool, whether each hand is a right one, from the file or the caller; None where nobody says."""
    keys = [key for key in SIDES if key in file and _is_single(file.headers[key])]
    stored = _agreed({key: right_side(key, file[key], n, stored=True) for key in keys})
    if options.side is None:
        return stored
    options.applied.add("side")
    told = right_side("side", options.side, n)
    if stored is not None and bool((stored != told).any()):
        raise ValueError(
            f"side: expected what the file's own key '{keys[0]}' says, got {options.side!r}; leave it out "
            "(poseprior.skeleton.mirror turns right hands into left ones)."
        )
    return told


def right_first(file: ArrayFile, hands: str, n: int) -> Tensor | None:
    """(n,) bool, whether the first of the two hands of each pose is the right one; None where the file does not say.

    `hands` names their array and its shape, for messages.
    """
    found = {}
    for key in keys_of_sides(file):
        value = file[key]
        if value.shape not in ((2,), (1, 2), (n, 2)):
            raise ValueError(
                f"key '{key}': expected the sides of both hands, (2,) or ({n}, 2), beside {hands}, got {value.shape}; pass "
                f"ignore=({key!r},) if the left hand comes first."
            )
        right = right_side(key, value.reshape(-1), value.size, stored=True).reshape(-1, 2)
        if bool((right[:, 0] == right[:, 1]).any()):
            raise ValueError(
                f"key '{key}': expected one left and one right hand beside {hands}, got two of one side; pass "
                f"ignore=({key!r},) if the left hand comes first."
            )
        found[key] = right[:, 0].expand(n)
    return _agreed(found)


def right_side(name: str, side: Any, n: int, *, stored: bool = False) -> Tensor:
    """(n,) bool from 0 or 1, 'left' or 'right', of an argument or, `stored`, of an array in a file."""
    value = np.asarray(side)
    if value.dtype.kind in "US":
        text = np.char.lower(np.char.decode(value, "utf-8", "replace") if value.dtype.kind == "S" else value)
        left, right = np.isin(text, ("left", "l", "0")), np.isin(text, ("right", "r", "1"))
    else:
        left, right = np.asarray(value == 0), np.asarray(value == 1)
    if value.ndim == 2 and value.shape == (n, 1):
        value, left, right = value[:, 0], left[:, 0], right[:, 0]
    fits = value.shape in ((), (1,), (n,))
    if not np.all(left | right) or not fits:
        odd = np.unique(value[~(left | right)])[:3].tolist() if fits else value.shape
        fix = f"; if you know the side, pass ignore=({name!r},) with side='left' or side='right'" if stored else ""
        raise ValueError(f"{name}: expected 0/'left' or 1/'right', one or {n}, got {odd}{fix}.")
    return torch.from_numpy(np.broadcast_to(right, (n,)).copy())


def _is_single(header: Header | str) -> bool:
    """Whether an array has one side, or one for each hand; `right` may also be an array of something else."""
    return isinstance(header, str) or len(header.shape) < 2 or header.shape[1:] == (1,)


def is_pair(header: Header | str) -> bool:
    """Whether an array has the sides of both hands of each pose."""
    return isinstance(header, Header) and len(header.shape) == 2 and header.shape[1] == 2


def _agreed(found: Mapping[str, Tensor]) -> Tensor | None:
    """What all of the keys say; None where there is none."""
    first = next(iter(found), None)
    if first is None:
        return None
    for key, sides in found.items():
        if not torch.equal(sides, found[first]):
            raise ValueError(
                f"keys {first}, {key}: expected one side for each hand, got two that differ; pass ignore=({first!r},) or "
                f"ignore=({key!r},)."
            )
    return found[first]


def each_side(right: Tensor) -> Iterator[tuple[str, Tensor]]:
    """(part, rows) of the left and of the right hands, where there are any."""
    for name, rows in ((LEFT, ~right), (RIGHT, right)):
        if bool(rows.any()):
            yield name, rows
