"""The published joint flow with frozen weights as one written-out operation: density and gradient to the pose only.

The density of a joint depends on its own rotvec and its parent's, so its gradient is known as soon as its value is: the
forward pass computes both, a few groups at a time while their units are in the cache, and keeps six numbers of a joint
in place of four layers of units. (What is kept until `backward` is what costs: at batch 64 the kernel took longer to
hand out fresh pages for it than the products took.) Units stand before the batch, (groups, units, batch), so that the
thin products at both ends run along the batch. A second derivative takes the plain composition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

#: Rows (groups x batch) that go through together.
_ROWS = 2048
_LOG_NORMALISER = 1.5 * math.log(2.0 * math.pi)


def frozen_realnvp_log_prob(
    own: Tensor, context: Tensor, weights: Sequence[Tensor], plain: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """`JointRealNVP.log_prob` of all joints; gradients reach `own` and `context`, not the weights.

    Args:
        own: (G, B, 3) rotvecs.
        context: (G, B, 3) parents' rotvecs.
        weights: weight (G, in, out) and bias (G, 1, out) of the three layers of the coupling that moves component 1,
            then of the one that moves components 0 and 2.
        plain: the same function of `own` and `context`, composed of operations that autograd derives.

    Returns:
        (G, B) log-densities, Lebesgue in the rotvec.
    """
    result: Tensor = _FrozenRealNVP.apply(own, context, plain, *weights)
    return result


class _FrozenRealNVP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, own: Tensor, context: Tensor, plain: Callable[[Tensor, Tensor], Tensor], *weights: Tensor
    ) -> Tensor:
        step = max(1, _ROWS // max(1, own.shape[1]))
        with_gradient = any(ctx.needs_input_grad[:2])
        inputs = (own.transpose(1, 2), context.transpose(1, 2), *weights)
        # One set of units for all pieces: memory that is freed and taken again costs a page fault every 4 KB.
        units = own.new_empty(5, min(step, len(own)), weights[0].shape[-1], own.shape[1])
        results = [
            _value_and_gradient(x, c, w, units[:, : len(x)], with_gradient)
            for x, c, *w in zip(*(_pieces(t, step) for t in inputs), strict=True)
        ]
        values, gradients = zip(*results, strict=True)
        if with_gradient:
            ctx.plain = plain
            ctx.save_for_backward(_joined(gradients), own, context)
        return _joined(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradient, *inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: derive the composition, which can be derived again
            wanted = [x for x, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(ctx.plain(*inputs), wanted, grad, create_graph=True))
            own, context = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
        else:
            own, context = (gradient * grad[:, None]).transpose(1, 2).split(3, -1)
        return own, context, *(None,) * 13


def _value_and_gradient(
    x: Tensor, c: Tensor, w: Sequence[Tensor], units: Tensor, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """log p (G, B) of (G, 3, B) rotvecs and contexts, and its gradient (G, 6, B) to both; empty if not asked for.

    `units` (5, G, hidden, B) is room to work in.
    """
    outer = x[:, ::2]
    shift, log_scale = _network(torch.cat([outer, c], 1), w[:6], units[:2])
    scale = log_scale.exp()
    pushed = x[:, 1:2] * scale
    middle = pushed + shift
    outer_shift, outer_log_scale = _network(torch.cat([middle, c], 1), w[6:], units[2:4])
    outer_scale = outer_log_scale.exp()
    outer_pushed = outer * outer_scale
    outer_out = outer_pushed + outer_shift
    squares = outer_out.square().sum(1).add_(middle[:, 0].square())
    value = (log_scale[:, 0] + outer_log_scale.sum(1)).sub_(squares, alpha=0.5).sub_(_LOG_NORMALISER)
    if not with_gradient:
        return value, value[:0]
    # d value / d outer_out = -outer_out, d value / d log_scale = 1 + (what its scale moves) ...
    back = _network_gradient(-outer_out, 1.0 - outer_out * outer_pushed, outer_log_scale, w[6:], units[2:])
    g_middle = back[:, :1] - middle
    first = _network_gradient(g_middle, 1.0 + g_middle * pushed, log_scale, w[:6], units)
    g_outer = first[:, :2].addcmul_(outer_out, outer_scale, value=-1.0)
    gradient = torch.cat([g_outer[:, :1], g_middle * scale, g_outer[:, 1:], first[:, 2:] + back[:, 1:]], 1)
    return value, gradient


def _network(x: Tensor, w: Sequence[Tensor], units: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and log-scale (G, M, B) of inputs (G, I, B); leaves the hidden units in `units` (2, G, hidden, B)."""
    h1, h2 = units
    _affine(x, w[0], w[1], h1).relu_()
    _affine(h1, w[2], w[3], h2).relu_()
    shift, raw = _affine(h2, w[4], w[5]).chunk(2, 1)
    return shift, torch.tanh(raw.contiguous())


def _network_gradient(
    g_shift: Tensor, g_log_scale: Tensor, log_scale: Tensor, w: Sequence[Tensor], units: Tensor
) -> Tensor:
    """Gradient to the input (G, I, B) of `_network`; overwrites all of `units` but the first, the last is spare."""
    h1, h2, room = units[0], units[1], units[-1]
    g_raw = torch.addcmul(g_log_scale, g_log_scale * log_scale, log_scale, value=-1.0)
    g = _where_positive_(_product(w[4], torch.cat([g_shift, g_raw], 1), room), h2)
    g = _where_positive_(_product(w[2], g, h2), h1)
    return _product(w[0], g)


def _affine(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor | None = None) -> Tensor:
    """(G, out, B) of (G, in, B); a single row is faster as a row, and turning it costs nothing."""
    if x.shape[-1] == 1:
        return torch.baddbmm(bias, x.mT, weight, out=None if out is None else out.mT).mT
    return torch.baddbmm(bias.mT, weight.mT, x, out=out)


def _product(weight: Tensor, g: Tensor, out: Tensor | None = None) -> Tensor:
    """(G, in, B) of (G, out, B)."""
    if g.shape[-1] == 1:
        return torch.bmm(g.mT, weight.mT, out=None if out is None else out.mT).mT
    return torch.bmm(weight, g, out=out)


def _pieces(tensor: Tensor, step: int) -> Sequence[Tensor]:
    """The tensor in pieces of `step` groups."""
    return (tensor,) if len(tensor) <= step else tensor.split(step)


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(tuple(pieces))


def _where_positive_(grad: Tensor, hidden: Tensor) -> Tensor:
    """grad * (hidden > 0), in place; several times faster than multiplying by a bool mask."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, hidden, 0, grad_input=grad)
    return result
