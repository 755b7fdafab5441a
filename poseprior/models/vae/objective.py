"""The training objective of a `VAECore`: importance-weighted bound, reconstruction, free bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .core import VAECore
from .inference import angle_sum, nearest_latent
from .layers import hide_some
from .options import VAEOptions


def log_mean_weight(likelihood: Tensor, ratio: Tensor) -> Tensor:
    """log 1/K sum_k exp(likelihood_k + ratio_k): (..., K) to (...)."""
    value = torch.logsumexp(likelihood + ratio, dim=-1)
    return value - math.log(likelihood.shape[-1])


def group_loss(core: VAECore, options: VAEOptions, rotvec: Tensor, seen: Tensor, kl_weight: float) -> Tensor:
    """Scalar loss, nats summed over poses, of one group of joints.

    Args:
        core: the autoencoder of the group.
        options: what it is trained for.
        rotvec: (B, J, 3).
        seen: (B, J) bool, some joint of each pose.
        kl_weight: present weight of log p(z) - log q(z | pose).
    """
    seen = hide_some(seen, options.mask_fraction)
    eps = torch.randn(len(rotvec), options.train_samples, core.dim, dtype=rotvec.dtype, device=rotvec.device)
    posterior = core.posterior(rotvec, seen)
    likelihood, ratio = core.weights_under(posterior, rotvec, seen, eps)
    loss = -log_mean_weight(likelihood, kl_weight * ratio).sum()
    mean, factor, _ = posterior
    if options.reconstruction_weight:
        loss = loss + options.reconstruction_weight * angle_sum(core, rotvec, seen, mean).sum()
        if options.refine_steps:
            z = _refined(core, rotvec, seen, options.refine_steps)
            loss = loss + options.reconstruction_weight * angle_sum(core, rotvec, seen, z).sum()
    if options.free_bits:
        # max(KL_d, free) = KL_d + relu(free - KL_d): the objective already holds the first term.
        variance = factor.square().sum(-1)
        kl = 0.5 * (mean.square() + variance - 1.0 - variance.log()).mean(0)
        loss = loss + kl_weight * torch.relu(options.free_bits - kl).sum() * len(rotvec)
    return loss


@torch.no_grad()
def _refined(core: VAECore, rotvec: Tensor, seen: Tensor, steps: int) -> Tensor:
    """(B, D) latents near the posterior mean that decode nearer, without dropout; constants to the objective."""
    training = core.training
    core.eval()
    z = nearest_latent(core, rotvec, seen, core.posterior(rotvec, seen)[0], steps=steps)
    core.train(training)
    return z
