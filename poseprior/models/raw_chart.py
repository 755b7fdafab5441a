"""The chart of the published presets: the axis-angle itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..rotations import wrap_rotvec

_LOG_TWO_PI_SQUARED = math.log(2.0 * math.pi**2)


class RawChart(nn.Module):
    """Rotvecs wrapped into |r| <= pi as coordinates of R^3, as the published flows use them.

    The exponential map takes the ball |r| < pi and everything beyond it to the same rotations, so the density of Exp(r)
    is a sum over all rotvecs of a rotation. Only the one in the ball is counted here: a lower bound, tight where the flow
    puts next to nothing beyond pi, as a trained one over limbs does. The interface of `UnfoldedChart`.
    """

    def forward(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Wrapped rotvecs (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_rotvec - volume`."""
        # wrap_rotvec and haar_log_density in one, because at batch 1 the number of operations is the price.
        least = torch.finfo(rotvec.dtype).eps
        angle = rotvec.square().sum(-1).clamp_min(least).sqrt()
        turned = (2.0 * math.pi) * torch.round(angle.detach() / (2.0 * math.pi))
        wrapped_angle = (angle - turned).abs().clamp_min(math.sqrt(least))
        log_h = 2.0 * torch.log(torch.sin(0.5 * wrapped_angle) / wrapped_angle) - _LOG_TWO_PI_SQUARED
        seen = observed.to(rotvec.dtype)
        factor = torch.where(angle <= math.pi, seen, seen * (1.0 - turned / angle))
        return rotvec * factor[..., None], (log_h * seen).sum(-1)

    def inverse(self, w: Tensor) -> Tensor:
        """(..., J, 3) rotvecs, |r| <= pi."""
        return wrap_rotvec(w)
