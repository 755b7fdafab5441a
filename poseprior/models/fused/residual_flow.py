"""The default flow of `GlobalFlow` with frozen weights.

The order of the joints is folded into the whitening, and the mixing and the first layer of a coupling are one product. The
equations are those of `ResidualFlow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .density import Poses, fused_density
from .networks import Affine, Function, further_layers

#: Poses of a chunk.
_ROWS = 1024
#: Least ratio of a block's squared length to its degrees of freedom, so that quotients stay finite.
_LEAST_RATIO = 1e-12
#: Below this ratio the slope of the tails is a series, which rounding does not spoil.
_SMALL = 1e-3

#: The backward function of a coupling: takes the gradients of the coordinates after it (d, B) and of its log-determinant
#: (B,) to that of the coordinates before it.
CouplingGradient = Callable[[Tensor, Tensor | float], Tensor]


class CouplingTables(NamedTuple):
    """A `MixedCoupling` over d coordinates, of which it moves m, with a network of H units (and more layers, maybe).

    Attributes:
        inward: d coordinates to the moved ones, the kept ones, and the first layer's units.
        layers: after the first; the last gives m shifts and m raw log-scales.
        bound: of log-scales.
    """

    inward: Affine
    layers: Sequence[Affine]
    bound: Function


class ResidualTables(NamedTuple):
    """A `ResidualFlow` over D coordinates in K blocks.

    Attributes:
        whitener: D chart coordinates in the prior's order to whitened ones, block by block.
        membership: (K, D) ones where a coordinate belongs to a block.
        rate, scale: (K, 1) squared length of a whitened block to the ratio of `RadialTails`, and its scale.
        slack: (K, 1) dimensions less 2.
        level: (K, 1) added to the log-density of a block.
        couplings: of each block; dims: its length.
    """

    whitener: Affine
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
    u = t.whitener(w.flatten(0, 1))
    # Tails: v = u f, f = scale sqrt(log(1 + r) / r), in each block.
    ratio = (t.membership @ u.square() * t.rate).clamp_min(_LEAST_RATIO)
    log_term = torch.log1p(ratio)
    shrink = (log_term / ratio).sqrt()
    each = torch.addcmul(t.level, t.slack, shrink.log()) - log_term
    if counted is not None:
        counted = counted.T
        each = each * counted
    total = each.sum(0)
    factor = shrink * t.scale
    stretch = t.membership.mT @ factor
    parts = list((u * stretch).split(t.dims))
    couplings_gradients: list[list[CouplingGradient]] = [[] for _ in t.couplings]
    for k, stack in enumerate(t.couplings):
        for coupling in stack:
            parts[k], log_det, gradient_of = _couple(coupling, parts[k])
            couplings_gradients[k].append(gradient_of)
            total = total + (log_det if counted is None else log_det * counted[k])
    z = torch.cat(parts) if len(parts) > 1 else parts[0]
    weight = None if counted is None else t.membership.mT @ counted
    value = total - 0.5 * (z.square() if weight is None else z.square() * weight).sum(0)
    if not with_grad:
        return value, None
    grads = list((-z if weight is None else -z * weight).split(t.dims))
    for k, gradients in enumerate(couplings_gradients):
        for gradient_of in reversed(gradients):
            grads[k] = gradient_of(grads[k], 1.0 if counted is None else counted[k])
    grad_v = torch.cat(grads) if len(grads) > 1 else grads[0]
    # d log f / d r, and its series.
    past = 1.0 + ratio
    slope = torch.where(ratio > _SMALL, (ratio / (past * log_term) - 1.0) / (2.0 * ratio), -0.25 + ratio * (5.0 / 24.0))
    to_each = slope * t.slack - 1.0 / past
    if counted is not None:
        to_each *= counted
    to_ratio = (t.membership @ (grad_v * u)).mul_(factor).mul_(slope).add_(to_each)
    to_ratio = to_ratio.mul_(ratio > _LEAST_RATIO).mul_(t.rate)
    grad_u = (grad_v * stretch).addcmul_(u, t.membership.mT @ to_ratio, value=2.0)
    return value, t.whitener.gradient(grad_u).view_as(w)


def _couple(t: CouplingTables, v: Tensor) -> tuple[Tensor, Tensor, CouplingGradient]:
    """(d, B) coordinates after the coupling of v (d, B), its log-determinants (B,), and its backward function."""
    moves = len(t.layers[-1].bias) // 2
    moved, kept, units = t.inward(v).split((moves, len(v) - moves, len(t.inward.bias) - len(v)))
    outputs, layers_gradient = further_layers(units, t.layers)
    shift, raw = outputs.split(moves)
    log_scale, bound_gradient = t.bound(raw)
    scale = log_scale.exp()
    out = (moved + shift) * scale

    def gradient(grad: Tensor, grad_log_det: Tensor | float) -> Tensor:
        to_kept, to_out = grad.split((len(grad) - moves, moves))
        to_moved = to_out * scale
        to_raw = bound_gradient((to_out * out).add_(grad_log_det))
        to_units = layers_gradient(torch.cat([to_moved, to_raw]))
        return t.inward.gradient(torch.cat([to_moved, to_kept, to_units]))

    return torch.cat([kept, out]), log_scale.sum(0), gradient
