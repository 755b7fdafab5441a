"""Held-out poses that a prior can score, and their mean negative log-density, the number that selects weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..io.dataset import PoseDataset
from ..prior import PosePrior
from ..rotations import add_tangent_noise, haar_log_density, wrap_rotvec
from .batches import derived_seed, nothing_observed
from .config import FitOptions
from .rig_noise import RigNoise

_BATCH = 2048


def jittered_rows(
    data: PoseDataset,
    joints: tuple[int, ...],
    jitter: float,
    *,
    seed: int,
    max_poses: int | None = None,
    rig_noise: RigNoise | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows that observe a modelled joint, under noise of a fixed seed.

    Args:
        data: held-out poses.
        joints: the prior's joints.
        jitter: radians.
        seed: of the jitter and of the subset.
        max_poses: a random subset of at most this many; None takes all.
        rig_noise: added before the jitter; None for none.

    Returns:
        (N, 55, 3) poses and (N, 55) observed. The noise of a pose depends on the seed and on the subset only.
    """
    _, pose, observed = _jittered(data, joints, jitter, seed, max_poses, rig_noise)
    return pose, observed


def _jittered(
    data: PoseDataset,
    joints: tuple[int, ...],
    jitter: float,
    seed: int,
    max_poses: int | None,
    rig_noise: RigNoise | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows (N,) of the data that `jittered_rows` takes, then its poses and masks."""
    rows = data.showing(joints).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(derived_seed(seed, 4))
    if max_poses is not None and len(rows) > max_poses:
        rows = rows[torch.randperm(len(rows), generator=generator)[:max_poses].sort().values]
    pose, observed = data.batch(rows)
    if rig_noise is not None:
        pose = rig_noise.apply(pose, observed, data.batch_imputed(rows), generator=generator)
    return rows, add_tangent_noise(pose, jitter, generator=generator), observed


def scorable(prior: PosePrior, observed: Tensor) -> Tensor:
    """(N,) bool: which masks (N, 55) show something that the prior can score."""
    return observed[:, list(prior.joints)].any(1) & prior.can_score(observed)


class HeldOut(NamedTuple):
    """Poses that a prior can score.

    Attributes:
        pose: (N, 55, 3) with noise.
        observed: (N, 55).
        context: (N, C), where the prior takes one and the data have it; else None.
        left_out: how many poses the prior cannot score.
    """

    pose: Tensor
    observed: Tensor
    context: Tensor | None
    left_out: int


def scorable_rows(
    prior: PosePrior,
    data: PoseDataset,
    argument: str,
    *,
    jitter: float,
    seed: int,
    max_poses: int | None = None,
    rig_noise: RigNoise | None = None,
) -> HeldOut:
    """`jittered_rows` whose masks the prior takes.

    Raises:
        ValueError: none is left; the message calls the data `argument`.
    """
    rows, pose, observed = _jittered(data, prior.joints, jitter, seed, max_poses, rig_noise)
    usable = scorable(prior, observed)
    if not bool(usable.any()):
        raise nothing_observed(argument, len(data), prior.joints, whole=not prior.can_marginalise)
    context = data.batch_context(rows[usable]) if prior.context_dim else None
    return HeldOut(pose[usable], observed[usable], context, int((~usable).sum()))


def held_out_rows(prior: PosePrior, data: PoseDataset, argument: str, options: FitOptions) -> HeldOut:
    """`scorable_rows` under the noise of a training, at most as many as it validates on."""
    return scorable_rows(
        prior, data, argument, jitter=options.jitter, seed=options.seed, max_poses=options.max_val_poses,
        rig_noise=options.rig_noise,
    )  # fmt: skip


def mean_nll(
    prior: PosePrior, pose: Tensor, observed: Tensor, context: Tensor | None = None, *, progress: bool = False
) -> float:
    """Mean of -log_prob over (N, 55, 3) poses, Haar nats, given their (N, C) contexts where there are any.

    Runs in eval mode and restores the mode.
    """
    return _mean(prior, pose, observed, context, lambda p, o, c: -prior.log_prob(p, observed=o, context=c), progress)


def mean_selection_penalty(prior: PosePrior, pose: Tensor, observed: Tensor) -> float:
    """Mean of the prior's `selection_penalty` over (N, 55, 3) poses, nats; 0 for priors without one. In eval mode too."""
    return _mean(prior, pose, observed, None, lambda p, o, _: prior.selection_penalty(*prior._check_pose(p, o)[1:]))


@torch.no_grad()
def _mean(
    prior: PosePrior,
    pose: Tensor,
    observed: Tensor,
    context: Tensor | None,
    value: Callable[[Tensor, Tensor, Tensor | None], Tensor | None],
    progress: bool = False,
) -> float:
    """Mean over poses of a value of batches, (B,) or None for 0."""
    was_training = prior.training
    prior.eval()
    total = 0.0
    for start in tqdm(range(0, len(pose), _BATCH), desc="evaluation: densities", disable=not progress):
        part = slice(start, start + _BATCH)
        found = value(pose[part], observed[part], None if context is None else context[part])
        total += 0.0 if found is None else float(found.double().sum())
    prior.train(was_training)
    return total / len(pose)


def mean_haar_log_density(prior: PosePrior, pose: Tensor, observed: Tensor) -> float:
    """Mean over poses of sum_j log h(rotvec_j), observed modelled joints: `nll_rotvec = nll - this`."""
    index = list(prior.joints)
    log_h = haar_log_density(wrap_rotvec(pose[:, index]))
    return float((log_h * observed[:, index]).sum(1).double().mean())


def mean_active_dims(prior: PosePrior, observed: Tensor) -> float:
    """Mean number of active dimensions of a pose: 3 for each observed modelled joint."""
    return 3.0 * float(observed[:, list(prior.joints)].double().sum(1).mean())
