"""The parts that several fused densities share: layers of small networks, and the components of a mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..shared.student_t import standard_log_prob
from ..shared.triangular import Triple

#: Weights (in, out) and biases (out,) of one network, or (G, in, out) and (G, 1, out) of G networks side by side.
Layers = tuple[tuple[Tensor, Tensor], ...]

#: Numbers for each component: a logit, a centre (3), log-precisions (3), entries of a triangular matrix (3).
NUMBERS = 10


def further_layers(units: Tensor, layers: Iterable[tuple[Tensor, Tensor]], activation: Callable[..., Tensor]) -> Tensor:
    """The layers that follow the first one: units (B, H) or (G, B, H) before their activation to outputs."""
    for weight, bias in layers:
        affine = torch.addmm if weight.dim() == 2 else torch.baddbmm
        units = affine(bias, activation(units), weight)
    return units


def component_log_probs(
    numbers: Tensor,
    residual: Tensor,
    *,
    bound: Callable[[Tensor], Tensor],
    whiten: Callable[[Triple, Triple], Triple],
    dof: int | None = None,
) -> Tensor:
    """Log of weight times density of K components of G mixtures.

    Args:
        numbers: (G, 10 K, N): K logits, then centres, log-precisions and triangular entries, coordinate by coordinate.
        residual: (G, 3, N).
        bound: of log-precisions.
        whiten: takes the triangular entries and the standardised residual to the whitened one.
        dof: degrees of freedom of the components; None for Gaussians.

    Returns:
        (G, K, N) nats.
    """
    k = numbers.shape[1] // NUMBERS
    logits, centre, log_precision, *entries = numbers.split((k, 3 * k, 3 * k, k, k, k), 1)
    bounded = bound(log_precision).unflatten(1, (3, k))
    e = (residual[:, :, None] - centre.unflatten(1, (3, k))) * bounded.exp()
    first, second, third = whiten((entries[0], entries[1], entries[2]), e.unbind(1))
    square = first.square() + second.square() + third.square()
    return standard_log_prob(square, dof) + bounded.sum(1) + logits.log_softmax(1)
