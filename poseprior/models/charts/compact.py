"""A chart of SO(3) that reaches all of R^3, so that a density on R^3 has all its mass on rotations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...rotations import rotvec_to_unitquat, tangent_to_rotvec, unitquat_log
from .chart import Saved
from .log_map import LogPoint, eager_log_map, log_map, log_map_gradient
from .tangent import LEAST_SCALE, MeanChart, moments, volume_gradient

#: Sharpness p of the stretch. Below 1 radian it moves a point by less than a thousandth of a radian.
_POWER = 6
#: log|det dy/dx| over -log(1 - (|x|/pi)^p).
_LOG_DET_FACTOR = 1.0 + 3.0 / _POWER
#: (|x| / pi)^p stays this far below 1, which keeps values and gradients finite at the antipode.
_LEAST_LEFT = 1e-5


def stretch_ball(tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Stretch the ball |x| < pi over R^3: y = x (1 - (|x|/pi)^p)^(-1/p), p = 6.

    It hardly moves a point as far from the mean as limbs are. It is a bijection onto R^3, which the logarithm alone is
    not: every density of y integrates to one over SO(3), whatever its tails.

    Args:
        tangent: (*batch, 3) radians, |x| <= pi.

    Returns:
        y (*batch, 3) and log|det dy/dx| (*batch,) = -(1 + 3/p) log(1 - (|x|/pi)^p).
    """
    filled = (tangent.square().sum(-1) / math.pi**2).pow(_POWER // 2).clamp_max(1.0 - _LEAST_LEFT)
    log_left = torch.log1p(-filled)
    return tangent * torch.exp(log_left / -_POWER)[..., None], log_left * -_LOG_DET_FACTOR


def shrink_to_ball(stretched: Tensor) -> Tensor:
    """Inverse of `stretch_ball`: x = y (1 + (|y|/pi)^p)^(-1/p), (*batch, 3) with |x| < pi."""
    length = (stretched.square().sum(-1, keepdim=True) / math.pi**2).clamp_max(1e8)
    shrunk = stretched * (1.0 + length.pow(_POWER // 2)).pow(-1.0 / _POWER)
    # Beyond the clamp (|y| > 3e4) the direction is all that is left.
    far = stretched * (math.pi / stretched.square().sum(-1, keepdim=True).clamp_min(1e-30).sqrt())
    return torch.where(length >= 1e8, far, shrunk)


class CompactChart(MeanChart):
    """Standardised coordinates w = stretch_ball(Log(M_j^-1 R_j)) / s_j: a bijection of SO(3) and R^3 (up to the antipode).

    Attributes:
        mean: (J, 4) unit quaternions, xyzw, of the mean rotations.
        scale: (J, 3) standard deviation of each tangent coordinate, radians.
    """

    def __init__(self, num_joints: int) -> None:
        super().__init__(torch.tensor([0.0, 0.0, 0.0, 1.0]).repeat(num_joints, 1))

    def point(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Saved]:
        inverse_mean, factor, level = self.constants()
        log = log_map(rotvec, inverse_mean)
        squared = log.tangent.square().sum(1, keepdim=True)
        filled = squared.mul_(1.0 / math.pi**2).pow_(_POWER // 2).clamp_max_(1.0 - _LEAST_LEFT)
        log_left = torch.log1p(-filled)
        # h = 1 / (2 pi^2 ratio^2), see `LogPoint`.
        volume = (level - log.ratio.square().log_()).add_(log_left, alpha=_LOG_DET_FACTOR)
        factor = factor * log_left.mul_(-1.0 / _POWER).exp_()
        if weight is not None:
            factor, volume = factor * weight, volume * weight
        return log.tangent * factor, volume.sum((0, 1)), (factor, filled, *log)

    def gradient(
        self, rotvec: Tensor, weight: Tensor | None, saved: Saved, grad_z: Tensor, grad_volume: Tensor | float
    ) -> Tensor:
        factor, filled, log = saved[0], saved[1], LogPoint(*saved[2:])
        tangent = log.tangent
        grad_tangent = grad_z * factor
        along = (grad_tangent * tangent).sum(1, keepdim=True)
        each_volume = grad_volume if weight is None else grad_volume * weight
        grad_log_left = _LOG_DET_FACTOR * each_volume - along.mul_(1.0 / _POWER)
        # d log(1 - f) = -f' / (1 - f), of f = (|x| / pi)^p where it is not cut off; f' / (2 |x|) = p f / (2 |x|^2).
        squared = tangent.square().sum(1, keepdim=True)
        inside = filled < 1.0 - _LEAST_LEFT
        slope = inside * (-_POWER / math.pi**_POWER) * squared.pow_(_POWER // 2 - 1) / (1.0 - filled)
        grad_tangent.addcmul_(tangent, slope * grad_log_left)
        grad_ratio = volume_gradient(log.ratio, weight, grad_volume)
        return log_map_gradient(rotvec, self.constants()[0], log, grad_tangent, grad_ratio)

    def eager(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        inverse_mean, factor, level = self.constants()
        tangent, ratio = eager_log_map(rotvec, inverse_mean)
        stretched, log_det = stretch_ball(tangent)
        w, volume = stretched * factor[..., 0], level[..., 0] - 2.0 * ratio.log() - log_det[..., None]
        if weight is not None:
            w, volume = w * weight, volume * weight
        return w, volume.sum((1, 2))

    def inverse(self, z: Tensor) -> Tensor:
        """(..., J, 3) rotvecs of coordinates, norm at most pi."""
        return tangent_to_rotvec(shrink_to_ball(z * self.scale), unitquat_log(self.mean)[0])

    @torch.no_grad()
    def fit(self, rotvec: Tensor, observed: Tensor) -> None:
        """Set mean and scale from (N, J, 3) rotvecs and their (N, J) observed mask."""
        mean, scale = moments(rotvec, observed, LEAST_SCALE)
        self.mean.copy_(rotvec_to_unitquat(mean))
        self.scale.copy_(scale)
