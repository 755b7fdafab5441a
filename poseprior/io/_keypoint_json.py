"""Keypoints in the JSON of detectors: OpenPose, AlphaPose, COCO and COCO-WholeBody, MMPose, MediaPipe; people by frame."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._frames import natural
from ._json import numbers, read_json
from ._open import printable

_OPENPOSE = (
    ("pose_keypoints_2d", 25), ("hand_left_keypoints_2d", 21), ("hand_right_keypoints_2d", 21),
    ("face_keypoints_2d", 70),
)  # fmt: skip
_WHOLE_BODY = (("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21), ("righthand_kpts", 21))
#: The ending of an image file, where it is not the whole name.
_IMAGE_ENDING = re.compile(
    r"(?<=[^/\\])\.(jpe?g|jpe|jfif|png|bmp|gif|tiff?|webp|p[pgbn]m|hei[cf]|avif|jp2|exr)$", re.IGNORECASE
)
_LANDMARKS = ("pose_landmarks", "poseLandmarks", "landmarks", "hand_landmarks")
_HANDEDNESS = ("handedness", "handednesses", "multi_handedness", "multiHandedness")
_CATEGORY = ("category_name", "categoryName", "label", "display_name", "displayName", "classification", "categories")
_HAND_POINTS = 21


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
    """

    name: str
    people: NDArray[np.float32]
    layout: str | None = None
    notes: list[str] = field(default_factory=list)
    normalised: bool = False
    sides: tuple[str, ...] = ()


def read_frames(path: Path) -> list[Frame]:
    """The frames of a JSON file, in the order of time.

    Raises:
        ValueError: none of the layouts that are known, or half of one.
    """
    content = read_json(path)
    if content is None or content == []:  # what several programs write of a frame without a person
        return [Frame(path.stem, _people([]))]
    for known, read in _PROGRAMS.values():
        if known(content):
            return read(content, path)
    keys = ", ".join(list(content)[:8]) or "no keys" if isinstance(content, dict) else f"a {type(content).__name__}"
    raise ValueError(
        f"path: expected the JSON of {', '.join(_PROGRAMS)}, got {path} with {keys}, which has none of them; save an .npz with "
        "keypoints (F, K, 2), confidence (F, K) and layout."
    )


def _points(values: list[float], count: int | None, what: str, path: Path) -> NDArray[np.float32]:
    """(K, 3) of a flat list."""
    if len(values) % 3 or (count is not None and len(values) not in (0, 3 * count)):
        wanted = f"{3 * count}" if count is not None else "x, y, confidence by point,"
        raise ValueError(f"{what}: expected {wanted} numbers in {path.name}, got {len(values)}.")
    with np.errstate(over="ignore"):
        points = np.asarray(values, np.float32).reshape(-1, 3)
    if bool(np.isinf(points).any()) or not bool(np.isfinite(points[:, 2]).all()) or bool((points[:, 2] < 0).any()):
        raise ValueError(
            f"{what}: expected finite coordinates, and confidences of 0 or more, in {path.name}, got others; use 0 for missing "
            "points."
        )
    return points if len(points) or count is None else np.zeros((count, 3), np.float32)


