"""Names that files give to poses and to what goes with them, and which arrays look like rotations."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from .._files.array_file import ArrayFile, is_pickle
from .._files.npy import Header
from .orders import MOTION_X_COLUMNS

#: All joints in one array.
WHOLE = ("poses", "fullpose", "full_pose", "pose", "rotvec", "smplx_poses", "smplh_poses", "smpl_poses")
#: A part of the body, by its name in smplx.
PARTS: dict[str, tuple[str, ...]] = {
    "global_orient": ("global_orient", "root_orient", "root_pose", "pose_root", "smplx_root_pose"),
    "body_pose": ("body_pose", "pose_body", "smplx_body_pose"),
    "jaw_pose": ("jaw_pose", "pose_jaw", "smplx_jaw_pose"),
    "leye_pose": ("leye_pose", "left_eye_pose"),
    "reye_pose": ("reye_pose", "right_eye_pose"),
    "left_hand_pose": ("left_hand_pose", "lhand_pose", "pose_lhand", "smplx_lhand_pose"),
    "right_hand_pose": ("right_hand_pose", "rhand_pose", "pose_rhand", "smplx_rhand_pose"),
}
#: Left, then right.
EYES, HANDS = "pose_eye", ("pose_hand", "hand_pose")
#: Which side a hand is on.
SIDES = ("side", "is_right", "right", "is_rhand", "handedness", "hand_side", "hand_type")
AMASS_KEYS = ("mocap_framerate", "mocap_frame_rate", "mocap_time_length", "dmpls")
SUBJECTS = ("subject", "subject_id")
SEQUENCES = ("seq", "sequence", "recording")
RATES = ("fps", "mocap_framerate", "mocap_frame_rate", "framerate", "frame_rate")
#: Numbers of the frames: ours, and what trackers write.
FRAMES = ("frame", "frame_ids", "frame_id")

#: What is the same in all frames of a recording.
ONCE = ("surface_model_type", "joint_names", "flat_hand_mean", *RATES)
#: What may stand once for several dicts of poses in a file.
SHARED = (*SIDES, *SUBJECTS, "sitting", *SEQUENCES, *FRAMES, "rig", *ONCE)

#: Lengths of one pose, flat; other arrays of one axis hold a number for each row.
_ONE_POSE = (45, 48, 63, 66, 72, 90, 156, 159, 165)
#: Joints of a pose or a part of it, and shapes of the rotation of one.
_COUNTS = (15, 16, 21, 22, 23, 24, 30, 52, 53, 54, 55)
_ROTATIONS = ((3,), (4,), (6,), (9,), (3, 3), (2, 3), (3, 2))
_POSE_KEYS = frozenset((*WHOLE, *HANDS, EYES, *(name for names in PARTS.values() for name in names)))
_LIKE_A_POSE = re.compile(
    r"pose|orient|rot|quat|theta|6d|hand|finger|thumb|wrist|jaw|euler|angle|transform|(^|_)aa(_|$)", re.IGNORECASE
)
_NO_ROTATIONS = re.compile(
    r"trans|beta|shape|expr|dmpl|marker|vert|joint|key_?point|kp|landmark|cam|intrin|focal|cent|bbox|box|scale|score|conf|"
    r"time|frame|fps|rate|weight|height|width|size|label|index|^faces?$|^K(_|$)|visib|valid|mean|component",
    re.IGNORECASE,
)


def has_poses(names: Iterable[str]) -> bool:
    """Whether some of the names are those of poses."""
    return any(name in _POSE_KEYS for name in names)


def can_be_poses(key: str, header: Header | str) -> bool:
    """Whether an array has the name of poses, and is no matrix of a camera or the like."""
    if key not in _POSE_KEYS or isinstance(header, str) or is_pickle(header):
        return key in _POSE_KEYS
    shape = header.shape
    if header.dtype.kind != "f" or not shape or shape[-2:] in ((4, 4), (3, 4)):
        return False
    width = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
    return key not in WHOLE or width == MOTION_X_COLUMNS or (width > 7 and (width % 3 == 0 or width % 4 == 0))


def is_one_pose(shape: tuple[int, ...]) -> bool:
    """Whether an array of poses may be of a single one."""
    return len(shape) < 2 or shape[0] == 1 or (shape[0] in _COUNTS and shape[1:] in _ROTATIONS)


def unused_rotations(file: ArrayFile) -> tuple[str, ...]:
    """Arrays that look like rotations, or could hold any, and that nobody read."""
    left = ((key, header) for key, header in file.headers.items() if key not in file.used)
    return tuple(key for key, header in left if looks_like_rotations(key, header))


def looks_like_rotations(key: str, header: Header | str) -> bool:
    """Whether the name or the shape of an array is that of rotations."""
    name = key.rsplit("/", 1)[-1]
    if isinstance(header, str) or is_pickle(header):
        return bool(_LIKE_A_POSE.search(name))
    if name == "flat_hand_mean" or (name in SIDES and len(header.shape) < 2):
        return False
    width = int(np.prod(header.shape[1:]))
    if header.dtype.kind in "iu":  # degrees, say
        named = bool(_LIKE_A_POSE.search(name)) and not _NO_ROTATIONS.search(name)
        return named and len(header.shape) > 1 and width > 0 and width % 3 == 0
    if header.dtype.kind != "f" or not header.shape:
        return False
    if _LIKE_A_POSE.search(name) or (len(header.shape) > 3 and header.shape[-2:] == (3, 3)):
        return True
    if _NO_ROTATIONS.search(name):
        return False
    if width == MOTION_X_COLUMNS:
        return True
    return width % 3 == 0 or (width % 4 == 0 and width > 0) if len(header.shape) > 1 else header.shape[0] in _ONE_POSE
