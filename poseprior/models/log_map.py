"""The logarithm at a mean rotation as one autograd operation with a written-out gradient.

At batch 1 the price of `log_prob` is the number of tensor operations, forwards and backwards, and this map is most of
them. Written as one `torch.autograd.Function` it costs a third of the composition that autograd derives; a second
derivative falls back to that composition.
"""

from __future__ import annotations

import math

import roma
import torch
from torch import Tensor

from .kept import Kept

_TINY = 1e-24
_SMALL = 1e-2
LOG_TWO_PI_SQUARED = math.log(2.0 * math.pi**2)


def turn_matrices(mean: Tensor) -> Tensor:
    """(J, 4, 4) matrices of q -> conj(m) q for unit quaternions m (J, 4), xyzw."""
    basis = torch.eye(4, dtype=mean.dtype, device=mean.device)
    conjugate = roma.quat_conjugation(mean)[:, None].expand(-1, 4, -1)
    return roma.quat_product(conjugate.contiguous(), basis.expand(len(mean), 4, 4).contiguous()).mT.contiguous()


def kept_turn(mean: Tensor, kept: Kept) -> Tensor:
    """`turn_matrices` (J, 4, 4) of a chart's means, unit quaternions (J, 4) xyzw or rotvecs (J, 3)."""
    return kept((mean,), None, lambda: turn_matrices(mean if mean.shape[-1] == 4 else roma.rotvec_to_unitquat(mean)))


def log_map(rotvec: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Tangent coordinates x = Log(M_j^-1 Exp(r_j)) and the ratio k = |x| / sin(|x| / 2).

    The uniform measure comes for free: log h(x) = -2 log k - log(2 pi^2).

    Args:
        rotvec: (B, J, 3) radians, any norm.
        turn: (J, 4, 4) from `turn_matrices`; no gradient flows to it.

    Returns:
        x (B, J, 3), |x| <= pi, and k (B, J, 1), from 2 at the mean to pi at the antipode. Gradients are finite
        everywhere.
    """
    tangent, ratio = _LogMap.apply(rotvec, turn)
    return tangent, ratio


def _forward(rotvec: Tensor, turn: Tensor) -> tuple[Tensor, ...]:
    angle = rotvec.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    half = 0.5 * angle
    cosine = half.cos()
    scale = half.sin() / angle
    quat = torch.cat([rotvec * scale, cosine], -1)
    relative = (turn @ quat[..., None])[..., 0]
    flipped = relative[..., 3:] < 0  # of the two quaternions of a rotation, the one with real part >= 0
    relative = torch.where(flipped, -relative, relative)
    vector, real = relative[..., :3], relative[..., 3:]
    sine = vector.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    ratio = 2.0 * torch.atan2(sine, real) / sine
    return vector * ratio, ratio, vector, real, sine, angle, cosine, scale, flipped


def _derivable(rotvec: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """The same x and k as series in squares where angles are small: what autograd can derive twice, at 0 too."""
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


class _LogMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rotvec: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        tangent, ratio, *rest = _forward(rotvec, turn)
        ctx.save_for_backward(rotvec, turn, ratio, *rest)
        return tangent, ratio

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        rotvec, turn, ratio, vector, real, sine, angle, cosine, scale, flipped = ctx.saved_tensors  # type: ignore[attr-defined]
        if torch.is_grad_enabled():  # create_graph: derive the composition, which can be derived again
            outputs = _derivable(rotvec, turn)
            (again,) = torch.autograd.grad(outputs, rotvec, grads, create_graph=True)
            return again, None
        grad_tangent, grad_ratio = grads
        grad_ratio = grad_ratio + (grad_tangent * vector).sum(-1, keepdim=True)
        # dk/dn = (2 w - k) / n with n = sin(|x|/2), w = cos(|x|/2); over n once more, and its series at the mean.
        squared = sine.square()
        bend = torch.where(sine > 0.05, (2.0 * real - ratio) / squared, -4.0 / 3.0 - 0.4 * squared)
        grad_vector = grad_tangent * ratio + vector * (grad_ratio * bend)
        grad_relative = torch.cat([grad_vector, -2.0 * grad_ratio], -1)
        grad_quat = (turn.mT @ grad_relative[..., None])[..., 0]
        grad_quat = torch.where(flipped, -grad_quat, grad_quat)
        grad_axis = grad_quat[..., :3]
        along = (grad_axis * rotvec).sum(-1, keepdim=True)
        # ds/da / a with s = sin(a/2)/a, and its series at 0.
        squared = angle.square()
        slope = torch.where(angle > 0.1, (0.5 * cosine - scale) / squared, squared / 960.0 - 1.0 / 24.0)
        return scale * grad_axis + rotvec * (slope * along - 0.5 * scale * grad_quat[..., 3:]), None
