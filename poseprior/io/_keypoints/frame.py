"""What was detected in one frame, and the numbers, objects and track numbers in the JSON of detectors."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._text import shown
from ...keypoint_layouts import KeypointLayout
from .._files.json_file import is_number

#: Keys of the frame that an entry of a list is of.
FRAME_KEYS = ("image_id", "frame_id", "frame", "frame_index", "frame_idx", "frame_num", "image_path", "image_name", "file_name",
              "filename", "image", "img_path", "img_name", "timestamp", "timestamp_ms")  # fmt: skip
#: Keys of the number that a tracker gave to a person.
_TRACK_KEYS = ("track_id", "tracking_id", "idx", "person_id", "personID")
#: Digits of such a number in a text.
_LONGEST_TRACK = 40
#: More people than this are in no image.
_MANY = 20
#: Points that must be seen in two people to compare them.
_COMPARED = 3
#: Entries of a list that are nearer to each other than this part of their size are one person in many frames.
_SAME = 0.25
#: The same of a pair, which may be two people who touch: neighbouring frames at 30 Hz of a person who stays in place are up to
#: 0.03 apart (99 in 100 of 1,655 pairs, at most 0.076). People whose centres are as far apart as this are farther.
_SAME_PAIR = 0.08

Points = NDArray[np.float32]


@dataclass
class Frame:
    """What was detected in a frame.

    Attributes:
        name: of the frame.
        people: (P, K, 3) x, y, confidence.
        layout: of the points, where the program writes no other; a number of points alone says nothing.
        notes: what was decided about the frame.
        sides: "left" or "right" of each of the people, where these are hands and the program says it.
        normalised: whether the program writes coordinates of [0, 1] over the image.
        tracks: the number that a tracker gave to each of the people, None for one without; empty where it gave none.
        named: the layout that the file says by the names of its points.
        point_names: the names of its points, where they are not known.
    """

    name: str
    people: Points
    layout: str | None = None
    notes: list[str] = field(default_factory=list)
    normalised: bool = False
    sides: tuple[str, ...] = ()
    tracks: tuple[int | None, ...] = ()
    named: KeypointLayout | None = None
    point_names: tuple[str, ...] = ()


def confident_points(values: list[float], count: int | None, what: str, path: Path) -> Points:
    """(K, 3) of a flat list of x, y, confidence."""
    if len(values) % 3 or (count is not None and len(values) not in (0, 3 * count)):
        wanted = f"{3 * count} numbers" if count is not None else "x, y, confidence of each point"
        raise ValueError(f"{what}: expected {wanted} in {shown(path.name)}, got {len(values)} numbers.")
    with np.errstate(over="ignore"):
        points = np.asarray(values, np.float32).reshape(-1, 3)
    if bool(np.isinf(points).any()) or not bool(np.isfinite(points[:, 2]).all()) or bool((points[:, 2] < 0).any()):
        raise ValueError(
            f"{what}: expected finite coordinates, and confidences of 0 or more, in {shown(path.name)}, got others; use 0 for "
            "missing points."
        )
    return points if len(points) or count is None else np.zeros((count, 3), np.float32)


def stack_people(found: list[Points], what: str, path: Path) -> Points:
    """(P, K, 3) of people; (0, 0, 3) where nobody was found, which says nothing of the number of points."""
    if len({len(one) for one in found}) > 1:
        raise ValueError(f"{what}: expected one number of points for all people of {shown(path.name)}, got several.")
    return np.stack(found) if found else np.zeros((0, 0, 3), np.float32)


def dicts(value: Any, what: str, path: Path) -> list[dict[str, Any]]:
    """A list of objects; null is an empty one."""
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        odd = next((one for one in value if not isinstance(one, dict)), value) if isinstance(value, list) else value
        raise ValueError(f"{what}: expected a list of objects in {shown(path.name)}, got {type(odd).__name__}.")
    return value


def frame_keys(entries: list[dict[str, Any]], what: str, path: Path) -> list[str] | None:
    """The frame that each entry of a list says it is of; None where none of them says one.

    Raises:
        ValueError: some say it and others do not.
    """
    keys = [key for key in FRAME_KEYS if any(is_frame(one.get(key)) for one in entries)]
    if not keys:
        return None
    key = keys[0]  # one that is the same throughout may be that of a video, beside `frame`
    if all(str(one.get(key)) == str(entries[0].get(key)) for one in entries):
        key = max(
            (k for k in keys if "time" not in k), key=lambda k: len({str(one.get(k)) for one in entries}), default=key
        )
    if not all(is_frame(one.get(key)) for one in entries):
        raise ValueError(
            f"{what}: expected `{key}` in each entry of {shown(path.name)}, got some with it and some without; write it into "
            "each, the same for the people of one frame."
        )
    return [str(one[key]) for one in entries]


def is_frame(value: Any) -> bool:
    """Whether this names a frame."""
    return isinstance(value, str) or is_number(value)


def track_number(one: dict[str, Any]) -> int | None:
    """The number of a person's track; None where there is none, or -1, which programs write of people they do not track."""
    for key in _TRACK_KEYS:
        value: Any = one.get(key)
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str) and value.isdecimal() and len(value) <= _LONGEST_TRACK:
            value = int(value)
        if is_number(value) and math.isfinite(value) and value >= 0 and value == int(value):
            return int(value)
    return None


def refuse_frames_as_people(found: list[Points], what: str, remedy: str, path: Path) -> None:
    """Refuse people (K, 3) of a list that says no frames, where they may be one person in many frames, or found twice."""
    if len(found) < 2:
        return
    people = np.stack(found)
    away = []
    for one, other in itertools.pairwise(people):
        seen = (one[:, 2] > 0) & (other[:, 2] > 0) & np.isfinite(one).all(1) & np.isfinite(other).all(1)
        if seen.sum() >= _COMPARED:
            size = float(np.ptp(one[seen, :2], axis=0).max())
            away.append(float(np.linalg.norm(one[seen, :2] - other[seen, :2], axis=1).mean()) / max(size, 1e-9))
    if len(found) == 2:
        if away and away[0] < _SAME_PAIR:
            raise ValueError(
                f"{what}: expected the 2 entries of {shown(path.name)} to be two people, or to say which frame each is of, got "
                f"points that are {away[0]:.3f} of a person's size apart: one person in two frames, or found twice; {remedy} "
                "Leave one of them out if it is the same person."
            )
    elif len(found) > _MANY or (away and float(np.median(away)) < _SAME):
        raise ValueError(
            f"{what}: expected to see which frame each of the {len(found)} entries of {shown(path.name)} is of, got none, so "
            f"that they may be frames of one person or people of one frame; {remedy}"
        )
