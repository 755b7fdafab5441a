"""`MixedModel`: poses of groups that share a density and differ by rest frames, fitted by EM.

In the tangent space at the mean rotation M_j of each joint, y = Log(M_j^-1 R_j) with R'_j = Exp(a_j) R_j Exp(b_j):

    y ~ N(mu, S) over all joints at once,      a_j ~ N(0, A_j),  b_j ~ N(0, B_j),  one draw for each group.

The dependence of y on a and b is linearised, pose by pose, at their most likely values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from poseprior import skeleton
from poseprior.rotations import frechet_mean, quat_multiply, rotvec_to_rotmat, rotvec_to_unitquat, unitquat_log

#: Standard deviation that the shared density has at least, radians: hinges and tied joints make it singular otherwise.
_FLOOR = 0.02
#: Where the search for sizes starts, and what it does not go below, radians.
_START, _LEAST = 0.1, 0.002


@dataclass(frozen=True)
class Group:
    """Poses of one person on one rig.

    Attributes:
        rig, person: names.
        rotvec: (N, J, 3) radians.
        shown: (J,) bool, the joints that all of the poses show.
    """

    rig: str
    person: str
    rotvec: Tensor
    shown: Tensor


class MixedModel:
    """The unknowns of the linear mixed model, and a step of EM over all G groups at once.

    Joints that a group does not show have zeros in its precision, so that its rest frames stay as the prior has them.

    Attributes:
        frames: (G, J, 2, 3) most likely rotvecs of a_j and b_j.
        covariance: (J, 2, 3, 3), A_j and B_j.
    """

    def __init__(self, groups: Sequence[Group], joints: tuple[int, ...], draws: float) -> None:
        self._groups, size = groups, 3 * len(joints)
        self._partner = [joints.index(skeleton.MIRROR[j]) for j in joints]
        self._sign = torch.tensor(skeleton.REFLECTION, dtype=torch.float64)
        people = Counter(group.rig for group in groups)
        weight = torch.tensor([1.0 / people[group.rig] for group in groups], dtype=torch.float64)
        self._weight = weight / weight.sum()
        self._draws = torch.tensor([min(draws, len(group.rotvec)) for group in groups], dtype=torch.float64)
        self._shown = torch.stack([group.shown for group in groups]).double()
        self._centre = self._mean_rotations()
        self.frames = torch.zeros(len(groups), len(joints), 2, 3, dtype=torch.float64)
        self.covariance = (_START**2 * torch.eye(3, dtype=torch.float64)).expand(len(joints), 2, 3, 3).clone()
        self._mean = torch.zeros(size, dtype=torch.float64)
        self._spread = torch.eye(size, dtype=torch.float64)
        self.linearise()
        unmoved = torch.zeros(len(groups), 2 * size, dtype=torch.float64)
        self._fit_density(unmoved, torch.zeros(len(groups), 2 * size, 2 * size, dtype=torch.float64))

    def linearise(self) -> None:
        """Take derivatives anew, at the present rest frames."""
        self._at = self.frames.clone()
        self._poses = _Linearised.stack(
            [_Linearised.at(g.rotvec, self._centre, f) for g, f in zip(self._groups, self.frames, strict=True)]
        )

    def step(self) -> None:
        """The rest frames of each group with their uncertainty, then A and B, then the density of the poses."""
        groups, count = self._at.shape[:2]
        poses, precision = self._poses, self._precision()
        blocks = precision.reshape(groups, count, 3, count, 3)
        slope = torch.einsum("gjxc,gjx->gjc", poses.derivative, (precision @ self._mean).reshape(groups, count, 3))
        slope = slope - torch.einsum("gkyjxc,gjxky->gjc", poses.with_derivative, blocks)
        information = torch.einsum("gjxckyd,gjxky->gjckd", poses.derivatives, blocks).reshape(groups, 6 * count, -1)
        prior = torch.block_diag(*torch.linalg.inv(self.covariance.flatten(0, 1)))
        uncertainty = torch.linalg.inv(self._draws[:, None, None] * information + prior)
        start = self._at.flatten(1)
        slope = self._draws[:, None] * (slope.flatten(1) + (information @ start[..., None])[..., 0])
        frames = (uncertainty @ slope[..., None])[..., 0]
        self.frames = frames.reshape_as(self._at)
        self._fit_covariance(uncertainty)
        moved = frames - start
        self._fit_density(moved, uncertainty + moved[:, :, None] * moved[:, None, :])

    def _precision(self) -> Tensor:
        """(G, 3J, 3J) inverse of S over the joints that a group shows, zero elsewhere."""
        shown = self._shown.repeat_interleave(3, 1)
        both = shown[:, :, None] * shown[:, None, :]
        return both * torch.linalg.inv(both * self._spread + torch.diag_embed(1.0 - shown))

    def _fit_covariance(self, uncertainty: Tensor) -> None:
        groups, count = self._at.shape[:2]
        own = torch.einsum("gjsajsb->gjsab", uncertainty.reshape(groups, count, 2, 3, count, 2, 3))
        second = self.frames[..., :, None] * self.frames[..., None, :] + own
        weight = self._weight[:, None] * self._shown
        total = torch.einsum("gj,gjsab->jsab", weight, second)
        total = total + total[self._partner] * self._sign[:, None] * self._sign
        showing = weight.sum(0) + weight.sum(0)[self._partner]
        self.covariance = total / showing[:, None, None, None] + _LEAST**2 * torch.eye(3, dtype=torch.float64)

    def _fit_density(self, moved: Tensor, second: Tensor) -> None:
        """mu and S with their mirror images, of rest frames that moved by (G, 6J), with second moments (G, 6J, 6J)."""
        groups, count = self._at.shape[:2]
        poses, size = self._poses, 3 * count
        moved, second = moved.reshape(groups, count, 6), second.reshape(groups, count, 6, count, 6)
        first = (poses.mean + torch.einsum("gjxc,gjc->gjx", poses.derivative, moved)).flatten(1) - self._mean
        cross = torch.einsum("gkyjxc,gjc->gkyjx", poses.with_derivative, moved).reshape(groups, size, size)
        both = poses.second + cross + cross.mT
        both = both + torch.einsum("gjxckyd,gjckd->gjxky", poses.derivatives, second).reshape(groups, size, size)
        # About the present mean; what a group does not show is as the density expects it.
        about = both - self._mean[:, None] * (first + self._mean)[:, None, :] - first[:, :, None] * self._mean
        gain = self._spread @ self._precision()
        about = gain @ about @ gain.mT + self._spread - gain @ self._spread
        shift = torch.einsum("g,gxy,gy->x", self._weight, gain, first)
        flip = (3 * torch.tensor(self._partner)[:, None] + torch.arange(3)).flatten()
        sign = self._sign.repeat(count)
        spread = torch.einsum("g,gxy->xy", self._weight, about)
        spread = 0.5 * (spread + sign[:, None] * spread[flip][:, flip] * sign)
        shift = 0.5 * (shift + sign * shift[flip])
        self._mean = self._mean + shift
        self._spread = spread - shift[:, None] * shift + _FLOOR**2 * torch.eye(size, dtype=torch.float64)

    def _mean_rotations(self) -> Tensor:
        """(J, 3) rotvecs M_j: means of the groups' means, with their mirror images."""
        means = torch.stack([frechet_mean(group.rotvec) for group in self._groups])
        both = torch.cat([means, self._sign * means[:, self._partner]])
        weight = self._weight[:, None] * self._shown
        return frechet_mean(both, torch.cat([weight, weight[:, self._partner]]))


