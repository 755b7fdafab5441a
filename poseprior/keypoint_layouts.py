"""Keypoint layouts: the order of other people's points, and which joint of an SMPL-X model each one is.

Indices are into `output.joints` of the smplx package: 0-54 the kinematic joints, 55-75 its vertex joints (nose, eyes,
ears, toes, heels, finger tips), 76-126 the 51 inner face landmarks in dlib's order, 127-143 the 17 of the contour, which
a model only has with `use_face_contour=True`. Points without a counterpart (pupils, crown) are None, and not fitted.

Sources: the mapping of SMPLify-X (Pavlakos et al. 2019) for OpenPose; COCO-WholeBody (Jin et al. 2020) and OpenPose
(Cao et al. 2019) for their own orders.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import skeleton

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
            SMPLify-X joins those, without and with the face contour), "smplx" (127), "smplx_144" or "smplx_55".
        names: of the points; two points may have one name (wrists are in the body and in the hand).
        joints: index of each in `output.joints` of smplx, None where it has none.
        parts: of each: "body", "feet", "face", "left_hand" or "right_hand".
    """

    name: str
    names: tuple[str, ...]
    joints: tuple[int | None, ...]
    parts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def layout(name: str) -> KeypointLayout:
    """A layout by name.

    >>> layout("coco_wholebody").joints[:3], len(layout("openpose_25"))
    ((55, 57, 56), 25)
    """
    if name not in _NAMES:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {name!r}.")
    names = _NAMES[name]
    place = {joint: k for k, joint in enumerate(SMPLX_144)}
    return KeypointLayout(name, names, tuple(place.get(n) for n in names), tuple(_part(n) for n in names))


def layout_of_length(count: int) -> KeypointLayout | None:
    """The layout with so many points; None where there is none, or more than one (135)."""
    found = [name for name, names in _NAMES.items() if len(names) == count]
    return layout(found[0]) if len(found) == 1 else None


def _part(name: str) -> str:
    side = name.split("_")[0]
    if any(finger in name for finger in ("thumb", "index", "middle", "ring", "pinky")):
        return f"{side}_hand"
    if name.endswith(("_toe", "_heel")):
        return "feet"
    if name.startswith("face_") or name.endswith("pupil") or name == "jaw" or name.endswith("_eye_smplhf"):
        return "face"
    return "body"
