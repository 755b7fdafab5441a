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
        w1, b1, w2, b2, w3, b3 = tensors
        kept = ctx.needs_input_grad[0]
        outputs, hidden = [], []
        for part in _parts(x):
            h1 = torch.baddbmm(b1[part], x[part], w1[part]).relu_()
            h2 = torch.baddbmm(b2[part], h1, w2[part]).relu_()
            # Thin products are faster with the long side last.
            outputs.append(torch.bmm(w3[part].transpose(1, 2), h2.transpose(1, 2)).transpose(1, 2) + b3[part])
            if kept:
                hidden += [h1, h2]
        ctx.save_for_backward(w1, w2, w3, *hidden)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        w1, w2, w3, *hidden = ctx.saved_tensors
        result = []
        for part, h1, h2 in zip(_parts(grad), hidden[::2], hidden[1::2], strict=True):
            g = _where_positive_(torch.bmm(grad[part], w3[part].transpose(1, 2)), h2)
            g = _where_positive_(torch.bmm(g, w2[part].transpose(1, 2)), h1)
            result.append(torch.bmm(w1[part], g.transpose(1, 2)).transpose(1, 2))
        return (result[0] if len(result) == 1 else torch.cat(result), *(None,) * 6)


def _where_positive_(grad: Tensor, hidden: Tensor) -> Tensor:
    """grad * (hidden > 0), in place; several times faster than multiplying by a bool mask."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, hidden, 0, grad_input=grad)
    return result


def _parts(x: Tensor) -> list[slice]:
    groups, batch = x.shape[:2]
    step = max(1, _ROWS // max(1, batch))
    return [slice(start, start + step) for start in range(0, groups, step)]
