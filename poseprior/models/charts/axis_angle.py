"""The chart of the published architectures: the axis-angle itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...rotations import wrap_rotvec
from .log_map import LOG_TWO_PI_SQUARED
from .tangent import observed_weight

_SMALL = 1e-2


class AxisAngleChart(nn.Module):
    """Rotvecs wrapped into |r| <= pi as coordinates of R^3, as the published flows use them.

    The exponential map takes the ball |r| < pi and everything beyond it to the same rotations, so the density of Exp(r)
    is a sum over all rotvecs of a rotation. Only the one in the ball is counted here: a lower bound, tight where the flow
    puts next to nothing beyond pi, as a trained one over limbs does. The interface of `CompactChart`.
    """

    def forward(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Wrapped rotvecs (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_rotvec - volume`."""
        wrapped, log_h = _wrapped(rotvec)
        weight = observed_weight(observed, rotvec)
        if weight is None:
            return wrapped, log_h.sum((1, 2))
        return wrapped * weight, (log_h * weight).sum((1, 2))

    def inverse(self, w: Tensor) -> Tensor:
        """(..., J, 3) rotvecs, |r| <= pi."""
        return wrap_rotvec(w)


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
