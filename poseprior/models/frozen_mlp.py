"""Grouped ReLU networks with frozen weights: the gradient to the input only, at the speed of the cache.

Autograd over a grouped network at batch 1,024 writes dozens of 14 MB tensors and waits for memory. With frozen weights
nothing is to be kept for them, so a few groups at a time can go all the way through while their units are in the cache,
in place. Same numbers, one node in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: Rows (groups x batch) that go through together: 1,024 rows of 64 units are 256 KB.
_ROWS = 1024

_Layer = tuple[Tensor, Tensor]


def grouped_relu_mlp(x: Tensor, layers: Sequence[_Layer]) -> Tensor:
    """Three affine maps with ReLU between, group by group; gradients reach `x` only.

    Args:
        x: (G, B, inputs).
        layers: weight (G, in, out) and bias (G, 1, out) of the three maps.

    Returns:
        (G, B, outputs).
    """
    result: Tensor = _FrozenMLP.apply(x, *(tensor for layer in layers for tensor in layer))
    return result


class _FrozenMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *tensors: Tensor) -> Tensor:
        step = max(1, _ROWS // max(1, x.shape[1]))
        outputs, hidden = [], []
        for part, w1, b1, w2, b2, w3, b3 in zip(*_pieces((x, *tensors), step), strict=True):
            h1 = torch.baddbmm(b1, part, w1).relu_()
            h2 = torch.baddbmm(b2, h1, w2).relu_()
            # Thin products are faster with the long side last.
            outputs.append(torch.bmm(w3.transpose(1, 2), h2.transpose(1, 2)).transpose(1, 2) + b3)
            if ctx.needs_input_grad[0]:
                hidden += [h1, h2]
        ctx.step = step
        ctx.save_for_backward(*tensors[::2], *hidden)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, hidden = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        result = []
        pieces = _pieces((grad, *weights), ctx.step)
        for part, w1, w2, w3, h1, h2 in zip(*pieces, hidden[::2], hidden[1::2], strict=True):
            g = _where_positive_(torch.bmm(part, w3.transpose(1, 2)), h2)
            g = _where_positive_(torch.bmm(g, w2.transpose(1, 2)), h1)
            result.append(torch.bmm(w1, g.transpose(1, 2)).transpose(1, 2))
        return (result[0] if len(result) == 1 else torch.cat(result), *(None,) * 6)


def _pieces(tensors: Sequence[Tensor], step: int) -> list[Sequence[Tensor]]:
    """Each tensor in pieces of `step` groups."""
    return [(t,) if len(t) <= step else t.split(step) for t in tensors]


def _where_positive_(grad: Tensor, hidden: Tensor) -> Tensor:
    """grad * (hidden > 0), in place; several times faster than multiplying by a bool mask."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, hidden, 0, grad_input=grad)
    return result
