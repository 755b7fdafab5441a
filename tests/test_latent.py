"""Latent helpers: MAP, projection to the nearest plausible pose, paths."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from poseprior import FitConfig, GaussianPrior
from poseprior.io import synthetic_poses
from poseprior.latent import interpolate_latent, latent_map, project
from poseprior.models.vae import BodyVAE
from poseprior.rotations import geodesic_distance, random_rotvec


@cache
def _prior() -> BodyVAE:
    prior = BodyVAE(latent_dim=16, hidden=64, depth=1, flow_layers=2, flow_hidden=32, dropout=0.0)
    train = synthetic_poses(1200, seed=0, num_subjects=4)
    prior.fit(train, config=FitConfig(max_steps=100, batch_size=128, progress=False))
    return prior


def _poses(count: int, seed: int = 0) -> torch.Tensor:
    return _prior().decode(torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)))


def test_map_with_no_data_is_the_most_probable_latent() -> None:
    latent = latent_map(_prior(), lambda pose: pose.sum((-1, -2)) * 0.0, torch.ones(3, 16), steps=100)
    assert float(latent.abs().max()) < 0.1


def test_map_finds_a_pose_from_some_of_its_joints() -> None:
    truth = _poses(4)
    seen = [16, 17, 18, 19]

    def loss(pose: torch.Tensor) -> torch.Tensor:
        return (geodesic_distance(pose[:, seen], truth[:, seen]) / 0.05).square().sum(-1)

    latent = latent_map(_prior(), loss, torch.zeros(4, 16), steps=200)
    found = _prior().decode(latent)
    assert float(geodesic_distance(found[:, seen], truth[:, seen]).mean()) < 0.05
    assert float(latent.norm(dim=-1).max()) < 8.0


def test_projection_repairs_a_broken_joint_and_keeps_good_poses() -> None:
    truth = _poses(6)
    kept, _ = project(_prior(), truth)
    index = list(_prior().joints)
    assert float(geodesic_distance(kept[:, index], truth[:, index]).mean()) < 0.05
    broken = truth.clone()
    broken[:, 4] += torch.tensor([0.0, 2.0, 0.0])
    fixed, latent = project(_prior(), broken)
    assert float(_prior().log_prob(fixed).mean()) > float(_prior().log_prob(broken).mean()) + 10
    others = [j for j in index if j != 4]
    assert float(geodesic_distance(fixed[:, others], truth[:, others]).mean()) < 0.1
    assert latent.shape == (6, 16)


def test_projection_fills_hidden_joints_and_leaves_unmodelled_ones() -> None:
    truth = _poses(3)
    observed = torch.ones(55, dtype=torch.bool)
    observed[18] = False
    given = truth.clone()
    given[:, 18] = math.nan
    given[:, 30] = 0.3
    filled, _ = project(_prior(), given, observed=observed, steps=50)
    assert torch.isfinite(filled).all()
    assert torch.equal(filled[:, 30], given[:, 30])


def test_projection_of_a_random_pose_is_plausible() -> None:
    pose = random_rotvec(5, 55, generator=torch.Generator().manual_seed(0))
    fixed, latent = project(_prior(), pose, steps=100)
    assert torch.isfinite(fixed).all()
    assert float(latent.norm(dim=-1).mean()) < 15.0


@pytest.mark.parametrize("path", ["spherical", "linear"])
def test_paths_end_where_they_should_and_move_evenly(path: str) -> None:
    start, end = _poses(5, 1), _poses(5, 2)
    way = interpolate_latent(_prior(), start, end, 9, path=path)
    assert way.shape == (9, 5, 55, 3)
    index = list(_prior().joints)
    assert float(geodesic_distance(way[0, :, index], start[:, index]).mean()) < 0.05
    assert float(geodesic_distance(way[-1, :, index], end[:, index]).mean()) < 0.05
    steps = geodesic_distance(way[1:, :, index], way[:-1, :, index]).mean(-1)
    assert float((steps.amax(0) / steps.mean(0)).max()) < 3.0
    same = interpolate_latent(_prior(), start, start, 3, path=path)
    torch.testing.assert_close(same[0], same[1], rtol=0, atol=1e-4)


def test_errors() -> None:
    prior = _prior()
    with pytest.raises(ValueError, match=r"loss: expected one value a pose, \(3,\), got \(\)"):
        latent_map(prior, lambda pose: pose.sum(), torch.zeros(3, 16))
    with pytest.raises(ValueError, match=r"loss: expected finite values"):
        latent_map(prior, lambda pose: pose.sum((-1, -2)) * math.nan, torch.zeros(3, 16))
    with pytest.raises(ValueError, match=r"scale: expected a finite number above 0"):
        project(prior, torch.zeros(55, 3), scale=0.0)
    with pytest.raises(ValueError, match=r"num: expected a whole number of 2 or more"):
        interpolate_latent(prior, torch.zeros(55, 3), torch.zeros(55, 3), 1)
    with pytest.raises(ValueError, match=r"path: expected one of 'spherical', 'linear', got"):
        interpolate_latent(prior, torch.zeros(55, 3), torch.zeros(55, 3), 3, path="cubic")
    with pytest.raises(ValueError, match=r"end: expected the shape of start, \(55, 3\), got \(2, 55, 3\)"):
        interpolate_latent(prior, torch.zeros(55, 3), torch.zeros(2, 55, 3), 3)
    for name, wrong in (("steps", 2.5), ("steps", -1), ("prior_weight", math.nan), ("learning_rate", 0.0)):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            latent_map(prior, lambda pose: pose.sum((-1, -2)), torch.zeros(3, 16), **{name: wrong})
    with pytest.raises(ValueError, match=r"prior: expected one with a latent space .* got GaussianPrior"):
        latent_map(GaussianPrior("body"), lambda pose: pose.sum((-1, -2)), torch.zeros(3, 16))  # type: ignore[arg-type]
