"""A neutral 1.70 m skeleton and its forward kinematics: poses to joint positions in metres, no licensed file needed.

Rest pose: T-pose, y up, facing +z, the left side at +x, flat hands; the pelvis sits at the origin and does not move, so
every position is root-centred. The bone lengths are our own rounded anthropometric numbers, the same for both sides;
the rest directions (arms a little low, legs a little apart, fanned fingers) follow the SMPL-X rest pose to a few
degrees, so that poses recorded for SMPL-X look right. Metrics and pictures use it; a fit to a person uses a body model.

Beside the 55 joints there are 16 end points (fingertips, toe tips, crown, chin, front of the eyes), so that leaf joints
move something too. Joints and end points together are the 71 keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from ._tracing import untransformed
from .rotations import rotvec_to_rotmat
from .skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS, resolve_joints

_FINGERS = ("index", "middle", "pinky", "ring", "thumb")

# Offset from the parent in metres, left side and midline; the right side is the mirror image.
_BODY_OFFSETS = {
    "pelvis": (0.0, 0.0, 0.0),
    "spine1": (0.0, 0.110, -0.020), "spine2": (0.0, 0.130, -0.004), "spine3": (0.0, 0.052, 0.022),
    "neck": (0.0, 0.165, -0.030), "head": (0.0, 0.138, 0.026), "jaw": (0.0, -0.005, 0.020),
    "left_hip": (0.076, -0.086, -0.012), "left_knee": (0.042, -0.385, -0.010), "left_ankle": (-0.034, -0.395, -0.032),
    "left_foot": (0.032, -0.056, 0.124), "left_collar": (0.046, 0.086, -0.006),
    "left_shoulder": (0.118, 0.052, -0.014), "left_elbow": (0.260, -0.062, -0.036),
    "left_wrist": (0.252, 0.014, -0.008), "left_eye_smplhf": (0.032, 0.060, 0.075),
}  # fmt: skip
# Knuckle offset from the wrist; the three bones beyond it; their directions as degrees (towards the thumb, up).
_HAND_OFFSETS: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[tuple[float, float], ...]]] = {
    "index": ((0.100, -0.008, 0.022), (0.033, 0.023, 0.022), ((4, 4), (2, -6), (2, -8))),
    "middle": ((0.106, -0.006, -0.002), (0.035, 0.025, 0.023), ((-6, 2), (-8, -6), (-8, -8))),
    "pinky": ((0.082, -0.014, -0.043), (0.023, 0.018, 0.018), ((-36, -2), (-36, -6), (-36, -8))),
    "ring": ((0.096, -0.009, -0.025), (0.032, 0.024, 0.022), ((-14, 2), (-16, -6), (-16, -8))),
    "thumb": ((0.040, -0.017, 0.027), (0.031, 0.027, 0.024), ((54, 0), (40, -10), (38, -10))),
}
# End points: parent joint and offset from it, left side and midline (fingertips follow from the table above).
_END_OFFSETS = {
    "left_toe_tip": ("left_foot", (0.010, -0.012, 0.078)), "head_top": ("head", (0.0, 0.172, 0.015)),
    "chin": ("jaw", (0.0, -0.042, 0.072)), "left_gaze": ("left_eye_smplhf", (0.0, 0.0, 0.012)),
}  # fmt: skip


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    a, e = math.radians(azimuth), math.radians(elevation)
    return math.cos(e) * math.cos(a), math.sin(e), math.cos(e) * math.sin(a)


def _build() -> tuple[Tensor, tuple[str, ...], tuple[int, ...], Tensor]:
    """Rest offsets (55, 3) and, for the end points, names, parents and offsets (16, 3)."""
    offsets = dict(_BODY_OFFSETS)
    ends = dict(_END_OFFSETS)
    for finger, (knuckle, lengths, directions) in _HAND_OFFSETS.items():
        bones = [tuple(n * c for c in _direction(*d)) for n, d in zip(lengths, directions, strict=True)]
        for k, offset in enumerate((knuckle, *bones[:2]), start=1):
            offsets[f"left_{finger}{k}"] = (offset[0], offset[1], offset[2])
        ends[f"left_{finger}_tip"] = (f"left_{finger}3", (bones[2][0], bones[2][1], bones[2][2]))
    names = [f"{side}_{finger}_tip" for side in ("left", "right") for finger in _FINGERS]
    names += ["left_toe_tip", "right_toe_tip", "head_top", "chin", "left_gaze", "right_gaze"]
    rest, end_parents, end_offsets = [], [], []
    for name in (*JOINT_NAMES, *names):
        left = name.replace("right_", "left_")
        x, y, z = offsets[left] if left in offsets else ends[left][1]
        signed = (-x if left != name else x, y, z)
        if name in JOINT_NAMES:
            rest.append(signed)
        else:
            parent = ends[left][0] if left == name else ends[left][0].replace("left_", "right_")
            end_parents.append(JOINT_NAMES.index(parent))
            end_offsets.append(signed)
    double = torch.float64
    return torch.tensor(rest, dtype=double), tuple(names), tuple(end_parents), torch.tensor(end_offsets, dtype=double)


#: `REST_OFFSETS` (55, 3) and `END_OFFSETS` (16, 3): metres from the parent joint in the rest pose, float64.
REST_OFFSETS, END_NAMES, END_PARENTS, END_OFFSETS = _build()
#: The 71 keypoints: 55 joints, then the end points; and the joint each hangs from (-1 for the pelvis).
KEYPOINT_NAMES: tuple[str, ...] = (*JOINT_NAMES, *END_NAMES)
KEYPOINT_PARENTS: tuple[int, ...] = (*PARENTS, *END_PARENTS)
_NUM_TIPS = 10


def _levels(device: torch.device) -> tuple[tuple[Tensor, Tensor], ...]:
    """Per depth of the tree: its joints, and where their parents stand in the level above."""
    levels: list[list[int]] = [[0]]
    while below := [j for j in range(NUM_JOINTS) if PARENTS[j] in levels[-1]]:
        levels.append(below)
    slots = [[0], *([up.index(PARENTS[j]) for j in down] for up, down in pairwise(levels))]
    return tuple(
        (torch.tensor(level, device=device), torch.tensor(slot, device=device))
        for level, slot in zip(levels, slots, strict=True)
    )


@lru_cache(maxsize=16)
def _cached_levels(device: torch.device) -> tuple[tuple[Tensor, Tensor], ...]:
    with torch.inference_mode(False), untransformed():  # for calls that want gradients
        return _levels(device)


def forward_kinematics(pose: Tensor, *, rest_offsets: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Joint positions and global rotations, R_j = R_parent(j) Exp(pose_j), p_j = p_parent(j) + R_parent(j) o_j.

    Args:
        pose: (*batch, 55, 3) rotvecs, radians, relative to the parent.
        rest_offsets: (55, 3) metres from the parent in the rest pose; None for the neutral skeleton.

    Returns:
        positions (*batch, 55, 3) in metres, the root at `rest_offsets[0]` (the origin by default), and global rotation
        matrices (*batch, 55, 3, 3). Differentiable; one step per depth of the tree (11), none per joint.

    Raises:
        ValueError: `pose` or `rest_offsets` of another shape.
    """
    if pose.shape[-2:] != (NUM_JOINTS, 3):
        raise ValueError(
            f"pose: expected shape (*batch, {NUM_JOINTS}, 3), got {tuple(pose.shape)}; "
            "convert other layouts with poseprior.params."
        )
    offsets = REST_OFFSETS if rest_offsets is None else rest_offsets
    if offsets.shape != (NUM_JOINTS, 3):
        raise ValueError(f"rest_offsets: expected shape ({NUM_JOINTS}, 3) in metres, got {tuple(offsets.shape)}.")
    offsets = offsets.to(pose)
    local = rotvec_to_rotmat(pose)
    levels = _levels(pose.device) if torch.compiler.is_compiling() else _cached_levels(pose.device)
    rotation, position = [local[..., :1, :, :]], [offsets[:1].expand(*pose.shape[:-2], 1, 3)]
    for joints, parents in levels[1:]:
        above = rotation[-1].index_select(-3, parents)
        step = (above @ offsets[joints].unsqueeze(-1)).squeeze(-1)
        position.append(position[-1].index_select(-2, parents) + step)
        rotation.append(above @ local.index_select(-3, joints))
    order = torch.cat([joints for joints, _ in levels]).argsort()
    return torch.cat(position, -2).index_select(-2, order), torch.cat(rotation, -3).index_select(-3, order)


