"""The triangular (Knothe-Rosenblatt) map of a Gaussian mixture: a mixture density that is a flow.

A mixture of Gaussians over y in R^3 has closed-form conditionals, themselves mixtures of 1-D Gaussians,

    p(y_i | y_<i) = sum_k W_k(y_<i) N(y_i; c_k, s_k),      W_k ~ w_k prod_{l<i} N(y_l; c_k, s_k),

so z_i = Phi^-1(P(Y_i <= y_i | y_<i)) is an invertible map to N(0, I), the density it implies is the mixture itself, and
draws need no inversion. The inverse is in `mixture_inverse`. Source: Rosenblatt, "Remarks on a multivariate
transformation" (1952).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..._tracing import is_traced
from ..shared.broad_tails import BroadComponent
from ..shared.triangular import Triple, lower_solve, unit_lower_product, unit_lower_solve

#: The two broad components, in units of the chart, and the weight of each in their sum.
BROAD = ((BroadComponent(2.5, truncated=False), 0.9), (BroadComponent(6.0, truncated=False), 0.1))


class Mixture(NamedTuple):
    """Parameters of a batch of conditional mixtures.

    With the whitened residual z = T (y - mean), T lower triangular, component k standardises y to f = C_k e,
    e = (z - centre_k) exp(log_precision_k), C_k unit lower triangular.

    Attributes:
        log_weight: (..., K) log-weights of the learned components, which sum to 1.
        centre, log_precision: (..., K, 3).
        shear: (..., K, 3), entries 10, 20, 21 of C_k.
        mean: (P, B, 3).
        log_diagonal: (P, 1, 3) log-diagonal of T.
        lower: (P, 3, 3), T below the diagonal.
        broad_weight: total weight of the two broad components N(0, s^2 I) in y.
    """

    log_weight: Tensor
    centre: Tensor
    log_precision: Tensor
    shear: Tensor
    mean: Tensor
    log_diagonal: Tensor
    lower: Tensor
    broad_weight: float

    def residuals(self, y: Tensor) -> Triple:
        """Standardised residuals f of y (P, B, 3) under each learned component, three (P, B, K)."""
        z = torch.bmm(y - self.mean, whitener(self.log_diagonal, self.lower).mT)
        first, second, third = ((z[..., None, :] - self.centre) * self.log_precision.exp()).unbind(-1)
        a, b, c = self.shear.unbind(-1)
        return unit_lower_product((a, b, c), (first, second, third))

    def log_weights(self) -> Tensor:
        """(P, B, K + 2) log-weights of all components, the broad ones last."""
        broad = [math.log(self.broad_weight * share) for _, share in BROAD]
        tail = _constants(self.log_weight, broad).expand(*self.log_weight.shape[:-1], len(BROAD))
        return torch.cat([self.log_weight + math.log1p(-self.broad_weight), tail], -1)

    def standardise(self, y: Tensor) -> Tensor:
        """(P, B, K + 2, 3) residuals of all components."""
        f = torch.stack(self.residuals(y), -1)
        stddev = _constants(y, [broad.stddev for broad, _ in BROAD])[:, None]
        return torch.cat([f, y[..., None, :] / stddev], -2)

    def log_slopes(self) -> Tensor:
        """(P, B, K + 2, 3) logarithms of the derivatives of all components' residuals f_i with respect to y_i."""
        slope = self.log_precision + self.log_diagonal[..., None, :]
        broad = _constants(slope, [-math.log(broad.stddev) for broad, _ in BROAD])[:, None]
        return torch.cat([slope, broad.expand(*slope.shape[:-2], len(BROAD), 3)], -2)

    def double(self) -> Mixture:
        """The same in float64."""
        return Mixture(*(t.double() if isinstance(t, Tensor) else t for t in self))  # type: ignore[arg-type]


def _constants(like: Tensor, values: list[float]) -> Tensor:
    # Not `like.new_tensor`, which fails for the tensors of torch.func in older versions of torch.
    return torch.tensor(values, dtype=like.dtype, device=like.device)


