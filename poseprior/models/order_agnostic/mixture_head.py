"""A mixture of 3-D Student-t whose numbers come out of a network: the density of one joint given those before it.

Source: Bishop, "Mixture density networks" (1994); full scale matrices by inverse Cholesky factors after Williams (1996).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..shared.student_t import standard_draw, standard_log_prob
from ..shared.triangular import Triple, unit_lower_product, unit_lower_solve

#: Numbers for each component: a logit, a mean (3), log-scales (3) and the lower triangle of the inverse factor (3).
NUMBERS = 10
#: Log-scales are bounded softly: e^3 times wider or narrower than the base is as far as a component goes.
MOST_LOG_SCALE = 3.0
#: Where the inputs of the networks saturate, in their units.
MOST_INPUT = 3.0


def _split(raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(..., 10 K) into log-weights (..., K), means, log-scales and lower triangles (..., K, 3)."""
    k = raw.shape[-1] // NUMBERS
    logit, mean, log_scale, lower = raw.split((k, 3 * k, 3 * k, 3 * k), -1)
    bounded = MOST_LOG_SCALE * torch.tanh(log_scale / MOST_LOG_SCALE)
    return (
        logit.log_softmax(-1), mean.unflatten(-1, (k, 3)), bounded.unflatten(-1, (k, 3)), lower.unflatten(-1, (k, 3))
    )  # fmt: skip


def _factor_entries(lower: Tensor) -> Triple:
    """Entries of the unit triangular factor L with u = L w: those of its inverse are not independent of each other."""
    a, b, c = (-lower).unbind(-1)
    return a, b, c


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
    first, second, third = unit_lower_solve(_factor_entries(lower), (first, second, third))
    square = first.square() + second.square() + third.square()
    return (log_weight + standard_log_prob(square, dof) - log_scale.sum(-1)).logsumexp(-1)


def mixture_draw(raw: Tensor, dof: int | None, *, generator: torch.Generator | None = None) -> Tensor:
    """One draw from each mixture: (B, 10 K) network outputs to (B, 3)."""
    log_weight, mean, log_scale, lower = _split(raw)
    chosen = torch.multinomial(log_weight.exp(), 1, generator=generator)
    index = chosen[..., None].expand(-1, 1, 3)
    mean, log_scale, lower = (t.gather(1, index)[:, 0] for t in (mean, log_scale, lower))
    return _from_standard(mean, log_scale, lower, standard_draw(mean, dof, generator=generator))


def mixture_draw_of_noise(raw: Tensor, standard: Tensor, uniform: Tensor) -> Tensor:
    """`mixture_draw` as a function of its noise.

    Args:
        raw: (..., 10 K) network outputs.
        standard: (..., 3) draws of the standard Student-t.
        uniform: (...) numbers in [0, 1), which choose the components.

    Returns:
        (..., 3).
    """
    log_weight, mean, log_scale, lower = _split(raw)
    count = log_weight.shape[-1]
    chosen = (log_weight.exp().cumsum(-1) <= uniform[..., None]).to(torch.long).sum(-1).clamp_max(count - 1)
    one = torch.nn.functional.one_hot(chosen, count).to(mean.dtype)[..., None]
    return _from_standard((mean * one).sum(-2), (log_scale * one).sum(-2), (lower * one).sum(-2), standard)


def _from_standard(mean: Tensor, log_scale: Tensor, lower: Tensor, standard: Tensor) -> Tensor:
    """Draws (..., 3) of components, (..., 3) each, from standard ones."""
    first, second, third = standard.unbind(-1)
    unit = torch.stack(unit_lower_product(_factor_entries(lower), (first, second, third)), -1)
    return mean + log_scale.exp() * unit
