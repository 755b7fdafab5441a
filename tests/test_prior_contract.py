"""The promises of `PosePrior`, held by every prior of `prior_cases.CASES`; see `contract` for the checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from contract import behaviour, density, sampling
from prior_cases import CASES, fitted, labels, shown_poses, training_poses, whole_poses
from torch import Tensor

from poseprior import PosePrior
from poseprior.rotations import random_rotvec

NAMES = sorted(CASES)
#: Names whose densities are integrated; the large ones take long.
PAIRS = [pytest.param(name, marks=[pytest.mark.slow] if CASES[name].heavy else []) for name in NAMES]
CONTEXTS = sorted(name for name in CASES if "context" in name)
#: A root that turns all the way round, and a shoulder.
ONE_JOINT = ((0,), (16,))

#: Checks of a prior over many joints, with poses and without.
OF_POSES: tuple[Callable[[PosePrior, Tensor], None], ...] = (
    behaviour.check_shapes,
    behaviour.check_joints_go_where_they_belong,
    behaviour.check_randomness_is_the_generators,
    behaviour.check_save_and_load,
    behaviour.check_copies,
    behaviour.check_precisions_agree,
    behaviour.check_mode_of_a_parent,
    behaviour.check_errors,
    density.check_log_determinant,
    density.check_unobserved_values_are_ignored,
    density.check_rows_have_masks_of_their_own,
    density.check_rotations_not_rotvecs,
    density.check_derivatives,
    density.check_weights_matter,
    sampling.check_completion_keeps_what_is_observed,
    sampling.check_latent_round_trip,
)
OF_PRIORS: tuple[Callable[[PosePrior], None], ...] = (
    behaviour.check_no_pose_is_a_batch_too,
    behaviour.check_samples_score_like_poses,
    density.check_finite_everywhere,
    sampling.check_completing_everything_is_sampling,
)


def _title(check: Callable[..., None]) -> str:
    return check.__name__.removeprefix("check_")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", OF_POSES, ids=_title)
def test_with_poses(check: Callable[[PosePrior, Tensor], None], name: str) -> None:
    check(fitted(name), whole_poses())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", OF_PRIORS, ids=_title)
def test_without_poses(check: Callable[[PosePrior], None], name: str) -> None:
    check(fitted(name))


@pytest.mark.parametrize("name", PAIRS)
def test_far_poses_are_pulled_back(name: str) -> None:
    density.check_far_poses_are_pulled_back(_pair(name), whole_poses())


@pytest.mark.parametrize("name", sorted(name for name in CASES if CASES[name].mirrored))
def test_mirrored_sides_are_equal(name: str) -> None:
    mirrored = CASES[name].mirrored
    assert mirrored is not None
    density.check_mirror(fitted(name), *mirrored, whole_poses()[:16])


def test_joints_never_observed_are_not_modelled() -> None:
    for name in NAMES:
        assert fitted(name).joints == tuple(sorted(CASES[name].joints))
    bare = CASES["gaussian-full"].build((10, 16, 30))
    bare.fit(training_poses().select(~torch.as_tensor(training_poses().observed)[:, 30]), config=CASES["mixture"].config)
    assert bare.joints == (10, 16)


# ------------------------------------------------------------------ integrals over one and two joints


@cache
def _pair(name: str) -> PosePrior:
    return fitted(name, CASES[name].pair)


@pytest.mark.parametrize("joint", ONE_JOINT)
@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].mirrored is None and not CASES[name].heavy])
def test_mass_of_one_joint(name: str, joint: tuple[int, ...]) -> None:
    case = CASES[name]
    prior = fitted(name, joint)
    density.check_mass(prior, shown_poses(), whole=case.whole_mass, slack=case.slack)


@pytest.mark.parametrize("name", PAIRS)
def test_mass_of_two_joints(name: str) -> None:
    density.check_mass(_pair(name), shown_poses(), whole=CASES[name].whole_mass, slack=CASES[name].slack)


@pytest.mark.parametrize("name", PAIRS)
def test_moments_of_samples(name: str) -> None:
    sampling.check_sample_moments(_pair(name), shown_poses(), slack=CASES[name].slack)


@pytest.mark.parametrize("name", PAIRS)
def test_marginals(name: str) -> None:
    density.check_marginals(_pair(name), shown_poses(), slack=CASES[name].marginal_slack)


@pytest.mark.parametrize("name", PAIRS)
def test_completions(name: str) -> None:
    sampling.check_completion_moments(_pair(name), shown_poses(), slack=CASES[name].completion_slack)


@pytest.mark.parametrize("name", PAIRS)
def test_latents_are_normal(name: str) -> None:
    sampling.check_latents(_pair(name), wraps=not CASES[name].whole_mass)


@pytest.mark.parametrize("name", CONTEXTS)
def test_conditions(name: str) -> None:
    """The same of the density and the samples under each condition, which differ from each other."""
    prior, case = _pair(name), CASES[name]
    label = labels(prior, shown_poses())
    sampling.check_context_matters(prior, shown_poses(), label)
    for value in (0.0, 1.0):
        context = torch.tensor([value])
        near = shown_poses()[label[:, 0] == value]
        density.check_mass(prior, near, context=context, whole=case.whole_mass)
        sampling.check_sample_moments(prior, near, context=context)
