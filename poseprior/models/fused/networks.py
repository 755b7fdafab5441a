"""The parts that the fused densities share, each with its gradient: network layers, mixture components.

Poses stand last in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..shared.student_t import standard_log_prob
from ..shared.triangular import unit_lower_product, unit_lower_solve

#: Batches of matrix products with fewer columns than this are faster as products of rows.
_FEW_COLUMNS = 16

#: A function of one tensor: gives its value and its backward function, which takes the gradient of the value to that of
#: the tensor.
Function = Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]


class Affine(NamedTuple):
    """The affine map of one layer, or of G layers side by side.

    The weights are laid out twice, since products with one pose are several times as fast along contiguous rows.

    Attributes:
        weight: (out, in) or (G, out, in), contiguous.
        transposed: (in, out) or (G, in, out), contiguous.
        bias: (out, 1) or (G, out, 1).
    """

    weight: Tensor
    transposed: Tensor
    bias: Tensor

    @classmethod
    def of_rows(cls, weight: Tensor, bias: Tensor) -> Affine:
        """Copies, of the map x W + b of rows x, with W (in, out) and b (out,), or W (G, in, out) and b (G, 1, out)."""
        columns = bias.mT if bias.dim() > 1 else bias[:, None]
        return cls(*(t.clone(memory_format=torch.contiguous_format) for t in (weight.mT, weight, columns)))

    def __call__(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., out, B) of x (..., in, B); `bias` (..., out, B) in place of the layer's own."""
        bias = self.bias if bias is None else bias
        if x.dim() == 2:
            return torch.addmm(bias, self.weight, x)
        if x.shape[-1] < _FEW_COLUMNS:
            return torch.baddbmm(bias.mT, x.mT, self.transposed).mT
        return torch.baddbmm(bias, self.transposed.mT, x)

    def gradient(self, grad: Tensor) -> Tensor:
        """(..., in, B) gradient of x, of that of the outputs (..., out, B)."""
        if grad.dim() == 2:
            return self.transposed @ grad
        if grad.shape[-1] == 1:
            return torch.bmm(grad.mT, self.weight).mT
        if grad.shape[-1] < _FEW_COLUMNS:
            return torch.bmm(grad.mT, self.transposed.mT).mT
        return torch.bmm(self.transposed, grad)


def silu(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """SiLU, a `Function`."""
    return functional.silu(x), lambda grad: torch.ops.aten.silu_backward(grad, x)


def clamp(least: float, most: float) -> Function:
    """x cut off at both ends."""
    return lambda x: (x.clamp(least, most), lambda grad: torch.ops.aten.hardtanh_backward(grad, x, least, most))


def scaled_tanh(most: float) -> Function:
    """most tanh(x)."""

    def function(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        y = x.tanh()
        return most * y, lambda grad: torch.ops.aten.tanh_backward(most * grad, y)

    return function


def further_layers(units: Tensor, layers: Sequence[Affine]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Outputs of the layers that follow the first one, with SiLU before each, and their backward function to `units`.

    Args:
        units: (H, B) or (G, H, B), of the first layer before their activation.
        layers: after the first.
    """
    steps = []
    for layer in layers:
        active, activation_gradient = silu(units)
        steps.append((layer, activation_gradient))
        units = layer(active)

    def gradient(grad: Tensor) -> Tensor:
        for layer, activation_gradient in reversed(steps):
            grad = activation_gradient(layer.gradient(grad))
        return grad

    return units, gradient


class ComponentKind(NamedTuple):
    """What all components of a mixture have in common.

    A component whitens e = (residual - centre) exp(log_precision) to f = L e, or L f = e, L unit lower-triangular.

    Attributes:
        sizes: numbers of components whose weights sum to 1, in order.
        bound: of log-precisions.
        solved: whether L f = e.
        dof: degrees of freedom, Student-t; None for Gaussians.
    """

    sizes: Sequence[int]
    bound: Function
    solved: bool
    dof: int | None


def components(
    kind: ComponentKind, numbers: Tensor, residual: Tensor
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """The components of G mixtures, from the outputs of networks.

    Args:
        kind: what they have in common.
        numbers: (G, 10, K, N): logits, then centres, log-precisions and entries of L.
        residual: (G, 3, K or 1, N).

    Returns:
        (G, K, N) logarithms of weight times density, and their backward function, which gives the gradients of `numbers`
        (G, 10, K, N) and of the residuals (G, 3, K, N).
    """
    bounded, bound_gradient = kind.bound(numbers[:, 4:7])
    precision = bounded.exp()
    e = (residual - numbers[:, 1:4]) * precision
    triangular = unit_lower_solve if kind.solved else unit_lower_product
    f = torch.stack(triangular(numbers[:, 7:].unbind(1), e.unbind(1)), 1)  # type: ignore[arg-type]
    square = f.square().sum(1)
    logits = numbers[:, 0].split(kind.sizes, 1)
    log_weight = torch.cat([some.log_softmax(1) for some in logits], 1) if len(logits) > 1 else logits[0].log_softmax(1)

    def gradient(grad: Tensor) -> tuple[Tensor, Tensor]:
        result = grad.new_empty(len(grad), 10, *grad.shape[1:])
        weight = log_weight.exp()
        for out, own, some in zip(*(t.split(kind.sizes, 1) for t in (result[:, 0], weight, grad)), strict=True):
            torch.sub(some, own * some.sum(1, keepdim=True), out=out)
        to_f = f * (grad * standard_slope(square, kind.dof))[:, None]
        first, second, third = to_f.unbind(1)
        a, b, c = numbers[:, 7:].unbind(1)
        # The transposed system is the same one, last row first.
        to_e = torch.stack(triangular((c, b, a), (third, second, first))[::-1], 1)
        # Of L f = e the entries act with a minus, and on f itself.
        known, to_rows = (f, to_e) if kind.solved else (e, to_f)
        torch.mul(to_rows[:, 1:], known[:, :1], out=result[:, 7:9])
        torch.mul(to_rows[:, 2], known[:, 1], out=result[:, 9])
        if kind.solved:
            result[:, 7:].neg_()
        result[:, 4:7] = bound_gradient(torch.addcmul(grad[:, None], to_e, e))
        to_residual = to_e.mul_(precision)
        torch.neg(to_residual, out=result[:, 1:4])
        return result, to_residual

    return standard_log_prob(square, kind.dof).add_(bounded.sum(1)).add_(log_weight), gradient


def standard_slope(square: Tensor, dof: int | None) -> Tensor:
    """The factor of e in the gradient of `standard_log_prob` with respect to e, where square = |e|^2."""
    return torch.full_like(square, -1.0) if dof is None else (square + dof).reciprocal_().mul_(-(dof + 3.0))
