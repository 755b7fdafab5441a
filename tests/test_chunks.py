"""Densities of many poses: the same numbers some rows at a time, and memory that does not grow with the poses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sample_poses import bent_poses
from torch import Tensor

import poseprior
from poseprior import GaussianPrior, GlobalFlow, _chunks


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chunks, "ROWS", 7)


def _whole(prior: poseprior.PosePrior, pose: Tensor, **more: Tensor) -> Tensor:
    return torch.stack([prior.log_prob(p, **more) for p in pose])


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", ["body-mixture", "body-joint-flow", "body-vae"])
def test_some_rows_at_a_time_are_all_rows(name: str) -> None:
    prior = poseprior.load(name)
    pose = bent_poses(24)
    torch.testing.assert_close(prior.log_prob(pose), _whole(prior, pose), atol=1e-3, rtol=1e-5)
    assert torch.equal(prior.log_prob(pose.reshape(2, 3, 4, 55, 3)).flatten(), prior.log_prob(pose))


@pytest.mark.usefixtures("few")
def test_masks_contexts_and_gradients_go_with_their_rows() -> None:
    prior = poseprior.load("body-mixture")
    pose = bent_poses(24).requires_grad_()
    observed = torch.rand(24, 55, generator=torch.Generator().manual_seed(0)) < 0.6
    value = prior.log_prob(pose, observed=observed)
    each = torch.stack([prior.log_prob(p, observed=o) for p, o in zip(pose, observed, strict=True)])
    torch.testing.assert_close(value, each, atol=1e-3, rtol=1e-5)
    (slope,), (expected,) = (torch.autograd.grad(v.sum(), pose) for v in (value, each))
    torch.testing.assert_close(slope, expected, atol=1e-3, rtol=1e-4)
    # Masks that stand for several poses.
    grid = pose.detach().reshape(4, 6, 55, 3)
    for mask in (observed[0], observed[:6], observed[:4, None]):
        expected = prior.log_prob(grid.flatten(0, 1), observed=mask.expand(4, 6, 55).flatten(0, 1))
        torch.testing.assert_close(prior.log_prob(grid, observed=mask).flatten(), expected)
    flow = GlobalFlow("body", hidden=8, context_dim=2)
    flow.fit(poseprior.PoseDataset(pose.detach(), context=observed[:, :2].float()), config=_one_step())
    context = observed[:, 2:4].float()
    each = torch.stack([flow.log_prob(p, context=c) for p, c in zip(pose.detach(), context, strict=True)])
    torch.testing.assert_close(flow.log_prob(pose.detach(), context=context), each, atol=1e-3, rtol=1e-5)


@pytest.mark.usefixtures("few")
def test_errors_name_what_is_wrong() -> None:
    prior = GaussianPrior("body")
    pose = bent_poses(24)
    pose[17, 3] = torch.nan
    with pytest.raises(
        ValueError, match=r"pose: expected finite rotvecs, .* of pose 3; .*\(Poses are counted from pose 14"
    ):
        prior.log_prob(pose)
    with pytest.raises(ValueError, match=r"observed: shape \(3, 55\) does not broadcast"):
        prior.log_prob(bent_poses(24), observed=torch.ones(3, 55, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"observed: expected a bool tensor"):
        prior.log_prob(bent_poses(24), observed="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"context: GaussianPrior was built without context_dim"):
        prior.log_prob(bent_poses(24), context=torch.zeros(24, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["body-mixture", "body-vae", "body-global-flow"])
def test_memory_does_not_grow_with_the_poses(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks.speed.memory", "--here", "--prior", name, "--poses", "100000"]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]).stdout
    assert float(out.split("poses:")[1].split("GB")[0]) < 1.0


def _one_step() -> poseprior.FitConfig:
    return poseprior.FitConfig(max_steps=1, progress=False)
