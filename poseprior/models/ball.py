"""Mass of a Gaussian inside the ball |x| < pi, the image of SO(3) under the logarithm.

A Gaussian over tangent coordinates has mass outside that ball, where no rotation lives. For the spreads of limbs it is
nothing (a standard deviation of 0.5 rad leaves 3e-8), for a root that turns all the way round it is a third: dividing by
the mass inside makes the density on SO(3) integrate to one.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

#: Below this escaped mass the correction is left out; the bound is P(|u| > 6) of a 3-D normal, 2e-8.
_SIGMAS = 6.0
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(48)


def log_mass_in_ball(mean: Tensor, covariance: Tensor) -> Tensor:
    """log P(|x| < pi) of x ~ N(mean, covariance).

    Exact up to quadrature (48 x 48 Gauss-Hermite nodes over the two narrow principal axes, the error function along the
    widest). Exactly 0 where mean and spread keep six standard deviations inside the ball.

    Args:
        mean: (*batch, 3) radians.
        covariance: (*batch, 3, 3) radians^2.

    Returns:
        (*batch,) nats, at most 0, differentiable.
    """
    widest = covariance.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
    risky = (mean.norm(dim=-1) + _SIGMAS * widest) > math.pi
    result = torch.zeros_like(widest)
    if bool(risky.any()):
        result = result.masked_scatter(risky, _quadrature(mean[risky], covariance[risky]))
    return result


def _quadrature(mean: Tensor, covariance: Tensor) -> Tensor:
    # The ball is invariant under rotation, so work on principal axes (ascending variance).
    variance, axes = torch.linalg.eigh(covariance.double())
    centre = (axes.transpose(-1, -2) @ mean.double()[..., None])[..., 0]
    scale = variance.clamp_min(1e-12).sqrt()
    node = torch.as_tensor(_NODES, dtype=torch.float64, device=mean.device)
    weight = torch.as_tensor(_WEIGHTS, dtype=torch.float64, device=mean.device) / math.sqrt(2.0 * math.pi)
    first = centre[..., 0, None] + scale[..., 0, None] * node
    second = centre[..., 1, None] + scale[..., 1, None] * node
    room = math.pi**2 - first[..., :, None].square() - second[..., None, :].square()
    inside = room > 0
    half = torch.where(inside, room, torch.ones_like(room)).sqrt()
    c, s = centre[..., 2, None, None], scale[..., 2, None, None]
    chord = torch.special.ndtr((half - c) / s) - torch.special.ndtr((-half - c) / s)
    mass = (torch.where(inside, chord, torch.zeros_like(chord)) * weight[:, None] * weight).sum((-1, -2))
    return mass.clamp_min(1e-30).log().to(mean.dtype)
