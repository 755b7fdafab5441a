"""Single hands, all as right hands."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from poseprior import PoseDataset, skeleton
from poseprior.io import read_poses

RIGHT_HAND = skeleton.JOINT_SETS["right_hand"]


def right_mask() -> Tensor:
    """(55,) bool: the joints of the right hand."""
    mask = torch.zeros(skeleton.NUM_JOINTS, dtype=torch.bool)
    mask[list(RIGHT_HAND)] = True
    return mask


def read_right(path: Path) -> PoseDataset:
    """A file of single hands as right hands: left ones are mirrored."""
    data = read_poses(path)
    pose, observed = data.all_poses()
    left = observed[:, skeleton.JOINT_SETS["left_hand"][0]]
    pose = torch.where(left[:, None, None], skeleton.mirror(pose), pose)
    return PoseDataset(pose + 0.0, right_mask().expand(len(pose), -1).clone())
