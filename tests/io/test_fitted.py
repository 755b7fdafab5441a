"""What a fit writes is read by `read_poses` and holds what smplx takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from poseprior import params, read_poses
from poseprior.io.fitted import write_fitted
from poseprior.io.synthetic import synthetic_poses
from poseprior.rotations import geodesic_distance, wrap_rotvec


def test_both_readers(tmp_path: Path) -> None:
    pose = synthetic_poses(10, seed=0).poses[:5]
    keywords = {
        **params.pose_to_smplx(pose), "transl": torch.randn(5, 3), "betas": torch.randn(5, 10),
        "expression": torch.zeros(5, 10),
    }  # fmt: skip
    path = write_fitted(tmp_path / "fitted.npz", keywords, pose, fps=60.0)
    back = read_poses(path)
    torch.testing.assert_close(back.poses, pose, atol=1e-5, rtol=0)
    with np.load(path, allow_pickle=False) as file:
        assert file["poses"].shape == (5, 165) and file["trans"].shape == (5, 3) and file["betas"].shape == (10,)
        np.testing.assert_allclose(file["body_pose"], file["pose_body"], atol=1e-6)
        np.testing.assert_allclose(file["betas_by_frame"], keywords["betas"].numpy())
        assert str(file["surface_model_type"]) == "smplx" and float(file["mocap_frame_rate"]) == 60.0
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        write_fitted(tmp_path / "fitted.pkl", keywords, pose)


def test_rotations_are_continuous_and_frames_keep_their_names(tmp_path: Path) -> None:
    """A person who turns round twice, and one who stands still at half a turn with noise."""
    pose = torch.zeros(41, 55, 3)
    pose[:, 0, 1] = torch.linspace(0, 4 * np.pi, 41)
    pose[:, 3] = torch.tensor([np.pi, 0.0, 0.0]) + 0.01 * torch.randn(41, 3, generator=torch.Generator().manual_seed(0))
    pose = wrap_rotvec(pose)
    assert float((pose[1:] - pose[:-1]).abs().max()) > 5
    keywords = {**params.pose_to_smplx(pose), "transl": torch.zeros(41, 3), "betas": torch.zeros(41, 10)}
    path = write_fitted(tmp_path / "x.npz", keywords, pose, frame_names=[f"frame_{k}" for k in range(41)])
    with np.load(path) as file:
        for key in ("poses", "root_orient", "global_orient", "pose_body", "body_pose"):
            assert float(np.abs(np.diff(file[key], axis=0)).max()) < 0.4, key
        np.testing.assert_allclose(file["root_orient"][:, 1], np.linspace(0, 4 * np.pi, 41), atol=1e-5)
        assert file["frame_names"].tolist() == [f"frame_{k}" for k in range(41)]
    back = read_poses(path, constant_parts_unobserved=False).poses
    assert float(geodesic_distance(back.double(), pose.double()).max()) < 1e-3
    with pytest.raises(ValueError, match="frame_names: expected 41, one for each frame, got 2"):
        write_fitted(tmp_path / "y.npz", keywords, pose, frame_names=["a", "b"])
