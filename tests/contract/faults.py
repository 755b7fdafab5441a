"""Priors that are broken on purpose, each by a small patch, and the check that has to notice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .patches import (
    Patch,
    blind,
    change_log_prob,
    change_method,
    choice,
    flat_second_derivative,
    from_twin,
    jittered,
    leaking,
    no_mask,
    noise,
    noisy_in_training,
    not_stored,
    of_nothing_observed,
    on_right_joints,
    one_mask,
    option_not_stored,
    same_draw,
    shuffled,
    single,
    stale,
    swapped,
    without_flow_determinant,
    without_haar,
)


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Attributes:
        case: name in `prior_cases.CASES`.
        check: name in `by_case.WHOLE` or `by_case.INTEGRALS`.
        broken: a context manager that breaks the class of the prior it is given.
    """

    case: str
    check: str
    broken: Patch


#: Families with a way of their own to complete poses.
_COMPLETING = ("gaussian-full", "mixture", "joint-flow", "global-flow", "order-agnostic", "vae", "adapted")

FAULTS: dict[str, Fault] = {
    **{
        f"sampler noise x 0.7, {case}": Fault(case, "sample_moments", noise(0.7))
        for case in ("gaussian-diagonal", "gaussian-full", "mixture", "joint-flow", "global-flow", "vae",
                     "product", "joint-flow-published", "global-flow-published")
    },
    "sampler noise x 0.7, order-agnostic": Fault("order-agnostic", "sample_moments", noise(0.7, width=3)),
    "sampler noise x 1.15": Fault("gaussian-full", "sample_moments", noise(1.15)),
    "noise of completions x 0.7": Fault("gaussian-full", "completion_moments", noise(0.7, "_complete")),
    "log-determinant of the flow dropped": Fault(
        "global-flow", "log_determinant", change_method("_log_prob", without_flow_determinant)
    ),
    "log-determinant dropped, by the mass": Fault("joint-flow", "mass", change_method("_log_prob", without_flow_determinant)),
    "Haar density of the chart dropped": Fault("gaussian-full", "mass", change_log_prob(without_haar)),
    "wrong Haar constant": Fault(
        "gaussian-diagonal", "mass",
        change_log_prob(lambda prior, value, rotvec, observed: value + math.log(2) * observed.sum(-1)),
    ),
    "joints swapped in scatter": Fault("gaussian-full", "sample_moments", change_method("_scatter", swapped)),
    "joints of a body swapped": Fault("order-agnostic", "joints_go_where_they_belong", change_method("_scatter", swapped)),
    "mask ignored": Fault("mixture", "marginals", change_method("_log_prob", no_mask)),
    "mask ignored by a whole body": Fault("order-agnostic", "unobserved_values_are_ignored", change_method("_log_prob", no_mask)),
    "one mask for all rows": Fault("gaussian-full", "rows_have_masks_of_their_own", change_method("_log_prob", one_mask)),
    "unobserved values leak": Fault("mixture", "unobserved_values_are_ignored", change_method("_check_pose", leaking)),
    "mirror sign wrong": Fault("product-mirrored", "mirror", on_right_joints((1.0, 1.0, -1.0))),
    "mirror sign wrong in shared networks": Fault("order-agnostic-hands", "mirror", on_right_joints((-1.0, 1.0, 1.0))),
    "mirror left out of a variational model": Fault("hand-vae", "mirror", on_right_joints((1.0, -1.0, -1.0))),
    "broad component dropped in the sampler": Fault("joint-flow", "sample_moments", from_twin(broad_weight=1e-6)),
    "joints sampled independently": Fault("global-flow", "sample_moments", change_method("_sample", shuffled)),
    "mixture weights uniform in the sampler": Fault(
        "mixture", "sample_moments", choice(lambda original, prior, given: torch.ones_like(given), "_sample")
    ),
    "completions ignore what is observed": Fault("gaussian-full", "completion_moments", change_method("_complete", blind)),
    **{
        f"completions ignore what is observed, by rejection, {case}": Fault(
            case, "completion_by_rejection", change_method("_complete", blind)
        )
        for case in _COMPLETING
    },
    **{
        # Of the public method alone: some samplers are completions of nothing.
        f"noise of completions x 0.7, by rejection, {case}": Fault(
            case, "completion_by_rejection", noise(0.7, "complete", width=3 if case == "order-agnostic" else None)
        )
        for case in _COMPLETING
    },
    "component of a completion from the prior": Fault(
        "mixture", "completion_moments", choice(of_nothing_observed, "_complete")
    ),
    "one draw of a completion for all": Fault(
        "order-agnostic", "completion_keeps_what_is_observed", change_method("_complete", same_draw)
    ),
    "latent scale wrong in decode": Fault(
        "global-flow", "latents", change_method("_decode", lambda original, self, z, context: original(self, 0.85 * z, context))
    ),
    "latent scale wrong in decode of a variational model": Fault(
        "vae", "latents", change_method("_decode", lambda original, self, z, context: original(self, 0.7 * z, context))
    ),
    "decode no inverse of encode": Fault(
        "joint-flow", "latent_round_trip",
        change_method("_decode", lambda original, self, z, context: original(self, 0.99 * z, context)),
    ),
    "condition ignored": Fault(
        "global-flow-context", "conditions",
        change_method("_log_prob", lambda original, self, rotvec, observed, context: original(self, rotvec, observed, None)),
    ),
    "condition ignored by the sampler": Fault(
        "global-flow-context", "conditions",
        change_method("_sample", lambda original, self, num, generator, context: original(self, num, generator, None)),
    ),
    "gradient of a kernel wrong by 1 %": Fault(
        "joint-flow", "derivatives",
        change_log_prob(lambda prior, value, rotvec, observed: 1.01 * value - 0.01 * value.detach()),
    ),
    "second derivatives lost": Fault("global-flow", "derivatives", change_log_prob(flat_second_derivative)),
    "low precision inside": Fault("gaussian-full", "derivatives", change_method("_log_prob", single)),
    "chart mean not saved": Fault("gaussian-full", "save_and_load", not_stored(0)),
    "another buffer not saved": Fault("gaussian-full", "save_and_load", not_stored(1)),
    "option not saved": Fault("order-agnostic", "save_and_load", option_not_stored("broad_weight")),
    "jitter in log_prob": Fault("gaussian-diagonal", "randomness_is_the_generators", change_method("_log_prob", jittered)),
    "generator ignored": Fault(
        "mixture", "randomness_is_the_generators",
        change_method("_sample", lambda original, self, num, generator, context: original(self, num, None, context)),
    ),
    "density of the rotvec, not of the rotation": Fault(
        "gaussian-diagonal", "rotations_not_rotvecs",
        change_log_prob(lambda prior, value, rotvec, observed: value - 0.01 * rotvec.square().sum((1, 2))),
    ),
    "rotvecs of samples longer than pi": Fault(
        "gaussian-full", "shapes",
        change_method("_sample", lambda original, self, *args: original(self, *args) * 40.0),
    ),
    "infinite far away": Fault(
        "gaussian-full", "finite_everywhere",
        change_log_prob(lambda prior, value, rotvec, observed: value.where(value > -1000.0, value - math.inf)),
    ),
    "no pull from far away": Fault(
        "joint-flow", "far_poses_are_pulled_back",
        change_log_prob(lambda prior, value, rotvec, observed: value.clamp_min(-2.0)),
    ),
    "old weights in a cache": Fault("gaussian-full", "weights_matter", stale),
    "noise in training mode": Fault("gaussian-full", "mode_of_a_parent", noisy_in_training),
}  # fmt: skip
