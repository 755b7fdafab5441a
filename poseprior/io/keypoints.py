"""Keypoint files: `.npz`, the `.json` of detectors, and folders of such `.json`, frame by frame."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._checks import check_path, quoted
from .._text import printable, shown
from ..keypoint_layouts import KeypointLayout, LayoutInput
from ..keypoint_layouts import layout as find_layout
from ._files.frames import in_order, order_notes
from ._keypoints.checks import check_size, refuse_no_body, usual_confidences
from ._keypoints.frame import Frame
from ._keypoints.layout_choice import choose_layout, layout_argument, order_doubts
from ._keypoints.names import named_layout
from ._keypoints.npz import read_npz
from ._keypoints.people import follow, hands_of_one_side
from ._keypoints.programs import read_frames
from ._keypoints.units import in_units, refuse_two_units, stored_units

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
            `focal_length` (one number, or fx and fy), `principal_point`, `image_size`, `units`, `names` of the frames,
            `joint_names` of the points. Or one `.json` of OpenPose, AlphaPose, COCO-WholeBody, MMPose, MediaPipe, EasyMocap,
            rtmlib or Ultralytics, or a folder of them, frames in the order of time.
        layout: of the points, for files that do not say, or say one that is not known; else it must agree. A name, a table
            of point to joint or ("vertex", index) in the order of the points, or the path of a `.json` with such a table.
        person: which of the people: the number of a track (`track_id`, `idx`, `person_id`, ...) where the file has them, else
            the place in the list of each frame; None follows who was seen most, by the sum of confidences.
        units: of the coordinates: 'pixels', 'normalised' to [0, 1], 'normalised_centred' to [-1, 1] or, both over half the
            width, 'normalised_centred_by_width'; in 3D 'm', 'cm' or 'mm'. None takes pixels and metres, and refuses values that
            can be neither, or either.
        image_size: (width, height) in pixels, which normalised coordinates need where the file does not say.

    Returns:
        `KeypointFile`, in pixels or metres. A frame in which nobody was found has confidence 0.

    Raises:
        ValueError: no such file or another kind, half a file, an unknown layout, a wrong number of points, other units,
            nobody in any frame, confidences that are not finite.
    """
    check_path("path", path)
    source, asked, size = Path(path), layout_argument(layout), check_size("image_size", image_size)
    if source.is_dir() or (source.suffix.lower() == ".json" and source.exists()):
        frames = _frames_of_folder(source) if source.is_dir() else read_frames(source)
        found, guessed = _from_frames(frames, source, asked, person)
        known = any(frame.normalised for frame in frames)
    elif not source.exists():
        raise ValueError(
            f"path: expected an .npz, a .json or a folder of .json files, got {shown(source)}, which is not there."
        )
    elif source.suffix.lower() == ".npz":
        found, guessed, units = _from_npz(source, asked, person, units)
        known = False
    else:
        raise ValueError(
            f"path: expected an .npz, a .json or a folder of .json files, got {source.name!r}; save its points with "
            "numpy.savez(path, keypoints=...), or keypoints3d=... in metres."
        )
    if size is not None and found.points.shape[-1] == 3:
        raise ValueError("image_size: expected None for 3D keypoints, which are in no image; leave it out.")
    if None not in (size, found.image_size) and size != found.image_size:
        raise ValueError(
            f"image_size: expected {found.image_size}, which {shown(source.name)} says, got {size}; leave it out."
        )
    size = size or found.image_size
    points = in_units(found.points, found.confidence, find_layout(found.layout), units, size, known=known)
    # Not before: coordinates over the width and the height of an image have other proportions.
    doubts = order_doubts(points, found.confidence, find_layout(found.layout), source) if guessed else ()
    return replace(found, points=points, image_size=size, notes=found.notes + doubts)


def _frames_of_folder(folder: Path) -> list[Frame]:
    """The frames of all `.json` of a folder, in the order of time."""
    files = [file for file in folder.iterdir() if file.suffix.lower() == ".json" and not file.name.startswith(".")]
    if not files:
        raise ValueError(
            f"path: expected a folder with .json files of a detector, got none in {shown(folder)}; an .npz is given by itself."
        )
    ordered = [files[k] for k in in_order([file.stem for file in files], folder)]
    groups = [(file.stem, read_frames(file)) for file in ordered]
    often = Counter(frame.name for _, group in groups for frame in group)
    return [  # files that count their frames alike
        replace(frame, name=f"{stem}/{frame.name}") if often[frame.name] > 1 else frame
        for stem, group in groups
        for frame in group
    ]


