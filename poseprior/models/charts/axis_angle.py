"""The chart of the published presets: the axis-angle itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...rotations import wrap_rotvec
from .log_map import LOG_TWO_PI_SQUARED

_SMALL = 1e-2


class RawPoint(NamedTuple):
    """Rotvecs as coordinates: z (B, J, 3), the volume (B,), and `bend` (B, J, 1), the gradient of log h over the rotvec."""

    z: Tensor
    volume: Tensor
    bend: Tensor


class RawChart(nn.Module):
    """Rotvecs wrapped into |r| <= pi as coordinates of R^3, as the published flows use them.

    The exponential map takes the ball |r| < pi and everything beyond it to the same rotations, so the density of Exp(r)
    is a sum over all rotvecs of a rotation. Only the one in the ball is counted here: a lower bound, tight where the flow
    puts next to nothing beyond pi, as a trained one over limbs does. The interface of `UnfoldedChart`, but that `point` and
    `gradient` are for rotvecs in the ball.
    """

    def forward(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Wrapped rotvecs (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_rotvec - volume`."""
        # Rotvecs are zero where unobserved; there log h is a constant, which is taken out again.
        w, log_h = _wrapped(rotvec)
        if bool(observed.all()):
            return w, log_h.sum(-1)
        seen = observed.to(rotvec.dtype)
        return w * seen[..., None], (log_h * seen).sum(-1)

    @staticmethod
    def holds(rotvec: Tensor) -> bool:
        """Whether all rotvecs are in the ball."""
        return bool((rotvec.detach().square().sum(-1) < math.pi**2).all())

    def point(self, rotvec: Tensor, seen: Tensor | None) -> RawPoint:
        """z and volume, not to be derived by autograd; `seen` (B, J, 1) as from `shown`."""
        squared = rotvec.square().sum(-1, keepdim=True).clamp_min_(torch.finfo(rotvec.dtype).eps)
        angle = squared.sqrt()
        half = 0.5 * angle
        sine = torch.sin(half)
        log_h = torch.log(sine / angle).mul_(2.0).sub_(LOG_TWO_PI_SQUARED)
        # (cot(t/2) - 2/t) / t, which is -1/6 at 0 and lost in rounding near it.
        bend = (half * torch.cos(half) / sine - 1.0) * (2.0 / squared)
        bend = torch.where(squared < _SMALL, -1.0 / 6.0 - squared / 360.0, bend)
        if seen is None:
            return RawPoint(rotvec, log_h.sum((1, 2)), bend)
        return RawPoint(rotvec * seen, (log_h * seen).sum((1, 2)), bend * seen)

    def gradient(
        self, rotvec: Tensor, seen: Tensor | None, point: RawPoint, grad_z: Tensor, grad_volume: Tensor | float
    ) -> Tensor:
        """(B, J, 3) gradient to the rotvecs, as `Chart.gradient`."""
        return torch.addcmul(grad_z if seen is None else grad_z * seen, rotvec, point.bend * grad_volume)

    def inverse(self, w: Tensor) -> Tensor:
        """(..., J, 3) rotvecs, |r| <= pi."""
        return wrap_rotvec(w)


def _wrapped(rotvec: Tensor) -> tuple[Tensor, Tensor]:
    """`wrap_rotvec` and `haar_log_density` in one: rotvecs (B, J, 3), |r| <= pi, and log h (B, J)."""
    squared = rotvec.square().sum(-1)
    small = squared < _SMALL
    # log(sin(t/2) / t) is a series where t is small, which autograd can derive twice, at 0 too.
    series = -math.log(2.0) - squared * (1 / 24 + squared * (1 / 2880 + squared * (1 / 181440)))
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    turned = (2.0 * math.pi) * torch.round(angle.detach() / (2.0 * math.pi))
    wrapped_angle = (angle - turned).abs().clamp_min(math.sqrt(torch.finfo(rotvec.dtype).eps))
    log_sine = torch.where(small, series, torch.log(torch.sin(0.5 * wrapped_angle) / wrapped_angle))
    log_h = 2.0 * log_sine - LOG_TWO_PI_SQUARED
    factor = torch.where(angle <= math.pi, torch.ones_like(angle), 1.0 - turned / angle)
    return rotvec * factor[..., None], log_h
