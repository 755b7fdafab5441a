"""Coordinates of rotations around each joint's mean: the chart of Gaussians, and what it shares with the compact chart."""

from __future__ import annotations

import torch
from torch import Tensor

from ...rotations import frechet_mean, rotvec_to_tangent, rotvec_to_unitquat, tangent_to_rotvec
from ..shared.cache import WeightCache
from .chart import Chart, Saved
from .log_map import LOG_TWO_PI_SQUARED, LogPoint, eager_log_map, inverse_mean_matrices, log_map, log_map_gradient

#: Least scale of a coordinate, radians: the density of a joint that never moves must stay finite.
LEAST_SCALE = 1e-3


class MeanChart(Chart):
    """A chart around each joint's mean rotation.

    Attributes:
        mean: (J, 3) rotvecs or (J, 4) unit quaternions, xyzw, of the Fréchet means.
        scale: (J, 3) standard deviation of each tangent coordinate, radians.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.ones(len(mean), 3))
        self.cache = WeightCache(1)

    def constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """`inverse_mean_matrices` (J, 4, 4), 1 / scale (J, 3, 1), and the part of volumes that all rotations share (J, 1, 1)."""

        def compute() -> tuple[Tensor, Tensor, Tensor]:
            mean = self.mean if self.mean.shape[-1] == 4 else rotvec_to_unitquat(self.mean)
            level = self.scale.log().sum(-1, keepdim=True) - LOG_TWO_PI_SQUARED
            return inverse_mean_matrices(mean), 1.0 / self.scale[..., None], level[..., None]

        return self.cache((self.mean, self.scale), None, compute)


class TangentChart(MeanChart):
    """Per-joint coordinates z = Log(M_j^-1 R_j) / s_j around each joint's mean rotation M_j.

    volume = sum_j [sum_k log s_jk + log h(x_j)] over observed joints.

    Attributes:
        mean: (J, 3) rotvec of the Fréchet mean.
        scale: (J, 3) standard deviation of each tangent coordinate, radians.
    """

    def __init__(self, num_joints: int) -> None:
        super().__init__(torch.zeros(num_joints, 3))

    def point(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Saved]:
        inverse_mean, factor, level = self.constants()
        log = log_map(rotvec, inverse_mean)
        volume = level - log.ratio.square().log_()
        if weight is not None:
            factor, volume = factor * weight, volume * weight
        return log.tangent * factor, volume.sum((0, 1)), (factor, *log)

    def gradient(
        self, rotvec: Tensor, weight: Tensor | None, saved: Saved, grad_z: Tensor, grad_volume: Tensor | float
    ) -> Tensor:
        factor, log = saved[0], LogPoint(*saved[1:])
        grad_ratio = volume_gradient(log.ratio, weight, grad_volume)
        return log_map_gradient(rotvec, self.constants()[0], log, grad_z * factor, grad_ratio)

    def eager(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        inverse_mean, factor, level = self.constants()
        tangent, ratio = eager_log_map(rotvec, inverse_mean)
        factor, volume = factor[..., 0], level[..., 0] - 2.0 * ratio.log()
        if weight is not None:
            factor, volume = factor * weight, volume * weight
        return tangent * factor, volume.sum((1, 2))

    def inverse(self, z: Tensor) -> Tensor:
        """(..., J, 3) rotvecs of standardised coordinates; coordinates beyond pi wrap round."""
        return tangent_to_rotvec(z * self.scale, self.mean)

    @torch.no_grad()
    def fit(self, rotvec: Tensor, observed: Tensor, *, jitter: float = 0.0) -> None:
        """Set mean and scale from (N, J, 3) rotvecs and their (N, J) observed mask; `jitter` is the noise they carry."""
        # The sample deviation of a few poses can be smaller than that of the noise they carry.
        mean, scale = moments(rotvec, observed, max(LEAST_SCALE, 0.5 * jitter))
        self.mean.copy_(mean)
        self.scale.copy_(scale)


def volume_gradient(ratio: Tensor, weight: Tensor | None, grad_volume: Tensor | float) -> Tensor:
    """(J, 1, B) gradient of -2 log |k| to the ratio k."""
    grad = -2.0 * grad_volume if weight is None else (-2.0 * grad_volume) * weight
    return grad / ratio


def moments(rotvec: Tensor, observed: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Fréchet means (J, 3) rotvecs and standard deviations (J, 3), at least `least`, of (N, J, 3) with mask (N, J)."""
    weight = observed.double()
    mean = frechet_mean(rotvec, weight)
    tangent = rotvec_to_tangent(rotvec.double(), mean)
    variance = (weight[..., None] * tangent.square()).sum(0) / weight.sum(0).clamp_min(1.0)[:, None]
    never = (weight.sum(0) == 0)[:, None]
    return mean, torch.where(never, torch.ones_like(variance), variance.sqrt().clamp_min(least))
