"""Rotations through roma, and the measure that every density in this library is taken against.

A pose is a rotvec (axis-angle, radians) per joint. Densities live on SO(3) with its normalised Haar (uniform) measure:
in rotvec coordinates, with t = |rotvec|, that measure has the Lebesgue density

    h(rotvec) = (1 - cos t) / (4 pi^2 t^2),        h(0) = 1 / (8 pi^2),

so `log p_haar = log p_rotvec - log h`. Since the measure is invariant, the same h serves in the tangent space at any
rotation. Source: Chirikjian, "Stochastic Models, Information Theory, and Lie Groups" vol. 2, section 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: log h at the identity, -log(8 pi^2).
HAAR_LOG_DENSITY_AT_ZERO = -math.log(8.0 * math.pi**2)
#: Radians. Beyond it not even the digits of double precision say which rotation a rotvec is.
MOST_RADIANS = 1e15
#: Squares below this are small: functions of the angle are series there.
_SMALL = 1e-2
#: Taylor coefficients of arcsin(s) / s in s^2: all of them for double precision, the first ones for single precision.
_ARCSINE = (1.0, 1 / 6, 3 / 40, 15 / 336, 105 / 3456, 945 / 42240, 10395 / 599040, 135135 / 9676800)
_SINGLE_PRECISION_TERMS = 5


def haar_log_density(rotvec: Tensor) -> Tensor:
    """log h of the uniform measure of SO(3) in rotvec coordinates.

    Args:
        rotvec: (*batch, 3) radians. Also right beyond |rotvec| = pi, where it is the Jacobian of the exponential map.

    Returns:
        (*batch,) nats; -inf at |rotvec| = 2 pi k, k >= 1, where the exponential map folds a sphere to one point.
    """
    squared = rotvec.square().sum(-1)
    small = squared < _SMALL
    safe = torch.where(small, torch.ones_like(squared), squared)
    # (1 - cos t) / t^2 = 2 sin^2(t/2) / t^2, and the sine form does not cancel in float32.
    exact = torch.log(2.0 * torch.sin(safe.sqrt() * 0.5).square() / safe)
    # log of 2(1 - cos t)/t^2 = -t^2/12 - t^4/1440 - t^6/90720 - ...
    series = -squared / 12.0 * (1.0 + squared / 120.0 * (1.0 + squared / 63.0)) - math.log(2.0)
    return torch.where(small, series, exact) - math.log(4.0 * math.pi**2)


def wrap_rotvec(rotvec: Tensor) -> Tensor:
    """The same rotations with norm at most pi.

    Args:
        rotvec: (*batch, 3) radians, any norm.

    Returns:
        (*batch, 3), |.| <= pi. Values already inside come back unchanged to the bit.
    """
    # clamp keeps the gradient of the norm finite at zero.
    angle = rotvec.square().sum(-1, keepdim=True).clamp_min(1e-30).sqrt()
    turns = torch.round(angle / (2.0 * math.pi)).detach()
    return torch.where(angle <= math.pi, rotvec, rotvec * (1.0 - 2.0 * math.pi * turns / angle))


def rotvec_to_unitquat(rotvec: Tensor) -> Tensor:
    """Unit quaternions (*batch, 4), xyzw, of rotvecs (*batch, 3): roma's, with derivatives of every order at zero too."""
    squared = rotvec.square().sum(-1, keepdim=True)
    small = squared < _SMALL
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    # sin(t/2)/t and cos(t/2), and their series in t^2: the angle itself has no derivative at zero.
    scale = 0.5 - squared / 48.0 * (1.0 - squared / 80.0 * (1.0 - squared / 168.0))
    cosine = 1.0 - squared / 8.0 * (1.0 - squared / 48.0 * (1.0 - squared / 120.0))
    scale = torch.where(small, scale, torch.sin(0.5 * angle) / angle)
    cosine = torch.where(small, cosine, torch.cos(0.5 * angle))
    return torch.cat([rotvec * scale, cosine], -1)


