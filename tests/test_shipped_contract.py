"""The contract, held by the weights that ship; see `contract` for the checks."""

from __future__ import annotations

from functools import cache

import pytest
from contract import behaviour, density, sampling
from contract.oracles import seeded
from torch import Tensor

import poseprior
from poseprior import PosePrior
from poseprior.pretrained.listing import pretrained_files

NAMES = sorted(pretrained_files())
_LEFT, _RIGHT = tuple(range(25, 40)), tuple(range(40, 55))

OF_POSES = (
    behaviour.check_shapes,
    behaviour.check_randomness_is_the_generators,
    behaviour.check_save_and_load,
    behaviour.check_precisions_agree,
    behaviour.check_mode_of_a_parent,
    density.check_log_determinant,
    density.check_unobserved_values_are_ignored,
    density.check_rows_have_masks_of_their_own,
    density.check_rotations_not_rotvecs,
    density.check_derivatives,
    sampling.check_completion_keeps_what_is_observed,
    sampling.check_latent_round_trip,
)
OF_PRIORS = (
    behaviour.check_no_pose_is_a_batch_too,
    behaviour.check_samples_score_like_poses,
    density.check_finite_everywhere,
    sampling.check_completing_everything_is_sampling,
)
#: Of priors whose weights serve both hands.
MIRRORED = [name for name in NAMES if name.startswith("hand-") and "mixture" not in name] + ["whole-body"]


@cache
def _load(name: str) -> PosePrior:
    return poseprior.load(name)


@cache
def _poses(name: str) -> Tensor:
    """Poses of the prior's own, which need no data."""
    return _load(name).sample(16, generator=seeded(20))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", OF_POSES, ids=lambda check: check.__name__.removeprefix("check_"))
def test_with_poses(check: behaviour.OfPoses, name: str) -> None:
    check(_load(name), _poses(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", OF_PRIORS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_without_poses(check: behaviour.OfPrior, name: str) -> None:
    check(_load(name))


@pytest.mark.parametrize("name", MIRRORED)
def test_both_hands_are_equal(name: str) -> None:
    density.check_mirror(_load(name), _LEFT, _RIGHT, _poses(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if "vae" not in name])  # their bound of one joint is loose
def test_samples_of_single_joints_follow_the_marginals(name: str) -> None:
    """The first, the last and a middle joint of samples against the density of that joint alone."""
    prior = _load(name)
    # Without a joint's context its marginal in a joint flow is a trained estimate.
    slack = 0.12 if isinstance(prior, poseprior.JointFlow) else 0.0
    if prior.can_marginalise:
        for joint in prior.joints[:: len(prior.joints) // 2]:
            sampling.check_marginal_sample_moments(prior, joint, slack=slack)


@pytest.mark.parametrize("name", [name for name in NAMES if "vae" not in name])
def test_latents_are_normal(name: str) -> None:
    sampling.check_latents(_load(name))
