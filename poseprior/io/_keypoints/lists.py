"""Lists of people or of frames in JSON: COCO and COCO-WholeBody, AlphaPose, MMPose, EasyMocap, rtmlib, Ultralytics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ..._text import printable, shown
from ...keypoint_layouts import KeypointLayout
from .._files.frames import in_order, without_image_ending
from .._files.json_file import is_number, numbers
from .checks import COCO_FLAGS
from .frame import (
    Frame,
    Points,
    confident_points,
    dicts,
    frame_keys,
    refuse_frames_as_people,
    stack_people,
    track_number,
)
from .names import layout_of_dataset, layout_of_names

_WHOLE_BODY = (("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21), ("righthand_kpts", 21))
#: Confidences of points, beside them.
_SCORES = ("keypoint_scores", "keypoints_scores", "scores", "keypoints_visible", "confidence", "confidences")
_WRITE_FRAMES = (
    'write "frame_id" into each, the same for the people of one frame, or save an .npz with keypoints (F, K, 2).'
)


def read_list(content: Any, path: Path) -> list[Frame]:
    """A list of people, each with the frame it is in, or of frames with their `instances`."""
    entries = dicts(content, "path", path)
    return (
        _frames_of_instances(entries, path) if any("instances" in one for one in entries) else by_frame(entries, path)
    )


def read_annotations(content: Any, path: Path) -> list[Frame]:
    """COCO's annotations, with the names of its images and those of the points of its categories."""
    images = dicts(content.get("images"), "images", path)
    names = {str(one.get("id")): str(one.get("file_name", one.get("id"))) for one in images}
    people = dicts(content["annotations"], "annotations", path)
    frames = by_frame(people, path, names)
    categories = [one for one in dicts(content.get("categories"), "categories", path) if one.get("keypoints")]
    used = {str(one.get("category_id")) for one in people if "keypoints" in one}
    listed = [one["keypoints"] for one in categories if str(one.get("id")) in used or len(categories) == 1]
    if any(one != listed[0] for one in listed):
        raise ValueError(
            f"categories: expected one order of points for all people of {shown(path.name)}, got several; write those of each "
            "category into a file of its own."
        )
    if listed:
        _name_points(frames, listed[0])
    return frames


def read_mmpose(content: Any, path: Path) -> list[Frame]:
    """`instance_info` by frame, or the instances of one image."""
    listed = dicts(content["instance_info"], "instance_info", path)
    videos = any("instances" in one for one in listed) or any(
        "frame_id" in one and "keypoints" not in one for one in listed
    )
    frames = _frames_of_instances(listed, path) if videos else by_frame(listed, path)
    meta = content.get("meta_info")
    if isinstance(meta, dict):
        points = meta.get("keypoint_id2name")
        if isinstance(points, dict) and points and all(key.isdecimal() and len(key) < 9 for key in points):
            points = [points[key] for key in sorted(points, key=int)]
        found = layout_of_dataset(str(meta.get("dataset_name", "")))
        if isinstance(points, list) and points and (found is None or layout_of_names(points) is not None):
            _name_points(frames, points)
        elif found is not None:
            for frame in frames:
                frame.named = found
    return frames


def read_annots(content: Any, path: Path) -> list[Frame]:
    """EasyMocap's `annots`: the people of one image."""
    return by_frame(dicts(content["annots"], "annots", path), path)


def read_arrays(content: Any, path: Path) -> list[Frame]:
    """`keypoints` (P, K, 2) and `scores` (P, K) of one image, as rtmlib gives them."""
    points = content["keypoints"]
    scores = next((content[key] for key in _SCORES if isinstance(content.get(key), list)), None)
    if not points or not isinstance(points[0], list) or not points[0] or not isinstance(points[0][0], list):
        people = [content] if points else []
    elif scores is not None and (len(scores) != len(points) or not all(isinstance(one, list) for one in scores)):
        raise ValueError(
            f"scores: expected one list for each of the {len(points)} people of {shown(path.name)}, got {len(scores)} entries; "
            "write one for each."
        )
    else:
        people = [
            {"keypoints": one} | ({} if scores is None else {"scores": scores[k]}) for k, one in enumerate(points)
        ]
    return by_frame(people, path)


