"""Completion for a directed graph of conditionals: ancestral sampling with importance resampling.

Walk the graph from its roots with N particles. A missing joint is drawn from its conditional given the particle's own
parents. An observed joint whose parents hold drawn values multiplies the particle's weight by its likelihood,
and after each layer of the graph the particles are resampled by weight (a particle filter over joints). The draws are
exact where no observed joint has a missing parent, and otherwise tend to p(missing | observed) as N grows.

Source: Doucet and Johansen, "A tutorial on particle filtering and smoothing" (2009), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .conditionals import JointConditionals


def needs_particle_filter(observed: Tensor, parents: list[list[int]]) -> Tensor:
    """(B,) bool: rows where some observed joint has a missing parent, so that draws have to be weighted.

    Args:
        observed: (B, J) bool.
        parents: positions of each joint's parents.
    """
    result = torch.zeros(len(observed), dtype=torch.bool, device=observed.device)
    for joint, own in enumerate(parents):
        for other in own:
            result |= observed[:, joint] & ~observed[:, other]
    return result


def draw_missing(
    conditionals: JointConditionals,
    levels: list[list[int]],
    w: Tensor,
    observed: Tensor,
    num_draws: int,
    num_particles: int,
    generator: torch.Generator | None,
) -> Tensor:
    """(S, B, J, 3) chart coordinates with the missing joints drawn.

    Args:
        conditionals: the densities.
        levels: positions of joints, layer by layer.
        w: (B, J, 3) coordinates of the observed joints.
        observed: (B, J) bool.
        num_draws: S, for each row.
        num_particles: N, at least S; N = S is right where nothing needs weights.
        generator: source of randomness.
    """
    rows, joints = observed.shape
    many = w.expand(num_particles, rows, joints, 3).reshape(-1, joints, 3).clone()
    fixed = observed.expand(num_particles, rows, joints).reshape(-1, joints)
    drawn = torch.zeros(rows, dtype=torch.bool, device=w.device)
    known = torch.ones_like(fixed)
    for level in levels:
        missing = ~observed[:, level]
        places = torch.tensor(level, device=w.device)
        inputs = conditionals.inputs(many, known, places)
        if bool(missing.any()):
            fresh = conditionals.draw(inputs, places, generator).transpose(0, 1)
            many[:, places] = torch.where(fixed[:, level, None], many[:, places], fresh)
        if bool((drawn & ~missing.all(1)).any()) and num_particles > num_draws:
            likelihood = conditionals.log_prob(many[:, places].transpose(0, 1), inputs, places).T
            weight = torch.where(fixed[:, level], likelihood, torch.zeros_like(likelihood)).sum(-1)
            many = _resample(
                many.unflatten(0, (num_particles, rows)), weight.unflatten(0, (num_particles, rows)), generator
            )
        drawn |= missing.any(1)
    # After resampling, neighbouring particles are often equal, so the draws are picked at random, without replacement.
    order = torch.randperm(num_particles, generator=generator, device=w.device)[:num_draws]
    return many.unflatten(0, (num_particles, rows))[order]


def _resample(many: Tensor, log_weight: Tensor, generator: torch.Generator | None) -> Tensor:
    """Systematic resampling of (N, B, J, 3) by (N, B) log-weights; rows with equal weights stay as they are."""
    count, rows = log_weight.shape
    weight = (log_weight - log_weight.amax(0)).exp()
    position = torch.cumsum(weight / weight.sum(0), 0)
    start = torch.rand(rows, generator=generator, dtype=weight.dtype, device=weight.device)
    grid = (torch.arange(count, dtype=weight.dtype, device=weight.device)[:, None] + start) / count
    index = torch.searchsorted(position.T.contiguous(), grid.T.contiguous()).clamp_max(count - 1).T
    equal = (weight.amin(0) == 1.0)[None, :]
    index = torch.where(equal, torch.arange(count, device=weight.device)[:, None], index)
    picked = many.gather(0, index[..., None, None].expand_as(many))
    return picked.reshape(-1, *many.shape[2:])
