"""The JSON of MediaPipe: landmarks with `x` and `y`, of one frame or of several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..._text import printable, shown
from .._files.frames import in_order
from .._files.json_file import numbers
from .frame import Frame, confident_points, dicts, frame_keys, refuse_frames_as_people, stack_people

_LANDMARKS = ("pose_landmarks", "poseLandmarks", "landmarks", "hand_landmarks")
_WORLD = ("pose_world_landmarks", "poseWorldLandmarks", "world_landmarks", "worldLandmarks", "hand_world_landmarks")
_HANDEDNESS = ("handedness", "handednesses", "multi_handedness", "multiHandedness")
_CATEGORY = ("category_name", "categoryName", "label", "display_name", "displayName", "classification", "categories")
_HAND_POINTS = 21
_WRITE_FRAMES = (
    'write a list of {"frame": 0, "landmarks": [...]}, one for each frame, or a file for each frame, or save an .npz with '
    "keypoints (F, 33, 2)."
)


def read_landmarks(content: Any, path: Path) -> list[Frame]:
    """Landmarks with `x`, `y` and maybe `visibility`: of one person, or `pose_landmarks` of one or several."""
    notes, handedness = [], None
    if isinstance(content, dict):
        key = next((name for name in _LANDMARKS if isinstance(content.get(name, 0), list | None)), None)
        if key is None:
            raise ValueError(
                f"path: expected landmarks over the image in {shown(path.name)}, got world landmarks alone, metres about the "
                "hips; save them as keypoints3d (F, K, 3) in an .npz, or write pose_landmarks."
            )
        others = [name for name in content if name != key and "landmarks" in name.lower()]
        notes = [f"not read: {printable(name)}, in {shown(path.name)}" for name in others]
        handedness = next((content[name] for name in _HANDEDNESS if content.get(name)), None)
        content = content[key]
    found = []
    for person in content if content and isinstance(content[0], list) else [content or []]:
        listed = dicts(person, "landmarks", path)
        # Landmarks of hands have no visibility, or 0 throughout.
        told = len(listed) != _HAND_POINTS or any(one.get("visibility") for one in listed)
        values = [[one.get("x"), one.get("y"), one.get("visibility", 1.0) if told else 1.0] for one in listed]
        found.append(confident_points(numbers(values, "landmarks", path), None, "landmarks", path))
    people = [one for one in found if len(one)]
    every, sides = stack_people(people, "landmarks", path), tuple[str, ...]()
    if len(people) != 2 or handedness is None:  # a pair may be hands that touch
        refuse_frames_as_people(people, "landmarks", _WRITE_FRAMES, path)
    if handedness is not None and every.shape[1] == _HAND_POINTS:
        sides = tuple(_side(one, path) for one in (handedness if isinstance(handedness, list) else [handedness]))
        if len(sides) != len(found):
            raise ValueError(
                f"handedness: expected one for each of the {len(found)} hands of {shown(path.name)}, got {len(sides)}; write "
                "one for each, or leave it out and keep the hands of one side."
            )
        sides = tuple(side for side, one in zip(sides, found, strict=True) if len(one))
    elif handedness is not None and people:
        notes.append(f"not read: handedness, in {shown(path.name)}, which is of hands")
    layout = "mediapipe_33" if every.shape[1] == 33 else None
    return [Frame(path.stem, every, layout, notes, normalised=True, sides=sides)]


def read_frames_of_landmarks(content: Any, path: Path) -> list[Frame]:
    """A list of frames, each with its landmarks."""
    entries = dicts(content, "path", path)
    keys = frame_keys(entries, "path", path)
    if keys is None and len(entries) > 1:
        raise ValueError(
            f"path: expected the frame of each of the {len(entries)} entries with landmarks of {shown(path.name)}, got none; "
            "write "
            '"frame": 0, 1, ... into each.'
        )
    keys = keys or [path.stem]
    if len(set(keys)) != len(keys):
        raise ValueError(
            f"path: expected one entry with landmarks for each frame of {shown(path.name)}, got two of one frame; write the "
            "people of "
            'a frame into one list, {"frame": 0, "landmarks": [[...], [...]]}.'
        )
    if odd := next((one for one in entries if not has_landmarks(one)), None):
        raise ValueError(
            f"path: expected landmarks in each entry of {shown(path.name)}, got one with "
            f"{', '.join(map(printable, list(odd)[:8]))} alone; write null for a frame without a person."
        )
    return [replace(read_landmarks(entries[k], path)[0], name=keys[k]) for k in in_order(keys, path)]


def _side(value: Any, path: Path) -> str:
    """Which hand MediaPipe saw: a word, a category with its name, or a list of such, the likeliest first."""
    while isinstance(value, list | dict) and value:
        value = (
            value[0] if isinstance(value, list) else next((value[key] for key in _CATEGORY if value.get(key)), "none")
        )
    if not isinstance(value, str) or value.lower() not in ("left", "right"):
        raise ValueError(
            f"handedness: expected Left or Right of each hand of {shown(path.name)}, got {printable(str(value))!r}; write one "
            "of them, or leave handedness out."
        )
    return value.lower()


def has_landmarks(content: Any) -> bool:
    """Whether this is an object with landmarks."""
    keys = (*_LANDMARKS, *_WORLD)
    return isinstance(content, dict) and any(isinstance(content.get(name, 0), list | None) for name in keys)


def is_frames_of_landmarks(content: Any) -> bool:
    """Whether this is a list of objects with landmarks."""
    return isinstance(content, list) and any(has_landmarks(one) for one in content)
