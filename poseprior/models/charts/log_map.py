"""The logarithm at a mean rotation with a written-out gradient, which the charts are made of.

At batch 1 the price of `log_prob` is the number of tensor operations, forwards and backwards, and this map is most of
them. Written out it costs a third of the composition that autograd derives; second derivatives fall back to that composition.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import roma
import torch
from torch import Tensor

_TINY = 1e-24
_SMALL = 1e-2
LOG_TWO_PI_SQUARED = math.log(2.0 * math.pi**2)


def turn_matrices(mean: Tensor) -> Tensor:
    """(J, 4, 4) matrices of q -> conj(m) q for unit quaternions m (J, 4), xyzw."""
    basis = torch.eye(4, dtype=mean.dtype, device=mean.device)
    conjugate = roma.quat_conjugation(mean)[:, None].expand(-1, 4, -1)
    return roma.quat_product(conjugate.contiguous(), basis.expand(len(mean), 4, 4).contiguous()).mT.contiguous()


class LogPoint(NamedTuple):
    """The logarithm of rotations, and what its gradient needs.

    Attributes:
        tangent: (B, J, 3) x = Log(M_j^-1 Exp(r_j)), |x| <= pi.
        ratio: (B, J, 1) k = x / sin(|x| / 2) along x, up to sign: |k| goes from 2 at the mean to pi at the antipode, and the
            uniform measure has log h(x) = -2 log |k| - log(2 pi^2).
        vector, real: (B, J, 3) and (B, J, 1), the quaternion of M_j^-1 Exp(r_j), of either sign: k has that of `real`.
        sine: (B, J, 1) |vector|.
        angle, cosine, scale: (B, J, 1) a = |r|, cos(a / 2) and sin(a / 2) / a.
    """

    tangent: Tensor
    ratio: Tensor
    vector: Tensor
    real: Tensor
    sine: Tensor
    angle: Tensor
    cosine: Tensor
    scale: Tensor


def log_map(rotvec: Tensor, turn: Tensor) -> LogPoint:
    """Logarithm of rotvecs (B, J, 3), radians of any norm, at the means of `turn` (J, 4, 4), see `turn_matrices`."""
    angle = rotvec.square().sum(-1, keepdim=True).clamp_min_(_TINY).sqrt_()
    half = 0.5 * angle
    cosine = half.cos()
    scale = half.sin_() / angle
    relative = (turn @ torch.cat([rotvec * scale, cosine], -1)[..., None])[..., 0]
    vector, real = relative[..., :3], relative[..., 3:]
    sine = vector.square().sum(-1, keepdim=True).clamp_min_(_TINY).sqrt_()
    # Of the two quaternions of a rotation either will do: arctan is odd.
    ratio = torch.atan(sine / real).div_(sine).mul_(2.0)
    return LogPoint(vector * ratio, ratio, vector, real, sine, angle, cosine, scale)


def log_map_gradient(rotvec: Tensor, turn: Tensor, point: LogPoint, grad_tangent: Tensor, grad_ratio: Tensor) -> Tensor:
    """(B, J, 3) gradient to the rotvecs, finite everywhere, from those to `tangent` (B, J, 3) and `ratio` (B, J, 1)."""
    _, ratio, vector, real, sine, angle, cosine, scale = point
    grad_ratio = grad_ratio + (grad_tangent * vector).sum(-1, keepdim=True)
    # dk/dn = (2 w - k) / n with n = sin(|x|/2), w = cos(|x|/2); over n once more, and its series at the mean.
    squared = sine.square()
    bend = torch.where(sine > 0.05, (2.0 * real - ratio) / squared, real * (-4.0 / 3.0 - 16.0 / 15.0 * squared))
    grad_vector = (grad_tangent * ratio).addcmul_(vector, bend.mul_(grad_ratio))
    grad_quat = (turn.mT @ torch.cat([grad_vector, -2.0 * grad_ratio], -1)[..., None])[..., 0]
    grad_axis = grad_quat[..., :3]
    along = (grad_axis * rotvec).sum(-1, keepdim=True)
    # ds/da / a with s = sin(a/2)/a, and its series at 0.
    squared = angle.square()
    slope = torch.where(angle > 0.1, (0.5 * cosine - scale) / squared, squared / 960.0 - 1.0 / 24.0)
    pull = slope.mul_(along).addcmul_(scale, grad_quat[..., 3:], value=-0.5)
    return (scale * grad_axis).addcmul_(rotvec, pull)


def derivable_log_map(rotvec: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """x and |k| of `log_map` as series in squares where angles are small: what autograd can derive twice, at 0 too."""
    squared = rotvec.square().sum(-1, keepdim=True)
    small = squared < _SMALL
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    scale = torch.where(small, 0.5 - squared / 48.0 + squared.square() / 3840.0, (0.5 * angle).sin() / angle)
    cosine = torch.where(small, 1.0 - squared / 8.0 + squared.square() / 384.0, (0.5 * angle).cos())
    relative = (turn @ torch.cat([rotvec * scale, cosine], -1)[..., None])[..., 0]
    relative = torch.where(relative[..., 3:] < 0, -relative, relative)
    vector, real = relative[..., :3], relative[..., 3:]
    squared = vector.square().sum(-1, keepdim=True)
    small = squared < _SMALL
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    # arcsin(s) / s
    series = 1.0 + squared * (1 / 6 + squared * (3 / 40 + squared * (15 / 336 + squared * 105 / 3456)))
    ratio = 2.0 * torch.where(small, series, torch.atan2(sine, real) / sine)
    return vector * ratio, ratio
