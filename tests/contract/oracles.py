"""What the checks compare with: densities, draws and averages on SO(3), without the geometry of the library.

Everything is in float64 and in unit quaternions, xyzw, whose uniform distribution is the normalised Haar measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poseprior import PosePrior

#: Weight of the uniform distribution in a proposal, so that weights stay bounded wherever a density is.
_UNIFORM = 0.15
_MOST_ROWS = 8192
#: Standard errors that averages may be apart. Some thousand are compared; of a million normal ones 0.6 lie further out.
SIGMAS = 5.0


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rotvec_to_quat(rotvec: Tensor) -> Tensor:
    """(..., 4) of (..., 3)."""
    angle = rotvec.norm(dim=-1, keepdim=True)
    return torch.cat([rotvec * 0.5 * torch.sinc(angle / (2.0 * math.pi)), torch.cos(0.5 * angle)], -1)


def quat_to_rotvec(quat: Tensor) -> Tensor:
    """(..., 3), norm at most pi, of (..., 4)."""
    quat = torch.where(quat[..., 3:] < 0, -quat, quat)
    sine = quat[..., :3].norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return quat[..., :3] * (2.0 * torch.atan2(sine, quat[..., 3:]) / sine)


def multiply(p: Tensor, q: Tensor) -> Tensor:
    """Hamilton product of (..., 4)."""
    v, w, x, u = p[..., :3], p[..., 3:], q[..., :3], q[..., 3:]
    v, x = torch.broadcast_tensors(v, x)
    return torch.cat([w * x + u * v + torch.linalg.cross(v, x), w * u - (v * x).sum(-1, keepdim=True)], -1)


def conjugate(quat: Tensor) -> Tensor:
    return quat * quat.new_tensor([-1.0, -1.0, -1.0, 1.0])


def haar_log_density(rotvec: Tensor) -> Tensor:
    """(...,) log of the Haar density in rotvec coordinates, from Chirikjian (2012), away from 0."""
    angle = rotvec.norm(dim=-1)
    return torch.log((1.0 - torch.cos(angle)) / (4.0 * math.pi**2 * angle.square()))


def mean_quat(quat: Tensor) -> Tensor:
    """(J, 4) chordal means of (N, J, 4): the leading eigenvectors of the second moments."""
    return torch.linalg.eigh(torch.einsum("njp,njq->jpq", quat, quat))[1][..., -1]


@dataclass(frozen=True)
class Frame:
    """Coordinates to take averages in: whitened tangent vectors around the means of some poses.

    Attributes:
        joints: SMPL-X indices.
        mean: (J, 4) quaternions.
        factor: (J, 3, 3) lower Cholesky factors of the tangent covariances, radians.
    """

    joints: Sequence[int]
    mean: Tensor
    factor: Tensor

    @classmethod
    def around(cls, poses: Tensor, joints: Sequence[int]) -> Frame:
        """The frame of poses (N, 55, 3)."""
        quat = rotvec_to_quat(poses[:, list(joints)].double())
        mean = mean_quat(quat)
        x = quat_to_rotvec(multiply(conjugate(mean), quat))
        covariance = torch.einsum("njp,njq->jpq", x, x) / len(x) + 0.03**2 * torch.eye(3, dtype=x.dtype)
        return cls(tuple(joints), mean, torch.linalg.cholesky(covariance))

    def whiten(self, rotvec: Tensor) -> Tensor:
        """(..., J, 3) whitened tangent vectors of rotvecs (..., J, 3)."""
        x = quat_to_rotvec(multiply(conjugate(self.mean), rotvec_to_quat(rotvec.double())))
        return torch.linalg.solve_triangular(self.factor, x[..., None], upper=False)[..., 0]

    def features(self, rotvec: Tensor) -> Tensor:
        """(N, F) bounded functions of rotvecs (N, J, 3): bent coordinates, all their products, and how far out they are."""
        x = self.whiten(rotvec)
        bent = torch.tanh(0.5 * x).flatten(1)
        row, column = torch.triu_indices(bent.shape[1], bent.shape[1])
        far = [(x.norm(dim=-1) > level).double() for level in (2.5, 5.0)]
        return torch.cat([bent, bent[:, row] * bent[:, column], *far], 1)


class Proposal:
    """A broad distribution around poses, and a share of the uniform one, with its exact Haar density.

    A mixture of kernels around some of the poses, in two widths. A kernel is an independent angular central Gaussian of
    each joint's quaternion (Tyler 1987): with A = diag(S, 1) in the frame of the centre, log q = -log|A| / 2 -
    2 log(u^T A^-1 u) for a relative quaternion u. It has the tails of a Cauchy distribution: weights stay bounded.

    Args:
        poses: (N, 55, 3) where the density is expected.
        joints: SMPL-X indices.
        centres: how many of the poses are centres.
        widths: of the kernels around each, in standard deviations of the poses.
    """

    def __init__(
        self, poses: Tensor, joints: Sequence[int], *, centres: int = 200, widths: Sequence[float] = (0.3, 0.8)
    ) -> None:
        factor = Frame.around(poses, joints).factor
        chosen = torch.randperm(len(poses), generator=seeded())[:centres]
        quat = rotvec_to_quat(poses[chosen][:, list(joints)].double())
        self.centres = quat.repeat(len(widths), 1, 1)
        # A quaternion holds half the tangent vector.
        self.factor = torch.stack([0.5 * width * factor for width in widths for _ in chosen])
        self.level = -self.factor.diagonal(dim1=-2, dim2=-1).log().sum((-1, -2))
        # Rows of diag(S^-1/2, 1) conj(centre) u, for every kernel and joint: (J, 4 M, 4).
        basis = multiply(conjugate(self.centres)[:, :, None], torch.eye(4, dtype=quat.dtype)).mT
        whitened = torch.cat([torch.linalg.inv(self.factor) @ basis[..., :3, :], basis[..., 3:, :]], -2)
        self.whiten = whitened.transpose(0, 1).flatten(1, 2)

    def draw(self, num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """(num, J, 3) rotvecs and their log-densities (num,)."""
        generator = seeded(seed)
        kernel = torch.randint(len(self.centres), (num,), generator=generator)
        noise = torch.randn(num, *self.centres.shape[1:], generator=generator, dtype=torch.float64)
        turned = (self.factor[kernel] @ noise[..., :3, None])[..., 0]
        quat = multiply(self.centres[kernel], torch.cat([turned, noise[..., 3:]], -1))
        anywhere = torch.rand(num, generator=generator) < _UNIFORM
        uniform = torch.randn(quat.shape, generator=generator, dtype=torch.float64)
        quat = torch.where(anywhere[:, None, None], uniform, quat)
        quat = quat / quat.norm(dim=-1, keepdim=True)
        return quat_to_rotvec(quat), torch.cat([self._log_density(part) for part in quat.split(_MOST_ROWS)])

    def _log_density(self, quat: Tensor) -> Tensor:
        form = (self.whiten @ quat.permute(1, 2, 0)).unflatten(1, (-1, 4)).square().sum(2)  # (J, M, N)
        kernel = self.level[:, None] - 2.0 * form.log().sum(0)
        inside = kernel.logsumexp(0) - math.log(len(self.centres)) + math.log1p(-_UNIFORM)
        return torch.logaddexp(inside, torch.full_like(inside, math.log(_UNIFORM)))


@dataclass(frozen=True)
class Draws:
    """Draws of a proposal over some joints, (num, J, 3) rotvecs, and their log-densities (num,)."""

    joints: tuple[int, ...]
    rotvec: Tensor
    log_q: Tensor


_drawn: dict[tuple[object, ...], tuple[object, Draws]] = {}


def propose(prior: PosePrior, near: Tensor, joints: Sequence[int], num: int, *, context: Tensor | None = None) -> Draws:
    """Draws of a `Proposal` around poses and around samples, made once for the same prior and poses.

    Whatever the samples are worth, the density of the draws is exact.
    """
    key = (id(prior), id(near), tuple(joints), num, None if context is None else tuple(context.tolist()))
    if key not in _drawn:
        count = min(len(near), 800)
        some = near[torch.randperm(len(near), generator=seeded(1))[:count]]
        around = torch.cat([some, prior.sample(count, generator=seeded(11), context=context).to(some)])
        draws = Draws(tuple(joints), *Proposal(around, joints).draw(num, 12))
        _drawn[key] = ((prior, near), draws)  # held, so that their ids stay theirs
    return _drawn[key][1]


@dataclass(frozen=True)
class Average:
    """An average and its standard error, of any shape."""

    value: Tensor
    error: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Average:
        """Of independent rows (N, ...)."""
        # Where no row differs (a rare event that none shows) the error is that of one row.
        error = rows.std(0) / math.sqrt(len(rows))
        return cls(rows.mean(0), error + 1.0 / len(rows))

    @classmethod
    def weighted(cls, rows: Tensor, log_weight: Tensor) -> Average:
        """Of rows (N, F) under self-normalised weights (N,)."""
        weight = (log_weight - log_weight.max()).exp()
        weight = weight / weight.sum()
        value = weight @ rows
        error = (weight.square() @ (rows - value).square()).sqrt()
        # Of what few draws show, the spread is not known: one more draw could be as heavy as the heaviest.
        return cls(value, torch.maximum(error, (weight[:, None] * rows.abs()).amax(0)))

    def distance(self, other: Average, slack: float = 0.0) -> Tensor:
        """Difference in standard errors, beyond `slack`."""
        gap = ((self.value - other.value).abs() - slack).clamp_min(0.0)
        return gap / (self.error.square() + other.error.square()).sqrt()


def effective(log_weight: Tensor) -> float:
    """Number of equally weighted draws that weights (N,) are worth."""
    weight = (log_weight - log_weight.max()).exp()
    return float(weight.sum().square() / weight.square().sum())


def in_batches(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`function` of a few thousand rows at a time, float64."""
    with torch.no_grad():
        return torch.cat([function(part).double() for part in rows.split(_MOST_ROWS)])


def full_pose(rotvec: Tensor, joints: Sequence[int], base: Tensor | None = None) -> Tensor:
    """(N, 55, 3) with rotvecs (N, J, 3) at `joints`, and `base` (55, 3) or zeros elsewhere."""
    pose = rotvec.new_zeros(55, 3) if base is None else base.to(rotvec)
    pose = pose.expand(len(rotvec), 55, 3).clone()
    pose[:, list(joints)] = rotvec
    return pose


def mask_of(*joints: int) -> Tensor:
    """(55,) bool, True at `joints`."""
    mask = torch.zeros(55, dtype=torch.bool)
    mask[list(joints)] = True
    return mask


def log_density(
    prior: PosePrior, pose: Tensor, *, observed: Tensor | None = None, context: Tensor | None = None
) -> Tensor:
    """(N,) `log_prob` in float64; for a lower bound that can be tightened, tightened."""
    if hasattr(prior, "bound"):
        return in_batches(lambda part: prior.bound(part.to(prior.dtype), observed=observed, num_samples=64), pose)
    return in_batches(lambda part: prior.log_prob(part.to(prior.dtype), observed=observed, context=context), pose)
