"""Keypoints in the JSON of detectors: OpenPose, AlphaPose, COCO, MMPose, MediaPipe, EasyMocap; people by frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..._text import printable, shown
from .._files.json_file import numbers, read_json
from .frame import Frame, confident_points, dicts, stack_people, track_number
from .lists import is_arrays, is_people, read_annotations, read_annots, read_arrays, read_list, read_mmpose
from .mediapipe import has_landmarks, is_frames_of_landmarks, read_frames_of_landmarks, read_landmarks

_OPENPOSE = (
    ("pose_keypoints_2d", 25), ("hand_left_keypoints_2d", 21), ("hand_right_keypoints_2d", 21),
    ("face_keypoints_2d", 70),
)  # fmt: skip


def read_frames(path: Path) -> list[Frame]:
    """The frames of a JSON file, in the order of time.

    Raises:
        ValueError: none of the layouts that are known, or half of one.
    """
    content = read_json(path)
    if content is None or content == []:  # what several programs write of a frame without a person
        return [Frame(path.stem, stack_people([], "path", path))]
    for known, read in _PROGRAMS.values():
        if known(content):
            return read(content, path)
    keys = f"a {type(content).__name__}"
    if isinstance(content, dict):
        keys = ", ".join(map(printable, list(content)[:8])) or "no keys"
    raise ValueError(
        f"path: expected the JSON of {', '.join(_PROGRAMS)}, got {shown(path)} with {keys}, which has none of them; save an "
        ".npz with keypoints (F, K, 2), confidence (F, K) and layout."
    )


def _openpose(content: Any, path: Path) -> list[Frame]:
    found, notes, tracks = [], [], []
    for one in dicts(content["people"], "people", path):
        deep = [name.replace("2d", "3d") for name, _ in _OPENPOSE if one.get(name.replace("2d", "3d"))]
        body = numbers(one.get("pose_keypoints_2d", []), "pose_keypoints_2d", path)
        if len(body) != 75:
            raise ValueError(_no_body_25(len(body), bool(deep), path))
        notes += [f"not read: {name}, in {shown(path.name)}" for name in deep]
        found.append(
            np.concatenate([confident_points(numbers(one.get(n, []), n, path), k, n, path) for n, k in _OPENPOSE])
        )
        tracks.append(track_number(one))
    people = stack_people(found, "pose_keypoints_2d", path)
    detail = bool(people[:, 25:, 2].any())
    layout = "openpose_137" if detail else "openpose_25"
    return [Frame(path.stem, people if detail else people[:, :25], layout, notes, tracks=tuple(tracks))]


def _no_body_25(count: int, deep: bool, path: Path) -> str:
    """The error for another body than BODY_25."""
    got = f"pose_keypoints_2d: expected 75 numbers (BODY_25) in {shown(path.name)}, got {count}"
    if not count and deep:
        return (
            f"{got} beside points in 3D; save those in an .npz, keypoints3d (F, 25, 3) in metres with confidence and "
            "layout='openpose_25', or run OpenPose without --3d."
        )
    if count == 405:
        return f"{got}, which are BODY_135; save them in an .npz, keypoints (F, 135, 3) with layout='openpose_135'."
    if count == 54:
        return f"{got}, 18 points of COCO; run OpenPose with --model_pose BODY_25 (AlphaPose: without --format open)."
    return f"{got}; run OpenPose with --model_pose BODY_25, or save an .npz with keypoints (F, K, 3) and layout."


def _is_list_of(*keys: str) -> Callable[[Any], bool]:
    return lambda c: isinstance(c, list) and bool(c) and isinstance(c[0], dict) and all(k in c[0] for k in keys)


def _is_dict_of(*keys: str) -> Callable[[Any], bool]:
    return lambda c: isinstance(c, dict) and all(isinstance(c.get(k, 0), list | None) for k in keys)


_PROGRAMS: dict[str, tuple[Callable[[Any], bool], Callable[[Any, Path], list[Frame]]]] = {
    "OpenPose (`people`)": (_is_dict_of("people"), _openpose),
    "MMPose (`instance_info`)": (_is_dict_of("instance_info"), read_mmpose),
    "COCO and COCO-WholeBody (`annotations`)": (_is_dict_of("annotations"), read_annotations),
    "EasyMocap (`annots`)": (_is_dict_of("annots"), read_annots),
    "AlphaPose and MMPose (a list with `keypoints` or `instances`)": (is_people, read_list),
    "rtmlib (`keypoints` and `scores`)": (is_arrays, read_arrays),
    "MediaPipe (a list of points with `x` and `y`)": (_is_list_of("x", "y"), read_landmarks),
    "MediaPipe (`pose_landmarks`)": (has_landmarks, read_landmarks),
    "MediaPipe (a list of frames with `landmarks`)": (is_frames_of_landmarks, read_frames_of_landmarks),
}
