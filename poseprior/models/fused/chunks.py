"""Log-densities of large batches, a few rows at a time: a chunk's intermediate values stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def in_chunks(log_prob: Callable[..., Tensor], rows: int, x: Tensor, *others: Tensor | None) -> Tensor:
    """(B,) values of log_prob(x, *others), `rows` rows at a time.

    The gradient to x of a chunk is computed with its value, and all that leads to it is freed: memory and time for a row
    do not grow with the batch. Second derivatives are those of one evaluation of the whole batch.

    Args:
        log_prob: values (R,) of R rows, each independent of the others; differentiable in its first argument.
        rows: of a chunk, at least 1.
        x: (B, ...), what gradients reach.
        others: (B, ...) or None.
    """
    if len(x) <= rows:
        return log_prob(x, *others)
    if torch.is_grad_enabled() and x.requires_grad:
        value: Tensor = _InChunks.apply(x, log_prob, rows, others)[0]
        return value
    return torch.cat([log_prob(*chunk) for chunk in _split(rows, x, others)])


def _split(rows: int, x: Tensor, others: tuple[Tensor | None, ...]) -> Iterator[tuple[Tensor | None, ...]]:
    chunks = x.split(rows)
    columns = [[None] * len(chunks) if t is None else t.split(rows) for t in others]
    return zip(chunks, *columns, strict=True)


class _InChunks(torch.autograd.Function):
    """Values (B,) and their gradient (B, ...)."""

    @staticmethod
    def forward(
        x: Tensor, log_prob: Callable[..., Tensor], rows: int, others: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, Tensor]:
        values, gradients = [], []
        for chunk, *rest in _split(rows, x.detach(), others):
            with torch.enable_grad():
                assert chunk is not None
                leaf = chunk.requires_grad_()
                value = log_prob(leaf, *rest)
                gradients.append(torch.autograd.grad(value.sum(), leaf)[0])
            values.append(value.detach())
        return torch.cat(values), torch.cat(gradients)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.log_prob, _, ctx.others = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        x, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient must be differentiable itself
            (again,) = torch.autograd.grad(ctx.log_prob(x, *ctx.others), x, grad, create_graph=True)
            return again, None, None, None
        return gradient * grad.view(-1, *[1] * (x.dim() - 1)), None, None, None
