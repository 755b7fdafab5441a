"""Measurements of `benchmarks.density.scoreboard`: the same for every prior, on poses that no prior was trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.common import gradient_step, processor_ms
from benchmarks.hands.metrics import completion
from benchmarks.hands.right_hands import right_mask
from poseprior import PoseDataset, PosePrior, skeleton
from poseprior.evaluation import evaluate
from poseprior.rotations import add_tangent_noise, geodesic_distance
from poseprior.tasks import denoise

#: Tangent noise on the poses whose density is measured, radians: that of the shipped priors' training.
JITTER = 0.1
#: Noise that denoising takes away, radians (5.7 degrees).
NOISE = 0.1
SAMPLES, COMPLETED, DENOISED = 3000, 300, 100
BATCHES = (1, 1024)


def measure_body(prior: PosePrior, test: PoseDataset, own_rig: PoseDataset, *, max_poses: int) -> dict[str, Any]:
    """Everything about the body joints of a prior, on `test`; the density on other people of the training rig, too."""
    pose, observed = fully_observed_rows(prior, test, DENOISED)
    own = evaluate(prior, own_rig, jitter=JITTER, num_samples=0, num_completed=0, max_poses=max_poses)
    return {
        **evaluate(
            prior, test, jitter=JITTER, num_samples=SAMPLES, num_completed=COMPLETED, max_poses=max_poses
        ),
        "own_rig_nll": own["nll"],
        "denoise": denoising(prior, pose, observed),
    }  # fmt: skip


def measure_hands(prior: PosePrior, test: PoseDataset, right: Tensor, *, max_poses: int) -> dict[str, Any]:
    """Everything about the finger joints; `right` (N, 55, 3) are the test hands as right hands, shuffled."""
    few = right[:COMPLETED]
    jittered = add_tangent_noise(few, JITTER, generator=torch.Generator().manual_seed(1))
    result = evaluate(prior, test, jitter=JITTER, num_samples=SAMPLES, num_completed=0, max_poses=max_poses)
    try:
        result["fingers"] = completion(prior, few, jittered)
    except ValueError as error:
        result["fingers"] = {"reason": str(error)}
    mask = right_mask().expand(DENOISED, -1)
    result["denoise"] = denoising(prior, right[:DENOISED], mask)
    return result


def denoising(prior: PosePrior, pose: Tensor, observed: Tensor) -> dict[str, float]:
    """Mean rotation error in degrees over observed modelled joints, before and after the posterior mode."""
    noisy = add_tangent_noise(pose, NOISE, generator=torch.Generator().manual_seed(2))
    clean = denoise(prior, noisy, NOISE, observed=observed)
    joints = list(prior.joints)
    weight = observed[:, joints].double()

    def error(guess: Tensor) -> float:
        angle = torch.rad2deg(geodesic_distance(guess[:, joints], pose[:, joints])).double()
        return float((angle * weight).sum() / weight.sum())

    return {"noisy_deg": error(noisy), "denoised_deg": error(clean), "num_poses": len(pose)}


def measure_latency(prior: PosePrior) -> dict[str, float]:
    """Processor milliseconds of log_prob with its gradient to whole poses, by batch size, one thread."""
    pose = prior.sample(max(BATCHES), generator=torch.Generator().manual_seed(0))
    return {str(n): processor_ms(gradient_step(prior.log_prob, pose[:n])) for n in BATCHES}


def fully_observed_rows(prior: PosePrior, test: PoseDataset, count: int) -> tuple[Tensor, Tensor]:
    """Random test poses that observe every modelled body joint, and their masks."""
    pose, observed = test.all_poses()
    body = [j for j in prior.joints if j in skeleton.JOINT_SETS["body"]]
    rows = observed[:, body].all(1).nonzero()[:, 0]
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))[:count]]
    return pose[rows], observed[rows]