class _Linearised(NamedTuple):
    """Means over a group's poses of their coordinates y, rest frames taken off, and of the derivatives D to the frames.

    Attributes:
        mean: (J, 3), of y.
        second: (3J, 3J), of y y^T.
        derivative: (J, 3, 6), of D, the derivatives of y to (a, b).
        with_derivative: (J, 3, J, 3, 6), of y D.
        derivatives: (J, 3, 6, J, 3, 6), of D D.
    """

    mean: Tensor
    second: Tensor
    derivative: Tensor
    with_derivative: Tensor
    derivatives: Tensor

    @classmethod
    def at(cls, rotvec: Tensor, centre: Tensor, frames: Tensor) -> _Linearised:
        """Of poses (N, J, 3) at rest frames (J, 2, 3), with M_j = Exp(centre).

        dy/da = -Jr(y)^-T M^T Jr(a) and dy/db = -Jr(y)^-1 Jl(b), with the right and left Jacobians of the exponential map.
        """
        turned = quat_multiply(rotvec_to_unitquat(-frames[:, 0]), rotvec_to_unitquat(rotvec))
        turned = quat_multiply(turned, rotvec_to_unitquat(-frames[:, 1]))
        y = unitquat_log(quat_multiply(rotvec_to_unitquat(-centre), turned))[0]
        inverse = _inverse_right_jacobian(y)
        parent = inverse.mT @ (rotvec_to_rotmat(centre).mT @ _right_jacobian(frames[:, 0]))
        derivative = -torch.cat([parent, inverse @ _right_jacobian(frames[:, 1]).mT], -1)
        joints, known, flat = y.shape[1], y.flatten(1), derivative.flatten(1)
        return cls(
            mean=y.mean(0), second=known.T @ known / len(y), derivative=derivative.mean(0),
            with_derivative=(known.T @ flat / len(y)).reshape(joints, 3, joints, 3, 6),
            derivatives=(flat.T @ flat / len(y)).reshape(joints, 3, 6, joints, 3, 6),
        )  # fmt: skip

    @classmethod
    def stack(cls, groups: Sequence[_Linearised]) -> _Linearised:
        """All groups, along a first axis."""
        return cls(*map(torch.stack, zip(*groups, strict=True)))


def _inverse_right_jacobian(rotvec: Tensor) -> Tensor:
    """(..., 3, 3) of rotvecs (..., 3) with norms below 2 pi."""
    angle = rotvec.norm(dim=-1).clamp_min(1e-3)[..., None, None]
    cross = _cross(rotvec)
    half = angle / 2.0
    return torch.eye(3, dtype=rotvec.dtype) + 0.5 * cross + (1.0 - half / half.tan()) / angle**2 * (cross @ cross)


def _right_jacobian(rotvec: Tensor) -> Tensor:
    """(..., 3, 3): Exp(v + d) = Exp(v) Exp(Jr(v) d) for small d. The transpose is the left Jacobian."""
    angle = rotvec.norm(dim=-1).clamp_min(1e-3)[..., None, None]
    cross = _cross(rotvec)
    first, second = (1.0 - angle.cos()) / angle**2, (angle - angle.sin()) / angle**3
    return torch.eye(3, dtype=rotvec.dtype) - first * cross + second * (cross @ cross)


def _cross(vector: Tensor) -> Tensor:
    """(..., 3, 3) matrices of the cross product with vectors (..., 3) from the left."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape, 3)
