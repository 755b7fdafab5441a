"""A mixture of 3-D Student-t whose numbers come out of a network: the density of one joint given its context.

Source: Bishop, "Mixture density networks" (1994); full scale matrices by inverse Cholesky factors after Williams (1996).
Student-t components (Peel and McLachlan, 2000) do not punish a pose of an unseen subject as Gaussian ones do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Numbers for each component: a logit, a mean (3), log-scales (3) and the lower triangle of the inverse factor (3).
NUMBERS = 10
#: Log-scales are bounded softly: e^3 times wider or narrower than the base is as far as a component goes.
MOST_LOG_SCALE = 3.0


def standard_log_prob(square: Tensor, dof: int | None) -> Tensor:
    """Log-density of the standard 3-D Student-t, `dof` degrees of freedom (None: normal), where |e|^2 = `square`."""
    if dof is None:
        return -0.5 * square - 1.5 * math.log(2.0 * math.pi)
    constant = math.lgamma(0.5 * (dof + 3)) - math.lgamma(0.5 * dof) - 1.5 * math.log(dof * math.pi)
    return constant - 0.5 * (dof + 3) * torch.log1p(square / dof)


def standard_draw(like: Tensor, dof: int | None, *, generator: torch.Generator | None = None) -> Tensor:
    """Draws of that distribution in the shape (..., 3), type and device of `like`."""
    normal = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    if dof is None:
        return normal
    square = torch.randn(*like.shape[:-1], dof, generator=generator, dtype=like.dtype, device=like.device).square()
    return normal / square.mean(-1, keepdim=True).sqrt()


def _split(raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(..., 10 K) into log-weights (..., K), means, log-scales and lower triangles (..., K, 3)."""
    k = raw.shape[-1] // NUMBERS
    logit, mean, log_scale, lower = raw.split((k, 3 * k, 3 * k, 3 * k), -1)
    bounded = MOST_LOG_SCALE * torch.tanh(log_scale / MOST_LOG_SCALE)
    return (
        logit.log_softmax(-1), mean.unflatten(-1, (k, 3)), bounded.unflatten(-1, (k, 3)), lower.unflatten(-1, (k, 3))
    )  # fmt: skip


def mixture_log_prob(raw: Tensor, z: Tensor, dof: int | None) -> Tensor:
    """Log-density of the mixture.

    Component k whitens u = (z - mean_k) / scale_k by w_1 = u_1, w_2 = u_2 + a w_1, w_3 = u_3 + b w_1 + c w_2.

    Args:
        raw: (..., 10 K) network output.
        z: (..., 3).
        dof: degrees of freedom of the components; None for Gaussians.

    Returns:
        (...,) nats, Lebesgue in z.
    """
    log_weight, mean, log_scale, lower = _split(raw)
    first, second, third = ((z[..., None, :] - mean) * torch.exp(-log_scale)).unbind(-1)
    a, b, c = lower.unbind(-1)
    second = second + a * first
    third = third + b * first + c * second
    quadratic = first.square() + second.square() + third.square()
    return (log_weight + standard_log_prob(quadratic, dof) - log_scale.sum(-1)).logsumexp(-1)


def mixture_draw(raw: Tensor, dof: int | None, *, generator: torch.Generator | None = None) -> Tensor:
    """One draw from each mixture: (B, 10 K) network outputs to (B, 3)."""
    log_weight, mean, log_scale, lower = _split(raw)
    chosen = torch.multinomial(log_weight.exp(), 1, generator=generator)
    index = chosen[..., None].expand(-1, 1, 3)
    mean, log_scale, lower = (t.gather(1, index)[:, 0] for t in (mean, log_scale, lower))
    first, second, third = standard_draw(mean, dof, generator=generator).unbind(-1)
    a, b, c = lower.unbind(-1)
    unit = torch.stack((first, second - a * first, third - b * first - c * second), -1)
    return mean + log_scale.exp() * unit
