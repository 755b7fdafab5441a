"""Names of points in a file, and the layout that they make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..._text import printable, shown
from ...keypoint_layouts import LAYOUTS, SMPLX_144, KeypointLayout
from ...keypoint_layouts import layout as find_layout

#: Other programs' names of points, after `_plain`.
_ALSO = {
    "hips": "pelvis", "root": "pelvis", "mid_hip": "pelvis", "midhip": "pelvis", "hip_center": "pelvis", "hip_centre": "pelvis",
    "head_bottom": "neck", "upper_neck": "neck", "neck_base": "neck", "mid_shoulder": "neck",
    "head_top": "crown", "top_head": "crown", "top_of_head": "crown",
    "left_bigtoe": "left_big_toe", "right_bigtoe": "right_big_toe",
    "left_smalltoe": "left_small_toe", "right_smalltoe": "right_small_toe",
    "left_hand_root": "left_wrist", "right_hand_root": "right_wrist",
    "mouth_left": "left_mouth", "mouth_right": "right_mouth",
    "left_foot_index": "left_big_toe", "right_foot_index": "right_big_toe",
}  # fmt: skip
#: Points that are known and have no joint of SMPL-X.
_NO_JOINT = ("crown", "left_pupil", "right_pupil")
_FINGERS = {
    "forefinger": "index",
    "middle_finger": "middle",
    "ring_finger": "ring",
    "pinky_finger": "pinky",
    "index_finger": "index",
}
#: Whole lists of which single names mean something else by themselves (a head that is the crown, a foot that is the ankle).
_LISTS = {
    "h36m_17": (
        "pelvis", "right_hip", "right_knee", "right_foot", "left_hip", "left_knee", "left_foot", "spine", "thorax", "neck",
        "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    ),
    "halpe_26": (
        *find_layout("coco_17").names, "head", "neck", "hip", *find_layout("halpe_26").names[20:],
    ),
    "mediapipe_33": (
        *find_layout("mediapipe_33").names[:17], "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb",
        "right_thumb", *find_layout("mediapipe_33").names[23:],
    ),
}  # fmt: skip
#: Data sets of MMPose by the layout of their points.
_DATASETS = {
    "coco": "coco_17", "coco_wholebody": "coco_wholebody", "halpe": "halpe_136", "halpe26": "halpe_26", "h36m": "h36m_17",
}  # fmt: skip


def layout_of_names(names: Sequence[str]) -> KeypointLayout | None:
    """The layout of points with these names: a listed one, or a table of the joints; None where a name is not known."""
    plain = [_plain(str(name)) for name in names]
    for listed, order in (*_LISTS.items(), *((listed, find_layout(listed).names) for listed in LAYOUTS)):
        if plain == [_plain(name) for name in order]:
            return find_layout(listed)
    exact = [str(name) for name in names]
    known = exact if set(exact) <= set(SMPLX_144) else plain
    if not known or ("head" in known and not {"spine1", "jaw", "left_collar"} & set(known)):
        return None  # the base of the skull in SMPL-X, its top elsewhere
    if len(set(known)) != len(known) or not set(known) <= {*SMPLX_144, *_NO_JOINT}:
        return None
    if known is plain and any(name.endswith("_foot") or name.startswith("spine") for name in known):
        return None  # of another skeleton, whose foot may be the ankle or the toes
    return find_layout({name: None if name in _NO_JOINT else name for name in known})


def named_layout(names: Sequence[str], what: str, path: Path, asked: KeypointLayout | None) -> KeypointLayout | None:
    """The layout that a file says by the names of its points; None where the caller's is to decide.

    Raises:
        ValueError: names that are not known, where the caller passes no layout.
    """
    found = layout_of_names(names)
    if found is None and asked is None:
        odd = [str(n) for n in names if _plain(str(n)) not in (*SMPLX_144, *_NO_JOINT)] or [str(n) for n in names]
        raise ValueError(
            f"layout: expected names of points that are known in {what} of {shown(path.name)}, got "
            f"{', '.join(printable(name) for name in odd[:4])}{', ...' if len(odd) > 4 else ''}; pass layout= with the layout of "
            "the points, or a table of your own, layout={point: joint} (on the command line --layout)."
        )
    return found


def layout_of_dataset(name: str) -> KeypointLayout | None:
    """The layout of a data set that MMPose names; None where it is not known."""
    listed = _DATASETS.get(name.lower())
    return None if listed is None else find_layout(listed)


def _plain(name: str) -> str:
    """A name in the words and the order of SMPL-X: `L.Shoulder`, `LShoulder` and `shoulder_left` are `left_shoulder`."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"^([LR])([A-Z][a-z])", r"\1_\2", name.strip()))
    words = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    words = re.sub(r"^l_", "left_", re.sub(r"^r_", "right_", words))
    if ends := re.fullmatch(r"(.+)_(left|right|l|r)", words):
        words = f"{'left' if ends[2][0] == 'l' else 'right'}_{ends[1]}"
    words = re.sub(r"^face_0*(\d+)$", r"face_\1", words)
    for long, short in _FINGERS.items():
        words = re.sub(rf"^(left|right)_{long}_?(\d)$", rf"\1_{short}\2", words)
    words = re.sub(r"^(left|right)_(thumb|index|middle|ring|pinky)4$", r"\1_\2_tip", words)
    return _ALSO.get(words, words)
