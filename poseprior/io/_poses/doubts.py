"""What the values of a file speak against, though they are legal: degrees, inverse rotations, hands of the other side."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...rotations import wrap_rotvec
from ...skeleton import JOINT_NAMES, PART_SLICES
from .order_evidence import bends_backwards

#: Share of joints beyond a full turn from which on they may be degrees.
_MANY_TURNS = 0.1
_KNEES = [JOINT_NAMES.index("left_knee"), JOINT_NAMES.index("right_knee")]
#: Radians from which on a knee is bent, how many bent knees say something, and the share of them that bends backwards.
_BENT, _ENOUGH, _MOST = 0.3, 8, 0.9
#: About as many poses of a file are looked at.
_SOME = 512


def doubts(pose: Tensor, mask: Tensor) -> list[str]:
    """Notes on poses (N, 55, 3) as they are stored, of which `mask` (N, 55) is observed."""
    every = 1 + len(pose) // _SOME
    pose, mask = pose[::every], mask[::every]
    seen = pose[mask & torch.isfinite(pose).all(-1)]
    found = []
    turns = float((seen.norm(dim=-1) > 2 * math.pi).double().mean()) if len(seen) else 0.0
    if turns >= _MANY_TURNS:
        found.append(
            f"{100 * turns:.0f} % of the joints turn by more than a full turn, as degrees would; they were read as radians: if "
            "they are degrees, save numpy.radians of them"
        )
        return found
    knees = pose[:, _KNEES][mask[:, _KNEES]]
    knees = wrap_rotvec(knees[torch.isfinite(knees).all(-1)])
    bent = knees[knees.norm(dim=-1) > _BENT, 0]
    if len(bent) >= _ENOUGH and float((bent < 0).double().mean()) >= _MOST:
        found.append(
            "the knees bend backwards, as inverse rotations would: if they are, transpose matrices, take the other of 6d_rows "
            "and 6d_columns, or negate rotvecs and the vector parts of quaternions"
        )
    return found + _hands(pose, mask)


def _hands(pose: Tensor, mask: Tensor) -> list[str]:
    """A note on fingers that bend as those of the other hand."""
    sides = {}
    for side in ("left", "right"):
        fingers = PART_SLICES[f"{side}_hand_pose"]
        hand = pose[mask[:, fingers].all(1), fingers].numpy()
        if bends_backwards(hand, np.full(len(hand), side == "right")):
            sides[side] = f"poses[:, {fingers.start}:{fingers.stop}] * (1, -1, -1)"
    swapped = ", or left and right are swapped" if len(sides) == 2 else ""
    return [
        f"the fingers of {' and '.join(sides)} hands bend backwards: a right-hand model's result on a mirrored image is turned "
        f"by {' and '.join(sides.values())}{swapped}"
    ] if sides else []  # fmt: skip
