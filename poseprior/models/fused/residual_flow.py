"""The default flow of `GlobalFlow` with frozen weights.

The order of the joints is folded into the whitening, and the mixing and the first layer of a coupling are one product. The
equations are those of `ResidualFlow`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .density import Poses, fused_density
from .networks import Function, Layers, further_layers

#: Poses of a chunk.
_ROWS = 512
#: Least ratio of a block's squared length to its degrees of freedom, so that quotients stay finite.
_LEAST_RATIO = 1e-12
#: Below this ratio the slope of the tails is a series, which rounding does not spoil.
_SMALL = 1e-3

#: The backward function of a coupling: takes the gradients of the coordinates after it (B, d) and of its log-determinant
#: (B, 1) to that of the coordinates before it.
CouplingGradient = Callable[[Tensor, Tensor | float], Tensor]


class CouplingTables(NamedTuple):
    """A `MixedCoupling` over d coordinates, of which it moves m, with a network of H units (and more layers, maybe).

    Attributes:
        inward: (d, d + H) to the moved coordinates, the kept ones, and the first layer's units.
        bias: (H,) of those units.
        layers: after the first; the last gives m shifts and m raw log-scales.
        bound: of log-scales.
    """

    inward: Tensor
    bias: Tensor
    layers: Layers
    bound: Function


class ResidualTables(NamedTuple):
    """A `ResidualFlow` over D coordinates in K blocks.

    Attributes:
        whitener: (D, D), chart coordinates in the prior's order to whitened ones, block by block.
        shift: (D,).
        membership: (D, K) ones where a coordinate belongs to a block.
        rate, scale: (K,) squared length of a whitened block to the ratio of `RadialTails`, and its scale.
        slack: (K,) dimensions less 2.
        level: (K,) added to the log-density of a block.
        couplings: of each block; dims: its length.
    """

    whitener: Tensor
    shift: Tensor
    membership: Tensor
    rate: Tensor
    scale: Tensor
    slack: Tensor
    level: Tensor
    couplings: tuple[tuple[CouplingTables, ...], ...]
    dims: tuple[int, ...]


def log_prob(tables: ResidualTables, poses: Poses, counted: Tensor | None) -> Tensor:
    """Log-density of the blocks that count.

    Args:
        tables: of the weights.
        poses: (B, J, 3) in the chart.
        counted: (B, K) ones where a block counts; None where all do.

    Returns:
        (B,) Haar nats.
    """
    return fused_density(partial(_evaluate, tables), _ROWS, poses, counted)


def _evaluate(t: ResidualTables, with_grad: bool, w: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor | None]:
    u = torch.addmm(t.shift, w.flatten(1), t.whitener)
    # Tails: v = u f, f = scale sqrt(log(1 + r) / r), in each block.
    ratio = (u.square() @ t.membership * t.rate).clamp_min(_LEAST_RATIO)
    log_term = torch.log1p(ratio)
    shrink = (log_term / ratio).sqrt()
    each = torch.addcmul(t.level, t.slack, shrink.log()) - log_term
    total = (each if counted is None else each * counted).sum(-1)
    factor = shrink * t.scale
    stretch = factor @ t.membership.mT
    parts = list((u * stretch).split(t.dims, 1))
    couplings_gradients: list[list[CouplingGradient]] = [[] for _ in t.couplings]
    for k, stack in enumerate(t.couplings):
        for coupling in stack:
            parts[k], log_det, gradient_of = _couple(coupling, parts[k])
            couplings_gradients[k].append(gradient_of)
            total = total + (log_det if counted is None else log_det * counted[:, k])
    z = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
    weight = None if counted is None else counted @ t.membership.mT
    value = total - 0.5 * (z.square() if weight is None else z.square() * weight).sum(-1)
    if not with_grad:
        return value, None
    grads = list((-z if weight is None else -z * weight).split(t.dims, 1))
    for k, gradients in enumerate(couplings_gradients):
        for gradient_of in reversed(gradients):
            grads[k] = gradient_of(grads[k], 1.0 if counted is None else counted[:, k, None])
    grad_v = torch.cat(grads, 1) if len(grads) > 1 else grads[0]
    # d log f / d r, and its series.
    past = 1.0 + ratio
    slope = torch.where(ratio > _SMALL, (ratio / (past * log_term) - 1.0) / (2.0 * ratio), -0.25 + ratio * (5.0 / 24.0))
    to_each = slope * t.slack - 1.0 / past
    if counted is not None:
        to_each *= counted
    to_ratio = ((grad_v * u) @ t.membership).mul_(factor).mul_(slope).add_(to_each)
    to_ratio = to_ratio.mul_(ratio > _LEAST_RATIO).mul_(t.rate)
    grad_u = (grad_v * stretch).addcmul_(u, to_ratio @ t.membership.mT, value=2.0)
    return value, (grad_u @ t.whitener.mT).view_as(w)


def _couple(t: CouplingTables, v: Tensor) -> tuple[Tensor, Tensor, CouplingGradient]:
    """(B, d) coordinates after the coupling of v (B, d), its log-determinants (B,), and its backward function."""
    moves = t.layers[-1][0].shape[1] // 2
    moved, kept, units = (v @ t.inward).split((moves, v.shape[1] - moves, len(t.bias)), 1)
    outputs, layers_gradient = further_layers(units + t.bias, t.layers)
    shift, raw = outputs.split(moves, 1)
    log_scale, bound_gradient = t.bound(raw)
    scale = log_scale.exp()
    out = (moved + shift) * scale

    def gradient(grad: Tensor, grad_log_det: Tensor | float) -> Tensor:
        to_kept, to_out = grad.split((grad.shape[1] - moves, moves), 1)
        to_moved = to_out * scale
        to_raw = bound_gradient((to_out * out).add_(grad_log_det))
        to_units = layers_gradient(torch.cat([to_moved, to_raw], 1))
        return torch.cat([to_moved, to_kept, to_units], 1) @ t.inward.mT

    return torch.cat([kept, out], 1), log_scale.sum(-1), gradient
