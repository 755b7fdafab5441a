"""Keypoint files: `.npz`, the `.json` of detectors, and folders of those, frame by frame."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._checks import check_path
from ..keypoint_layouts import KeypointLayout, LayoutInput
from ..keypoint_layouts import layout as find_layout
from ._frames import natural_path
from ._keypoint_arrays import numbers, pair, texts
from ._keypoint_checks import check_size, refuse_no_body, unread, usual_confidences
from ._keypoint_json import Frame, read_frames
from ._keypoint_layout import choose_layout, layout_argument
from ._keypoint_people import follow, hands_of_one_side
from ._keypoint_units import in_units, refuse_two_units
from ._open import ArrayFile, open_npz, printable

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
_NAMES = ("names", "frame_names", "image_names", "image_name", "imgname")
_FARTHEST = 1e7
#: Layouts that a program mixes: OpenPose's frames in which it saw no hands and no face have the first points alone.
_GROWING = {"openpose_25", "openpose_137"}


@dataclass(frozen=True)
class KeypointFile:
    """Keypoints of one person over frames.

    Attributes:
        points: (F, K, 2) pixels or (F, K, 3) metres; NaN where missing.
        confidence: (F, K), 0 where missing.
        layout: the order of the points: its name, or the layout itself where it is the user's own table.
        names: (F,) of the frames.
        focal: (2,) pixels, center: (2,) pixels, image_size: (width, height); None where the file does not say.
        notes: what was decided about the file.
    """

    points: Tensor
    confidence: Tensor
    layout: str | KeypointLayout
    names: tuple[str, ...]
    focal: tuple[float, float] | None = None
    center: tuple[float, float] | None = None
    image_size: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        layout = self.layout if isinstance(self.layout, str) else "a table of its own"
        return f"KeypointFile({len(self.points)} frames of {self.points.shape[1]} points in {self.points.shape[2]}D, {layout})"


def read_keypoints(
    path: Path | str,
    *,
    layout: LayoutInput | Path | None = None,
    person: int | None = None,
    units: str | None = None,
    image_size: tuple[float, float] | None = None,
) -> KeypointFile:
    """Read the keypoints of one person.

    Args:
        path: an `.npz` with `keypoints` (F, K, 2), or (F, K, 3) with the confidence last, or `keypoints3d` (F, K, 3)
            metres; and, where known, `confidence` (F, K) (or `keypoint_scores`, `scores`, `conf`, `visibility`), `layout`,
            `focal_length`, `principal_point`, `image_size`, `names` of the frames. Or one `.json` of OpenPose, AlphaPose,
            COCO-WholeBody, MMPose or MediaPipe, or a folder of them, frames in the order of time.
        layout: of the points, for files that do not say, or say one that is not known; else it must agree. A name, a table
            of point to joint or ("vertex", index) in the order of the points, or the path of a `.json` with such a table.
        person: which of the people in each frame; None takes the most confident one and follows it from frame to frame.
        units: of the coordinates: 'pixels', 'normalised' to [0, 1], 'normalised_centred' to [-1, 1]; in 3D 'm', 'cm' or
            'mm'. None takes pixels and metres, and refuses values that can be neither, or either.
        image_size: (width, height) in pixels, which normalised coordinates need where the file does not say.

    Returns:
        `KeypointFile`, in pixels or metres. A frame in which nobody was found has confidence 0.

    Raises:
        ValueError: no such file or another kind, half a file, an unknown layout, a wrong number of points, other units,
            nobody in any frame, confidences that are not finite.
    """
    check_path("path", path)
    source, order, size = Path(path), layout_argument(layout), check_size("image_size", image_size)
    kind, frames = source.suffix.lower(), list[Frame]()
    if source.is_dir():
        files = [file for file in source.iterdir() if file.suffix.lower() == ".json" and not file.name.startswith(".")]
        if not files:
            raise ValueError(
                f"path: expected a folder with .json files of a detector, got none in {source}; an .npz is given by itself."
            )
        groups = [(file.stem, read_frames(file)) for file in sorted(files, key=natural_path)]
        often = Counter(frame.name for _, group in groups for frame in group)
        for stem, group in groups:  # files that count their frames alike
            frames += [replace(f, name=f"{stem}/{f.name}") if often[f.name] > 1 else f for f in group]
        found = _from_frames(frames, source, order, person)
    elif not source.exists():
        raise ValueError(
            f"path: expected an .npz, a .json or a folder of .json files, got {source}, which is not there."
        )
    elif kind == ".json":
        frames = read_frames(source)
        found = _from_frames(frames, source, order, person)
    elif kind == ".npz":
        if person not in (None, 0):
            raise ValueError(f"person: expected none for an .npz, which holds one person, got {person}.")
        found = _from_npz(source, order)
    else:
        raise ValueError(
            f"path: expected an .npz, a .json or a folder of .json files, got {source.name!r}; save its points with "
            "numpy.savez(path, keypoints=...), or keypoints3d=... in metres."
        )
    if size is not None and found.points.shape[-1] == 3:
        raise ValueError("image_size: expected None for 3D keypoints, which are in no image; leave it out.")
    if None not in (size, found.image_size) and size != found.image_size:
        raise ValueError(
            f"image_size: expected {found.image_size}, which {source.name} says, got {size}; leave it out."
        )
    size = size or found.image_size
    normalised = any(frame.normalised for frame in frames)
    points = in_units(found.points, found.confidence, find_layout(found.layout), units, size, known=normalised)
    return replace(found, points=points, image_size=size)


def _from_frames(frames: Sequence[Frame], path: Path, order: KeypointLayout | None, person: int | None) -> KeypointFile:
    """The frames of detectors, in the order of time."""
    if not frames:
        raise ValueError(f"path: expected keypoints in some frame, got no frame in {path.name}.")
    frames = hands_of_one_side(list(frames), order, path)
    kinds = {(frame.layout or "", frame.people.shape[1]): frame.name for frame in frames if len(frame.people)}
    if len(kinds) > 1 and not {layout for layout, _ in kinds} <= _GROWING:
        (first, one), (second, other) = list(kinds.items())[:2]
        raise ValueError(
            f"path: expected frames of one program in {path.name}, got {first[1]} points in {printable(one)} and {second[1]} in "
            f"{printable(other)}; put the others in a folder of their own."
        )
    refuse_two_units([(frame.name, frame.people) for frame in frames], path)
    every = torch.from_numpy(follow([frame.people for frame in frames], person))
    said = [frame.layout for frame in frames if frame.layout is not None and frame.people.shape[1] == every.shape[1]]
    names = tuple(frame.name for frame in frames)
    notes = tuple(dict.fromkeys(note for frame in frames for note in frame.notes))
    return _checked(every[..., :2], every[..., 2], order, said[0] if said else None, names, path, notes=notes)


def _from_npz(path: Path, order: KeypointLayout | None) -> KeypointFile:
    file = open_npz(path)
    flat, deep = "keypoints" in file, "keypoints3d" in file
    if flat == deep:
        fix = "leave one out" if flat else "rename the array of the points"
        raise ValueError(
            f"path: expected `keypoints` (2D, pixels) or `keypoints3d` (metres) in {path.name}, got "
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
            f"{key}: expected {wanted}, of one person, in {path.name}, got {tuple(file[key].shape)}; "
            f"{_shape_hint(key, points)}. It holds {file.contents()}."
        )
    confidence, notes = _confidence(file, points.shape[:2])
    if flat and points.shape[-1] == 3:
        last, points = points[..., 2], points[..., :2]
        if confidence is not None and not torch.equal(confidence, last):
            raise ValueError(
                f"{key}: expected (F, K, 2) beside another confidence in {path.name}, got {tuple(file[key].shape)} whose last "
                "column differs from it; save keypoints[..., :2] if that is a depth."
            )
        confidence = last
    stored = ", ".join(texts(file, "layout")) if "layout" in file else None
    names = _frame_names(file, len(points))
    camera = {"focal": pair(file, "focal_length", above_zero=True), "center": pair(file, "principal_point")}
    size = check_size("image_size", pair(file, "image_size"))
    notes += unread(file, (points.shape[0], points.shape[1]), confidence is not None)
    if confidence is None:
        confidence = torch.isfinite(points).all(-1).float()
    return _checked(points, confidence, order, stored, names, path, notes=notes, image_size=size, **camera)


def _shape_hint(key: str, points: Tensor) -> str:
    """How to save points of another shape."""
    if points.dim() == 4:
        return f"save one person of several, {key}[:, 0]"
    if points.dim() == 3 and points.shape[-1] == 4:
        rest = "visibility" if key == "keypoints" else "confidence"
        return f"save {key}[..., :{2 if key == 'keypoints' else 3}], and {rest}={key}[..., 3] beside it"
    return f"save it with an axis for the points, {key}.reshape(F, K, -1)"


def _frame_names(file: ArrayFile, frames: int) -> tuple[str, ...]:
    """The names of the frames, or their numbers where the file does not say."""
    said = next((key for key in _NAMES if key in file), None)
    if said is None:
        return tuple(str(k) for k in range(frames))
    if file[said].shape != (frames,):
        raise ValueError(f"{said}: expected ({frames},), a name for each frame, got {file[said].shape}.")
    return texts(file, said)


def _confidence(file: ArrayFile, shape: Sequence[int]) -> tuple[Tensor | None, tuple[str, ...]]:
    """(F, K) of the file, and what to note."""
    found: dict[str, Tensor] = {}
    notes = []
    for key in _CONFIDENCES:
        if key not in file:
            continue
        value = numbers(file, key)
        value = value.reshape(*shape) if value.dim() == 3 and value.numel() == math.prod(shape) else value
        if key.startswith("score") and value.shape == (shape[0],) and shape[0] == shape[1]:
            raise ValueError(
                f"{key}: expected {tuple(shape)} in {file.path.name}, got {tuple(value.shape)}, which may be a number for each "
                "frame or for each point; save a number for each point of each frame, or leave it out of the file."
            )
        if key.startswith("score") and value.shape in ((shape[0],), ()) and shape[0] != shape[1]:
            notes.append(f"'{key}' has one number for each frame: it is not the confidence of points, and was not used")
            continue
        try:
            found[key] = value.expand(*shape).clone()
        except RuntimeError:
            raise ValueError(
                f"{key}: expected {tuple(shape)}, a number for each point of {file.path.name}, got {tuple(value.shape)}; save "
                "one for each, or leave it out of the file."
            ) from None
    if any(not torch.equal(value, next(iter(found.values()))) for value in list(found.values())[1:]):
        raise ValueError(
            f"{', '.join(found)}: expected one confidence in {file.path.name}, got several that differ; save the file with one."
        )
    return next(iter(found.values()), None), tuple(notes)


def _checked(
    points: Tensor, confidence: Tensor, order: KeypointLayout | None, stored: str | None, names: tuple[str, ...], path: Path,
    notes: tuple[str, ...] = (), **more: Any,
) -> KeypointFile:  # fmt: skip
    if not bool(torch.isfinite(confidence).all()) or bool((confidence < 0).any()):
        frame = int((~torch.isfinite(confidence) | (confidence < 0)).any(-1).nonzero()[0, 0])
        raise ValueError(
            f"confidence: expected finite numbers of 0 or more, got another in frame {printable(names[frame])} of {path.name}; "
            "use 0 for missing points, and save keypoints[..., :2] if the last column is a depth."
        )
    seen = torch.isfinite(points).all(-1)
    if bool((points.abs() > _FARTHEST).any()) or bool(torch.isinf(points).any()):
        raise ValueError(
            f"keypoints: expected coordinates below {_FARTHEST:g} in {path.name}, got {float(points.nan_to_num().abs().max()):g}"
            "; mark missing points with NaN or a confidence of 0."
        )
    confidence = torch.where(seen, confidence, torch.zeros_like(confidence))
    if not bool((confidence > 0).any()):
        raise ValueError(f"path: expected keypoints in some frame, got nobody in {path.name}.")
    confidence, flags = usual_confidences(confidence, path)
    refuse_no_body(points, confidence, names, path)
    chosen, decided = choose_layout(points, confidence, order, stored, path)
    points = torch.where((confidence > 0)[..., None], points, torch.full_like(points, math.nan))
    return KeypointFile(
        points,
        confidence,
        chosen if chosen.name == "own" else chosen.name,
        names,
        notes=notes + flags + decided,
        **more,
    )