def unitquat_log(quat: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of unit quaternions (*batch, 4), xyzw, of either sign, with derivatives of every order below pi.

    Returns:
        rotvecs x (*batch, 3), |x| <= pi, and the ratio |x| / sin(|x| / 2) (*batch, 1): 2 at the identity, pi at |x| = pi.
    """
    quat = torch.where(quat[..., 3:] < 0, -quat, quat)
    vector, real = quat[..., :3], quat[..., 3:]
    squared = vector.square().sum(-1, keepdim=True)
    small = squared < _SMALL
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    terms = _ARCSINE if quat.dtype == torch.float64 else _ARCSINE[:_SINGLE_PRECISION_TERMS]
    series = terms[-2] + terms[-1] * squared
    for coefficient in reversed(terms[:-2]):
        series = coefficient + squared * series
    ratio = 2.0 * torch.where(small, series, torch.atan2(sine, real) / sine)
    return vector * ratio, ratio


def rotvec_to_rotmat(rotvec: Tensor) -> Tensor:
    """Rotation matrices (*batch, 3, 3) of rotvecs (*batch, 3), with derivatives of every order at zero too."""
    return unitquat_to_rotmat(rotvec_to_unitquat(rotvec))


def rotmat_to_rotvec(rotmat: Tensor) -> Tensor:
    """Rotvecs (*batch, 3), norm at most pi, of rotation matrices (*batch, 3, 3)."""
    return unitquat_log(rotmat_to_unitquat(rotmat))[0]


def unitquat_to_rotvec(quat: Tensor) -> Tensor:
    """Rotvecs (*batch, 3), norm at most pi, of unit quaternions (*batch, 4), xyzw, of either sign."""
    return unitquat_log(quat)[0]


# What roma does is imported on first use: roma imports torch._dynamo, which takes longer than torch itself.


def unitquat_to_rotmat(quat: Tensor) -> Tensor:
    """Rotation matrices (*batch, 3, 3) of unit quaternions (*batch, 4), xyzw."""
    import roma

    matrix: Tensor = roma.unitquat_to_rotmat(quat)
    return matrix


def rotmat_to_unitquat(rotmat: Tensor) -> Tensor:
    """Unit quaternions (*batch, 4), xyzw, of rotation matrices (*batch, 3, 3)."""
    import roma

    quat: Tensor = roma.rotmat_to_unitquat(rotmat)
    return quat


def nearest_rotmat(matrix: Tensor) -> Tensor:
    """The rotation matrices (*batch, 3, 3) nearest to matrices (*batch, 3, 3)."""
    import roma

    rotmat: Tensor = roma.special_procrustes(matrix)
    return rotmat


def rotvec_to_tangent(rotvec: Tensor, mean: Tensor) -> Tensor:
    """Coordinates in the tangent space at a mean rotation, x = Log(Exp(mean)^-1 Exp(rotvec)).

    Args:
        rotvec: (*batch, 3) radians, any norm.
        mean: (3,) or broadcastable rotvec of the base point.

    Returns:
        (*batch, 3), |x| <= pi, with finite derivatives of every order at rest, at the mean, and up to pi and 2 pi.
    """
    return unitquat_log(quat_multiply(quat_conjugate(rotvec_to_unitquat(mean)), rotvec_to_unitquat(rotvec)))[0]


def tangent_to_rotvec(tangent: Tensor, mean: Tensor) -> Tensor:
    """Inverse of `rotvec_to_tangent`: the rotvec of Exp(mean) Exp(tangent), norm at most pi."""
    return unitquat_log(quat_multiply(rotvec_to_unitquat(mean), rotvec_to_unitquat(tangent)))[0]


def quat_multiply(p: Tensor, q: Tensor) -> Tensor:
    """Products p q (*batch, 4) of quaternions, xyzw."""
    p, q = torch.broadcast_tensors(p, q)
    p_vector, p_real, q_vector, q_real = p[..., :3], p[..., 3:], q[..., :3], q[..., 3:]
    vector = p_real * q_vector + q_real * p_vector + torch.linalg.cross(p_vector, q_vector)
    return torch.cat([vector, p_real * q_real - (p_vector * q_vector).sum(-1, keepdim=True)], -1)


def quat_conjugate(quat: Tensor) -> Tensor:
    """Conjugates (*batch, 4) of quaternions, xyzw: the inverses of unit quaternions."""
    return torch.cat([-quat[..., :3], quat[..., 3:]], -1)


def geodesic_path(start: Tensor, end: Tensor, time: Tensor) -> Tensor:
    """start Exp(t Log(start^-1 end)): rotvecs (T, *batch, 3) from `start` at t = 0 to `end` at t = 1, at times (T,)."""
    step = rotvec_to_tangent(end, start)
    return tangent_to_rotvec(time.to(step).reshape(-1, *[1] * step.dim()) * step, start)


def geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    """Angle in radians between rotations given as rotvecs (*batch, 3); gradients are finite except at exactly 0 and pi."""
    return rotvec_to_tangent(first, second).square().sum(-1).clamp_min(1e-30).sqrt()


def frechet_mean(rotvec: Tensor, weight: Tensor | None = None, *, iterations: int = 50, tol: float = 1e-9) -> Tensor:
    """Fréchet (Karcher) mean of rotations under the geodesic distance.

    Args:
        rotvec: (N, *batch, 3) radians.
        weight: (N, *batch) non-negative, or None for equal weights. Where all weights are 0 the mean is the identity.
        iterations: most steps of the fixed-point iteration m <- m Exp(sum w Log(m^-1 r) / sum w).
        tol: stop when no step is longer, radians.

    Returns:
        (*batch, 3) rotvec in float64. Started at the chordal mean (Moakher 2002), which is in the basin whenever the
        mean is unique.
    """
    rotvec = rotvec.double()
    w = torch.ones_like(rotvec[..., 0]) if weight is None else weight.to(rotvec)
    total = w.sum(0)
    fraction = w / total.clamp_min(1e-12)
    matrix = (fraction[..., None, None] * rotvec_to_rotmat(rotvec)).sum(0)
    empty = (total == 0)[..., None]
    matrix = torch.where(empty[..., None], torch.eye(3, dtype=matrix.dtype, device=matrix.device), matrix)
    mean = rotmat_to_rotvec(nearest_rotmat(matrix))
    for _ in range(iterations):
        step = (fraction[..., None] * rotvec_to_tangent(rotvec, mean)).sum(0)
        mean = tangent_to_rotvec(step, mean)
        if float(step.abs().max()) < tol:
            break
    return torch.where(empty, torch.zeros_like(mean), mean)


def random_rotvec(*shape: int, generator: torch.Generator | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Haar-uniform random rotations as rotvecs, (*shape, 3), norm at most pi."""
    quat = torch.randn(*shape, 4, generator=generator, dtype=dtype)
    return unitquat_to_rotvec(quat / quat.norm(dim=-1, keepdim=True))


def add_tangent_noise(pose: Tensor, sigma: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Right-multiply every rotation by Exp(n), n ~ N(0, sigma^2 I): the jitter of training and evaluation.

    Args:
        pose: (*batch, 3) rotvecs, radians.
        sigma: standard deviation in radians; 0 returns the input.
        generator: source of the noise, on the device of `pose`.
    """
    if sigma == 0.0:
        return pose
    noise = torch.randn(pose.shape, generator=generator, dtype=pose.dtype, device=pose.device) * sigma
    return tangent_to_rotvec(noise, pose)
