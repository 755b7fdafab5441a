"""The standard Student-t distribution in three dimensions; the normal distribution is its limit.

Mixtures of Student-t components (Peel and McLachlan, 2000) give poses of unseen subjects higher densities than mixtures
of Gaussians do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def standard_log_prob(square: Tensor, dof: float | None) -> Tensor:
    """Log-density where |e|^2 = `square`, in nats.

    Args:
        square: any shape.
        dof: degrees of freedom; None for the standard normal.
    """
    if dof is None:
        return (-0.5 * square).sub_(1.5 * math.log(2.0 * math.pi))
    level = math.lgamma(0.5 * (dof + 3)) - math.lgamma(0.5 * dof) - 1.5 * math.log(dof * math.pi)
    return level - 0.5 * (dof + 3) * torch.log1p(square / dof)


def standard_draw(like: Tensor, dof: int | None, *, generator: torch.Generator | None = None) -> Tensor:
    """Draws in the shape (..., 3), type and device of `like`."""
    normal = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    if dof is None:
        return normal
    other = torch.randn(*like.shape[:-1], dof, generator=generator, dtype=like.dtype, device=like.device)
    return standard_of_noise(torch.cat([normal, other], -1))


def standard_of_noise(normal: Tensor) -> Tensor:
    """Draws (..., 3) of standard normal numbers (..., 3 + dof); without more than three they are normal themselves."""
    if normal.shape[-1] == 3:
        return normal
    return normal[..., :3] / normal[..., 3:].square().mean(-1, keepdim=True).sqrt()
