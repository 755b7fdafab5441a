"""Poses, data sets and masks that several test modules make."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poseprior.io import PoseDataset, synthetic_poses, write_poses
from poseprior.rotations import random_rotvec


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def haar_poses(n: int, seed: int = 0) -> Tensor:
    """(n, 55, 3) uniform rotations."""
    return random_rotvec(n, 55, generator=seeded(seed))


def bent_poses(count: int, seed: int = 0, width: float = 0.3) -> Tensor:
    """(count, 55, 3) correlated poses: a few shared factors and some noise, with a bend that no Gaussian has."""
    generator = seeded(seed)
    factor = torch.randn(count, 6, generator=generator)
    mixing = torch.randn(6, 55 * 3, generator=seeded(99)) / math.sqrt(6.0)
    flat = torch.tanh(factor @ mixing) + 0.3 * torch.randn(count, 55 * 3, generator=generator)
    return (width * flat).view(count, 55, 3)


def split_people(count: int) -> tuple[PoseDataset, ...]:
    """Train, val and test poses of 4, 2 and 2 synthetic people."""
    return synthetic_poses(count, seed=0, num_subjects=8).split_by_subject([0.5, 0.25, 0.25], seed=0)


def write_split(folder: Path, count: int) -> Path:
    """A folder with the three parts of `split_people`."""
    for name, part in zip(("train", "val", "test"), split_people(count), strict=True):
        write_poses(folder / f"{name}_poses.npz", part)
    return folder


def all_but(*joints: int) -> Tensor:
    """(55,) mask without some joints."""
    observed = torch.ones(55, dtype=torch.bool)
    observed[list(joints)] = False
    return observed


def labelled(n: int = 60, subjects: int = 6) -> PoseDataset:
    """Uniform rotations of several subjects with two sequences each; every other row without the rest of the body."""
    rows = np.arange(n)
    observed = torch.ones(n, 55, dtype=torch.bool)
    observed[::2, 22:] = False
    return PoseDataset(
        haar_poses(n),
        observed,
        subject=[f"s{k}" for k in rows * subjects // n],
        sequence=[f"walk{k % 2}" for k in rows * 2 * subjects // n],
        fps=30.0,
        frame=rows % 5,
    )


def save_npz(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def assert_observes(dataset: PoseDataset, expected: Tensor, joints: tuple[int, ...]) -> None:
    """Exactly `joints` are observed and equal, all else is zero and unobserved."""
    pose, observed = dataset.all_poses()
    mask = torch.zeros(55, dtype=torch.bool)
    mask[list(joints)] = True
    assert torch.equal(observed, mask.expand(len(expected), 55))
    assert torch.equal(pose[:, list(joints)], expected[:, list(joints)])
    assert not pose[~observed].any()


def amass_smplx(poses: Tensor) -> dict[str, Any]:
    """The arrays of an AMASS file of SMPL-X poses (n, 55, 3)."""
    vector = poses.flatten(1).double().numpy()
    return {
        "poses": vector,
        "trans": np.zeros((len(vector), 3)),
        "betas": np.zeros(16),
        "gender": np.array("neutral"),
        "mocap_frame_rate": 120.0,
        "mocap_time_length": len(vector) / 120.0,
        "surface_model_type": np.array("smplx"),
        "root_orient": vector[:, :3],
        "pose_body": vector[:, 3:66],
        "pose_jaw": vector[:, 66:69],
        "pose_eye": vector[:, 69:75],
        "pose_hand": vector[:, 75:],
    }
