"""The 55 SMPL-X joints: names, parents, parts and the left/right mirror. Facts only.

Every other module takes joint indices, part slices and the mirror from here.

Source: Pavlakos et al., "Expressive Body Capture" (CVPR 2019); joint order of the `smplx` package.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ._checks import nearest

_FINGERS = ("index", "middle", "pinky", "ring", "thumb")

BODY_NAMES: tuple[str, ...] = (
    "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar",
    "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist",
    "right_wrist",
)  # fmt: skip
HAND_NAMES: tuple[str, ...] = tuple(f"{finger}{k}" for finger in _FINGERS for k in (1, 2, 3))

#: Names of the 55 joints in SMPL-X order.
JOINT_NAMES: tuple[str, ...] = (
    "pelvis",
    *BODY_NAMES,
    "jaw",
    "left_eye_smplhf",
    "right_eye_smplhf",
    *(f"left_{name}" for name in HAND_NAMES),
    *(f"right_{name}" for name in HAND_NAMES),
)
NUM_JOINTS = len(JOINT_NAMES)

#: Index of each joint's parent; -1 for the root.
PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19,  # root and body
    15, 15, 15,  # jaw, eyes
    *(p for w, b in ((20, 25), (21, 40)) for k in range(5) for p in (w, b + 3 * k, b + 3 * k + 1)),
)  # fmt: skip

#: Slices of the joint axis, by the keyword names that `smplx` uses.
PART_SLICES: dict[str, slice] = {
    "global_orient": slice(0, 1),
    "body_pose": slice(1, 22),
    "jaw_pose": slice(22, 23),
    "leye_pose": slice(23, 24),
    "reye_pose": slice(24, 25),
    "left_hand_pose": slice(25, 40),
    "right_hand_pose": slice(40, 55),
}

#: Named joint sets that `joints=` and `--joints` take.
JOINT_SETS: dict[str, tuple[int, ...]] = {
    "body": tuple(range(1, 22)),
    "left_hand": tuple(range(25, 40)),
    "right_hand": tuple(range(40, 55)),
    "hands": tuple(range(25, 55)),
    "whole_body": (*range(1, 23), *range(25, 55)),
    "all": tuple(range(NUM_JOINTS)),
}

_ALIASES = {
    "global_orient": 0, "root": 0, "jaw_pose": 22, "left_eye": 23, "right_eye": 24,
}  # fmt: skip


def _other_side(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name[5:]
    if name.startswith("right_"):
        return "left_" + name[6:]
    return name


#: For each joint, the index of the joint on the other side (itself on the midline).
MIRROR: tuple[int, ...] = tuple(JOINT_NAMES.index(_other_side(name)) for name in JOINT_NAMES)
#: Signs of a rotvec's components (x, y, z) in the mirror.
REFLECTION = (1.0, -1.0, -1.0)


def reflect(rotvec: Tensor) -> Tensor:
    """Mirror images (x, -y, -z) of rotvecs (*batch, 3), which belong to the joints of the other side; its own inverse."""
    return rotvec * torch.tensor(REFLECTION, dtype=rotvec.dtype, device=rotvec.device)


def mirror(pose: Tensor) -> Tensor:
    """Reflect poses in the sagittal (left/right) plane.

    Args:
        pose: (*batch, 55, 3) rotvecs, radians.

    Returns:
        (*batch, 55, 3): sides swapped, then (x, -y, -z) on every joint. An involution.
    """
    return reflect(pose[..., list(MIRROR), :])


def mirror_observed(observed: Tensor) -> Tensor:
    """The observed mask (*batch, 55) that goes with `mirror(pose)`."""
    return observed[..., list(MIRROR)]


def resolve_joints(joints: str | int | Iterable[str | int]) -> tuple[int, ...]:
    """Turn joint-set names, joint names or indices into sorted SMPL-X indices.

    Args:
        joints: one or several of: a set (`body`, `hands`, `left_hand`, `right_hand`, `whole_body`, `all`), a joint
            name (`left_knee`) or an index 0-54. A string may hold several, separated by commas or blanks.

    Returns:
        Sorted tuple of distinct joint indices.

    Raises:
        ValueError: unknown name, index out of range, or nothing given.

    >>> resolve_joints("left_knee,right_knee")
    (4, 5)
    """
    items: Sequence[str | int]
    if isinstance(joints, str):
        items = joints.replace(",", " ").split()
    elif isinstance(joints, (int, numbers.Integral)):
        items = [int(joints)]
    else:
        items = [part for j in joints for part in (j.replace(",", " ").split() if isinstance(j, str) else [j])]
    chosen: set[int] = set()
    for item in items:
        chosen.update(_resolve_one(item))
    if not chosen:
        raise ValueError(f"joints: expected at least one joint, got {joints!r}; try 'body' or 'whole_body'.")
    return tuple(sorted(chosen))


def _resolve_one(item: str | int) -> tuple[int, ...]:
    if isinstance(item, str) and item.removeprefix("-").isdigit():
        item = int(item)
    if isinstance(item, str):
        if item in JOINT_SETS:
            return JOINT_SETS[item]
        if item in PART_SLICES:
            return tuple(range(NUM_JOINTS))[PART_SLICES[item]]
        if item in _ALIASES:
            return (_ALIASES[item],)
        if item in JOINT_NAMES:
            return (JOINT_NAMES.index(item),)
        raise ValueError(
            f"joints: unknown name {item!r}; use a set ({', '.join(JOINT_SETS)}), a part ({', '.join(PART_SLICES)}) "
            f"or a joint name of poseprior.skeleton.JOINT_NAMES.{nearest(item, (*JOINT_SETS, *PART_SLICES, *JOINT_NAMES))}"
        )
    if not isinstance(item, numbers.Integral):
        raise ValueError(f"joints: expected names or whole numbers, got {item!r}.")
    index = int(item)
    if not 0 <= index < NUM_JOINTS:
        raise ValueError(f"joints: expected indices 0 to {NUM_JOINTS - 1}, got {index}.")
    return (index,)
