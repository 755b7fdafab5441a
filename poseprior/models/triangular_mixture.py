"""The triangular (Knothe-Rosenblatt) map of a Gaussian mixture: a mixture density that is a flow.

A mixture of Gaussians over y in R^3 has closed-form conditionals, themselves mixtures of 1-D Gaussians,

    p(y_i | y_<i) = sum_k W_k(y_<i) N(y_i; c_k, s_k),      W_k ~ w_k prod_{l<i} N(y_l; c_k, s_k),

so z_i = Phi^-1(P(Y_i <= y_i | y_<i)) is an invertible map to N(0, I), the density it implies is the mixture itself, and
draws need no inversion. Source: Rosenblatt, "Remarks on a multivariate transformation" (1952).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
#: Halvings of a bracket of at most 1e4 standardised units: down to float64 resolution.
_BISECTIONS = 60
#: Log of the largest precision, in units of the whitened residual; keeps a collapsed component from overflowing.
_MOST_LOG_PRECISION = 9.0
#: (standard deviation, share) of the two broad components, in units of the chart.
BROAD = ((2.5, 0.8), (8.0, 0.2))


class Mixture(NamedTuple):
    """Parameters of a batch of conditional mixtures.

    With the whitened residual z = T (y - mean), T lower triangular, component k standardises y to
    f = C_k (z - centre_k) e^(-log_scale_k), C_k unit lower triangular by forward recursion.

    Attributes:
        log_weight: (..., K) log shares of the learned components, summing to 1.
        centre, log_scale: (..., K, 3).
        shear: (..., K, 3), f_1 = e_1 + shear_0 f_0, f_2 = e_2 + shear_1 f_0 + shear_2 f_1.
        mean: (..., 3).
        whitener: (..., 6): three log-diagonals of T, then T_10, T_20, T_21.
        broad_weight: total share of the two broad components N(0, s^2 I) in y.
    """

    log_weight: Tensor
    centre: Tensor
    log_scale: Tensor
    shear: Tensor
    mean: Tensor
    whitener: Tensor
    broad_weight: float

    def shares(self) -> Tensor:
        """(..., K + 2) log shares of all components, the broad ones last."""
        broad = [math.log(self.broad_weight * share) for _, share in BROAD]
        tail = self.log_weight.new_tensor(broad).expand(*self.log_weight.shape[:-1], 2)
        return torch.cat([self.log_weight + math.log1p(-self.broad_weight), tail], -1)

    def standardise(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Each component's standardised residuals and their log-slopes d f_i / d y_i, both (..., K + 2, 3)."""
        r0, r1, r2 = (y - self.mean).unbind(-1)
        d0, d1, d2, t10, t20, t21 = self.whitener.unbind(-1)
        z = torch.stack([r0 * d0.exp(), r1 * d1.exp() + t10 * r0, r2 * d2.exp() + t20 * r0 + t21 * r1], -1)
        log_precision = (-self.log_scale).clamp_max(_MOST_LOG_PRECISION)
        e0, e1, e2 = ((z[..., None, :] - self.centre) * log_precision.exp()).unbind(-1)
        q0, q1, q2 = self.shear.unbind(-1)
        f1 = e1 + q0 * e0
        f = torch.stack([e0, f1, e2 + q1 * e0 + q2 * f1], -1)
        slope = log_precision + self.whitener[..., None, :3]
        spread = y.new_tensor([s for s, _ in BROAD])[:, None]
        broad_slope = (-spread.log()).expand(*slope.shape[:-2], 2, 3)
        return torch.cat([f, y[..., None, :] / spread], -2), torch.cat([slope, broad_slope], -2)


def log_prob(y: Tensor, mixture: Mixture) -> Tensor:
    """(...,) log-density of y (..., 3)."""
    f, slope = mixture.standardise(y)
    per_component = (slope - 0.5 * f.square()).sum(-1) - 3.0 * _HALF_LOG_2PI
    return torch.logsumexp(mixture.shares() + per_component, -1)


def encode(y: Tensor, mixture: Mixture) -> Tensor:
    """Latents (..., 3) of y (..., 3), in float64 inside."""
    mixture = _double(mixture)
    f, slope = mixture.standardise(y.double())
    per_step = slope - 0.5 * f.square()
    before = torch.cumsum(per_step, -1) - per_step
    share = (mixture.shares()[..., None] + before).log_softmax(-2)
    return _to_normal(f, share).to(y.dtype)


