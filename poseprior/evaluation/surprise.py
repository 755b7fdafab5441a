"""How surprising each joint of a pose is, given its other joints.

The surprise of joint j is s_j(x) = -log p(x_j | x_rest) = log p(x_rest) - log p(x) ("conditional"; for a Gaussian
(d^2 - 3) / 2 and a constant, with d the Mahalanobis distance given the other joints). A prior that cannot marginalise has no
p(x_rest); there s_j is how much likelier the pose gets with joint j swapped for the best of 16 rotations of that joint from
the prior's samples, at least 0 ("replacement"): the same culprits, on another scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .._chunks import ROWS
from ..models.shared.masks import rows_by_mask
from ..prior import PosePrior
from ..skeleton import NUM_JOINTS

#: Samples whose joints replace a joint of the pose, and samples at most that say how surprising a joint usually is.
CANDIDATES, BASELINE = 16, 128
#: The quantile of the samples' largest excesses whose distance from their median is the unit of scores.
_HIGH = 0.84


@dataclass(frozen=True, kw_only=True)
class Surprise:
    """How surprising the joints of B poses are.

    Attributes:
        excess: (B, 55) nats, s_j less what the prior's own samples get on average; 0 where a joint is not observed or not
            modelled.
        score: (B,) how far the largest excess is below the median of those of the samples, in units of the distance from
            that median to the 84th percentile; 0 where nothing is observed.
        sample_percentile: (B,) 0 to 100, the share of the samples whose largest excess is above that of the pose; 50 where
            nothing is observed.
    """

    excess: Tensor
    score: Tensor
    sample_percentile: Tensor


@torch.no_grad()
def joint_surprise(prior: PosePrior, pose: Tensor, observed: Tensor, reference: Tensor) -> Surprise:
    """Compare the joints of poses with those of the prior's own samples under the same masks.

    Args:
        prior: any prior.
        pose: (B, 55, 3) rotvecs, radians.
        observed: (B, 55) bool.
        reference: (N, 55, 3) samples of the prior; the first 144 are used.
    """
    excess, score = pose.new_zeros(len(pose), NUM_JOINTS), pose.new_zeros(len(pose))
    percentile = torch.full_like(score, 50.0)
    of = _conditional if prior.can_marginalise else _replacement
    candidates, baseline = reference[:CANDIDATES], reference[CANDIDATES : CANDIDATES + BASELINE]
    for rows, mask in rows_by_shown_joints(prior, observed):
        joints = mask.nonzero()[:, 0]
        usual = of(prior, baseline, mask, joints, candidates)
        mean = usual.mean(0)
        own = of(prior, pose[rows], mask, joints, candidates) - mean
        excess[rows[:, None], joints] = own.to(excess)
        usual_worst, worst = (usual - mean).amax(1), own.amax(1)
        median, high = usual_worst.quantile(0.5), usual_worst.quantile(_HIGH)
        score[rows] = ((median - worst) / (high - median).clamp_min(1e-6)).to(score)
        percentile[rows] = 100.0 * (usual_worst > worst[:, None]).to(percentile).mean(1)
    return Surprise(excess=excess, score=score, sample_percentile=percentile)


def rows_by_shown_joints(prior: PosePrior, observed: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of masks (B, 55) that show the same of the prior's joints, and these (55,); without rows that show none."""
    modelled = torch.zeros(NUM_JOINTS, dtype=torch.bool, device=observed.device)
    modelled[list(prior.joints)] = True
    return ((rows, mask) for rows, mask in rows_by_mask(observed & modelled) if bool(mask.any()))


def _conditional(prior: PosePrior, pose: Tensor, mask: Tensor, joints: Tensor, candidates: Tensor) -> Tensor:
    """-log p(x_j | x_rest) of (R, 55, 3) poses for the k joints of the mask, (R, k)."""
    without = mask.expand(len(joints), -1).clone()
    without[torch.arange(len(joints), device=joints.device), joints] = False
    marginal = []
    for rows in pose.split(max(1, ROWS // len(joints))):
        rest = rows.repeat_interleave(len(joints), 0)
        marginal.append(prior.log_prob(rest, observed=without.repeat(len(rows), 1)).reshape(len(rows), -1))
    return torch.cat(marginal) - prior.log_prob(pose, observed=mask)[:, None]


def _replacement(prior: PosePrior, pose: Tensor, mask: Tensor, joints: Tensor, candidates: Tensor) -> Tensor:
    """max_c log p(x with x_j = c) - log p(x), at least 0, (R, k); c from (C, 55, 3) candidates."""
    swap = torch.nn.functional.one_hot(joints, NUM_JOINTS).bool()[:, None, :, None]  # (k, 1, 55, 1)
    own = prior.log_prob(pose, observed=mask)
    gains = []
    for row in pose:
        swapped = torch.where(swap, candidates.to(row), row).flatten(0, 1)
        gains.append(prior.log_prob(swapped, observed=mask).reshape(len(joints), -1).amax(1))
    return (torch.stack(gains) - own[:, None]).clamp_min(0.0)
