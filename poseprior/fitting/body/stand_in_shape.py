"""The stand-in body's proportions: ten numbers that change bone lengths and girths.

The numbers are ours: one unit is about one standard deviation among adults, rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...kinematics import END_OFFSETS, KEYPOINT_NAMES, KEYPOINT_PARENTS, REST_OFFSETS

#: What the shape coefficients do, in their order; a positive number means more of it.
SHAPE_NAMES: tuple[str, ...] = (
    "stature", "girth", "leg_length", "arm_length", "shoulder_width", "hip_width", "head_size", "belly",
    "hand_and_foot_size", "muscle",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """Where the 71 keypoints of `poseprior.kinematics` are, metres (71, 3), and factors on the radii about them."""

    keypoints: NDArray[np.float64]
    scale: float
    limbs: float
    shoulders: float
    hips: float
    chest: float
    belly: float
    head: float
    ends: float

    def at(self, name: str) -> NDArray[np.float64]:
        """Position (3,) of a keypoint."""
        point: NDArray[np.float64] = self.keypoints[KEYPOINT_NAMES.index(name)]
        return point


def figure(shape: NDArray[np.float64]) -> Figure:
    """The figure with shape coefficients (10,); all zero is the neutral skeleton."""
    b = dict(zip(SHAPE_NAMES, (float(x) for x in shape), strict=True))
    scale = 1.0 + 0.032 * b["stature"]
    head, ends = 1.0 + 0.025 * b["head_size"], 1.0 + 0.045 * b["hand_and_foot_size"]
    offsets = np.concatenate([REST_OFFSETS.numpy(), END_OFFSETS.numpy()]) * scale
    factor = np.ones_like(offsets)
    for k, name in enumerate(KEYPOINT_NAMES):
        parent = KEYPOINT_NAMES[KEYPOINT_PARENTS[k]] if k else ""
        if name.endswith(("knee", "ankle")):
            factor[k] = 1.0 + 0.030 * b["leg_length"]
        elif name.endswith(("elbow", "wrist")):
            factor[k] = 1.0 + 0.035 * b["arm_length"]
        elif name.endswith(("collar", "shoulder")):
            factor[k, 0] = 1.0 + 0.05 * b["shoulder_width"]
        elif name.endswith("hip"):
            factor[k, 0] = 1.0 + 0.04 * b["hip_width"]
        elif parent in ("head", "jaw") or "eye" in parent:
            factor[k] = head
        elif k and name not in ("spine1", "spine2", "spine3", "neck", "head"):
            factor[k] = ends
    offsets *= factor
    position = np.zeros_like(offsets)
    for k, parent_index in enumerate(KEYPOINT_PARENTS):
        position[k] = offsets[k] + (position[parent_index] if k else 0.0)
    girth, muscle = b["girth"], b["muscle"]
    return Figure(
        keypoints=position,
        scale=scale,
        limbs=1.0 + 0.07 * girth + 0.05 * muscle,
        shoulders=1.0 + 0.05 * b["shoulder_width"] + 0.04 * girth + 0.03 * muscle,
        hips=1.0 + 0.05 * b["hip_width"] + 0.06 * girth,
        chest=1.0 + 0.05 * girth + 0.05 * muscle,
        belly=1.0 + 0.10 * girth + 0.10 * b["belly"],
        head=scale * head,
        ends=scale * ends,
    )
