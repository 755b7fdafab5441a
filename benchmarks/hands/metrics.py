"""Measurements of `benchmarks.hands.compare_priors`, for any prior over right hands and for PCA."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from benchmarks.hands.right_hands import RIGHT_HAND, right_mask
from poseprior import HandVAE, LatentPosePrior, PosePrior
from poseprior.evaluation import sample_metrics
from poseprior.kinematics import tip_positions
from poseprior.latent import interpolate_latent
from poseprior.rotations import geodesic_distance, rotvec_to_tangent, tangent_to_rotvec

#: K of the bound of variational priors in the table.
BOUND_SAMPLES = 64
_PAIRS = tuple(combinations(range(5), 2))
_CHUNK = 128


def mean_nll(prior: PosePrior, pose: Tensor, mask: Tensor) -> float:
    """Mean Haar nats of (N, 55, 3) over the joints of `mask`, (55,) or (N, 55)."""
    observed = mask.expand(len(pose), -1)
    total = 0.0
    with torch.no_grad():
        for p, o in zip(pose.split(_CHUNK), observed.split(_CHUNK), strict=True):
            if isinstance(prior, HandVAE):
                value = prior.bound(p, observed=o, num_samples=BOUND_SAMPLES)
            else:
                value = prior.log_prob(p, observed=o)
            total -= float(value.double().sum())
    return total / len(pose)


def reconstruction(first: Tensor, second: Tensor) -> dict[str, float]:
    """Mean rotation error in degrees and mean fingertip distance in millimetres of right hands (N, 55, 3)."""
    angle = geodesic_distance(first[:, list(RIGHT_HAND)], second[:, list(RIGHT_HAND)])
    tips = (tip_positions(first) - tip_positions(second))[:, 5:].norm(dim=-1)
    return {"degrees": float(torch.rad2deg(angle).mean()), "tip_mm": 1000.0 * float(tips.mean())}


def encode_decode(prior: LatentPosePrior, pose: Tensor) -> Tensor:
    """(N, 55, 3) after encoding and decoding."""
    with torch.no_grad():
        return torch.cat([prior.decode(prior.encode(p)) for p in pose.split(_CHUNK)])


class HandPCA:
    """PCA of 45 rotvec numbers, as SMPL-X and MANO have it."""

    def __init__(self, hands: Tensor) -> None:
        flat = hands.flatten(1).double()
        self.mean = flat.mean(0)
        self.axes = torch.linalg.svd(flat - self.mean, full_matrices=False).Vh

    def reconstruct(self, pose: Tensor, components: int) -> Tensor:
        """(N, 55, 3) right hands from their first coefficients."""
        axes = self.axes[:components]
        flat = pose[:, list(RIGHT_HAND)].flatten(1).double() - self.mean
        result = torch.zeros_like(pose)
        result[:, list(RIGHT_HAND)] = (flat @ axes.T @ axes + self.mean).unflatten(1, (15, 3)).to(pose)
        return result


def completion(prior: PosePrior, pose: Tensor, jittered: Tensor, *, num_samples: int = 10) -> dict[str, float]:
    """Two of five fingers hidden, all ten pairs in turn: fingertip error of draws, and log p(hidden | shown).

    Keys: `tip_mm` (mean over draws), `best_tip_mm` (best of `num_samples`), `conditional_nll` (a difference of two
    bounds for variational priors).
    """
    hidden = torch.zeros(len(pose), 5, dtype=torch.bool)
    for row in range(len(pose)):
        hidden[row, list(_PAIRS[row % len(_PAIRS)])] = True
    observed = right_mask().expand(len(pose), -1).clone()
    observed[:, 40:] &= ~hidden.repeat_interleave(3, dim=1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat(
        [
            prior.complete(p, o, num_samples=num_samples, generator=generator)
            for p, o in zip(pose.split(_CHUNK), observed.split(_CHUNK), strict=True)
        ],
        dim=1,
    )
    drawn[..., : RIGHT_HAND[0], :] = 0.0  # a prior of more than this hand draws the arm as well
    error = 1000.0 * (tip_positions(drawn)[..., 5:, :] - tip_positions(pose)[:, 5:]).norm(dim=-1)
    error = (error * hidden).sum(-1) / hidden.sum(-1)
    whole = mean_nll(prior, jittered, right_mask())
    return {
        "tip_mm": float(error.mean()),
        "best_tip_mm": float(error.amin(0).mean()),
        "conditional_nll": whole - mean_nll(prior, jittered, observed),
    }


def interpolation(prior: LatentPosePrior | None, judge: PosePrior, pose: Tensor, *, num: int = 11) -> dict[str, float]:
    """Paths between pairs of poses (the first half to the second): in latent space, or along geodesics for None.

    Keys: `unevenness` (longest step over mean step, mean rotation angle of the hand), `length` (path length over that
    of the geodesic), `middle_nll` (the middle pose under `judge`).
    """
    half = len(pose) // 2
    start, end = pose[:half], pose[half : 2 * half]
    if prior is None:
        step = rotvec_to_tangent(end, start)
        fraction = torch.linspace(0.0, 1.0, num)[:, None, None, None]
        path = tangent_to_rotvec(fraction * step, start.expand(num, *start.shape))
    else:
        with torch.no_grad():
            path = interpolate_latent(prior, start, end, num)
    index = list(RIGHT_HAND)
    steps = geodesic_distance(path[1:, :, index], path[:-1, :, index]).mean(-1)
    direct = geodesic_distance(path[-1][:, index], path[0][:, index]).mean(-1)
    return {
        "unevenness": float((steps.amax(0) / steps.mean(0)).mean()),
        "length": float((steps.sum(0) / direct).mean()),
        "middle_nll": mean_nll(judge, path[num // 2], right_mask()),
    }


def samples(prior: PosePrior, reference: Tensor) -> dict[str, float]:
    """Fréchet distance, precision and recall of draws against real hands (N, 55, 3)."""
    drawn = prior.sample(len(reference), generator=torch.Generator().manual_seed(0))
    return sample_metrics(drawn, reference, joints=RIGHT_HAND, max_poses=1500)


def measure(prior: PosePrior, judge: PosePrior, clean: Tensor, jittered: Tensor, *, max_poses: int) -> dict[str, Any]:
    """Everything above for one prior; what it cannot do is None."""
    few, few_jittered = clean[:max_poses], jittered[:max_poses]
    result: dict[str, Any] = {
        "nll": mean_nll(prior, jittered, right_mask()),
        "kind": prior.log_prob_kind,
        "parameters": prior.num_parameters,
        "samples": samples(prior, clean),
    }
    try:
        result["completion"] = completion(prior, few, few_jittered)
    except ValueError:
        result["completion"] = None
    if isinstance(prior, LatentPosePrior):
        result["reconstruction"] = reconstruction(encode_decode(prior, few), few)
        result["interpolation"] = interpolation(prior, judge, few)
    if isinstance(prior, HandVAE):
        result["active_units"] = prior.active_units(few)
        counts = (1, 4, 16, BOUND_SAMPLES)
        bounds = [prior.bound(few_jittered, observed=right_mask(), num_samples=k) for k in counts]
        result["bounds"] = {str(k): -float(b.mean()) for k, b in zip(counts, bounds, strict=True)}
    return result
