"""Keypoints in an `.npz`: points, confidences, names and camera, under the names that programs give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..._text import shown
from ...keypoint_layouts import KeypointLayout
from .._files.array_file import ArrayFile, open_npz
from .arrays import numbers, pair, texts
from .checks import check_size, unread
from .names import layout_of_names, named_layout

#: Names of confidences, of points or (the last two) maybe of whole people.
_CONFIDENCES = (
    "confidence",
    "confidences",
    "conf",
    "keypoint_scores",
    "visibility",
    "keypoints_visible",
    "scores",
    "score",
)
_FRAME_NAMES = ("names", "frame_names", "image_names", "image_name", "imgname")
_POINT_NAMES = ("joint_names", "keypoint_names", "point_names")


@dataclass(frozen=True)
class StoredKeypoints:
    """What an `.npz` holds.

    Attributes:
        points: (F, K, 2 or 3) in the units of the file.
        confidence: (F, K).
        layout: what the file calls it.
        named: the layout that the names of the points make.
        names: (F,) of the frames.
        units: what the file calls them.
        focal, center, image_size: pairs of pixels.
        notes: what was decided.
    """

    points: Tensor
    confidence: Tensor
    layout: str | None
    named: KeypointLayout | None
    names: tuple[str, ...]
    units: str | None
    focal: tuple[float, float] | None
    center: tuple[float, float] | None
    image_size: tuple[float, float] | None
    notes: tuple[str, ...]


def read_npz(path: Path, asked: KeypointLayout | None) -> StoredKeypoints:
    """What the file holds; `asked` is the layout that the caller passes.

    Raises:
        ValueError: no points or both kinds, shapes that are not of one person, arrays that contradict each other.
    """
    file = open_npz(path)
    flat, deep = "keypoints" in file, "keypoints3d" in file
    if flat == deep:
        fix = "leave one out" if flat else "rename the array of the points"
        raise ValueError(
            f"path: expected `keypoints` (2D, pixels) or `keypoints3d` (metres) in {shown(path.name)}, got "
            f"{'both' if flat else 'neither'}; {fix}. It holds {file.contents()}."
        )
    key = "keypoints" if flat else "keypoints3d"
    points = numbers(file, key)
    if points.dim() == 2:
        points = points[None]
    for axis in (1, 0):  # lists of people that hold one, and batches of one recording
        if points.dim() == 4 and points.shape[axis] == 1:
            points = points.squeeze(axis)
    if points.dim() != 3 or points.shape[-1] not in ((2, 3) if flat else (3,)) or 0 in points.shape:
        wanted = "(F, K, 2) or (F, K, 3) with the confidence last" if flat else "(F, K, 3)"
        raise ValueError(
            f"{key}: expected {wanted}, of one person, in {shown(path.name)}, got {tuple(file[key].shape)}; "
            f"{_shape_hint(key, points)}. It holds {file.contents()}."
        )
    confidence, notes = _confidence(file, points.shape[:2])
    if flat and points.shape[-1] == 3:
        last, points = points[..., 2], points[..., :2]
        if confidence is not None and not torch.equal(confidence, last):
            raise ValueError(
                f"{key}: expected (F, K, 2) beside another confidence in {shown(path.name)}, got {tuple(file[key].shape)} "
                "whose last column differs from it; save keypoints[..., :2] if that is a depth."
            )
        confidence = last
    stored = ", ".join(texts(file, "layout")) if "layout" in file else None
    units = next((", ".join(texts(file, name)) for name in ("units", "unit") if name in file), None)
    names, named = _names(file, (points.shape[0], points.shape[1]), asked)
    focal, center = pair(file, "focal_length", above_zero=True, twice=True), pair(file, "principal_point")
    size = check_size("image_size", pair(file, "image_size"))
    notes += unread(file, (points.shape[0], points.shape[1]), confidence is not None)
    if confidence is None:
        confidence = torch.isfinite(points).all(-1).float()
    return StoredKeypoints(points, confidence, stored, named, names, units, focal, center, size, notes)


def _shape_hint(key: str, points: Tensor) -> str:
    """How to save points of another shape."""
    if points.dim() == 4:
        people, frames = points.shape[1], points.shape[0]
        return (
            f"save one person of several: {key}[:, 0] if the axes are frames ({frames}), people ({people}), points; {key}[0] if "
            f"they are people ({frames}), frames ({people}), points"
        )
    if points.dim() == 3 and points.shape[-1] == 4:
        rest = "visibility" if key == "keypoints" else "confidence"
        return f"save {key}[..., :{2 if key == 'keypoints' else 3}], and {rest}={key}[..., 3] beside it"
    return f"save it with an axis for the points, {key}.reshape(F, K, -1)"


def _names(
    file: ArrayFile, shape: tuple[int, int], asked: KeypointLayout | None
) -> tuple[tuple[str, ...], KeypointLayout | None]:
    """The names of the frames, or their numbers where the file does not say, and the layout by the names of the points."""
    frames, points = shape
    said = next((key for key in _FRAME_NAMES if key in file), None)
    of_points = next((key for key in _POINT_NAMES if key in file), None)
    if said == "names" and file[said].shape == (points,) and layout_of_names(texts(file, said)) is not None:
        of_points, said = of_points or said, next((key for key in _FRAME_NAMES[1:] if key in file), None)
    named = None
    if of_points is not None:
        named = named_layout(texts(file, of_points), of_points, file.path, asked)
    if said is None:
        return tuple(str(k) for k in range(frames)), named
    if file[said].shape != (frames,):
        raise ValueError(
            f"{said}: expected ({frames},), a name for each frame, got {file[said].shape}; names of points go into joint_names."
        )
    return texts(file, said), named


def _confidence(file: ArrayFile, shape: Sequence[int]) -> tuple[Tensor | None, tuple[str, ...]]:
    """(F, K) of the file, and what to note."""
    found: dict[str, Tensor] = {}
    notes = []
    for key in _CONFIDENCES:
        if key not in file:
            continue
        value = numbers(file, key)
        value = value.reshape(*shape) if value.dim() == 3 and value.numel() == math.prod(shape) else value
        if value.shape == (shape[0],) and shape[0] == shape[1] and shape[0] > 1:
            raise ValueError(
                f"{key}: expected {tuple(shape)} in {shown(file.path.name)}, got {tuple(value.shape)}, which may be a number "
                "for each frame or for each point; save a number for each point of each frame, or leave it out of the file."
            )
        by_frame = value.shape in ((shape[0],), (), (shape[0], 1)) and shape[1] > 1
        if by_frame and key.startswith("score"):
            notes.append(f"'{key}' has one number for each frame: it is not the confidence of points, and was not used")
            continue
        if by_frame and shape[0] > 1:
            raise ValueError(
                f"{key}: expected {tuple(shape)} in {shown(file.path.name)}, got {tuple(value.shape)}, which is no number for "
                "each point; save one for each point of each frame, or leave it out of the file."
            )
        try:
            found[key] = value.expand(*shape).clone()
        except RuntimeError:
            raise ValueError(
                f"{key}: expected {tuple(shape)}, a number for each point of {shown(file.path.name)}, got "
                f"{tuple(value.shape)}; save one for each, or leave it out of the file."
            ) from None
    if any(not torch.equal(value, next(iter(found.values()))) for value in list(found.values())[1:]):
        raise ValueError(
            f"{', '.join(found)}: expected one confidence in {shown(file.path.name)}, got several that differ; save the file "
            "with one."
        )
    return next(iter(found.values()), None), tuple(notes)