def decode(latent: Tensor, mixture: Mixture) -> Tensor:
    """Inverse of `encode`: bisection, then one Newton step that also carries the exact gradient."""
    mixture = _double(mixture)
    target = latent.double()
    y = torch.zeros_like(target)
    share = mixture.shares()
    for i in range(3):
        at_zero, slopes = mixture.standardise(y)
        offset, slope = at_zero[..., i], slopes[..., i]
        weight = share.log_softmax(-1)
        found = _bisect(target[..., i], offset.detach(), slope.detach().exp(), weight.detach())
        f = offset + slope.exp() * found[..., None]
        z = _to_normal(f, weight, axis=-1)
        log_rate = torch.logsumexp(weight + slope - 0.5 * f.square(), -1) + 0.5 * z.square()
        y_i = found + (target[..., i] - z) * torch.exp(-log_rate.detach())
        y = torch.cat([y[..., :i], y_i[..., None], y[..., i + 1 :]], -1)
        f = offset + slope.exp() * y_i[..., None]
        share = share + slope - 0.5 * f.square()
    return y.to(latent.dtype)


def draw(mixture: Mixture, generator: torch.Generator | None) -> Tensor:
    """(..., 3) exact draws: pick a component, then a Gaussian."""
    share = mixture.shares()
    uniform = torch.rand(share.shape[:-1], generator=generator, dtype=share.dtype, device=share.device)
    chosen = (share.exp().cumsum(-1) < uniform[..., None]).sum(-1).clamp_max(share.shape[-1] - 1)
    noise = torch.randn(*uniform.shape, 3, generator=generator, dtype=share.dtype, device=share.device)
    learned = mixture.log_weight.shape[-1]
    pick = chosen.clamp_max(learned - 1)[..., None, None].expand(*chosen.shape, 1, 3)
    centre, log_scale, shear = (
        t.gather(-2, pick)[..., 0, :] for t in (mixture.centre, mixture.log_scale, mixture.shear)
    )
    f0, f1, f2 = noise.unbind(-1)
    q0, q1, q2 = shear.unbind(-1)
    e = torch.stack([f0, f1 - q0 * f0, f2 - q1 * f0 - q2 * f1], -1)
    z0, z1, z2 = (centre + e * log_scale.clamp_min(-_MOST_LOG_PRECISION).exp()).unbind(-1)
    d0, d1, d2, t10, t20, t21 = mixture.whitener.unbind(-1)
    r0 = z0 * torch.exp(-d0)
    r1 = (z1 - t10 * r0) * torch.exp(-d1)
    r2 = (z2 - t20 * r0 - t21 * r1) * torch.exp(-d2)
    spread = share.new_tensor([s for s, _ in BROAD])[(chosen - learned).clamp_min(0)][..., None]
    return torch.where((chosen >= learned)[..., None], spread * noise, mixture.mean + torch.stack([r0, r1, r2], -1))


def _to_normal(f: Tensor, share: Tensor, *, axis: int = -2) -> Tensor:
    """Phi^-1(sum_k share_k Phi(f_k)), from whichever tail is the smaller."""
    below = torch.logsumexp(share + torch.special.log_ndtr(f), axis)
    above = torch.logsumexp(share + torch.special.log_ndtr(-f), axis)
    tail = torch.minimum(below, above).clamp_min(-700.0)
    z = torch.special.ndtri(tail.exp())
    return torch.where(below <= above, z, -z)


def _bisect(target: Tensor, offset: Tensor, slope: Tensor, share: Tensor) -> Tensor:
    reach = target.detach().abs()[..., None] + 1.0
    low = ((-reach - offset) / slope).amin(-1)
    high = ((reach - offset) / slope).amax(-1)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        less = _to_normal(offset + slope * middle[..., None], share, axis=-1) < target
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return (0.5 * (low + high)).detach()


def _double(mixture: Mixture) -> Mixture:
    tensors = (t.double() for t in mixture[:-1] if isinstance(t, Tensor))
    return Mixture(*tensors, broad_weight=mixture.broad_weight)