def _from_npz(
    path: Path, asked: KeypointLayout | None, person: int | None, units: str | None
) -> tuple[KeypointFile, bool, str | None]:
    """The keypoints of an `.npz`, whether their number decided the layout, and their units."""
    if person is not None and (isinstance(person, bool) or person != 0):
        raise ValueError(f"person: expected none for an .npz, which holds one person, got {quoted(person)}.")
    stored = read_npz(path, asked)
    found, guessed = _checked(
        stored.points, stored.confidence, asked, stored.layout, stored.names, path, notes=stored.notes, named=stored.named,
        focal=stored.focal, center=stored.center, image_size=stored.image_size,
    )  # fmt: skip
    return found, guessed, stored_units(stored.units, units, found.points.shape[-1], path)


def _from_frames(
    frames: Sequence[Frame], path: Path, asked: KeypointLayout | None, person: int | None
) -> tuple[KeypointFile, bool]:
    """The frames of detectors, in the order of time, and whether the number of points decided the layout."""
    if not frames:
        raise ValueError(f"path: expected keypoints in some frame, got no frame in {shown(path.name)}.")
    frames = hands_of_one_side(list(frames), asked, path)
    kinds = {(frame.layout or "", frame.people.shape[1]): frame.name for frame in frames if len(frame.people)}
    if len(kinds) > 1 and not {layout for layout, _ in kinds} <= _GROWING:
        (first, one), (second, other) = list(kinds.items())[:2]
        raise ValueError(
            f"path: expected frames of one program in {shown(path.name)}, got {first[1]} points in {printable(one)} and "
            f"{second[1]} in {printable(other)}; put the others in a folder of their own."
        )
    refuse_two_units([(frame.name, frame.people) for frame in frames], path)
    taken, followed = follow(frames, person, path)
    every = torch.from_numpy(taken)
    said = [frame.layout for frame in frames if frame.layout is not None and frame.people.shape[1] == every.shape[1]]
    names = tuple(frame.name for frame in frames)
    notes = (*dict.fromkeys(note for frame in frames for note in frame.notes), *order_notes(names, path), *followed)
    named = _named(frames, path, asked)
    return _checked(
        every[..., :2], every[..., 2], asked, said[0] if said else None, names, path, notes=notes, named=named
    )


def _named(frames: Sequence[Frame], path: Path, asked: KeypointLayout | None) -> KeypointLayout | None:
    """The layout that the files say by the names of their points, or by their data set."""
    known = [frame for frame in frames if frame.named is not None or frame.point_names]
    if not known:
        return None
    if any((frame.named, frame.point_names) != (known[0].named, known[0].point_names) for frame in known):
        raise ValueError(
            f"layout: expected the same names of points in every frame of {shown(path.name)}, got others; put the files of "
            "each order in a folder of their own."
        )
    return known[0].named or named_layout(known[0].point_names, "the names of the points", path, asked)


def _checked(
    points: Tensor, confidence: Tensor, asked: KeypointLayout | None, stored: str | None, names: tuple[str, ...], path: Path,
    notes: tuple[str, ...] = (), named: KeypointLayout | None = None, **more: Any,
) -> tuple[KeypointFile, bool]:  # fmt: skip
    if not bool(torch.isfinite(confidence).all()) or bool((confidence < 0).any()):
        frame = int((~torch.isfinite(confidence) | (confidence < 0)).any(-1).nonzero()[0, 0])
        raise ValueError(
            f"confidence: expected finite numbers of 0 or more, got another in frame {printable(names[frame])} of "
            f"{shown(path.name)}; use 0 for missing points, and save keypoints[..., :2] if the last column is a depth."
        )
    seen = torch.isfinite(points).all(-1)
    reach = points.abs().nan_to_num(posinf=math.inf)
    if bool((reach > _FARTHEST).any()):
        raise ValueError(
            f"keypoints: expected coordinates below {_FARTHEST:g} in {shown(path.name)}, got "
            f"{float(reach.max()):g}; mark missing points with NaN or a confidence of 0."
        )
    confidence = torch.where(seen, confidence, torch.zeros_like(confidence))
    if not bool((confidence > 0).any()):
        raise ValueError(f"path: expected keypoints in some frame, got nobody in {shown(path.name)}.")
    confidence, flags = usual_confidences(confidence, path)
    refuse_no_body(points, confidence, names, path)
    chosen, decided, guessed = choose_layout(points, confidence, asked, stored, path, named)
    points = torch.where((confidence > 0)[..., None], points, torch.full_like(points, math.nan))
    layout = chosen if chosen.name == "own" else chosen.name
    return KeypointFile(points, confidence, layout, names, notes=notes + flags + decided, **more), guessed