def _people(found: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(P, K, 3) of people; (0, 0, 3) where nobody was found, which says nothing of the number of points."""
    return np.stack(found) if found else np.zeros((0, 0, 3), np.float32)


def _dicts(value: Any, what: str, path: Path) -> list[dict[str, Any]]:
    """A list of objects; null is an empty one."""
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        odd = next((one for one in value if not isinstance(one, dict)), value) if isinstance(value, list) else value
        raise ValueError(f"{what}: expected a list of objects in {path.name}, got {type(odd).__name__}.")
    return value


# ---------------------------------------------------------------------- one reader for each program


def _openpose(content: Any, path: Path) -> list[Frame]:
    found, notes = [], []
    for one in _dicts(content["people"], "people", path):
        deep = [name.replace("2d", "3d") for name, _ in _OPENPOSE]
        notes += [f"not read: {name}, in {path.name}" for name in deep if one.get(name)]
        body = numbers(one.get("pose_keypoints_2d", []), "pose_keypoints_2d", path)
        if len(body) != 75:
            raise ValueError(
                f"pose_keypoints_2d: expected 75 numbers (BODY_25) in {path.name}, got {len(body)}; run OpenPose with "
                "--model_pose BODY_25."
            )
        found.append(np.concatenate([_points(numbers(one.get(n, []), n, path), k, n, path) for n, k in _OPENPOSE]))
    people = _people(found)
    detail = bool(people[:, 25:, 2].any())
    layout = "openpose_137" if detail else "openpose_25"
    return [Frame(path.stem, people if detail else people[:, :25], layout, notes)]


def _alphapose(content: Any, path: Path) -> list[Frame]:
    """A list of people, each with the image it is in; also what COCO's tools call results."""
    return _by_image(_dicts(content, "path", path), {}, path)


def _coco(content: Any, path: Path) -> list[Frame]:
    images = _dicts(content.get("images"), "images", path)
    names = {str(one.get("id")): str(one.get("file_name", one.get("id"))) for one in images}
    return _by_image(_dicts(content["annotations"], "annotations", path), names, path)


def _by_image(people: list[dict[str, Any]], names: dict[str, str], path: Path) -> list[Frame]:
    frames: dict[str, list[NDArray[np.float32]]] = {key: [] for key in names}
    notes: dict[str, None] = {}
    layout = None
    for one in people:
        key = str(one.get("image_id", path.stem))
        group = frames.setdefault(key, [])
        if "keypoints" not in one:
            notes["people without keypoints were left out"] = None
            continue
        body = _points(numbers(one.get("keypoints", []), "keypoints", path), None, "keypoints", path)
        if any(key in one for key, _ in _WHOLE_BODY):
            if len(body) != 17:
                raise ValueError(f"keypoints: expected 17 points beside foot_kpts in {path.name}, got {len(body)}.")
            parts = [_points(numbers(one.get(n, []), n, path), k, n, path) for n, k in _WHOLE_BODY]
            body, layout = np.concatenate([body, *parts]), "coco_wholebody"
        flags = body[:, 2]
        if bool((flags == 2).any()) and bool(np.isin(flags, (0, 1, 2)).all()):
            body[:, 2] = np.minimum(flags, 1)
            notes["visibilities of COCO (0, 1 hidden, 2 visible) count as confidence 0 or 1"] = None
        group.append(body)
    if len({len(body) for group in frames.values() for body in group}) > 1:
        raise ValueError(f"keypoints: expected one number of points for all people of {path.name}, got several.")
    if not frames:  # one file a frame, of one in which nobody is
        frames[path.stem] = []
    whole = {key: names.get(key, key) for key in frames}
    ordered = sorted(frames, key=lambda key: natural(whole[key]))
    shown = _frame_names([whole[key] for key in ordered])
    return [Frame(name, _people(frames[key]), layout, list(notes)) for key, name in zip(ordered, shown, strict=True)]


def _frame_names(names: list[str]) -> list[str]:
    """Names of images without folders and endings, where that tells them apart."""
    kept = [_IMAGE_ENDING.sub("", name) for name in names]
    last = [re.split(r"[/\\]", name)[-1] or name for name in kept]
    return next((some for some in (last, kept) if len(set(some)) == len(names)), names)


def _mmpose(content: Any, path: Path) -> list[Frame]:
    """`instance_info` by frame, or the instances of one image."""
    groups = [(path.stem, content)]
    if isinstance(content, dict):
        listed = _dicts(content["instance_info"], "instance_info", path)
        videos = [one for one in listed if "instances" in one or "frame_id" in one]
        odd = next((one for one in listed if "instances" not in one), None) if videos else None
        if odd is not None:
            raise ValueError(
                f"instance_info: expected `instances` in each frame of {path.name}, got one with "
                f"{', '.join(list(odd)[:8])} alone; write its people into a list of that name, beside `frame_id`."
            )
        if videos:
            groups = [(str(one.get("frame_id", k)), one["instances"]) for k, one in enumerate(listed)]
        else:  # the people of one image
            groups = [(path.stem, listed)]
    frames = []
    for name, instances in groups:
        found = []
        for one in _dicts(instances, "instances", path):
            points = np.asarray(numbers(one.get("keypoints", []), "keypoints", path))
            scores = np.asarray(numbers(one.get("keypoint_scores", []), "keypoint_scores", path))
            if points.size != 2 * scores.size or not scores.size:
                raise ValueError(
                    f"keypoints: expected two numbers for each of keypoint_scores in {path.name}, got {points.size} and "
                    f"{scores.size}; points in 3D go into an .npz, keypoints3d (F, K, 3) in metres."
                )
            found.append(
                _points(np.column_stack((points.reshape(-1, 2), scores)).ravel().tolist(), None, "keypoints", path)
            )
        if len({len(one) for one in found}) > 1:
            raise ValueError(f"keypoints: expected one number of points for all people of {path.name}, got several.")
        frames.append(Frame(name, _people(found)))
    return sorted(frames, key=lambda frame: natural(frame.name))


def _mediapipe(content: Any, path: Path) -> list[Frame]:
    """Landmarks with `x`, `y` and maybe `visibility`: of one person, or `pose_landmarks` of one or several."""
    notes, handedness = [], None
    if isinstance(content, dict):
        key = next(name for name in _LANDMARKS if isinstance(content.get(name, 0), list | None))
        notes = [f"not read: {name}, in {path.name}" for name in content if name != key and "landmarks" in name.lower()]
        handedness = next((content[name] for name in _HANDEDNESS if content.get(name)), None)
        content = content[key]
    people = content if content and isinstance(content[0], list) else [content or []]
    found = []
    for person in people:
        listed = _dicts(person, "landmarks", path)
        # Landmarks of hands have no visibility, or 0 throughout.
        told = len(listed) != _HAND_POINTS or any(one.get("visibility") for one in listed)
        values = [[one.get("x"), one.get("y"), one.get("visibility", 1.0) if told else 1.0] for one in listed]
        found.append(_points(numbers(values, "landmarks", path), None, "landmarks", path))
    shown = [one for one in found if len(one)]
    if len({len(one) for one in shown}) > 1:
        raise ValueError(f"landmarks: expected one number of points for all people of {path.name}, got several.")
    every, sides = _people(shown), tuple[str, ...]()
    if handedness is not None and every.shape[1] == _HAND_POINTS:
        sides = tuple(_side(one, path) for one in (handedness if isinstance(handedness, list) else [handedness]))
        if len(sides) != len(found):
            raise ValueError(
                f"handedness: expected one for each of the {len(found)} hands of {path.name}, got {len(sides)}; write one for "
                "each, or leave it out and keep the hands of one side."
            )
        sides = tuple(side for side, one in zip(sides, found, strict=True) if len(one))
    elif handedness is not None and len(shown):
        notes.append(f"not read: handedness, in {path.name}, which is of hands")
    layout = "mediapipe_33" if every.shape[1] == 33 else None
    return [Frame(path.stem, every, layout, notes, normalised=True, sides=sides)]


def _side(value: Any, path: Path) -> str:
    """Which hand MediaPipe saw: a word, a category with its name, or a list of such, the likeliest first."""
    while isinstance(value, list | dict) and value:
        value = (
            value[0] if isinstance(value, list) else next((value[key] for key in _CATEGORY if value.get(key)), "none")
        )
    if not isinstance(value, str) or value.lower() not in ("left", "right"):
        raise ValueError(
            f"handedness: expected Left or Right of each hand of {path.name}, got {printable(str(value))!r}; write one of them, "
            "or leave handedness out."
        )
    return value.lower()


def _has_landmarks(content: Any) -> bool:
    return isinstance(content, dict) and any(isinstance(content.get(name, 0), list | None) for name in _LANDMARKS)


def _is_list_of(*keys: str) -> Callable[[Any], bool]:
    return lambda c: isinstance(c, list) and bool(c) and isinstance(c[0], dict) and all(k in c[0] for k in keys)


def _is_dict_of(*keys: str) -> Callable[[Any], bool]:
    return lambda c: isinstance(c, dict) and all(isinstance(c.get(k, 0), list | None) for k in keys)


_PROGRAMS: dict[str, tuple[Callable[[Any], bool], Callable[[Any, Path], list[Frame]]]] = {
    "OpenPose (`people`)": (_is_dict_of("people"), _openpose),
    "MMPose (`instance_info`)": (_is_dict_of("instance_info"), _mmpose),
    "MMPose (`keypoints` and `keypoint_scores`)": (_is_list_of("keypoints", "keypoint_scores"), _mmpose),
    "COCO and COCO-WholeBody (`annotations`)": (_is_dict_of("annotations"), _coco),
    "AlphaPose (a list with `image_id` and `keypoints`)": (_is_list_of("image_id", "keypoints"), _alphapose),
    "MediaPipe (a list of points with `x` and `y`)": (_is_list_of("x", "y"), _mediapipe),
    "MediaPipe (`pose_landmarks`)": (_has_landmarks, _mediapipe),
}
