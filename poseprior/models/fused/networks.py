"""The parts that the fused densities share, each with its gradient: network layers, mixture components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..shared.student_t import standard_log_prob
from ..shared.triangular import unit_lower_solve

#: Weights (in, out) and biases (out,) of one network, or (G, in, out) and (G, 1, out) of G networks side by side.
Layers = Sequence[tuple[Tensor, Tensor]]


class Function(NamedTuple):
    """A function of one tensor: x to (value, saved), and (gradient to the value, saved) to the gradient to x."""

    forward: Callable[[Tensor], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor, Tensor], Tensor]


SILU = Function(lambda x: (functional.silu(x), x), torch.ops.aten.silu_backward)


def clamp(least: float, most: float) -> Function:
    """x cut off at both ends."""
    return Function(
        lambda x: (x.clamp(least, most), x),
        lambda grad, x: torch.ops.aten.hardtanh_backward(grad, x, least, most),
    )


def scaled_tanh(most: float) -> Function:
    """most tanh(x)."""

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.tanh()
        return most * y, y

    return Function(forward, lambda grad, y: torch.ops.aten.tanh_backward(most * grad, y))


def further_layers(units: Tensor, layers: Layers, activation: Function) -> tuple[Tensor, list[Tensor]]:
    """Outputs of the layers that follow the first one, and what the activations saved.

    Args:
        units: (B, H) or (G, B, H), of the first layer before their activation.
        layers: after the first.
        activation: before each of `layers`.
    """
    affine = torch.addmm if units.dim() == 2 else torch.baddbmm
    saved = []
    for weight, bias in layers:
        active, own = activation.forward(units)
        saved.append(own)
        units = affine(bias, active, weight)
    return units, saved


def further_layers_gradient(grad: Tensor, layers: Layers, activation: Function, saved: list[Tensor]) -> Tensor:
    """Gradient to `units` of `further_layers`, from that to its outputs."""
    product = torch.mm if grad.dim() == 2 else torch.bmm
    for (weight, _), one in zip(reversed(layers), reversed(saved), strict=True):
        grad = activation.backward(product(grad, weight.mT), one)
    return grad


class Components(NamedTuple):
    """K components of G mixtures, each of which whitens e = (residual - centre) exp(log_precision) to f.

    f = L e, or L f = e if `solved`, with L unit lower-triangular.

    Attributes:
        log_prob: (G, K, N) log of weight times density.
        log_weight: (G, K, N).
        saved: of the bound of log-precisions; precision: (G, 3, K, N).
        e, f: (G, 3, K, N).
        entries: (G, 3, K, N) of L.
        square: (G, K, N) |f|^2.
    """

    log_prob: Tensor
    log_weight: Tensor
    saved: Tensor
    precision: Tensor
    e: Tensor
    f: Tensor
    entries: Tensor
    square: Tensor


class ComponentKind(NamedTuple):
    """What all components have in common.

    Attributes:
        sizes: numbers of components whose weights sum to 1, in order.
        bound: of log-precisions.
        solved: as in `Components`.
        dof: degrees of freedom, Student-t; None for Gaussians.
    """

    sizes: Sequence[int]
    bound: Function
    solved: bool
    dof: int | None


def components(kind: ComponentKind, numbers: Tensor, residual: Tensor) -> Components:
    """The components from the outputs of networks.

    Args:
        kind: what they have in common.
        numbers: (G, 10, K, N): logits, then centres, log-precisions and entries of L.
        residual: (G, 3, K or 1, N).
    """
    bounded, saved = kind.bound.forward(numbers[:, 4:7])
    precision = bounded.exp()
    e = (residual - numbers[:, 1:4]) * precision
    if kind.solved:
        f = torch.stack(unit_lower_solve(numbers[:, 7:].unbind(1), e.unbind(1)), 1)  # type: ignore[arg-type]
    else:
        f = e.clone()
        f[:, 1:].addcmul_(numbers[:, 7:9], e[:, :1])
        f[:, 2].addcmul_(numbers[:, 9], e[:, 1])
    square = f.square().sum(1)
    logits = numbers[:, 0].split(kind.sizes, 1)
    log_weight = torch.cat([some.log_softmax(1) for some in logits], 1) if len(logits) > 1 else logits[0].log_softmax(1)
    log_prob = standard_log_prob(square, kind.dof).add_(bounded.sum(1)).add_(log_weight)
    return Components(log_prob, log_weight, saved, precision, e, f, numbers[:, 7:], square)


def components_gradient(kind: ComponentKind, c: Components, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients to `numbers` (G, 10, K, N) and the residuals (G, 3, K, N), from that to `log_prob` (G, K, N)."""
    result = grad.new_empty(len(grad), 10, *grad.shape[1:])
    weight = c.log_weight.exp()
    for out, own, some in zip(*(t.split(kind.sizes, 1) for t in (result[:, 0], weight, grad)), strict=True):
        torch.sub(some, own * some.sum(1, keepdim=True), out=out)
    slope = -grad if kind.dof is None else grad * (c.square + kind.dof).reciprocal_().mul_(-(kind.dof + 3.0))
    to_e = c.f * slope[:, None]
    first, second, third = to_e.unbind(1)
    a, b, d = c.entries.unbind(1)
    if kind.solved:  # L f = e: the entries act with a minus, and on f itself
        second.addcmul_(d, third, value=-1.0)
        first.addcmul_(a, second, value=-1.0).addcmul_(b, third, value=-1.0)
    known = c.f if kind.solved else c.e
    torch.mul(to_e[:, 1:], known[:, :1], out=result[:, 7:9])
    torch.mul(third, known[:, 1], out=result[:, 9])
    if kind.solved:
        result[:, 7:].neg_()
    else:
        first.addcmul_(a, second).addcmul_(b, third)
        second.addcmul_(d, third)
    result[:, 4:7] = kind.bound.backward(torch.addcmul(grad[:, None], to_e, c.e), c.saved)
    to_residual = to_e.mul_(c.precision)
    torch.neg(to_residual, out=result[:, 1:4])
    return result, to_residual
