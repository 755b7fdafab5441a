"""The logarithm at a mean rotation, with a hand-written gradient: what the charts around a mean are made of.

Poses stand last: sums over three coordinates and products with one number a joint run along contiguous memory, several
times as fast as with the coordinates last.

At batch 1 the cost of `log_prob` is the number of tensor operations, forwards and backwards, and this map is most of
them. Its hand-written gradient costs a third of the one that autograd derives; second derivatives go through autograd.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...rotations import quat_conjugate, quat_multiply, rotvec_to_unitquat, unitquat_log

#: Squares below this are raised to it, so that square roots and quotients stay finite.
_TINY = 1e-24
LOG_TWO_PI_SQUARED = math.log(2.0 * math.pi**2)


def inverse_mean_matrices(mean: Tensor) -> Tensor:
    """(J, 4, 4) matrices of q -> conj(m) q for unit quaternions m (J, 4), xyzw: they take R_j to M_j^-1 R_j."""
    basis = torch.eye(4, dtype=mean.dtype, device=mean.device)
    return quat_multiply(quat_conjugate(mean)[:, None], basis).mT.contiguous()


class LogPoint(NamedTuple):
    """The logarithm of rotations, and what its gradient needs.

    Attributes:
        tangent: (J, 3, B) x = Log(M_j^-1 Exp(r_j)), |x| <= pi.
        ratio: (J, 1, B) k = x / sin(|x| / 2) along x, up to sign: |k| goes from 2 at the mean to pi at the antipode, and the
            uniform measure has log h(x) = -2 log |k| - log(2 pi^2).
        vector, real: (J, 3, B) and (J, 1, B), the quaternion of M_j^-1 Exp(r_j), of either sign: k has that of `real`.
        sine: (J, 1, B) |vector|.
        angle, cosine, scale: (J, 1, B) a = |r|, cos(a / 2) and sin(a / 2) / a.
    """

    tangent: Tensor
    ratio: Tensor
    vector: Tensor
    real: Tensor
    sine: Tensor
    angle: Tensor
    cosine: Tensor
    scale: Tensor


def log_map(rotvec: Tensor, inverse_mean: Tensor) -> LogPoint:
    """Logarithms of rotvecs (J, 3, B), radians of any norm, at the means of `inverse_mean_matrices` (J, 4, 4)."""
    angle = rotvec.square().sum(1, keepdim=True).clamp_min_(_TINY).sqrt_()
    half = 0.5 * angle
    cosine = half.cos()
    scale = half.sin_() / angle
    vector, real = torch.bmm(inverse_mean, torch.cat([rotvec * scale, cosine], 1)).split((3, 1), 1)
    sine = vector.square().sum(1, keepdim=True).clamp_min_(_TINY).sqrt_()
    # Of the two quaternions of a rotation either will do: arctan is odd.
    ratio = torch.atan(sine / real).div_(sine).mul_(2.0)
    return LogPoint(vector * ratio, ratio, vector, real, sine, angle, cosine, scale)


def log_map_gradient(
    rotvec: Tensor, inverse_mean: Tensor, point: LogPoint, grad_tangent: Tensor, grad_ratio: Tensor
) -> Tensor:
    """(J, 3, B) gradient to the rotvecs, finite everywhere, from those to `tangent` (J, 3, B) and `ratio` (J, 1, B)."""
    _, ratio, vector, real, sine, angle, cosine, scale = point
    grad_ratio = grad_ratio + (grad_tangent * vector).sum(1, keepdim=True)
    # dk/dn = (2 w - k) / n with n = sin(|x|/2), w = cos(|x|/2); over n once more, and its series at the mean.
    squared = sine.square()
    slope = torch.where(sine > 0.05, (2.0 * real - ratio) / squared, real * (-4.0 / 3.0 - 16.0 / 15.0 * squared))
    grad_vector = (grad_tangent * ratio).addcmul_(vector, slope * grad_ratio)
    grad_quat = torch.bmm(inverse_mean.mT, torch.cat([grad_vector, -2.0 * grad_ratio], 1))
    grad_axis, grad_real = grad_quat.split((3, 1), 1)
    along = (grad_axis * rotvec).sum(1, keepdim=True)
    # ds/da / a with s = sin(a/2)/a, and its series at 0.
    squared = angle.square()
    slope = torch.where(angle > 0.1, (0.5 * cosine - scale) / squared, squared / 960.0 - 1.0 / 24.0)
    along_rotvec = (slope * along).addcmul_(scale, grad_real, value=-0.5)
    return (scale * grad_axis).addcmul_(rotvec, along_rotvec)


def eager_log_map(rotvec: Tensor, inverse_mean: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, J, 3) and |k| (B, J, 1) of `log_map`, of rotvecs (B, J, 3), as operations that autograd can derive again and
    again, at 0 too."""
    return unitquat_log((inverse_mean @ rotvec_to_unitquat(rotvec)[..., None])[..., 0])