def by_frame(people: list[dict[str, Any]], path: Path, names: dict[str, str] | None = None) -> list[Frame]:
    """The frames of people who say theirs, and the one frame of those who say none."""
    names = names or {}
    said = frame_keys(people, "path", path)
    keys = [path.stem] * len(people) if said is None else said
    frames: dict[str, list[tuple[Points, int | None]]] = {key: [] for key in names}
    notes: dict[str, None] = {}
    whole_body = any(key in one for one in people for key, _ in _WHOLE_BODY)
    for key, one in zip(keys, people, strict=True):
        group = frames.setdefault(key, [])
        if not _has_points(one, notes):
            continue
        group.append((_whole_body(one, notes, path) if whole_body else _person(one, notes, path), track_number(one)))
    every = stack_people([points for group in frames.values() for points, _ in group], "keypoints", path)
    tracks = {track for group in frames.values() for _, track in group}
    tracked_pair = len(every) == len(tracks) == 2 and None not in tracks  # two people, as a tracker says
    if said is None and not tracked_pair:
        refuse_frames_as_people(list(every), "path", _WRITE_FRAMES, path)
    if not frames:  # one file a frame, of one in which nobody is
        frames[path.stem] = []
    listed = list(frames)
    ordered = [listed[k] for k in in_order([names.get(key, key) for key in listed], path)]
    return [
        Frame(
            name,
            stack_people([points for points, _ in frames[key]], "keypoints", path),
            "coco_wholebody" if whole_body else None,
            list(notes),
            tracks=tuple(track for _, track in frames[key]),
        )
        for key, name in zip(ordered, _frame_names([names.get(key, key) for key in ordered]), strict=True)
    ]


def _frames_of_instances(listed: list[dict[str, Any]], path: Path) -> list[Frame]:
    """Frames, each with the people in it."""
    odd = next((one for one in listed if "instances" not in one), None)
    if odd is not None:
        raise ValueError(
            f"instance_info: expected `instances` in each frame of {shown(path.name)}, got one with "
            f"{', '.join(map(printable, list(odd)[:8]))} alone; write its people into a list of that name, beside `frame_id`."
        )
    keys = frame_keys(listed, "instance_info", path) or [str(k) for k in range(len(listed))]
    if len(set(keys)) != len(keys):
        twice = next(key for k, key in enumerate(keys) if key in keys[:k])
        raise ValueError(
            f"frame_id: expected another in each frame of {shown(path.name)}, got {printable(twice)} twice; write the people "
            "of a frame into one list."
        )
    frames = []
    for k in in_order(keys, path):
        notes: dict[str, None] = {}
        people = [one for one in dicts(listed[k]["instances"], "instances", path) if _has_points(one, notes)]
        found = [_person(one, notes, path) for one in people]
        tracks = tuple(track_number(one) for one in people)
        frames.append(Frame(keys[k], stack_people(found, "keypoints", path), None, list(notes), tracks=tracks))
    return frames


def _has_points(one: dict[str, Any], notes: dict[str, None]) -> bool:
    """Whether a person has `keypoints`; who has none is noted."""
    found = one.get("keypoints") not in (None, [], {})
    if not found:
        notes["people without keypoints were left out"] = None
    return found


