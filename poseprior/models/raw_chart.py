"""The chart of the published presets: the axis-angle itself."""

from __future__ import annotations

from torch import Tensor, nn

from ..rotations import haar_log_density, wrap_rotvec


class RawChart(nn.Module):
    """Rotvecs wrapped into |r| <= pi as coordinates of R^3, as the published flows use them.

    The exponential map takes the ball |r| < pi and everything beyond it to the same rotations, so the density of Exp(r)
    is a sum over all rotvecs of a rotation. Only the one in the ball is counted here: a lower bound, tight where the flow
    puts next to nothing beyond pi, as a trained one over limbs does. The interface of `UnfoldedChart`.
    """

    def forward(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Wrapped rotvecs (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_rotvec - volume`."""
        wrapped = wrap_rotvec(rotvec)
        seen = observed.to(rotvec.dtype)
        return wrapped * seen[..., None], (haar_log_density(wrapped) * seen).sum(-1)

    def inverse(self, w: Tensor) -> Tensor:
        """(..., J, 3) rotvecs, |r| <= pi."""
        return wrap_rotvec(w)
