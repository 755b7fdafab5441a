"""The published joint flow with frozen weights, written out: density and gradient to the pose only.

The density of a joint depends on its own rotvec and its parent's, so its gradient is known as soon as its value is: the
forward pass computes both, a few groups at a time while their units are in the cache, and keeps six numbers of a joint
in place of four layers of units. (What is kept until `backward` is what costs: at batch 64 the kernel took longer to
hand out fresh pages for it than the products took.) Units stand before the batch, (groups, units, batch), so that the
thin products at both ends run along the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Rows (groups x batch) that go through together.
_ROWS = 4096
_LOG_NORMALISER = 1.5 * math.log(2.0 * math.pi)
#: Components 0 and 2, component 1; and the parts of gradients: what is kept, then the context.
_OUTER, _MIDDLE = slice(None, None, 2), slice(1, 2)
_FIRST, _AFTER_FIRST, _PAIR, _AFTER_PAIR = slice(0, 1), slice(1, None), slice(0, 2), slice(2, None)


def value_and_gradient(own: Tensor, context: Tensor, weights: Sequence[Tensor], need: bool) -> tuple[Tensor, Tensor]:
    """`JointRealNVP.log_prob` of all joints, and its gradient.

    Args:
        own: (G, B, 3) rotvecs.
        context: (G, B, 3) parents' rotvecs.
        weights: weight (G, in, out) and bias (G, 1, out) of the three layers of the coupling that moves component 1,
            then of the one that moves components 0 and 2.
        need: whether the gradient is asked for.

    Returns:
        (G, B) log-densities, Lebesgue in the rotvec, and (G, B, 6) gradients to the rotvec and the parent's, of no meaning
        unless asked for.
    """
    groups, batch, _ = own.shape
    step = max(1, _ROWS // max(1, batch))
    # A single pose is a row (groups, 1, units): no product has to be turned, and turning is a tenth of the time.
    axis = 2 if batch == 1 else 1
    x, c = (own, context) if axis == 2 else (own.transpose(1, 2), context.transpose(1, 2))
    # One set of units for all pieces: memory that is freed and taken again costs a page fault every 4 KB.
    hidden = weights[0].shape[-1]
    shape = (1, hidden) if axis == 2 else (hidden, batch)
    units = own.new_empty(5, min(step, groups), *shape)
    if groups <= step:
        value, gradient = _value_and_gradient(x, c, weights, units, need, axis)
    else:
        results = [
            _value_and_gradient(some, given, w, units[:, : len(some)], need, axis)
            for some, given, *w in zip(*(t.split(step) for t in (x, c, *weights)), strict=True)
        ]
        value, gradient = (torch.cat(parts) for parts in zip(*results, strict=True))
    return value, gradient if axis == 2 or not need else gradient.transpose(1, 2)


def _value_and_gradient(
    x: Tensor, c: Tensor, w: Sequence[Tensor], units: Tensor, with_gradient: bool, axis: int
) -> tuple[Tensor, Tensor]:
    """log p (G, B) of rotvecs and contexts, and its gradient to both; empty if not asked for.

    Components lie along `axis`: 1 for (G, 3, B) and a gradient (G, 6, B), 2 for (G, 1, 3) and (G, 1, 6). `units`
    (5, G, hidden, B) or (5, G, 1, hidden) is room to work in.
    """

    def at(tensor: Tensor, part: slice) -> Tensor:
        return tensor[:, part] if axis == 1 else tensor[:, :, part]

    outer = at(x, _OUTER)
    shift, log_scale = _network(torch.cat([outer, c], axis), w[:6], units[:2], axis)
    scale = log_scale.exp()
    pushed = at(x, _MIDDLE) * scale
    middle = pushed + shift
    outer_shift, outer_log_scale = _network(torch.cat([middle, c], axis), w[6:], units[2:4], axis)
    outer_scale = outer_log_scale.exp()
    outer_pushed = outer * outer_scale
    outer_out = outer_pushed + outer_shift
    squares = outer_out.square().sum(axis).add_(middle.squeeze(axis).square())
    value = (log_scale.squeeze(axis) + outer_log_scale.sum(axis)).sub_(squares, alpha=0.5).sub_(_LOG_NORMALISER)
    if not with_gradient:
        return value, value[:0]
    # d value / d outer_out = -outer_out, d value / d log_scale = 1 + (what its scale moves) ...
    back = _network_gradient(-outer_out, 1.0 - outer_out * outer_pushed, outer_log_scale, w[6:], units[2:], axis)
    g_middle = at(back, _FIRST) - middle
    first = _network_gradient(g_middle, 1.0 + g_middle * pushed, log_scale, w[:6], units, axis)
    g_outer = at(first, _PAIR).addcmul_(outer_out, outer_scale, value=-1.0)
    g_context = at(first, _AFTER_PAIR) + at(back, _AFTER_FIRST)
    gradient = torch.cat([at(g_outer, _FIRST), g_middle * scale, at(g_outer, _AFTER_FIRST), g_context], axis)
    return value, gradient


def _network(x: Tensor, w: Sequence[Tensor], units: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Shift and log-scale (G, M, B) of inputs (G, I, B); leaves the hidden units in `units` (2, G, hidden, B)."""
    h1, h2 = units
    _affine(x, w[0], w[1], axis, h1).relu_()
    _affine(h1, w[2], w[3], axis, h2).relu_()
    shift, raw = _affine(h2, w[4], w[5], axis).chunk(2, axis)
    return shift, torch.tanh(raw.contiguous())


def _network_gradient(
    g_shift: Tensor, g_log_scale: Tensor, log_scale: Tensor, w: Sequence[Tensor], units: Tensor, axis: int
) -> Tensor:
    """Gradient to the input (G, I, B) of `_network`; overwrites all of `units` but the first, the last is spare."""
    h1, h2, room = units[0], units[1], units[-1]
    g_raw = torch.addcmul(g_log_scale, g_log_scale * log_scale, log_scale, value=-1.0)
    g = _where_positive_(_product(w[4], torch.cat([g_shift, g_raw], axis), axis, room), h2)
    g = _where_positive_(_product(w[2], g, axis, h2), h1)
    return _product(w[0], g, axis)


def _affine(x: Tensor, weight: Tensor, bias: Tensor, axis: int, out: Tensor | None = None) -> Tensor:
    """(G, out, B) of (G, in, B), or (G, 1, out) of (G, 1, in)."""
    return torch.baddbmm(bias, x, weight, out=out) if axis == 2 else torch.baddbmm(bias.mT, weight.mT, x, out=out)


def _product(weight: Tensor, g: Tensor, axis: int, out: Tensor | None = None) -> Tensor:
    """(G, in, B) of (G, out, B), or (G, 1, in) of (G, 1, out)."""
    return torch.bmm(g, weight.mT, out=out) if axis == 2 else torch.bmm(weight, g, out=out)


def _where_positive_(grad: Tensor, hidden: Tensor) -> Tensor:
    """grad * (hidden > 0), in place; several times faster than multiplying by a bool mask."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, hidden, 0, grad_input=grad)
    return result
