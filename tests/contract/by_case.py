"""The checks as every case of `prior_cases` runs them: with its poses and with what it does not claim."""

from __future__ import annotations

from collections.abc import Callable

import torch
from prior_cases import Case, labels, shown_poses, whole_poses

from poseprior import PosePrior

from . import behaviour, density, sampling

Check = Callable[[Case, PosePrior], None]

#: Of a prior over many joints.
WHOLE: dict[str, Check] = {
    check.__name__.removeprefix("check_"): lambda case, prior, check=check: check(prior, whole_poses())
    for check in (
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
        density.check_weights_matter,
        sampling.check_completion_keeps_what_is_observed,
        sampling.check_latent_round_trip,
    )
} | {
    check.__name__.removeprefix("check_"): lambda case, prior, check=check: check(prior)
    for check in (
        behaviour.check_no_pose_is_a_batch_too,
        behaviour.check_samples_score_like_poses,
        density.check_finite_everywhere,
        sampling.check_completing_everything_is_sampling,
    )
}


def mirror(case: Case, prior: PosePrior) -> None:
    if case.mirrored is not None:
        density.check_mirror(prior, *case.mirrored, whole_poses()[:16])


def conditions(case: Case, prior: PosePrior) -> None:
    """Mass and samples under each condition, which differ from each other."""
    if not prior.context_dim:
        return
    label = labels(prior, whole_poses())
    sampling.check_context_matters(prior, whole_poses(), label)
    if not case.whole_mass:
        return  # barely trained on half of the poses, a published flow is too uneven to integrate
    for value in (0.0, 1.0):
        context, near = torch.tensor([value]), whole_poses()[label[:, 0] == value]
        density.check_mass(prior, near, context=context, whole=case.whole_mass, slack=case.slack)
        sampling.check_sample_moments(prior, near, context=context, slack=case.slack)


def derivatives(case: Case, prior: PosePrior) -> None:
    density.check_derivatives(prior, whole_poses(), smooth=case.whole_mass)


WHOLE |= {"mirror": mirror, "derivatives": derivatives}


def sample_moments(case: Case, prior: PosePrior) -> None:
    if not case.loose_bound:
        sampling.check_sample_moments(prior, shown_poses(), slack=case.slack)


def latents(case: Case, prior: PosePrior) -> None:
    if not case.loose_bound:
        sampling.check_latents(prior, wraps=not case.whole_mass)


#: Of a prior over one or two joints: integrals over all rotations.
INTEGRALS: dict[str, Check] = {
    "mass": lambda case, prior: density.check_mass(
        prior, shown_poses(), whole=case.whole_mass and not case.loose_bound, slack=case.slack
    ),
    "sample_moments": sample_moments,
    "marginals": lambda case, prior: density.check_marginals(prior, shown_poses(), slack=case.marginal_slack),
    "completion_moments": lambda case, prior: sampling.check_completion_moments(
        prior, shown_poses(), slack=case.completion_slack
    ),
    "completion_by_rejection": lambda case, prior: sampling.check_completion_by_rejection(prior, shown_poses()),
    "latents": latents,
    "far_poses_are_pulled_back": lambda case, prior: density.check_far_poses_are_pulled_back(prior, shown_poses()),
    "conditions": conditions,
}
