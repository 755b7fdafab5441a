"""Truncation mass: the mass of a Gaussian where |x| < pi, the image of SO(3) under the logarithm.

A Gaussian over tangent coordinates has mass beyond |x| = pi too, where there are no rotations. For the spreads of limbs
it is negligible (3e-8 for a standard deviation of 0.5 rad); for a root that turns all the way round it is a third.
Dividing by the mass inside makes the density on SO(3) integrate to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..._tracing import is_traced

#: The correction is left out where |x| = pi is this many standard deviations away: P(|u| > 6) of a 3-D normal is 2e-8.
_SIGMAS = 6.0
#: Quadrature along an axis stops this many standard deviations out.
_MOST_DEVIATIONS = 8.0
_NODES, _WEIGHTS = map(torch.as_tensor, np.polynomial.legendre.leggauss(48))


def log_truncation_mass(mean: Tensor, covariance: Tensor) -> Tensor:
    """log P(|x| < pi) of x ~ N(mean, covariance).

    Exact up to quadrature (48 x 48 Gauss-Legendre nodes over the two narrow principal axes, the error function along the
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
    if is_traced():
        return torch.where(risky, _quadrature(mean, covariance), result)
    if bool(risky.any()):
        result = result.masked_scatter(risky, _quadrature(mean[risky], covariance[risky]))
    return result


def draw_truncated(draw: Callable[[], Tensor], scale: Tensor | float = 1.0) -> Tensor:
    """Draws (..., 3) with |scale x| <= pi, by rejection: `draw` is called again for those beyond.

    Args:
        draw: gives independent draws (..., 3), of the same shape in every call.
        scale: (..., 3) radians per unit of x.
    """
    drawn = draw()
    while bool((outside := (drawn * scale).square().sum(-1, keepdim=True) > math.pi**2).any()):
        drawn = torch.where(outside, draw(), drawn)
    return drawn


def _quadrature(mean: Tensor, covariance: Tensor) -> Tensor:
    # The ball is invariant under rotation, so work on principal axes (ascending variance). The axes are constants to
    # autograd: they have no derivative where two variances are equal, and the mass does not depend on the choice of axes.
    # A change of the covariance off the diagonal is in the Cholesky factor: each axis is conditioned on those before it.
    dtype, covariance, mean = mean.dtype, covariance.double(), mean.double()
    variance, axes = torch.linalg.eigh(covariance.detach())
    missing = (1e-12 - variance).clamp_min(0.0)
    factor = torch.linalg.cholesky(axes.transpose(-1, -2) @ covariance @ axes + torch.diag_embed(missing))
    centre = (axes.transpose(-1, -2) @ mean[..., None])[..., 0]
    first_scale, second_scale, s = factor.diagonal(dim1=-2, dim2=-1)[..., None].unbind(-2)
    to_second, to_third, across = (factor[..., i, j, None] for i, j in ((1, 0), (2, 0), (2, 1)))
    first, first_weight = _normal_nodes(centre[..., 0], first_scale[..., 0], torch.full_like(centre[..., 0], math.pi))
    u = (first - centre[..., :1]) / first_scale
    room = (math.pi**2 - first.square()).clamp_min(0.0).sqrt()
    second_centre = centre[..., 1:2] + to_second * u
    second, second_weight = _normal_nodes(second_centre, second_scale, room)
    v = (second - second_centre[..., None]) / second_scale[..., None]
    half = (math.pi**2 - first[..., None].square() - second.square()).clamp_min(1e-12).sqrt()
    c = (centre[..., 2:] + to_third * u)[..., None] + across[..., None] * v
    s = s[..., None]
    chord = torch.special.ndtr((half - c) / s) - torch.special.ndtr((-half - c) / s)
    mass = ((chord * second_weight).sum(-1) * first_weight).sum(-1)
    return mass.clamp_min(1e-30).log().to(dtype)


def _normal_nodes(centre: Tensor, scale: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes over [-bound, bound] where a normal has mass, and weights times its density: (..., 48)."""
    low = torch.maximum(-bound, centre - _MOST_DEVIATIONS * scale)
    high = torch.maximum(torch.minimum(bound, centre + _MOST_DEVIATIONS * scale), low)
    node, weight = _NODES.to(centre), _WEIGHTS.to(centre)
    half = ((high - low) / 2)[..., None]
    place = (high + low)[..., None] / 2 + half * node
    standard = (place - centre[..., None]) / scale[..., None]
    density = torch.exp(-0.5 * standard.square()) / (scale[..., None] * math.sqrt(2.0 * math.pi))
    return place, half * weight * density