def whitener(log_diagonal: Tensor, lower: Tensor) -> Tensor:
    """(P, 3, 3) lower-triangular T of its log-diagonals (P, 1, 3) and what is below them (P, 3, 3)."""
    return lower.tril(-1) + torch.diag_embed(log_diagonal[:, 0].exp())


def broad_terms(like: Tensor, broad_weight: float) -> tuple[Tensor, Tensor]:
    """(2,) log-densities at 0 of the broad components, their weights included, and (2,) their slopes in |y|^2."""
    level = _constants(like, [math.log(broad_weight * share) + broad.level for broad, share in BROAD])
    return level, _constants(like, [broad.rate for broad, _ in BROAD])


def encode(y: Tensor, mixture: Mixture) -> Tensor:
    """Latents (..., 3) of y (..., 3), in float64 inside."""
    mixture = mixture.double()
    f = mixture.standardise(y.double())
    per_step = mixture.log_slopes() - 0.5 * f.square()
    before = torch.cumsum(per_step, -1) - per_step
    log_weight = (mixture.log_weights()[..., None] + before).log_softmax(-2)
    return _to_normal(f, log_weight).to(y.dtype)


def draw(mixture: Mixture, generator: torch.Generator | None) -> Tensor:
    """(P, B, 3) exact draws."""
    like = mixture.mean
    uniform = torch.rand(like.shape[:-1], generator=generator, dtype=like.dtype, device=like.device)
    normal = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    return draw_of_noise(mixture, normal, uniform)


def draw_of_noise(mixture: Mixture, noise: Tensor, uniform: Tensor) -> Tensor:
    """(P, B, 3) draws: uniform numbers (P, B) pick components, and standard normal ones (P, B, 3) a point of each."""
    log_weight = mixture.log_weights()
    chosen = (log_weight.exp().cumsum(-1) < uniform[..., None]).sum(-1).clamp_max(log_weight.shape[-1] - 1)
    learned = mixture.log_weight.shape[-1]
    pick = chosen.clamp_max(learned - 1)[..., None, None].expand(*chosen.shape, 1, 3)
    centre, log_precision, shear = (
        t.gather(-2, pick)[..., 0, :] for t in (mixture.centre, mixture.log_precision, mixture.shear)
    )
    a, b, c = shear.unbind(-1)
    first, second, third = noise.unbind(-1)
    e = torch.stack(unit_lower_solve((a, b, c), (first, second, third)), -1)
    z = centre + e * torch.exp(-log_precision)
    residual = lower_solve(whitener(mixture.log_diagonal, mixture.lower)[:, None], z)
    stddev = _constants(noise, [broad.stddev for broad, _ in BROAD])[(chosen - learned).clamp_min(0)][..., None]
    return torch.where((chosen >= learned)[..., None], stddev * noise, mixture.mean + residual)


def _to_normal(f: Tensor, log_weight: Tensor) -> Tensor:
    """Phi^-1(sum_k weight_k Phi(f_k)) over axis -2, from whichever tail is the smaller."""
    below = torch.logsumexp(log_weight + log_ndtr(f), -2)
    above = torch.logsumexp(log_weight + log_ndtr(-f), -2)
    tail = torch.minimum(below, above).clamp_min(-700.0)
    z = torch.special.ndtri(tail.exp())
    return torch.where(below <= above, z, -z)


def log_ndtr(x: Tensor) -> Tensor:
    """log Phi(x)."""
    if not is_traced():
        return torch.special.log_ndtr(x)
    # For vmap, which has no rule for that function. Each branch is finite where the other is taken.
    low, high = x.clamp_max(-1.0), x.clamp_min(-1.0)
    tail = torch.log(0.5 * torch.special.erfcx(-low * math.sqrt(0.5))) - 0.5 * low.square()
    return torch.where(x < -1.0, tail, torch.log1p(-0.5 * torch.erfc(high * math.sqrt(0.5))))
