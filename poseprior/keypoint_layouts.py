"""Keypoint layouts: the order of other people's points, and which joint of an SMPL-X model each one is.

Indices are into `output.joints` of the smplx package: 0-54 the kinematic joints, 55-75 its vertex joints (nose, eyes,
ears, toes, heels, finger tips), 76-126 the 51 inner face landmarks in dlib's order, 127-143 the 17 of the contour, which
a model only has with `use_face_contour=True`. Points without a counterpart (pupils, crown) are None, and not fitted.

Sources: the mapping of SMPLify-X (Pavlakos et al. 2019) for OpenPose; COCO-WholeBody (Jin et al. 2020), OpenPose (Cao et al.
2019), Halpe (Fang et al. 2022), MediaPipe's BlazePose and hands (Bazarevsky et al. 2020), Human3.6M (Ionescu et al. 2014)
and the 70 points of the Momentum Human Rig (SAM 3D Body) for their own orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import skeleton
from ._checks import nearest

_VERTEX_JOINTS = (
    "nose", "right_eye", "left_eye", "right_ear", "left_ear",
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    *(f"{side}_{finger}_tip" for side in ("left", "right") for finger in ("thumb", "index", "middle", "ring", "pinky")),
)  # fmt: skip
_FACE = tuple(f"face_{k}" for k in range(17, 68))
_CONTOUR = tuple(f"face_{k}" for k in range(17))
#: Names of the 144 joints of smplx; the last 17 only with `use_face_contour`.
SMPLX_144: tuple[str, ...] = (*skeleton.JOINT_NAMES, *_VERTEX_JOINTS, *_FACE, *_CONTOUR)
#: Joints of a model without face contour.
NUM_WITHOUT_CONTOUR = 127

_HAND = tuple(
    name
    for finger in ("thumb", "index", "middle", "ring", "pinky")
    for name in (f"{finger}1", f"{finger}2", f"{finger}3", f"{finger}_tip")
)
_COCO_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
_LEFT_THEN_RIGHT_FEET = (
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_OPENPOSE_25 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear", *_LEFT_THEN_RIGHT_FEET,
)  # fmt: skip
_PUPILS = ("right_pupil", "left_pupil")

_HALPE_26 = (
    *_COCO_17, "crown", "neck", "pelvis", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe", "left_heel",
    "right_heel",
)  # fmt: skip
#: A colon gives the joint of a point that goes by another name.
_MEDIAPIPE_33 = (
    "nose", "left_eye_inner:face_42", "left_eye", "left_eye_outer:face_45", "right_eye_inner:face_39", "right_eye",
    "right_eye_outer:face_36", "left_ear", "right_ear", "left_mouth:face_54", "right_mouth:face_48",
    *(f"{side}_{name}" for name in ("shoulder", "elbow", "wrist", "pinky1", "index1", "thumb2", "hip", "knee", "ankle",
                                    "heel", "big_toe") for side in ("left", "right")),
)  # fmt: skip
_H36M_17 = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax:neck",
    "throat", "crown", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip


def _mhr_hand(side: str) -> tuple[str, ...]:
    """Each finger from its tip, and the wrist last."""
    fingers = ("thumb", "index", "middle", "ring", "pinky")
    return (*(f"{side}_{f}{k}" for f in fingers for k in ("_tip", 3, 2, 1)), f"{side}_wrist")


def _hand(side: str, *, wrist: bool) -> tuple[str, ...]:
    return ((f"{side}_wrist",) if wrist else ()) + tuple(f"{side}_{name}" for name in _HAND)


_HANDS_21 = (*_hand("left", wrist=True), *_hand("right", wrist=True))
_NAMES: dict[str, tuple[str, ...]] = {
    "coco_17": _COCO_17,
    "coco_wholebody": (*_COCO_17, *_LEFT_THEN_RIGHT_FEET, *_CONTOUR, *_FACE, *_HANDS_21),
    "openpose_25": _OPENPOSE_25,
    "openpose_135": (
        *_COCO_17, "neck", "crown", *_LEFT_THEN_RIGHT_FEET, *_hand("left", wrist=False), *_hand("right", wrist=False),
        *_CONTOUR, *_FACE, *_PUPILS,
    ),
    "openpose_137": (*_OPENPOSE_25, *_HANDS_21, *_CONTOUR, *_FACE, *_PUPILS),
    "smplifyx_118": (*_OPENPOSE_25, *_HANDS_21, *_FACE),
    "smplifyx_135": (*_OPENPOSE_25, *_HANDS_21, *_FACE, *_CONTOUR),
    "halpe_26": _HALPE_26,
    "halpe_136": (*_HALPE_26, *_CONTOUR, *_FACE, *_HANDS_21),
    "mediapipe_33": _MEDIAPIPE_33,
    "mediapipe_left_hand": _hand("left", wrist=True),
    "mediapipe_right_hand": _hand("right", wrist=True),
    "h36m_17": _H36M_17,
    "mhr_70": (
        *_COCO_17[:9], *_COCO_17[11:], *_LEFT_THEN_RIGHT_FEET, *_mhr_hand("right"), *_mhr_hand("left"), "left_olecranon",
        "right_olecranon", "left_cubital_fossa", "right_cubital_fossa", "left_acromion", "right_acromion", "neck",
    ),
    "smpl_22": skeleton.JOINT_NAMES[:22],
    "smpl_24": (*skeleton.JOINT_NAMES[:22], "left_hand", "right_hand"),
    "smplx_55": SMPLX_144[: skeleton.NUM_JOINTS],
    "smplx": SMPLX_144[:NUM_WITHOUT_CONTOUR],
    "smplx_144": SMPLX_144,
}  # fmt: skip
#: Names that `layout` takes.
LAYOUTS: tuple[str, ...] = tuple(_NAMES)


@dataclass(frozen=True)
class KeypointLayout:
    """An order of keypoints.

    Attributes:
        name: "coco_wholebody" (133), "coco_17", "openpose_25" (BODY_25), "openpose_135" (BODY_135), "openpose_137" (what
            OpenPose's JSON holds: BODY_25, two hands of 21, face of 70), "smplifyx_118" and "smplifyx_135" (as
            SMPLify-X joins those, without and with the face contour), "halpe_26", "halpe_136", "mediapipe_33",
            "mediapipe_left_hand" and "mediapipe_right_hand" (21), "h36m_17", "mhr_70", "smpl_22", "smpl_24", "smplx_55",
            "smplx" (127) or "smplx_144"; "own" for a table of the user's.
        names: of the points; two points may have one name (wrists are in the body and in the hand).
        joints: index of each in `output.joints` of smplx, None where it has none.
        parts: of each: "body", "feet", "face", "left_hand" or "right_hand".
        vertices: index of each in `output.vertices`, None where it is a joint or nothing.
    """

    name: str
    names: tuple[str, ...]
    joints: tuple[int | None, ...]
    parts: tuple[str, ...]
    vertices: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.vertices:
            object.__setattr__(self, "vertices", (None,) * len(self.names))

    def __len__(self) -> int:
        return len(self.names)


#: What `layout` takes: a name, a layout, or point -> joint (name or index), ("vertex", index), or None.
LayoutInput = str | KeypointLayout | Mapping[str, Any]


def layout(name: LayoutInput) -> KeypointLayout:
    """A layout by name, or of a table that gives for each point, in order, what it is on the body.

    Args:
        name: one of `LAYOUTS`, or a dict of point -> joint: a name in `SMPLX_144`, an index into `output.joints`, the pair
            ("vertex", index into `output.vertices`), or None for a point that is not to be fitted.

    >>> layout("coco_wholebody").joints[:3], len(layout("openpose_25"))
    ((55, 57, 56), 25)
    >>> layout({"wrist": "left_wrist", "button": ("vertex", 3500), "hat": None}).vertices
    (None, 3500, None)
    """
    if isinstance(name, KeypointLayout):
        return name
    if isinstance(name, Mapping):
        return _own(name)
    if not isinstance(name, str) or name not in _NAMES:
        raise ValueError(
            f"layout: expected one of {', '.join(LAYOUTS)}, or a dict of point to joint or vertex in the order of the points, "
            f"got {name!r}.{nearest(str(name), LAYOUTS)}"
        )
    pairs = [point.split(":") for point in _NAMES[name]]
    joints = [pair[-1] for pair in pairs]
    return KeypointLayout(
        name, tuple(pair[0] for pair in pairs), tuple(_PLACE.get(j) for j in joints), tuple(_part(j) for j in joints)
    )


def layouts_of_length(count: int) -> tuple[str, ...]:
    """Names of the layouts with so many points."""
    return tuple(name for name, names in _NAMES.items() if len(names) == count)


def layout_of_length(count: int) -> KeypointLayout | None:
    """The layout with so many points; None where there is none, or more than one (17, 21, 135)."""
    found = layouts_of_length(count)
    return layout(found[0]) if len(found) == 1 else None


_PLACE = {joint: k for k, joint in enumerate(SMPLX_144)}


def _own(table: Mapping[str, Any]) -> KeypointLayout:
    """A user's table."""
    if not table:
        raise ValueError("layout: expected a point or more in the dict, got none.")
    joints: list[int | None] = []
    vertices: list[int | None] = []
    for point, what in table.items():
        joint: Any = _PLACE.get(what, what) if isinstance(what, str) else what
        vertex: Any = None
        if isinstance(what, Sequence) and not isinstance(what, str) and len(what) == 2 and what[0] == "vertex":
            joint, vertex = None, what[1]
        for value, most in ((joint, len(SMPLX_144)), (vertex, 1 << 24)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < most):
                raise ValueError(
                    f"layout: expected for point {point!r} a joint (a name of keypoint_layouts.SMPLX_144, or 0 to "
                    f"{len(SMPLX_144) - 1}), ('vertex', index) or None, got {what!r}."
                )
        joints.append(joint)
        vertices.append(vertex)
    parts = (
        _part(str(point) if joint is None else SMPLX_144[joint]) for point, joint in zip(table, joints, strict=True)
    )
    return KeypointLayout("own", tuple(str(point) for point in table), tuple(joints), tuple(parts), tuple(vertices))


def _part(name: str) -> str:
    side = name.split("_")[0]
    if any(finger in name for finger in ("thumb", "index", "middle", "ring", "pinky")):
        return f"{side}_hand"
    if name.endswith(("_toe", "_heel")):
        return "feet"
    if name.startswith("face_") or name.endswith("pupil") or name == "jaw" or name.endswith("_eye_smplhf"):
        return "face"
    return "body"
