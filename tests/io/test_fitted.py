"""What a fit writes is read by `read_poses` and holds what smplx takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from poseprior import params, read_poses
from poseprior.io.fitted import write_fitted
from poseprior.io.synthetic import synthetic_poses


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
