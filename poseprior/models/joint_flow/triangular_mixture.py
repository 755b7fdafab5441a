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

from ..._tracing import is_traced
from ..shared.broad_tails import BroadComponent
from ..shared.triangular import Triple, unit_lower_product, unit_lower_solve

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
#: Halvings of a bracket of at most 1e4 standardised units: down to float64 resolution.
_BISECTIONS = 60
#: Traced code cuts the bracket into this many parts at once, which is worth this many halvings: its graph is shorter.
_PARTS, _HALVINGS = 16, 4
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
        z = torch.bmm(y - self.mean, self.whitener().transpose(1, 2))
        first, second, third = ((z[..., None, :] - self.centre) * self.log_precision.exp()).unbind(-1)
        return unit_lower_product(self._shear_entries(), (first, second, third))

    def _shear_entries(self) -> Triple:
        a, b, c = self.shear.unbind(-1)
        return a, b, c

    def whitener(self) -> Tensor:
        """(P, 3, 3) T."""
        return self.lower.tril(-1) + torch.diag_embed(self.log_diagonal[:, 0].exp())

    def log_weights(self) -> Tensor:
        """(P, B, K + 2) log-weights of all components, the broad ones last."""
        broad = [math.log(self.broad_weight * share) for _, share in BROAD]
        tail = _constants(self.log_weight, broad).expand(*self.log_weight.shape[:-1], len(BROAD))
        return torch.cat([self.log_weight + math.log1p(-self.broad_weight), tail], -1)

    def standardise(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals of all components and their log-slopes d f_i / d y_i, both (P, B, K + 2, 3)."""
        f = torch.stack(self.residuals(y), -1)
        stddev = _constants(y, [broad.stddev for broad, _ in BROAD])[:, None]
        slope = self.log_precision + self.log_diagonal[..., None, :]
        broad_slope = (-stddev.log()).expand(*slope.shape[:-2], len(BROAD), 3)
        return torch.cat([f, y[..., None, :] / stddev], -2), torch.cat([slope, broad_slope], -2)


def _constants(like: Tensor, values: list[float]) -> Tensor:
    # Not `like.new_tensor`, which fails for the tensors of torch.func in older versions of torch.
    return torch.tensor(values, dtype=like.dtype, device=like.device)


def log_prob(y: Tensor, mixture: Mixture) -> Tensor:
    """(P, B) log-density of y (P, B, 3)."""
    b = mixture.broad_weight
    first, second, third = mixture.residuals(y)
    square = first.square() + second.square() + third.square()
    learned = mixture.log_weight + mixture.log_precision.sum(-1) - 0.5 * square
    learned = learned + (mixture.log_diagonal.sum(-1, keepdim=True) + (math.log1p(-b) - 3.0 * _HALF_LOG_2PI))
    level = _constants(y, [math.log(b * share) + broad.level for broad, share in BROAD])
    rate = _constants(y, [broad.rate for broad, _ in BROAD])
    tail = level + y.square().sum(-1, keepdim=True) * rate
    return torch.logsumexp(torch.cat([learned, tail], -1), -1)


def encode(y: Tensor, mixture: Mixture) -> Tensor:
    """Latents (..., 3) of y (..., 3), in float64 inside."""
    mixture = _double(mixture)
    f, slope = mixture.standardise(y.double())
    per_step = slope - 0.5 * f.square()
    before = torch.cumsum(per_step, -1) - per_step
    log_weight = (mixture.log_weights()[..., None] + before).log_softmax(-2)
    return _to_normal(f, log_weight).to(y.dtype)


def decode(latent: Tensor, mixture: Mixture) -> Tensor:
    """Inverse of `encode`: bisection, then one Newton step that also carries the exact gradient."""
    mixture = _double(mixture)
    target = latent.double()
    y = torch.zeros_like(target)
    log_weight = mixture.log_weights()
    for i in range(3):
        at_zero, slopes = mixture.standardise(y)
        offset, slope = at_zero[..., i], slopes[..., i]
        given = log_weight.log_softmax(-1)  # of the components, given the coordinates before
        found = _bisect(target[..., i], offset.detach(), slope.detach().exp(), given.detach())
        f = offset + slope.exp() * found[..., None]
        z = _to_normal(f, given, axis=-1)
        log_rate = torch.logsumexp(given + slope - 0.5 * f.square(), -1) + 0.5 * z.square()
        y_i = found + (target[..., i] - z) * torch.exp(-log_rate.detach())
        y = torch.cat([y[..., :i], y_i[..., None], y[..., i + 1 :]], -1)
        f = offset + slope.exp() * y_i[..., None]
        log_weight = log_weight + slope - 0.5 * f.square()
    return y.to(latent.dtype)


def draw(mixture: Mixture, generator: torch.Generator | None) -> Tensor:
    """(..., 3) exact draws: pick a component, then a Gaussian."""
    log_weight = mixture.log_weights()
    uniform = torch.rand(
        log_weight.shape[:-1], generator=generator, dtype=log_weight.dtype, device=log_weight.device
    )  # fmt: skip
    chosen = (log_weight.exp().cumsum(-1) < uniform[..., None]).sum(-1).clamp_max(log_weight.shape[-1] - 1)
    noise = torch.randn(*uniform.shape, 3, generator=generator, dtype=log_weight.dtype, device=log_weight.device)
    learned = mixture.log_weight.shape[-1]
    pick = chosen.clamp_max(learned - 1)[..., None, None].expand(*chosen.shape, 1, 3)
    centre, log_precision, shear = (
        t.gather(-2, pick)[..., 0, :] for t in (mixture.centre, mixture.log_precision, mixture.shear)
    )
    a, b, c = shear.unbind(-1)
    first, second, third = noise.unbind(-1)
    e = torch.stack(unit_lower_solve((a, b, c), (first, second, third)), -1)
    z = centre + e * torch.exp(-log_precision)
    residual = torch.linalg.solve_triangular(mixture.whitener(), z.transpose(1, 2), upper=False).transpose(1, 2)
    stddev = _constants(noise, [broad.stddev for broad, _ in BROAD])[(chosen - learned).clamp_min(0)][..., None]
    return torch.where((chosen >= learned)[..., None], stddev * noise, mixture.mean + residual)


def _to_normal(f: Tensor, log_weight: Tensor, *, axis: int = -2) -> Tensor:
    """Phi^-1(sum_k weight_k Phi(f_k)), from whichever tail is the smaller."""
    below = torch.logsumexp(log_weight + _log_ndtr(f), axis)
    above = torch.logsumexp(log_weight + _log_ndtr(-f), axis)
    tail = torch.minimum(below, above).clamp_min(-700.0)
    z = torch.special.ndtri(tail.exp())
    return torch.where(below <= above, z, -z)


def _log_ndtr(x: Tensor) -> Tensor:
    """log Phi(x)."""
    if not is_traced():
        return torch.special.log_ndtr(x)
    # For vmap, which has no rule for that function. Each branch is finite where the other is taken.
    low, high = x.clamp_max(-1.0), x.clamp_min(-1.0)
    tail = torch.log(0.5 * torch.special.erfcx(-low * math.sqrt(0.5))) - 0.5 * low.square()
    return torch.where(x < -1.0, tail, torch.log1p(-0.5 * torch.erfc(high * math.sqrt(0.5))))


def _bisect(target: Tensor, offset: Tensor, slope: Tensor, log_weight: Tensor) -> Tensor:
    most = target.detach().abs()[..., None] + 1.0
    low = ((-most - offset) / slope).amin(-1)
    width = ((most - offset) / slope).amax(-1) - low
    parts, rounds = (_PARTS, _BISECTIONS // _HALVINGS) if is_traced() else (2, _BISECTIONS)
    inner = torch.arange(1, parts, dtype=low.dtype, device=low.device) / parts
    for _ in range(rounds):
        cuts = low[..., None] + width[..., None] * inner
        f = offset[..., None, :] + slope[..., None, :] * cuts[..., None]
        below = _to_normal(f, log_weight[..., None, :], axis=-1) < target[..., None]
        low = low + width * (below.sum(-1) / parts)
        width = width / parts
    return (low + 0.5 * width).detach()


def _double(mixture: Mixture) -> Mixture:
    return Mixture(*(t.double() if isinstance(t, Tensor) else t for t in mixture))  # type: ignore[arg-type]
