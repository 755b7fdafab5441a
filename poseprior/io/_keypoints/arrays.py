"""Arrays of a keypoint file as numbers, pairs and texts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..._text import shown
from .._files.array_file import ArrayFile

_MOST_PIXELS = 1e7


def texts(file: ArrayFile, name: str) -> tuple[str, ...]:
    """An array of texts, or of bytes or numbers as text."""
    values = file[name].reshape(-1).tolist()
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)


def numbers(file: ArrayFile, name: str) -> Tensor:
    """An array as float32."""
    array = file[name]
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected numbers in {shown(file.path.name)}, got {array.dtype}.")
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(array.astype(np.float32))


def pair(file: ArrayFile, name: str, above_zero: bool = False, twice: bool = False) -> tuple[float, float] | None:
    """Two numbers of pixels, or one for both where `twice`; None where the file has none."""
    if name not in file:
        return None
    array = file[name]
    value = array.reshape(-1)
    wanted = "1 or 2 numbers" if twice else "2 numbers"
    if value.dtype.kind not in "fiu":
        raise ValueError(
            f"{name}: expected {wanted} in {shown(file.path.name)}, got {value.dtype}; save numbers, not text."
        )
    if len(value) == 3 and name == "image_size":
        raise ValueError(
            f"{name}: expected (width, height) in pixels in {shown(file.path.name)}, got {tuple(value.tolist())}; of the shape "
            "of an image (height, width, channels) save image.shape[1], image.shape[0]."
        )
    if len(value) not in (1, 2) or (len(value) == 1 and not twice):
        fix = "save both" if len(value) == 1 else "save those of one camera; cameras by frame need fit_body itself"
        raise ValueError(f"{name}: expected {wanted} in {shown(file.path.name)}, got {len(value)}; {fix}.")
    first, last = float(value[0]), float(value[-1])
    least = 0.0 if above_zero else -_MOST_PIXELS
    if not all(least < number < _MOST_PIXELS for number in (first, last)):  # a NaN fails the comparison
        raise ValueError(
            f"{name}: expected pixels{' above 0' if above_zero else ''}, below {_MOST_PIXELS:g}, in {shown(file.path.name)}, got "
            f"{first:g}, {last:g}; leave it out of the file if nobody knows it."
        )
    return first, last
