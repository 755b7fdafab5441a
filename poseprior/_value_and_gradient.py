"""Values whose gradient is computed with them, as one operation for autograd."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ValueAndGradient(torch.autograd.Function):
    """Values (B,) of x (B, ...) and their gradient (B, ...); a row's value must depend on that row of x alone.

    `apply(x, both, value)`: `both` gives values and gradients at once, without autograd; `value` gives the values by
    operations that autograd derives, for second derivatives.
    """

    @staticmethod
    def forward(
        x: Tensor, both: Callable[[Tensor], tuple[Tensor, Tensor | None]], value: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        return both(x.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, _, ctx.value = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor, None, None]:
        x, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient must be differentiable itself
            (again,) = torch.autograd.grad(ctx.value(x), x, grad, create_graph=True)
            return again, None, None
        return gradient * grad.view(-1, *[1] * (x.dim() - 1)), None, None


# `apply` binds its arguments to the signature on every call, which costs as much as several tensor operations.
ValueAndGradient.forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [inspect.Parameter("inputs", inspect.Parameter.VAR_POSITIONAL)]
)


class ValueAndBackward(torch.autograd.Function):
    """A function of several tensors that gives its backward function with its value, as one operation for autograd.

    `apply(function, *tensors)`: `function(*tensors)` gives the value and the function from the value's gradient to those of
    the tensors. Its value consists of operations that autograd derives: second derivatives go through it.
    """

    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, Callable[[Tensor], Any]]], *tensors: Tensor) -> Tensor:
        value, ctx.gradients = function(*(tensor.detach() for tensor in tensors))
        ctx.function = function
        ctx.save_for_backward(*tensors)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not torch.is_grad_enabled():
            return None, *ctx.gradients(grad)
        tensors = ctx.saved_tensors  # create_graph: the gradients must be differentiable themselves
        value, _ = ctx.function(*tensors)
        wanted = [tensor for tensor in tensors if tensor.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, grad, create_graph=True))
        return None, *(next(found) if tensor.requires_grad else None for tensor in tensors)
