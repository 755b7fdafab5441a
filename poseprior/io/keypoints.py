"""Keypoint files: `.npz`, OpenPose's `.json`, and folders of those, one frame each."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..keypoint_layouts import LAYOUTS, layout_of_length
from ..keypoint_layouts import layout as find_layout
from ._open import load_arrays

_OPENPOSE_PARTS = (
    ("pose_keypoints_2d", 25), ("hand_left_keypoints_2d", 21), ("hand_right_keypoints_2d", 21),
    ("face_keypoints_2d", 70),
)  # fmt: skip


#: Pixels: a person of whom one point is known has no size of their own.
_LEAST_SIZE = 20.0
_NPZ_KEYS = (
    "keypoints", "keypoints3d", "confidence", "layout", "focal_length", "principal_point", "image_size",
)  # fmt: skip


@dataclass(frozen=True)
class KeypointFile:
    """Keypoints of one person over frames.

    Attributes:
        points: (F, K, 2) pixels or (F, K, 3) metres; NaN where missing.
        confidence: (F, K), 0 where missing.
        layout: name of the order of the points.
        names: (F,) of the frames.
        focal: (2,) pixels, center: (2,) pixels, image_size: (width, height); None where the file does not say.
    """

    points: Tensor
    confidence: Tensor
    layout: str
    names: tuple[str, ...]
    focal: tuple[float, float] | None = None
    center: tuple[float, float] | None = None
    image_size: tuple[float, float] | None = None


def read_keypoints(path: Path | str, *, layout: str | None = None, person: int | None = None) -> KeypointFile:
    """Read the keypoints of one person.

    Args:
        path: an `.npz` with `keypoints` (F, K, 2), or (F, K, 3) with the confidence last, or `keypoints3d` (F, K, 3)
            metres; and, where known, `confidence` (F, K), `layout`, `focal_length`, `principal_point`, `image_size`.
            Or one OpenPose `.json`, or a folder of them, a frame each, in the order of their names.
        layout: of the points, for files that do not say; else it must agree.
        person: which of OpenPose's people; None takes the most confident one and follows it from frame to frame.

    Returns:
        `KeypointFile`. A frame in which nobody was found has confidence 0.

    Raises:
        ValueError: no such file or another kind, half a file, an unknown layout, a wrong number of points, nobody in any
            frame, confidences that are not finite.
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(source.glob("*.json"))
        if not files:
            raise ValueError(f"path: expected a folder with OpenPose .json files, got none in {source}.")
        return _openpose(files, layout, person)
    if not source.is_file():
        raise ValueError(
            f"path: expected an .npz, a .json or a folder of .json files, got {source}, which is not there."
        )
    if source.suffix == ".json":
        return _openpose([source], layout, person)
    if source.suffix == ".npz":
        if person not in (None, 0):
            raise ValueError(f"person: expected none for an .npz, which holds one person, got {person}.")
        return _npz(source, layout)
    raise ValueError(f"path: expected an .npz, a .json or a folder of .json files, got {source.name!r}.")


# ---------------------------------------------------------------------- npz


def _npz(path: Path, layout: str | None) -> KeypointFile:
    arrays = load_arrays(path, _NPZ_KEYS)
    flat, deep = "keypoints" in arrays, "keypoints3d" in arrays
    if flat == deep:
        raise ValueError(
            f"path: expected `keypoints` (2D, pixels) or `keypoints3d` (metres) in {path.name}, got "
            f"{'both' if flat else 'neither'}."
        )
    points = _numbers(arrays, "keypoints" if flat else "keypoints3d", path)
    if points.dim() == 2:
        points = points[None]
    if points.dim() != 3 or points.shape[-1] not in ((2, 3) if flat else (3,)):
        wanted = "(F, K, 2) or (F, K, 3)" if flat else "(F, K, 3)"
        raise ValueError(f"keypoints: expected {wanted} in {path.name}, got {tuple(points.shape)}.")
    confidence = torch.isfinite(points).all(-1).float()
    if flat and points.shape[-1] == 3:
        confidence, points = points[..., 2], points[..., :2]
    if "confidence" in arrays:
        confidence = _numbers(arrays, "confidence", path)
        try:
            confidence = confidence.expand(points.shape[:-1]).clone()
        except RuntimeError:
            raise ValueError(
                f"confidence: expected {tuple(points.shape[:-1])}, a number for each point of {path.name}, got "
                f"{tuple(confidence.shape)}."
            ) from None
    stored = str(arrays["layout"]) if "layout" in arrays else None
    order = _layout_name(points.shape[1], layout, stored, path)
    fields = {
        "focal": _pair(arrays, "focal_length"), "center": _pair(arrays, "principal_point"),
        "image_size": _pair(arrays, "image_size"),
    }  # fmt: skip
    return _checked(points, confidence, order, tuple(str(k) for k in range(len(points))), path, **fields)


def _numbers(arrays: dict[str, Any], name: str, path: Path) -> Tensor:
    """An array as float32."""
    try:
        return torch.from_numpy(np.asarray(arrays[name]).astype(np.float32))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers in {path.name}, got {arrays[name].dtype}.") from None


def _pair(arrays: dict[str, Any], name: str) -> tuple[float, float] | None:
    if name not in arrays:
        return None
    try:
        value = np.asarray(arrays[name], dtype=float).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected 1 or 2 numbers, got {arrays[name].dtype}.") from None
    if len(value) not in (1, 2):
        raise ValueError(f"{name}: expected 1 or 2 numbers, got {len(value)}; cameras by frame need fit_body itself.")
    return float(value[0]), float(value[-1])