def joint_positions(pose: Tensor, *, rest_offsets: Tensor | None = None) -> Tensor:
    """Root-centred joint positions in metres, (*batch, 55, 3); see `forward_kinematics`.

    >>> joint_positions(torch.zeros(55, 3)).shape
    torch.Size([55, 3])
    """
    return forward_kinematics(pose, rest_offsets=rest_offsets)[0]


def keypoint_positions(pose: Tensor) -> Tensor:
    """Positions of the 71 keypoints of `KEYPOINT_NAMES`, (*batch, 71, 3) metres, for poses (*batch, 55, 3)."""
    position, rotation = forward_kinematics(pose)
    parents = list(END_PARENTS)
    step = (rotation[..., parents, :, :] @ END_OFFSETS.to(pose).unsqueeze(-1)).squeeze(-1)
    return torch.cat([position, position[..., parents, :] + step], dim=-2)


def tip_positions(pose: Tensor) -> Tensor:
    """Fingertips, (*batch, 10, 3) metres: left index, middle, pinky, ring, thumb, then the right hand."""
    return keypoint_positions(pose)[..., NUM_JOINTS : NUM_JOINTS + _NUM_TIPS, :]


def moving_keypoints(joints: str | int | Iterable[str | int]) -> tuple[int, ...]:
    """The keypoints that measure a set of joints: those that some joint of the set moves, each rigid part counted once.

    A point moves when the joint it hangs from, or an ancestor of that, is in `joints`. A hand none of whose fingers is
    in `joints` is rigid and counts through its index and pinky tips, which the wrist's three axes move; chin and eye
    fronts count only when the jaw or that eye is in `joints`; the jaw joint, rigid in the head, never.

    Args:
        joints: as in `poseprior.skeleton.resolve_joints`.

    Returns:
        Sorted indices into `KEYPOINT_NAMES`.
    """
    chosen = set(resolve_joints(joints))
    return tuple(k for k in range(len(KEYPOINT_NAMES)) if _is_moved(k, chosen) and _counts(k, chosen))


def _is_moved(keypoint: int, chosen: set[int]) -> bool:
    joint = KEYPOINT_PARENTS[keypoint]
    while joint >= 0 and joint not in chosen:
        joint = PARENTS[joint]
    return joint >= 0


def _counts(keypoint: int, chosen: set[int]) -> bool:
    name = KEYPOINT_NAMES[keypoint]
    if name == "jaw":
        return False
    if name == "chin" or name.endswith("_gaze"):
        return KEYPOINT_PARENTS[keypoint] in chosen
    if any(finger in name for finger in _FINGERS):
        hand = range(25, 40) if name.startswith("left") else range(40, 55)
        return not chosen.isdisjoint(hand) or name.endswith(("index_tip", "pinky_tip"))
    return True
