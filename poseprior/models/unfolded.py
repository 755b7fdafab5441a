"""A chart of SO(3) that reaches all of R^3, so that a density on R^3 has all its mass on rotations."""

from __future__ import annotations

import math

import roma
import torch
from torch import Tensor, nn

from ..rotations import tangent_to_rotvec
from .chart import TangentChart
from .kept import Kept
from .log_map import LOG_TWO_PI_SQUARED, kept_turn, log_map

#: Sharpness p of the unfolding. Below 1 radian it moves a point by less than a thousandth of a radian.
_POWER = 6
#: Rotations are kept this far from the antipode in (|x| / pi)^p, which keeps values and gradients finite there.
_ROOM = 1e-5


def unfold(tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Stretch the ball |x| < pi over R^3: y = x (1 - (|x|/pi)^p)^(-1/p), p = 6.

    Close to the identity for the spreads of limbs, and a bijection, which the logarithm alone is not: a density of y
    integrates to one over SO(3) whatever its tails.

    Args:
        tangent: (*batch, 3) radians, |x| <= pi.

    Returns:
        y (*batch, 3) and log|det dy/dx| (*batch,) = -(1 + 3/p) log(1 - (|x|/pi)^p).
    """
    log_left = _log_left(tangent.square().sum(-1))
    return tangent * torch.exp(log_left / -_POWER)[..., None], log_left * -(1.0 + 3.0 / _POWER)


def _log_left(squared_angle: Tensor) -> Tensor:
    """log(1 - (|x|/pi)^p)."""
    filled = (squared_angle / math.pi**2).pow(_POWER // 2).clamp_max(1.0 - _ROOM)
    return torch.log1p(-filled)


def fold(unfolded: Tensor) -> Tensor:
    """Inverse of `unfold`: x = y (1 + (|y|/pi)^p)^(-1/p), (*batch, 3) with |x| < pi."""
    length = (unfolded.square().sum(-1, keepdim=True) / math.pi**2).clamp_max(1e8)
    shrunk = unfolded * (1.0 + length.pow(_POWER // 2)).pow(-1.0 / _POWER)
    # Beyond the clamp (|y| > 3e4) the direction is all that is left.
    far = unfolded * (math.pi / unfolded.square().sum(-1, keepdim=True).clamp_min(1e-30).sqrt())
    return torch.where(length >= 1e8, far, shrunk)


class UnfoldedChart(nn.Module):
    """Standardised coordinates w = unfold(Log(M_j^-1 R_j)) / s_j: a bijection of SO(3) and R^3 (up to the antipode).

    `log_haar(w) = log p_w(w) - volume`.

    Attributes:
        mean: (J, 4) unit quaternions, xyzw, of the mean rotations.
        scale: (J, 3) standard deviation of each tangent coordinate, radians.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, num_joints: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.0, 0.0, 0.0, 1.0]).repeat(num_joints, 1))
        self.register_buffer("scale", torch.ones(num_joints, 3))
        self.kept = Kept(1)

    def forward(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates and the log-volume of the change of variables.

        Args:
            rotvec: (B, J, 3) radians, any norm.
            observed: (B, J) bool.

        Returns:
            w (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_w - volume`.
        """
        tangent, ratio = log_map(rotvec, kept_turn(self.mean, self.kept))
        log_left = _log_left(tangent.square().sum(-1))
        stretch = torch.exp(log_left / -_POWER)
        # h = 1 / (2 pi^2 ratio^2), see `log_map`.
        volume = (1.0 + 3.0 / _POWER) * log_left - 2.0 * ratio[..., 0].log()
        volume = volume + (self.scale.log().sum(-1) - LOG_TWO_PI_SQUARED)
        if not bool(observed.all()):
            seen = observed.to(rotvec.dtype)
            stretch, volume = stretch * seen, volume * seen
        return tangent * (stretch[..., None] / self.scale), volume.sum(-1)

    def inverse(self, w: Tensor) -> Tensor:
        """(..., J, 3) rotvecs of coordinates, norm at most pi."""
        return tangent_to_rotvec(fold(w * self.scale), roma.unitquat_to_rotvec(self.mean))

    @torch.no_grad()
    def fit(self, rotvec: Tensor, observed: Tensor) -> None:
        """Set mean and scale from (N, J, 3) rotvecs and their (N, J) observed mask."""
        tangent = TangentChart(len(self.scale))
        tangent.fit(rotvec, observed)
        self.mean.copy_(roma.rotvec_to_unitquat(tangent.mean.double()))
        self.scale.copy_(tangent.scale)
