"""`hmc`: Hamiltonian Monte Carlo (Neal 2011) for a batch of rows; it leaves exp(-energy) invariant at any step size."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import check_whole
from .._inference_mode import leaves_inference_mode
from .energy import Energy, value_and_gradient


@leaves_inference_mode
def hmc(
    energy: Energy,
    start: Tensor,
    num_draws: int,
    *,
    warmup: int = 30,
    leapfrog: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws from exp(-energy), after a warm-up that sets each row's step size for 80 % acceptance.

    Args:
        energy: differentiable, (C, R, D) to (C, R).
        start: (C, R, D): C chains for each of R problems, in coordinates where the target is roughly white.
        num_draws: draws of each chain.
        warmup: iterations thrown away.
        leapfrog: most leapfrog steps of an iteration, 2 or more; the number is drawn anew each time, from half of this
            up, against resonance.
        generator: source of randomness.

    Returns:
        (num_draws, C, R, D).

    Raises:
        ValueError: numbers out of range.
    """
    check_whole("num_draws", num_draws, least=1)
    check_whole("warmup", warmup)
    check_whole("leapfrog", leapfrog, least=2)
    point = start.detach()
    value, gradient = value_and_gradient(energy, point)
    size = torch.full_like(value[:1], 0.8 * point.shape[-1] ** -0.25)
    draws = []
    for iteration in range(warmup + num_draws):
        momentum = torch.randn(point.shape, generator=generator, dtype=point.dtype, device=point.device)
        count = int(torch.randint(leapfrog // 2, leapfrog + 1, (1,), generator=generator, device=point.device))
        step = size[..., None]
        moved, slope, speed = point, gradient, momentum
        for _ in range(count):
            speed = speed - 0.5 * step * slope
            moved = moved + step * speed
            reached, slope = value_and_gradient(energy, moved)
            speed = speed - 0.5 * step * slope
        change = value - reached + 0.5 * (momentum.square() - speed.square()).sum(-1)
        chance = torch.nan_to_num(change, nan=-torch.inf).clamp_max(0.0).exp()
        accept = torch.rand(chance.shape, generator=generator, dtype=point.dtype, device=point.device) < chance
        point = torch.where(accept[..., None], moved, point)
        gradient = torch.where(accept[..., None], slope, gradient)
        value = torch.where(accept, reached, value)
        if iteration < warmup:
            size = size * torch.exp(0.3 * (chance.mean(0, keepdim=True) - 0.8))
        else:
            draws.append(point)
    return torch.stack(draws)
