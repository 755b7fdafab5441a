"""Checks of weights that were read from a file: densities, gradients and draws of a few poses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Log-densities of ordinary poses are smaller than this in absolute value, nats.
_MOST_NATS = 1e12


def check_density(log_prob: Callable[[Tensor, Tensor, Tensor | None], Tensor], rest: Tensor, context_dim: int) -> None:
    """Refuse weights under which two ordinary poses have no finite density or no finite gradient.

    Args:
        log_prob: of rotvecs (B, J, 3), masks (B, J) and conditioning vectors (B, context_dim).
        rest: (1, J, 3) zeros.
        context_dim: length of the conditioning vector.

    Raises:
        ValueError: with the values that came out.
    """
    with torch.enable_grad():
        poses = torch.cat([rest + 0.1, rest + 0.3]).requires_grad_()
        everything = torch.ones(poses.shape[:2], dtype=torch.bool, device=poses.device)
        value = log_prob(poses, everything, poses.new_zeros(2, context_dim) if context_dim else None)
        good = bool((value < _MOST_NATS).all()) and bool((value > -_MOST_NATS).any())  # a NaN fails the first
        if not good:
            raise ValueError(f"log_prob of two ordinary poses is {value.tolist()}, expected finite numbers")
        if value.requires_grad and bool(torch.isfinite(value).all()):
            (slope,) = torch.autograd.grad(value.sum(), poses, allow_unused=True)
            if slope is not None and not bool(torch.isfinite(slope).all()):
                raise ValueError("the gradient of log_prob at two ordinary poses is not finite")


@torch.no_grad()
def check_draws(
    log_prob: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    sample: Callable[[int, torch.Generator, Tensor | None], Tensor],
    rest: Tensor,
    context_dim: int,
) -> None:
    """Refuse weights whose own draws are no poses, or have no finite density.

    Args:
        log_prob, rest, context_dim: as of `check_density`.
        sample: draws (n, J, 3) rotvecs with a generator, given conditioning vectors (n, context_dim).

    Raises:
        ValueError: with the values that came out.
    """
    context = rest.new_zeros(2, context_dim) if context_dim else None
    drawn = sample(2, torch.Generator(rest.device).manual_seed(0), context)
    if not bool(torch.isfinite(drawn).all()):
        raise ValueError("draws are not finite")
    value = log_prob(drawn, torch.ones(drawn.shape[:2], dtype=torch.bool, device=drawn.device), context)
    if not bool((value.abs() < _MOST_NATS).all()):
        raise ValueError(f"log_prob of two draws is {value.tolist()}, expected finite numbers")
