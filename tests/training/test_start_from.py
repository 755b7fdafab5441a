"""`start_from`: a prior made ready for a loop of one's own."""

from __future__ import annotations

import pytest
import torch

import poseprior
from poseprior import FitConfig, GlobalFlow, PoseDataset
from poseprior.io import synthetic_poses
from poseprior.training import start_from

_JOINTS = ("left_knee", "right_knee", "left_elbow")


def _data() -> PoseDataset:
    """Poses that never show an elbow."""
    poses = synthetic_poses(300, seed=0).poses
    observed = torch.ones(len(poses), 55, dtype=torch.bool)
    observed[:, [18, 19]] = False
    return PoseDataset(poses, observed)


def _started(seed: int) -> GlobalFlow:
    prior = GlobalFlow(_JOINTS, hidden=8).double()
    start_from(prior, _data(), config=FitConfig(seed=seed))
    return prior


def test_the_prior_is_rebuilt_for_the_data_and_left_to_train() -> None:
    prior = _started(0)
    assert prior.joints == (4, 5)
    assert prior.dtype == torch.float64
    assert not prior.fitted
    assert all(parameter.requires_grad for parameter in prior.parameters())
    untrained = GlobalFlow(prior.joints, hidden=8).double()
    poses = _data().poses.double()
    assert prior.log_prob(poses).mean() > untrained.log_prob(poses).mean() + 1.0  # the Gaussian start


def test_weights_are_those_of_the_seed_and_the_global_generator_is_left_alone() -> None:
    data, weights = _data(), []
    for seed in (0, 0, 1):
        prior = GlobalFlow(_JOINTS, hidden=8)
        state = torch.get_rng_state()
        start_from(prior, data, config=FitConfig(seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
        weights.append(torch.cat([parameter.flatten() for parameter in prior.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_config_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"config: expected a FitConfig, got dict"):
        start_from(GlobalFlow(_JOINTS, hidden=8), _data(), config={"seed": 1})  # type: ignore[arg-type]


def test_poses_that_are_refused_leave_the_prior_as_it_was() -> None:
    prior = poseprior.load("body-mixture")
    poses = prior.sample(4, generator=torch.Generator().manual_seed(0))
    before = prior.log_prob(poses)
    with pytest.raises(ValueError, match="at least num_components=16 poses"):
        prior.fit(poses)
    assert prior.fitted and torch.equal(prior.log_prob(poses), before)
