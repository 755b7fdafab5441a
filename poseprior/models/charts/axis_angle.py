"""The chart of the published architectures: the axis-angle itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...rotations import wrap_rotvec
from .chart import Chart, Saved
from .log_map import LOG_TWO_PI_SQUARED

_SMALL = 1e-2


class AxisAngleChart(Chart):
    """Rotvecs wrapped into |r| <= pi as coordinates of R^3, as the published flows use them.

    Every rotation has one rotvec with |r| < pi and others beyond it, and its density is a sum over all of them. Only the
    first is counted here. That is a lower bound, and a tight one where the flow has next to no mass beyond pi, as trained
    flows over limbs have.
    """

    def has_gradient(self, rotvec: Tensor) -> bool:
        """Whether no rotvec has to be wrapped."""
        return bool((rotvec.detach().square().sum(-1) < math.pi**2).all())

    def point(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Saved]:
        squared = rotvec.square().sum(1, keepdim=True).clamp_min_(torch.finfo(rotvec.dtype).eps)
        angle = squared.sqrt()
        half = 0.5 * angle
        sine = torch.sin(half)
        log_h = torch.log(sine / angle).mul_(2.0).sub_(LOG_TWO_PI_SQUARED)
        # d log h / dt / t = (cot(t/2) - 2/t) / t, which is -1/6 at 0 and lost in rounding near it.
        slope = (half * torch.cos(half) / sine - 1.0) * (2.0 / squared)
        slope = torch.where(squared < _SMALL, -1.0 / 6.0 - squared / 360.0, slope)
        if weight is None:
            return rotvec.clone(), log_h.sum((0, 1)), (slope,)
        return rotvec * weight, (log_h * weight).sum((0, 1)), (slope * weight,)

    def gradient(
        self, rotvec: Tensor, weight: Tensor | None, saved: Saved, grad_z: Tensor, grad_volume: Tensor | float
    ) -> Tensor:
        return torch.addcmul(grad_z if weight is None else grad_z * weight, rotvec, saved[0] * grad_volume)

    def eager(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        wrapped, log_h = _wrapped(rotvec)
        if weight is None:
            return wrapped, log_h.sum((1, 2))
        return wrapped * weight, (log_h * weight).sum((1, 2))

    def inverse(self, z: Tensor) -> Tensor:
        """(..., J, 3) rotvecs, |r| <= pi."""
        return wrap_rotvec(z)


def _wrapped(rotvec: Tensor) -> tuple[Tensor, Tensor]:
    """`wrap_rotvec` and `haar_log_density` in one: rotvecs (B, J, 3), |r| <= pi, and log h (B, J, 1)."""
    squared = rotvec.square().sum(-1, keepdim=True)
    small = squared < _SMALL
    # log(sin(t/2) / t) is a series where t is small, which autograd can derive twice, at 0 too.
    series = -math.log(2.0) - squared * (1 / 24 + squared * (1 / 2880 + squared * (1 / 181440)))
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    turns = (2.0 * math.pi) * torch.round(angle.detach() / (2.0 * math.pi))
    inside = (angle - turns).abs().clamp_min(math.sqrt(torch.finfo(rotvec.dtype).eps))
    log_sine = torch.where(small, series, torch.log(torch.sin(0.5 * inside) / inside))
    factor = torch.where(angle <= math.pi, torch.ones_like(angle), 1.0 - turns / angle)
    return rotvec * factor, 2.0 * log_sine - LOG_TWO_PI_SQUARED
