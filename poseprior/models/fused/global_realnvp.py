"""The published global flow with frozen weights, written out: density and gradient to the pose vector only.

At batch 1 the price of `log_prob` is the number of tensor operations. With frozen weights the two ActNorms and the
permutation between a coupling and the next are one scale, one shift and one choice of columns, which also puts the components
that the next coupling keeps first. The equations are those of `GlobalRealNVP`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .autograd import in_pieces

#: Poses that go through together.
_ROWS = 256


class StepTables(NamedTuple):
    """A coupling over D components, k of which it keeps, and the affine map before it.

    Attributes:
        columns, back: (D,) choice of columns that puts the kept components first, and its inverse.
        scale, shift: (D,) of the chosen columns.
        weights, biases: (in, out) and (out,) of the three layers; the last one gives shifts, then raw log-scales.
    """

    columns: Tensor
    back: Tensor
    scale: Tensor
    shift: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]


class GlobalTables(NamedTuple):
    """All couplings; scale and shift (D,) of what the last one gives; level (), what does not depend on the pose."""

    steps: tuple[StepTables, ...]
    scale: Tensor
    shift: Tensor
    level: Tensor


def value_and_gradient(t: GlobalTables, w: Tensor, need: bool) -> tuple[Tensor, Tensor]:
    """Log-densities (B,), nats, Lebesgue in w (B, D), and gradients (B, D), of no meaning unless asked for by `need`."""
    return in_pieces(_ROWS, partial(_evaluate, t, need), w)


def _evaluate(t: GlobalTables, need: bool, w: Tensor) -> tuple[Tensor, Tensor]:
    kept_by = []
    log_scales = []
    for step in t.steps:
        x = torch.addcmul(step.shift, w.index_select(1, step.columns), step.scale)
        kept, moved = x.split((len(step.weights[0]), x.shape[1] - len(step.weights[0])), 1)
        first = torch.addmm(step.biases[0], kept, step.weights[0]).relu_()
        second = torch.addmm(step.biases[1], first, step.weights[1]).relu_()
        shift, raw = torch.addmm(step.biases[2], second, step.weights[2]).split(moved.shape[1], 1)
        log_scale = raw.tanh()
        pushed = moved * log_scale.exp()
        w = torch.cat([kept, pushed + shift], 1)
        log_scales.append(log_scale)
        kept_by.append((first, second, pushed))
    z = torch.addcmul(t.shift, w, t.scale)
    value = torch.cat(log_scales, 1).sum(1).sub_(z.square().sum(1), alpha=0.5).add_(t.level)
    if not need:
        return value, value
    grad = z.mul_(-t.scale)
    for step, log_scale, (first, second, pushed) in zip(
        reversed(t.steps), reversed(log_scales), reversed(kept_by), strict=True
    ):
        to_kept, to_out = grad.split((len(step.weights[0]), pushed.shape[1]), 1)
        to_log_scale = (to_out * pushed).add_(1.0)
        # d tanh = 1 - tanh^2
        back = torch.cat([to_out, torch.addcmul(to_log_scale, to_log_scale * log_scale, log_scale, value=-1.0)], 1)
        back = torch.ops.aten.threshold_backward(back @ step.weights[2].mT, second, 0)
        back = torch.ops.aten.threshold_backward(back @ step.weights[1].mT, first, 0)
        to_kept = torch.addmm(to_kept, back, step.weights[0].mT)
        grad = torch.cat([to_kept, to_out * log_scale.exp()], 1).mul_(step.scale).index_select(1, step.back)
    return value, grad
