"""The default joint flow with frozen weights, written out: density and gradient to the pose only.

At batch 1 the price of `log_prob` is the number of tensor operations, on large batches it is memory traffic. With frozen
weights the regression, the whitening of its residual and the mirror signs go into the first layer; poses go through in
pieces that stay in the cache, value and gradient together. The equations are those of `JointMixtureFlow.log_prob`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..joint_flow.triangular_mixture import BROAD
from .autograd import in_pieces

#: Rows (joints x poses) that go through together.
_ROWS = 2048
LOG_NORMALISER = 1.5 * math.log(2.0 * math.pi)


class MixtureTables(NamedTuple):
    """What P joints with S context joints each need, hidden layers of H units and K components.

    Attributes:
        slots: (P S,) places of the context joints, any place where a joint has fewer than S.
        first: (P, 3 S + 3, H + 3), the context and the joint's own coordinates to the first layer's units and the whitened
            residual of the regression.
        first_bias: (P, 1, H + 3) where all context joints are known.
        absent: (P, S, H + 3), what the first layer gains where a context joint is unknown.
        second, second_bias, last, last_bias: (P, in, out) and (P, 1, out); the outputs are K logits, then centres,
            log-precisions and shears, coordinate by coordinate.
        volume: (P, 1, 1), what the log-density of every learned component gains.
        broad_level, broad_rate: (2,), log-density of the broad components at 0 and its slope in |w|^2.
        most_context: context coordinates are cut off here.
        log_precisions: least and most.
    """

    slots: Tensor
    first: Tensor
    first_bias: Tensor
    absent: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor
    volume: Tensor
    broad_level: Tensor
    broad_rate: Tensor
    most_context: float
    log_precisions: tuple[float, float]


def broad_tables(broad_weight: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """`broad_level` and `broad_rate` of a total share."""
    level = [math.log(broad_weight * share) - 3.0 * math.log(s) - LOG_NORMALISER for s, share in BROAD]
    return like.new_tensor(level), like.new_tensor([-0.5 / s**2 for s, _ in BROAD])


def value_and_gradient(t: MixtureTables, w: Tensor, observed: Tensor | None, need: bool) -> tuple[Tensor, Tensor]:
    """Sum over observed joints of log p(w_j | context), and its gradient.

    Args:
        t: tables of the weights.
        w: (B, P, 3) chart coordinates, zero where unobserved.
        observed: (B, P) bool; None where all joints are.
        need: whether the gradient is asked for.

    Returns:
        (B,) nats, Lebesgue in w, and (B, P, 3), of no meaning unless asked for.
    """
    return in_pieces(max(1, _ROWS // w.shape[1]), partial(_evaluate, t, need), w, observed)


def _evaluate(t: MixtureTables, need: bool, w: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
    # Inside, joints stand before poses.
    poses, joints, _ = w.shape
    width, hidden, components = t.absent.shape[1], t.second.shape[1], t.last.shape[2] // 10
    context = w.clamp(-t.most_context, t.most_context).index_select(1, t.slots).view(poses, joints, -1)
    bias = t.first_bias
    if observed is not None:
        absent = (~observed).to(w.dtype).index_select(1, t.slots).view(poses, joints, width)
        bias = torch.baddbmm(bias, absent.transpose(0, 1), t.absent)
    first = torch.baddbmm(bias, torch.cat([context, w], 2).transpose(0, 1), t.first)
    units, residual = first[..., :hidden], first[..., hidden:]
    more_units = torch.baddbmm(t.second_bias, torch.nn.functional.silu(units), t.second)
    raw = torch.baddbmm(t.last_bias, torch.nn.functional.silu(more_units), t.last)
    centre, log_precision, shear = raw[..., components:].unflatten(-1, (3, 3, components)).unbind(2)
    least, most = t.log_precisions
    bounded = log_precision.clamp(least, most)
    precision = bounded.exp()
    e = (residual[..., None] - centre).mul_(precision)  # (P, B, 3, K)
    f = e.clone()
    f[:, :, 1:].addcmul_(shear[:, :, :2], e[:, :, :1])
    f[:, :, 2].addcmul_(shear[:, :, 2], e[:, :, 1])
    own = raw[..., :components].log_softmax(-1)
    learned = bounded.sub_(f.square(), alpha=0.5).sum(2).add_(own).add_(t.volume)
    broad = torch.addcmul(t.broad_level, w.square().sum(-1).T[..., None], t.broad_rate)
    every = torch.cat([learned, broad], -1)
    log_share = every.log_softmax(-1)
    value = every[..., 0] - log_share[..., 0]
    seen = None if observed is None else observed.T.to(w.dtype)
    total = value.sum(0) if seen is None else (value * seen).sum(0)
    if not need:
        return total, total
    every_share = log_share.exp_()
    share = every_share[..., :components]
    grad_raw = torch.empty_like(raw)
    grad_centre, grad_log_precision, grad_shear = (
        grad_raw[..., components:].unflatten(-1, (3, 3, components)).unbind(2)
    )  # fmt: skip
    torch.sub(share, own.exp_().mul_(share.sum(-1, keepdim=True)), out=grad_raw[..., :components])
    grad = f.mul_(share[:, :, None]).neg_()  # to f, and from here on to e
    torch.mul(grad[:, :, 1:], e[:, :, :1], out=grad_shear[:, :, :2])
    torch.mul(grad[:, :, 2], e[:, :, 1], out=grad_shear[:, :, 2])
    grad[:, :, 0].addcmul_(shear[:, :, 0], grad[:, :, 1]).addcmul_(shear[:, :, 1], grad[:, :, 2])
    grad[:, :, 1].addcmul_(shear[:, :, 2], grad[:, :, 2])
    to_precision = torch.addcmul(share[:, :, None], grad, e)
    torch.ops.aten.hardtanh_backward.grad_input(to_precision, log_precision, least, most, grad_input=grad_log_precision)
    pull = grad.mul_(precision)
    torch.neg(pull, out=grad_centre)
    back = torch.ops.aten.silu_backward(torch.bmm(grad_raw, t.last.mT), more_units)
    back = torch.ops.aten.silu_backward(torch.bmm(back, t.second.mT), units)
    to_inputs = torch.bmm(torch.cat([back, pull.sum(-1)], -1), t.first.mT)  # (P, B, 3 S + 3)
    outward = 2.0 * (every_share[..., components:] @ t.broad_rate)  # (P, B)
    if seen is not None:
        to_inputs, outward = to_inputs.mul_(seen[..., None]), outward * seen
    to_inputs = to_inputs.transpose(0, 1)
    to_context = torch.zeros_like(w).index_add_(1, t.slots, to_inputs[..., :-3].reshape(poses, -1, 3))
    slope = torch.ops.aten.hardtanh_backward(to_context, w, -t.most_context, t.most_context)
    return total, slope.add_(to_inputs[..., -3:]).addcmul_(w, outward.T[..., None])
