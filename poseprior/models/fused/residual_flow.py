"""The default flow of `GlobalFlow` with frozen weights, written out: density and gradient to the coordinates only.

At batch 1 the price of `log_prob` is the number of tensor operations. With frozen weights the order of the joints goes into
the whitening, and the mixing and the first layer of a coupling are one product. The equations are those of `ResidualFlow`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .autograd import in_pieces

#: Poses that go through together.
_ROWS = 512
#: Of the squared length of a block to its degrees of freedom.
_LEAST_RATIO = 1e-12
#: Below this ratio the slope of the tails is a series, which rounding does not spoil.
_SMALL = 1e-3


class CouplingTables(NamedTuple):
    """A `MixedCoupling` over d coordinates, of which it moves m, with a network of H units (and more layers, maybe).

    Attributes:
        inward: (d, d + H) to the moved coordinates, the kept ones, and the first layer's units.
        bias: (H,) of those units.
        layers: weights (in, out) and biases of the layers after the first; the last gives m shifts and m raw log-scales.
        most_log_scale: bound of log-scales.
    """

    inward: Tensor
    bias: Tensor
    layers: tuple[tuple[Tensor, Tensor], ...]
    most_log_scale: float


class ResidualTables(NamedTuple):
    """A `ResidualFlow` over D coordinates in K blocks.

    Attributes:
        whitener: (D, D), chart coordinates in the prior's order to whitened ones, block by block.
        shift: (D,).
        membership: (D, K) ones where a coordinate belongs to a block.
        rate, scale: (K,) squared length of a whitened block to the ratio of `RadialTails`, and its scale.
        slack: (K,) dimensions less 2.
        level: (K,) what the log-density of a block gains.
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


def value_and_gradient(t: ResidualTables, w: Tensor, there: Tensor | None, need: bool) -> tuple[Tensor, Tensor]:
    """Log-density of the blocks that are there, and its gradient.

    Args:
        t: tables of the weights.
        w: (B, D) chart coordinates in the prior's order, zero where unobserved.
        there: (B, K) ones where a block counts; None where all do.
        need: whether the gradient is asked for.

    Returns:
        (B,) nats, Lebesgue in w, and (B, D), of no meaning unless asked for.
    """
    return in_pieces(_ROWS, partial(_evaluate, t, need), w, there)


def _evaluate(t: ResidualTables, need: bool, w: Tensor, there: Tensor | None) -> tuple[Tensor, Tensor]:
    u = torch.addmm(t.shift, w, t.whitener)
    # Tails: v = u f, f = scale sqrt(log(1 + r) / r), in each block.
    ratio = (u.square() @ t.membership).mul_(t.rate).clamp_min_(_LEAST_RATIO)
    log_term = torch.log1p(ratio)
    shrink = (log_term / ratio).sqrt_()
    level = torch.addcmul(t.level, t.slack, shrink.log()).sub_(log_term)
    factor = shrink * t.scale
    stretch = factor @ t.membership.mT
    parts = list((u * stretch).split(t.dims, 1))
    steps: list[list[_Step]] = []
    for k, stack in enumerate(t.couplings):
        steps.append([])
        for coupling in stack:
            parts[k], step = _couple(coupling, parts[k])
            level[:, k] += step.log_scale.sum(-1)
            steps[k].append(step)
    z = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
    each = level.sub_(z.square() @ t.membership, alpha=0.5)
    value = (each if there is None else each * there).sum(-1)
    if not need:
        return value, value
    # From here on gradients, each block's times whether it is there.
    grads = list((-z if there is None else -z * (there @ t.membership.mT)).split(t.dims, 1))
    for k, stack in enumerate(t.couplings):
        own = 1.0 if there is None else there[:, k, None]
        for coupling, step in zip(reversed(stack), reversed(steps[k]), strict=True):
            grads[k] = _couple_gradient(coupling, step, grads[k], own)
    grad_v = torch.cat(grads, 1) if len(grads) > 1 else grads[0]
    # d log f / d r, and its series.
    past = 1.0 + ratio
    bend = torch.where(ratio > _SMALL, (ratio / (past * log_term) - 1.0) / (2.0 * ratio), -0.25 + ratio * (5.0 / 24.0))
    to_level = bend * t.slack - 1.0 / past
    if there is not None:
        to_level *= there
    to_ratio = ((grad_v * u) @ t.membership).mul_(factor).mul_(bend).add_(to_level)
    to_ratio = to_ratio.mul_(ratio > _LEAST_RATIO).mul_(t.rate)
    grad_u = (grad_v * stretch).addcmul_(u, to_ratio @ t.membership.mT, value=2.0)
    return value, grad_u @ t.whitener.mT


class _Step(NamedTuple):
    """What the gradient of a coupling needs; `hidden` are the layers before their activation."""

    hidden: list[Tensor]
    moved: Tensor
    log_scale: Tensor
    scale: Tensor


def _couple(t: CouplingTables, v: Tensor) -> tuple[Tensor, _Step]:
    """(B, d) moved coordinates of v (B, d)."""
    inward = v @ t.inward
    count = t.layers[-1][0].shape[1] // 2
    moved, kept, first = inward.split((count, v.shape[1] - count, len(t.bias)), 1)
    hidden = [first + t.bias]
    for weight, bias in t.layers[:-1]:
        hidden.append(torch.addmm(bias, functional.silu(hidden[-1]), weight))
    weight, bias = t.layers[-1]
    shift, raw = torch.addmm(bias, functional.silu(hidden[-1]), weight).split(count, 1)
    log_scale = raw.tanh().mul_(t.most_log_scale)
    scale = log_scale.exp()
    out = (moved + shift).mul_(scale)
    return torch.cat([kept, out], 1), _Step(hidden, out, log_scale, scale)


def _couple_gradient(t: CouplingTables, step: _Step, grad: Tensor, own: Tensor | float) -> Tensor:
    """(B, d) gradient to v, from that to what `_couple` gives; `own` is that to the sum of log-scales."""
    to_kept, to_out = grad.split((grad.shape[1] - step.moved.shape[1], step.moved.shape[1]), 1)
    to_moved = to_out * step.scale
    to_log_scale = to_out * step.moved + own
    # d tanh = 1 - tanh^2
    to_raw = to_log_scale * (t.most_log_scale - step.log_scale.square().mul_(1.0 / t.most_log_scale))
    back = torch.cat([to_moved, to_raw], 1)
    for (weight, _), hidden in zip(reversed(t.layers), reversed(step.hidden), strict=True):
        back = torch.ops.aten.silu_backward(back @ weight.mT, hidden)
    return torch.cat([to_moved, to_kept, back], 1) @ t.inward.mT
