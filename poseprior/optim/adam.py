"""`adam`: `torch.optim.Adam` on the rows of a batch, for energies too rough or too noisy for L-BFGS."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._checks import check_number, check_switch, check_whole
from .._inference_mode import leaves_inference_mode
from .energy import Energy, Minimum, value_and_gradient

_BETAS = (0.9, 0.99)


@leaves_inference_mode
def adam(
    energy: Energy,
    start: Tensor,
    *,
    iterations: int = 300,
    learning_rate: float = 0.05,
    tolerance: float = 1e-3,
    noisy: bool = False,
) -> Minimum:
    """The lowest point that Adam meets, row by row, with a learning rate that falls to zero along a cosine.

    Adam scales every coordinate by itself, so that rows do not change each other.

    Args:
        energy: differentiable, (R, D) to (R,); gradients that are not finite count as zero.
        start: (R, D), scaled so that one unit is a natural step.
        iterations: steps.
        learning_rate: the first step's length in every coordinate.
        tolerance: relative gain over the last tenth of the steps below which a row counts as converged.
        noisy: the energy is an estimate that differs from call to call, of a random batch of data, so that the lowest
            value says little: the point is the last one, with its value there, and no row counts as converged.

    Raises:
        ValueError: numbers out of range.
    """
    check_whole("iterations", iterations)
    check_number("learning_rate", learning_rate, above=0.0)
    check_number("tolerance", tolerance, least=0.0)
    check_switch("noisy", noisy)
    point = start.detach().clone()
    optimizer = torch.optim.Adam([point], lr=learning_rate, betas=_BETAS)
    best, lowest = point.clone(), torch.full_like(point[:, 0], math.inf)
    before = lowest.clone()
    for step in range(iterations + 1):
        value, gradient = value_and_gradient(energy, point)
        better = value < lowest
        lowest, best = torch.where(better, value, lowest), torch.where(better[:, None], point, best)
        if step == iterations:
            break
        if step == iterations - max(1, iterations // 10):
            before = lowest.clone()
        optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / iterations))
        point.grad = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
        optimizer.step()
    if noisy:
        return Minimum(point, value, torch.zeros_like(value, dtype=torch.bool), iterations)
    settled = before - lowest <= tolerance * lowest.abs().clamp_min(1.0)
    return Minimum(best, lowest, settled & torch.isfinite(lowest), iterations)
