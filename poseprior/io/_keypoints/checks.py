"""What keypoints can be: sizes of images, confidences, missing points that a program wrote as zeros."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..._checks import check_number, quoted
from ..._text import printable, shown
from .._files.array_file import ArrayFile
from .sizes import seen_points

#: Pixels that no image is wide, and confidences above which numbers are per cent.
_WIDEST, _PERCENT = 1e6, 10.0
#: So many points make no body where all of a frame are at one place, or where they are at the origin or at (-1, -1).
_ALIKE, _ZEROS = 4, 2
#: What to note of flags that count as confidences.
COCO_FLAGS = "visibilities of COCO (0, 1 hidden, 2 visible) count as confidence 0 or 1"
#: Beginnings of names of arrays that are 1 where a confidence is 0.
_MISSING = ("occlu", "invalid", "missing", "hidden", "unseen", "truncat", "outlier", "is_missing", "is_occlu", "nan")


def check_size(name: str, value: object) -> tuple[float, float] | None:
    """(width, height) in pixels, or None."""
    if value is None:
        return None
    given, value = value, value.tolist() if isinstance(value, np.ndarray | Tensor) else value
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != 2:
        raise ValueError(f"{name}: expected (width, height) in pixels, got {quoted(given)}.")
    width, height = (check_number(name, side, above=0.0, most=_WIDEST) for side in value)
    return width, height


def usual_confidences(confidence: Tensor, path: Path) -> tuple[Tensor, tuple[str, ...]]:
    """Confidences (F, K) as weights, and what to note: flags of COCO count as 0 or 1, per cent are refused."""
    most = float(confidence.max())
    if most > _PERCENT:
        raise ValueError(
            f"confidence: expected numbers around 0 to 1 in {shown(path.name)}, got up to {most:g}; divide per cent by 100."
        )
    if most == 2.0 and bool((confidence == confidence.round()).all()):
        return confidence.clamp_max(1.0), (COCO_FLAGS,)
    return confidence, ()


def refuse_no_body(points: Tensor, confidence: Tensor, names: Sequence[str], path: Path) -> None:
    """Refuse frames of points (F, K, d) in which several stand at the origin or at -1, or all at one place."""
    seen = seen_points(points, confidence)
    zeros, ones = (((points == place).all(-1) & seen).sum(1) for place in (0, -1))
    first = points[torch.arange(len(points)), seen.int().argmax(1)]
    alike = ((points == first[:, None]).all(-1) | ~seen).all(1) & (seen.sum(1) >= _ALIKE)
    for bad, what in (
        (zeros >= _ZEROS, "several at the origin"),
        (ones >= _ZEROS, "several at -1"),
        (alike, "all of them at one place"),
        (_again(zeros, points), "one at the origin, as in other frames,"),
        (_again(ones, points), "one at -1, as in other frames,"),
    ):
        if bool(bad.any()):
            frame = printable(names[int(bad.nonzero()[0, 0])])
            raise ValueError(
                f"keypoints: expected points of a body in each frame, got {what} in frame {frame} of {shown(path.name)}; mark "
                "missing points with NaN or a confidence of 0."
            )


def _again(found: Tensor, points: Tensor) -> Tensor:
    """(F,) where a point of an image is at a place in two frames or more; in 3D the root may be the origin of every frame."""
    again = points.shape[-1] == 2 and int((found > 0).sum()) > 1
    return (found > 0) & again


def unread(file: ArrayFile, shape: tuple[int, int], confident: bool) -> tuple[str, ...]:
    """What to note of arrays that were not read; one that looks like the confidence is refused where there is none."""
    rest = [key for key in file if key not in file.used]
    shapes = {key: getattr(file.headers[key], "shape", ()) for key in rest}
    for key in rest:
        if not confident and shapes[key] in (shape, (*shape, 1)):
            if key.lower().startswith(_MISSING):
                raise ValueError(
                    f"confidence: expected it under that name in {shown(file.path.name)}, got {printable(key)} {shapes[key]}, "
                    f"which may be its opposite; if that is 1 for missing points, save confidence=1 - {printable(key)}, else "
                    "leave it out of the file."
                )
            raise ValueError(
                f"confidence: expected it under that name in {shown(file.path.name)}, got {printable(key)} {shapes[key]}, "
                "which may be it; rename it to confidence, or leave it out of the file."
            )
    listed = ", ".join(f"{printable(key)} {shapes[key]}" for key in rest[:8])
    return (f"not read: {listed}",) if rest else ()
