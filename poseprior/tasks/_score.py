"""`score`: how plausible poses are, and which joints are to blame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .._checks import check_whole
from .._pose_checks import MOST_DRAWS
from ..evaluation.calibration import calibration_of, standard_scores
from ..evaluation.surprise import CANDIDATES, joint_surprise
from ..models.shared.masks import rows_by_mask
from ..prior import PosePrior
from ..skeleton import JOINT_SETS, NUM_JOINTS
from ..training.pose_rows import check_prior, flatten

#: Parts that are judged by themselves, too.
_PARTS = ("body", "left_hand", "right_hand")


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """How plausible poses are.

    Attributes:
        log_prob: (*batch,) nats against Haar, over the observed modelled joints.
        percentile: (*batch,) 0 to 100. Where the prior's file holds a calibration: the share of the poses of held-out
            people that are less likely for what they show ("held-out people"). Elsewhere the share of the prior's own
            samples, masked the same way, that are less likely ("own samples"). Real poses spread over the scale; below
            1 means implausible.
        percentile_kind: "held-out people" or "own samples".
        part_percentile: for a prior of several parts ("body", "left_hand", "right_hand") the percentile of each of them by
            itself, (*batch,) by name; nan where a pose shows nothing of the part. Else empty.
        joint_percentile: (*batch,) 0 to 100: as `percentile`, of the pose's most surprising joint alone: the share of poses
            whose most surprising joint is more surprising. One broken joint among many good ones shows here rather than in
            `percentile`; below 1 that joint is broken.
        joint_percentile_kind: "held-out people" or "own samples".
        attribution: (*batch, 55) nats, how much more surprising each joint is than in the prior's own samples; 0 where
            a joint is not observed or not modelled. Above 5 or so the joint does not fit the rest.
        attribution_kind: "conditional" or "replacement", see `score`.
    """

    log_prob: Tensor
    percentile: Tensor
    percentile_kind: Literal["held-out people", "own samples"]
    part_percentile: Mapping[str, Tensor]
    joint_percentile: Tensor
    joint_percentile_kind: Literal["held-out people", "own samples"]
    attribution: Tensor
    attribution_kind: Literal["conditional", "replacement"]

    def __repr__(self) -> str:
        low = int((self.percentile < 1).sum()), int((self.joint_percentile < 1).sum())
        return (
            f"ScoreResult({self.log_prob.numel():,} poses, mean log_prob {float(self.log_prob.mean()):.1f} nats; below "
            f"percentile 1: {low[0]:,} poses among {self.percentile_kind}, {low[1]:,} by their worst joint)"
        )


def score(
    prior: PosePrior,
    pose: Tensor,
    *,
    observed: Tensor | None = None,
    num_reference: int = 512,
    generator: torch.Generator | None = None,
) -> ScoreResult:
    """Log-density of poses, where that stands among the prior's own samples, and which joints are to blame.

    The attribution of joint j is its surprise s_j less what the prior's own samples y get on average,

        a_j(x) = s_j(x) - E_y s_j(y),        s_j(x) = -log p(x_j | x_rest) = log p(x_rest) - log p(x),

    ("conditional"; for a Gaussian (d^2 - 3) / 2, with d the Mahalanobis distance given the other joints). A prior that
    cannot marginalise has no p(x_rest); there s_j is how much likelier the pose gets with joint j swapped for the best
    of 16 rotations of that joint from the prior's samples, at least 0 ("replacement"): the same culprits, on another
    scale. Where `prior.log_prob_kind` is "lower_bound", every log p here is that bound.

    Args:
        prior: any prior.
        pose: (*batch, 55, 3) rotvecs, radians.
        observed: (*batch, 55) bool; None means all.
        num_reference: samples of the prior to compare with; the attribution uses at most 128 of them.
        generator: of those samples, on the prior's device.

    Returns:
        `ScoreResult`, in the dtype of `pose`.

    Raises:
        ValueError: as `PosePrior.log_prob`; `num_reference` below 32.

    >>> from poseprior import GaussianPrior
    >>> result = score(GaussianPrior("body"), torch.zeros(2, 55, 3))
    >>> result.attribution.shape
    torch.Size([2, 55])
    """
    check_prior(prior)
    check_whole("num_reference", num_reference, least=2 * CANDIDATES, most=MOST_DRAWS)
    with torch.no_grad():
        log_prob = prior.log_prob(pose, observed=observed)  # checks the arguments too
        batch, flat, seen = flatten(prior, pose, observed)
        reference = prior.sample(num_reference, generator=generator)
        percentile = sample_percentile(prior, flat, seen, reference)
        parts = {}
        modelled = [name for name in _PARTS if set(JOINT_SETS[name]) & set(prior.joints)]
        for name in modelled if len(modelled) > 1 else ():
            own = torch.zeros_like(seen)
            own[:, list(JOINT_SETS[name])] = seen[:, list(JOINT_SETS[name])]
            usable = own.any(1) & prior.can_score(own)
            parts[name] = torch.full_like(percentile, torch.nan)
            parts[name][usable] = sample_percentile(prior, flat[usable], own[usable], reference)
        surprise = joint_surprise(prior, flat, seen, reference)
        calibration = calibration_of(prior)
        calibrated = calibration is not None and bool(calibration.worst_joint)
        joint_percentile = surprise.sample_percentile
        if calibration is not None and calibrated:
            joint_percentile = _middle_if_unseen(prior, seen, calibration.joint_percentile(flat, seen, surprise.score))
    return ScoreResult(
        log_prob=log_prob,
        percentile=percentile.to(pose).reshape(batch),
        percentile_kind="own samples" if calibration is None else "held-out people",
        part_percentile={name: part.to(pose).reshape(batch) for name, part in parts.items()},
        joint_percentile=joint_percentile.to(pose).reshape(batch),
        joint_percentile_kind="held-out people" if calibrated else "own samples",
        attribution=surprise.excess.to(pose).reshape(*batch, NUM_JOINTS),
        attribution_kind="conditional" if prior.can_marginalise else "replacement",
    )


def sample_percentile(prior: PosePrior, pose: Tensor, seen: Tensor, reference: Tensor) -> Tensor:
    """(B,) percentiles of poses (B, 55, 3) with masks (B, 55), calibrated where the prior says how."""
    calibration = calibration_of(prior)
    if calibration is not None:
        found = calibration.percentile(pose, seen, standard_scores(prior, pose, seen, reference))
        return _middle_if_unseen(prior, seen, found)
    result = pose.new_zeros(len(pose))
    for rows, mask in rows_by_mask(seen):
        usual = prior.log_prob(reference, observed=mask)
        own = prior.log_prob(pose[rows], observed=mask)[:, None]
        # Mid-rank: a pose with nothing observed stands in the middle.
        result[rows] = 50.0 * ((usual < own).to(pose).mean(1) + (usual <= own).to(pose).mean(1))
    return result


def _middle_if_unseen(prior: PosePrior, seen: Tensor, percentile: Tensor) -> Tensor:
    """Percentiles (B,), 50 for rows whose mask (B, 55) shows none of the prior's joints."""
    return percentile.where(seen[:, list(prior.joints)].any(1), 50.0)