def _person(one: dict[str, Any], notes: dict[str, None], path: Path) -> Points:
    """(K, 3) of `keypoints`, flat, a list for each point or one for each coordinate, and of the confidences beside them."""
    value = _by_point(one["keypoints"], path)
    key = next((key for key in _SCORES if isinstance(one.get(key), list)), None)
    scores = None if key is None else np.asarray(numbers(one[key], key, path))
    flat = numbers(value, "keypoints", path)
    width = 3
    if value and isinstance(value[0], list):
        widths = {len(point) if isinstance(point, list) else 0 for point in value}
        width = widths.pop()
        if widths or width not in (2, 3) or len(flat) != width * len(value):
            raise ValueError(
                f"keypoints: expected [x, y] or [x, y, confidence] for each point of {shown(path.name)}, got another; points "
                "in 3D go into an .npz, keypoints3d (F, K, 3) in metres."
            )
    elif scores is not None and len(flat) == 2 * len(scores):
        width = 2
    if scores is not None and len(flat) != width * len(scores):
        raise ValueError(
            f"keypoints: expected two numbers for each of {key} in {shown(path.name)}, got {len(flat)} and {len(scores)}; "
            "write a confidence for each point."
        )
    if width == 3 and scores is None:
        return _flags(confident_points(flat, None, "keypoints", path), notes)
    points = np.asarray(flat).reshape(-1, width)
    third = points[:, 2:]
    if scores is not None and len(np.unique(third)) > 1 and not np.allclose(third[:, 0], scores, atol=1e-6):
        raise ValueError(
            f"{key}: expected one confidence for each point of {shown(path.name)}, got another than the third number of "
            "keypoints; leave one of them out. Points in 3D go into an .npz, keypoints3d (F, K, 3) in metres."
        )
    beside = np.isfinite(points).all(1).astype(float) if scores is None else scores
    return confident_points(np.column_stack((points[:, :2], beside)).ravel().tolist(), None, "keypoints", path)


def _by_point(value: Any, path: Path) -> Any:
    """Ultralytics' `x`, `y` and `visible` as a list for each point; others as they are."""
    if not isinstance(value, dict) or not {"x", "y"} <= value.keys():
        return value
    columns = [numbers(value[name], f"keypoints, {name}", path) for name in ("x", "y", "visible") if name in value]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(
            f"keypoints: expected one x, one y and one `visible` for each point of {shown(path.name)}, got "
            f"{', '.join(str(len(column)) for column in columns)}; write one for each."
        )
    return [list(point) for point in zip(*columns, strict=True)]


def _whole_body(one: dict[str, Any], notes: dict[str, None], path: Path) -> Points:
    """(133, 3): body, feet, face and hands, each of which may have flags or scores."""
    body = _person(one, notes, path)
    if len(body) != 17:
        raise ValueError(f"keypoints: expected 17 points beside foot_kpts in {shown(path.name)}, got {len(body)}.")
    parts = [confident_points(numbers(one.get(n, []), n, path), k, n, path) for n, k in _WHOLE_BODY]
    return np.concatenate([body, *(_flags(part, notes) for part in parts)])


def _flags(points: Points, notes: dict[str, None]) -> Points:
    """Points (K, 3) with COCO's flags as confidences of 0 or 1."""
    flags = points[:, 2]
    if bool((flags == 2).any()) and bool(np.isin(flags, (0, 1, 2)).all()):
        points[:, 2] = np.minimum(flags, 1)
        notes[COCO_FLAGS] = None
    return points


def _name_points(frames: list[Frame], names: Any) -> None:
    """Write what the names of the points say into the frames."""
    listed = tuple(str(name) for name in names) if isinstance(names, list) else ()
    found: KeypointLayout | None = layout_of_names(listed)
    for frame in frames:
        frame.named, frame.point_names = found, listed


def _frame_names(names: list[str]) -> list[str]:
    """Names of images without folders and endings, where that tells them apart."""
    kept = [without_image_ending(name) for name in names]
    last = [re.split(r"[/\\]", name)[-1] or name for name in kept]
    return next((some for some in (last, kept) if len(set(some)) == len(names)), names)


def is_people(content: Any) -> bool:
    """Whether this is a list of people with `keypoints`, or of frames with `instances`."""
    return (
        isinstance(content, list)
        and all(isinstance(one, dict) for one in content)
        and any("keypoints" in one or "instances" in one for one in content)
    )


def is_arrays(content: Any) -> bool:
    """Whether this is an object with `keypoints`, a list."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("keypoints"), list)
        and all(isinstance(one, list) or one is None or is_number(one) for one in content["keypoints"])
    )
