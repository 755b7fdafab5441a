"""A body to fit, and a prior to fit it with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior.fitting import BodyPoints
from poseprior.io.synthetic import synthetic_poses


@pytest.fixture(scope="session")
def body_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `smplx.create` loads: the stand-in body."""
    from poseprior.fitting import stand_in_body

    return stand_in_body(tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="session")
def make_model(body_folder: Path) -> Callable[..., nn.Module]:
    """`smplx.create` of the stand-in body; full flat hands unless told otherwise."""
    smplx = pytest.importorskip("smplx")

    def make(**options: object) -> nn.Module:
        chosen = {"use_pca": False, "flat_hand_mean": True, "num_betas": 10, "num_expression_coeffs": 10} | options
        model: nn.Module = smplx.create(str(body_folder), model_type="smplx", **chosen)
        return model

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[..., nn.Module]) -> nn.Module:
    return make_model()


@pytest.fixture(scope="session")
def body_prior() -> poseprior.GaussianPrior:
    """A Gaussian over the body's joints, of synthetic people."""
    prior = poseprior.GaussianPrior("body", covariance="full")
    prior.fit(synthetic_poses(1500, seed=1))
    return prior


@pytest.fixture(scope="session")
def people() -> Tensor:
    """(6, 55, 3) synthetic poses, upright in a camera's frame, hands flat."""
    pose = synthetic_poses(200, seed=5).poses[::33][:6].clone()
    pose[:, 0] = torch.tensor([3.0, 0.2, 0.1])
    pose[:, 22:] = 0.0
    return pose


@pytest.fixture(scope="session")
def joints_of() -> Callable[..., Tensor]:
    """Positions (B, K, 3) of a model's joints for poses, 3.5 m in front of a camera."""

    def find(model: nn.Module, pose: Tensor, joints: range = range(127), *, betas: Tensor | None = None) -> Tensor:
        place = torch.tensor([0.1, 0.0, 3.5], dtype=pose.dtype).expand(len(pose), 3)
        with torch.no_grad():
            return BodyPoints(model, joints=joints)(pose, betas=betas, transl=place)

    return find
