"""How well a prior fills in hidden joints: position error of its draws, and the log-likelihood of the truth.

Works with every prior through `PosePrior.complete` and `PosePrior.log_prob`; what a prior cannot do comes back as None,
with the reason.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from tqdm import tqdm

from .._checks import check_number, check_whole
from ..kinematics import KEYPOINT_PARENTS, keypoint_positions
from ..prior import PosePrior
from ..rotations import add_tangent_noise
from ..skeleton import JOINT_SETS, NUM_JOINTS

#: Joints that each pattern hides. "trunk" leaves wrists (20, 21), ankles (7, 8) and head (15), as worn trackers would;
#: fingers go with their arm, fingers and jaw with the trunk. The root is never hidden.
COMPLETION_PATTERNS: dict[str, tuple[int, ...]] = {
    "left_arm": (13, 16, 18, 20, *JOINT_SETS["left_hand"]),
    "right_arm": (14, 17, 19, 21, *JOINT_SETS["right_hand"]),
    "legs": (1, 2, 4, 5, 7, 8, 10, 11),
    "trunk": tuple(j for j in range(1, NUM_JOINTS) if j not in (7, 8, 15, 20, 21)),
}
_CHUNK = 256


def completion_metrics(
    prior: PosePrior,
    poses: Tensor,
    observed: Tensor | None = None,
    *,
    num_samples: int = 10,
    num_poses: int = 1000,
    jitter: float = 0.02,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, dict[str, float | str | None]]:
    """Hide parts of real poses, let the prior complete them, and compare.

    Position errors are those of the body joints (of the neutral skeleton) that the hidden joints move; where these move
    none, as fingers, jaw and leaf joints do, of the keypoints they move. A hidden joint that the data did not measure
    takes part in the completion but not in the score: it is at rest in both poses. Conditions are the recorded poses;
    the log-likelihood is that of jittered poses, as every density here.

    Args:
        prior: any prior; its unmodelled joints are ignored.
        poses: (N, 55, 3) real poses, rotvecs, radians.
        observed: (N, 55) bool, what they measured; None means all.
        num_samples: completions of each pose; names the key `best_of_{num_samples}_mm`.
        num_poses: use at most this many poses for each pattern, drawn at random.
        jitter: tangent noise of the log-likelihood, radians.
        seed: of the subset, the noise and the draws.
        progress: show a tqdm bar.

    Returns:
        For each pattern of `COMPLETION_PATTERNS` that hides some, but not all, modelled and measured joints:
        `best_of_K_mm` and `mean_mm`, the mean joint error of the best of K draws and of all draws, averaged over
        poses; `cond_log_prob`, the mean over poses of log p(hidden | rest) = log p(all) - log p(rest), Haar nats;
        `num_poses`. Where the prior cannot, the value is None and `reason` says why.

    Raises:
        ValueError: poses or a mask of another shape, or numbers out of range.
    """
    check_whole("num_samples", num_samples, least=1)
    check_whole("num_poses", num_poses, least=1)
    check_whole("seed", seed)
    check_number("jitter", jitter, least=0.0)
    if poses.ndim != 3 or poses.shape[1:] != (NUM_JOINTS, 3):
        raise ValueError(f"poses: expected shape (N, {NUM_JOINTS}, 3), got {tuple(poses.shape)}; flatten the batch.")
    if observed is not None and (observed.dtype != torch.bool or observed.shape != poses.shape[:-1]):
        raise ValueError(
            f"observed: expected a bool tensor {tuple(poses.shape[:-1])}, got {observed.dtype} {tuple(observed.shape)}."
        )
    poses = poses.to(prior.device)
    modelled = torch.zeros(NUM_JOINTS, dtype=torch.bool, device=poses.device)
    modelled[list(prior.joints)] = True
    seen = modelled.expand(poses.shape[:-1]) if observed is None else modelled & observed.to(poses.device)
    results: dict[str, dict[str, float | str | None]] = {}
    for name, joints in tqdm(COMPLETION_PATTERNS.items(), desc="evaluation: completion", disable=not progress):
        hidden = torch.zeros_like(modelled)
        hidden[list(joints)] = True
        usable = (seen & hidden).any(1) & (seen & ~hidden).any(1)
        generator = torch.Generator(poses.device).manual_seed(seed)
        rows = usable.nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator, device=poses.device)[:num_poses]]
        if len(rows):
            args = (prior, poses[rows], seen[rows], hidden)
            errors = _position_errors(*args, num_samples, generator)
            density = _conditional_log_prob(*args, jitter, generator)
            results[name] = {**errors, **density, "num_poses": len(rows)}
            reasons = [str(part["reason"]) for part in (errors, density) if "reason" in part]
            if reasons:
                results[name]["reason"] = "; ".join(reasons)
    return results


def _position_errors(
    prior: PosePrior, poses: Tensor, seen: Tensor, hidden: Tensor, num_samples: int, generator: torch.Generator
) -> dict[str, float | str | None]:
    keys = (f"best_of_{num_samples}_mm", "mean_mm")
    best, mean = [], []
    for pose, mask in zip(poses.split(_CHUNK), seen.split(_CHUNK), strict=True):
        try:
            drawn = prior.complete(pose, mask & ~hidden, num_samples=num_samples, generator=generator)
        except (ValueError, NotImplementedError) as error:
            return {keys[0]: None, keys[1]: None, "reason": str(error)}
        error_mm = _keypoint_error_mm(drawn, pose, mask & hidden, mask)
        best.append(error_mm.amin(0))
        mean.append(error_mm.mean(0))
    return {keys[0]: float(torch.cat(best).mean()), keys[1]: float(torch.cat(mean).mean())}


def _conditional_log_prob(
    prior: PosePrior, poses: Tensor, seen: Tensor, hidden: Tensor, jitter: float, generator: torch.Generator
) -> dict[str, float | str | None]:
    if prior.log_prob_kind != "exact":
        kind = prior.log_prob_kind.replace("_", " ")
        return {"cond_log_prob": None, "reason": f"a difference of two {kind}s bounds no conditional"}
    noisy = add_tangent_noise(poses, jitter, generator=generator)
    total = 0.0
    for pose, mask in zip(noisy.split(_CHUNK), seen.split(_CHUNK), strict=True):
        try:
            with torch.no_grad():
                gain = prior.log_prob(pose, observed=mask) - prior.log_prob(pose, observed=mask & ~hidden)
        except (ValueError, NotImplementedError) as error:
            return {"cond_log_prob": None, "reason": str(error)}
        total += float(gain.double().sum())
    mean = total / len(poses)
    return {"cond_log_prob": mean} if math.isfinite(mean) else {"cond_log_prob": None, "reason": f"got {mean}"}


def _keypoint_error_mm(drawn: Tensor, truth: Tensor, scored: Tensor, seen: Tensor) -> Tensor:
    """(S, B) mean distance over the keypoints that the scored joints move; joints neither scored nor seen at rest."""
    truth = torch.where(seen[..., None], truth, torch.zeros_like(truth))
    filled = torch.where(scored[..., None], drawn, truth)
    distance = 1000.0 * (keypoint_positions(filled) - keypoint_positions(truth)).norm(dim=-1)
    weight = moved_keypoint_mask(scored).to(distance)
    return (distance * weight).sum(-1) / weight.sum(-1)


def moved_keypoint_mask(joints: Tensor) -> Tensor:
    """Which of the 71 keypoints measure each row's joints, (B, 71) bool from (B, 55) bool.

    The body joints (1 to 21) below a joint of the row; where there is none (fingers, jaw, a leaf), all keypoints below.
    """
    moved = [torch.zeros_like(joints[:, 0])]
    for parent in KEYPOINT_PARENTS[1:]:
        moved.append(moved[parent] | joints[:, parent])
    below = torch.stack(moved, 1)
    body = below.clone()
    body[:, 22:] = False
    return torch.where(body.any(1, keepdim=True), body, below)