# ---------------------------------------------------------------------- OpenPose


def _openpose(files: list[Path], layout: str | None, person: int | None) -> KeypointFile:
    frames = [_people(path) for path in files]
    width = max((people.shape[1] for people in frames if len(people)), default=25)
    if person is not None and person < 0:
        raise ValueError(f"person: expected 0 or more, got {person}.")
    chosen, last, missed = [], None, 0
    for people in frames:
        wide = np.zeros((len(people), width, 3), np.float32)
        wide[:, : people.shape[1]] = people
        one = _choose(wide, person, last, missed)
        missed = missed + 1 if one is None else 0
        one = np.zeros((width, 3), np.float32) if one is None else one
        chosen.append(one)
        if last is not None or one[:, 2].any():
            last = one if last is None else np.where(one[:, 2:] > 0, one, last)
    most = max(len(people) for people in frames)
    if person is not None and 0 < most <= person:
        raise ValueError(f"person: expected a number below {most}, since no frame shows more people, got {person}.")
    every = torch.from_numpy(np.stack(chosen))
    order = _layout_name(width, layout, "openpose_25" if width == 25 else "openpose_137", files[0])
    names = tuple(path.stem for path in files)
    return _checked(every[..., :2], every[..., 2], order, names, files[0].parent if len(files) > 1 else files[0])


def _people(path: Path) -> np.ndarray:
    """(P, 25 or 137, 3) of a file."""
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: expected JSON, got {path}, which is broken or cut off ({error}).") from None
    if not isinstance(content, dict) or not isinstance(content.get("people"), list):
        raise ValueError(f"path: expected OpenPose's JSON with `people`, got {path}, which has none.")
    found = []
    for one in content["people"]:
        if not isinstance(one, dict):
            raise ValueError(f"people: expected OpenPose's objects in {path.name}, got {type(one).__name__}.")
        parts = []
        for name, count in _OPENPOSE_PARTS:
            try:
                value = np.asarray(one.get(name, []), dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: expected a list of numbers in {path.name} ({error}).") from None
            if name == "pose_keypoints_2d" and value.size != 75:
                raise ValueError(
                    f"pose_keypoints_2d: expected 75 numbers (BODY_25) in {path.name}, got {value.size}; run OpenPose with "
                    "--model_pose BODY_25."
                )
            if value.size not in (0, 3 * count):
                raise ValueError(f"{name}: expected {3 * count} numbers in {path.name}, got {value.size}.")
            parts.append(value.reshape(-1, 3) if value.size else np.zeros((count, 3), np.float32))
        found.append(np.concatenate(parts))
    people = np.stack(found) if found else np.zeros((0, 137, 3), np.float32)
    detail = bool(people[:, 25:, 2].any())
    return people if detail else people[:, :25]


def _choose(people: np.ndarray, person: int | None, last: np.ndarray | None, missed: int) -> np.ndarray | None:
    """The one of the people (P, K, 3) who is followed.

    Args:
        people: x, y, confidence.
        person: an index, to follow nobody.
        last: (K, 3) where each point of the followed person was seen last; None at first.
        missed: frames since then without them.
    """
    if len(people) == 0 or (person is not None and person >= len(people)):
        return None
    if person is not None:
        return np.asarray(people[person])
    if last is None:
        return np.asarray(people[int(people[..., 2].sum(1).argmax())])
    known = last[:, 2] > 0
    size = max(float(np.ptp(last[known, :2], axis=0).max()), _LEAST_SIZE)
    both = (people[..., 2] > 0) & known
    distance = np.linalg.norm(people[..., :2] - last[:, :2], axis=-1)
    shared = np.where(both.any(1), (distance * both).sum(1) / np.maximum(both.sum(1), 1), math.inf)
    # Points that someone lacks count as far as a person may move, so that a fragment close by does not win.
    nearest = int(np.where(both, distance, size)[:, known].mean(1).argmin())
    return np.asarray(people[nearest]) if shared[nearest] <= (1 + missed) * size else None


# ---------------------------------------------------------------------- both


def _layout_name(count: int, asked: str | None, stored: str | None, path: Path) -> str:
    name = asked or stored
    if name is None:
        found = layout_of_length(count)
        if found is None:
            raise ValueError(
                f"layout: expected one of {', '.join(LAYOUTS)} for the {count} points of {path.name}; its number of points "
                "does not decide it."
            )
        return found.name
    if asked and stored and asked != stored:
        raise ValueError(f"layout: expected {stored!r}, which {path.name} says, got {asked!r}.")
    if len(find_layout(name)) != count:
        raise ValueError(f"layout: expected {len(find_layout(name))} points for {name!r}, got {count} in {path.name}.")
    return name


def _checked(
    points: Tensor, confidence: Tensor, layout: str, names: tuple[str, ...], path: Path, **camera: Any
) -> KeypointFile:
    if not bool(torch.isfinite(confidence).all()) or bool((confidence < 0).any()):
        frame = int((~torch.isfinite(confidence) | (confidence < 0)).any(-1).nonzero()[0, 0])
        raise ValueError(
            f"confidence: expected finite numbers of 0 or more, got another in frame {names[frame]} of {path.name}; use 0 "
            "for missing points."
        )
    confidence = torch.where(torch.isfinite(points).all(-1), confidence, torch.zeros_like(confidence))
    if not bool((confidence > 0).any()):
        raise ValueError(f"path: expected keypoints in some frame, got nobody in {path.name}.")
    points = torch.where((confidence > 0)[..., None], points, torch.full_like(points, math.nan))
    return KeypointFile(points, confidence, layout, names, **camera)
