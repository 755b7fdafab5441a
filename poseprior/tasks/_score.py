"""`score`: how plausible poses are, and which joints are to blame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .._checks import check_whole
from .._chunks import ROWS
from ..evaluation.calibration import Calibration, standard_scores
from ..models.shared.masks import rows_by_mask
from ..prior import PosePrior
from ..skeleton import JOINT_SETS, NUM_JOINTS
from ..training.pose_rows import flatten

#: Samples whose joints replace a joint of the pose, and samples at most that say how surprising a joint usually is.
_CANDIDATES, _BASELINE = 16, 128
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
        part_percentile: for a prior of body and hands the percentile of each part that it models by itself, (*batch,)
            by "body", "left_hand" and "right_hand"; nan where a pose shows nothing of the part. Else empty.
        joint_percentile: (*batch,) 0 to 100: the share of the prior's own samples, masked the same way, whose least
            plausible joint is less plausible than that of the pose. One broken joint among many good ones shows here
            rather than in `percentile`; below 1 that joint is broken.
        attribution: (*batch, 55) nats, how much more surprising each joint is than in the prior's own samples; 0 where
            a joint is not observed or not modelled. Above 5 or so the joint does not fit the rest.
        attribution_kind: "conditional" or "replacement", see `score`.
    """

    log_prob: Tensor
    percentile: Tensor
    percentile_kind: Literal["held-out people", "own samples"]
    part_percentile: Mapping[str, Tensor]
    joint_percentile: Tensor
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
    check_whole("num_reference", num_reference, least=2 * _CANDIDATES)
    with torch.no_grad():
        log_prob = prior.log_prob(pose, observed=observed)  # checks the arguments too
        batch, flat, seen = flatten(prior, pose, observed)
        reference = prior.sample(num_reference, generator=generator)
        percentile = sample_percentile(prior, flat, seen, reference)
        parts = {}
        for name in _PARTS if sum(bool(set(JOINT_SETS[p]) & set(prior.joints)) for p in _PARTS) > 1 else ():
            own = torch.zeros_like(seen)
            own[:, list(JOINT_SETS[name])] = seen[:, list(JOINT_SETS[name])]
            usable = own.any(1) & prior.can_score(own)
            parts[name] = torch.full_like(percentile, torch.nan)
            parts[name][usable] = sample_percentile(prior, flat[usable], own[usable], reference)
        attribution = flat.new_zeros(len(flat), NUM_JOINTS)
        joint_percentile = torch.full_like(percentile, 50.0)
        for rows, mask in rows_by_mask(seen):
            joints = mask.nonzero()[:, 0]
            if len(joints):
                surprise = _conditional_surprise if prior.can_marginalise else _replacement_surprise
                candidates, baseline = reference[:_CANDIDATES], reference[_CANDIDATES : _CANDIDATES + _BASELINE]
                usual = surprise(prior, baseline, mask, joints, candidates)
                excess = surprise(prior, flat[rows], mask, joints, candidates) - usual.mean(0)
                attribution[rows[:, None], joints] = excess
                worst = (usual - usual.mean(0)).amax(1)
                joint_percentile[rows] = 100.0 * (worst > excess.amax(1, keepdim=True)).to(flat).mean(1)
    return ScoreResult(
        log_prob=log_prob,
        percentile=percentile.to(pose).reshape(batch),
        percentile_kind="held-out people" if "calibration" in prior.metadata else "own samples",
        part_percentile={name: part.to(pose).reshape(batch) for name, part in parts.items()},
        joint_percentile=joint_percentile.to(pose).reshape(batch),
        attribution=attribution.to(pose).reshape(*batch, NUM_JOINTS),
        attribution_kind="conditional" if prior.can_marginalise else "replacement",
    )


def sample_percentile(prior: PosePrior, pose: Tensor, seen: Tensor, reference: Tensor) -> Tensor:
    """(B,) percentiles of poses (B, 55, 3) with masks (B, 55), calibrated where the prior says how."""
    if "calibration" in prior.metadata:
        calibration = Calibration.from_dict(prior.metadata["calibration"])
        return calibration.percentile(pose, seen, standard_scores(prior, pose, seen, reference))
    result = pose.new_zeros(len(pose))
    for rows, mask in rows_by_mask(seen):
        usual = prior.log_prob(reference, observed=mask)
        own = prior.log_prob(pose[rows], observed=mask)[:, None]
        # Mid-rank: a pose with nothing observed stands in the middle.
        result[rows] = 50.0 * ((usual < own).to(pose).mean(1) + (usual <= own).to(pose).mean(1))
    return result


def _conditional_surprise(prior: PosePrior, pose: Tensor, mask: Tensor, joints: Tensor, candidates: Tensor) -> Tensor:
    """-log p(x_j | x_rest) of (R, 55, 3) poses for the k joints of the mask, (R, k)."""
    without = mask.expand(len(joints), -1).clone()
    without[torch.arange(len(joints), device=joints.device), joints] = False
    marginal = []
    for rows in pose.split(max(1, ROWS // len(joints))):
        rest = rows.repeat_interleave(len(joints), 0)
        marginal.append(prior.log_prob(rest, observed=without.repeat(len(rows), 1)).reshape(len(rows), -1))
    return torch.cat(marginal) - prior.log_prob(pose, observed=mask)[:, None]


def _replacement_surprise(prior: PosePrior, pose: Tensor, mask: Tensor, joints: Tensor, candidates: Tensor) -> Tensor:
    """max_c log p(x with x_j = c) - log p(x), at least 0, (R, k); c from (C, 55, 3) candidates."""
    swap = torch.nn.functional.one_hot(joints, NUM_JOINTS).bool()[:, None, :, None]  # (k, 1, 55, 1)
    own = prior.log_prob(pose, observed=mask)
    gains = []
    for row in pose:
        swapped = torch.where(swap, candidates.to(row), row).flatten(0, 1)
        gains.append(prior.log_prob(swapped, observed=mask).reshape(len(joints), -1).amax(1))
    return (torch.stack(gains) - own[:, None]).clamp_min(0.0)
