"""What a fit writes is read by `read_poses` and holds what smplx takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from poseprior import params, read_poses
from poseprior.io.continuous import continuous
from poseprior.io.fitted import write_fitted
from poseprior.io.synthetic import synthetic_poses
from poseprior.rotations import geodesic_distance, rotmat_to_rotvec, rotvec_to_rotmat, wrap_rotvec


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


def _turning(frames: int, turns: float, sway: float) -> torch.Tensor:
    """(F, 1, 3) rotvecs below pi of a person who turns about the vertical and sways."""
    t = torch.linspace(0, 1, frames, dtype=torch.float64)
    zero = torch.zeros_like(t)
    turn = rotvec_to_rotmat(torch.stack([zero, 2 * np.pi * turns * t, zero], 1))
    tilt = rotvec_to_rotmat(sway * torch.stack([torch.sin(9 * t), zero, torch.cos(12 * t)], 1))
    return rotmat_to_rotvec(turn @ tilt)[:, None].float()


def _steps(pose: torch.Tensor) -> torch.Tensor:
    return (pose[1:] - pose[:-1]).norm(dim=-1)


@pytest.mark.parametrize("turns", [1, 3, -6])
@pytest.mark.parametrize("frames", [90, 300, 1500])
@pytest.mark.parametrize("sway", [0.0, 0.01, 0.05, 0.15, 0.3])
def test_who_turns_and_sways_jumps_no_farther_than_below_pi(frames: int, turns: float, sway: float) -> None:
    """Near the identity after whole turns the nearest rotvecs frame by frame would jump by up to 12 pi."""
    pose = _turning(frames, turns, sway)
    found = continuous(pose)
    assert float(_steps(found).max()) <= float(_steps(pose).max()) + 1e-4
    assert int((_steps(found) > np.pi).sum()) <= int((_steps(pose) > np.pi).sum())
    assert float(geodesic_distance(found.double(), pose.double()).max()) < 1e-5
    if (frames == 1500 and sway >= 0.05) or not sway:  # with so many frames, or an axis that stands still
        assert float(_steps(found).max()) < np.pi


def test_rotations_that_wander_jump_no_farther_than_below_pi() -> None:
    """Any sequence; joints that need no whole turns stay as they are, frames at the identity among them."""
    generator = torch.Generator().manual_seed(0)
    for size in (0.1, 0.5, 1.0):
        pose = wrap_rotvec(torch.randn(80, 12, 3, generator=generator).mul(size).cumsum(0))
        pose[::9] = 0.0
        found = continuous(pose)
        assert bool((_steps(found).amax(0) <= _steps(pose).amax(0) + 1e-4).all())
        assert float(geodesic_distance(found.double(), pose.double()).max()) < 1e-4
    still = 0.2 * torch.rand(9, 3, 3, generator=generator)
    assert torch.equal(continuous(still), still) and continuous(still[:1]).shape == (1, 3, 3)
    assert continuous(still[:0]).shape == (0, 3, 3)
