"""Batched optimisation and sampling of energies: every row is a problem of its own, whatever it shares a batch with.

`minimise` is L-BFGS with a backtracking line search (Nocedal and Wright 2006, chapters 3 and 7); `hmc` is Hamiltonian
Monte Carlo (Neal 2011), which leaves exp(-energy) invariant at any step size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

#: From (*rows, D) points to (*rows,) energies; row by row.
Energy = Callable[[Tensor], Tensor]


def minimise(
    energy: Energy, start: Tensor, *, iterations: int = 200, history: int = 10, tolerance: float = 1e-3
) -> Tensor:
    """A local minimum of every row's energy, at or below that of its start. Deterministic.

    Args:
        energy: differentiable, (R, D) to (R,).
        start: (R, D), scaled so that one unit is a natural step.
        iterations: most steps.
        history: pairs of steps and gradient changes that L-BFGS remembers.
        tolerance: a row is done when its gradient is no longer than this, or no descent is left in its precision.

    Returns:
        (R, D).
    """
    resolution = 8.0 * torch.finfo(start.dtype).eps
    point = start.detach()
    value, gradient = _value_and_gradient(energy, point)
    memory: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=history)
    active = gradient.norm(dim=-1) > tolerance
    for _ in range(iterations):
        if not bool(active.any()):
            break
        direction = _descent(gradient, memory)
        slope = (direction * gradient).sum(-1)
        step = torch.ones_like(value) if memory else 1.0 / gradient.norm(dim=-1).clamp_min(1.0)
        waiting = active.clone()
        moved, new_value, new_gradient = point, value, gradient
        for _ in range(12):
            trial = torch.where(waiting[:, None], point + step[:, None] * direction, moved)
            reached, slope_there = _value_and_gradient(energy, trial)
            good = waiting & (reached <= value + 1e-4 * step * slope)
            moved = torch.where(good[:, None], trial, moved)
            new_value = torch.where(good, reached, new_value)
            new_gradient = torch.where(good[:, None], slope_there, new_gradient)
            waiting = waiting & ~good
            if not bool(waiting.any()):
                break
            step = torch.where(waiting, 0.5 * step, step)
        s, y = moved - point, new_gradient - gradient
        curvature = (s * y).sum(-1)
        useful = curvature > 1e-8 * y.square().sum(-1)
        inverse = torch.where(useful, 1.0 / curvature.where(useful, torch.ones_like(curvature)), 0.0)
        memory.append((s, y, inverse))
        gained = value - new_value > resolution * new_value.abs().clamp_min(1.0)
        active = active & gained & (new_gradient.norm(dim=-1) > tolerance)
        point, value, gradient = moved, new_value, new_gradient
    return point


def _descent(gradient: Tensor, memory: deque[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Minus the L-BFGS inverse Hessian times the gradient (two-loop recursion), minus the gradient where that fails."""
    direction = gradient.clone()
    weights = []
    scale = torch.ones_like(gradient[:, 0])
    for s, y, inverse in reversed(memory):
        weight = inverse * (s * direction).sum(-1)
        direction = direction - weight[:, None] * y
        weights.append(weight)
    for _, y, inverse in memory:  # the newest useful pair sets the scale
        known = inverse > 0
        length = (inverse * y.square().sum(-1)).where(known, torch.ones_like(inverse))
        scale = torch.where(known, 1.0 / length, scale)
    direction = direction * scale[:, None]
    for (s, y, inverse), weight in zip(memory, reversed(weights), strict=True):
        direction = direction + (weight - inverse * (y * direction).sum(-1))[:, None] * s
    downhill = (direction * gradient).sum(-1) > 0
    return -torch.where(downhill[:, None], direction, gradient)


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
        leapfrog: most leapfrog steps an iteration; the number is drawn anew each time, against resonance.
        generator: source of randomness.

    Returns:
        (num_draws, C, R, D).
    """
    point = start.detach()
    value, gradient = _value_and_gradient(energy, point)
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
            reached, slope = _value_and_gradient(energy, moved)
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


def _value_and_gradient(energy: Energy, point: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = point.detach().requires_grad_()
        value = energy(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient
