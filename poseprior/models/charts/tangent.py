"""The charts that models work in: coordinates of rotations around each joint's mean, with the exact change of variables."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...rotations import frechet_mean, rotvec_to_tangent, rotvec_to_unitquat, tangent_to_rotvec
from ..shared.cache import WeightCache
from .log_map import LOG_TWO_PI_SQUARED, LogPoint, eager_log_map, inverse_mean_matrices, log_map, log_map_gradient

#: No component is scaled by less than this, radians: a joint that never moves must not blow the density up.
LEAST_SCALE = 1e-3


class ChartPoint(NamedTuple):
    """Coordinates of rotations, and what their gradient needs.

    Attributes:
        z: (B, J, 3), zero where unobserved.
        volume: (B,) `log p_haar = log p_z - volume`.
        factor: (B, J, 3) or (J, 3), z over the tangent coordinates.
        filled: (B, J, 1) (|x| / pi)^p of `CompactChart`; empty for other charts.
        log: the logarithm at the means.
    """

    z: Tensor
    volume: Tensor
    factor: Tensor
    filled: Tensor
    log: LogPoint


class Chart(nn.Module, ABC):
    """Coordinates z of rotations around each joint's mean rotation, with a hand-written gradient.

    `log_haar(z) = log p_z(z) - volume`.

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

    def forward(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates and the log-volume of the change of variables.

        Args:
            rotvec: (B, J, 3) radians, any norm.
            observed: (B, J) bool.

        Returns:
            z (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_z - volume`.
        """
        z, volume, *_ = _ChartMap.apply(rotvec, self, observed_weight(observed, rotvec))
        return z, volume

    @abstractmethod
    def point(self, rotvec: Tensor, weight: Tensor | None) -> ChartPoint:
        """Coordinates and volume, without autograd; `weight` (B, J, 1) as from `observed_weight`."""

    @abstractmethod
    def gradient(
        self, rotvec: Tensor, weight: Tensor | None, point: ChartPoint, grad_z: Tensor, grad_volume: Tensor
    ) -> Tensor:
        """(B, J, 3) gradient to the rotvecs, from those to z (B, J, 3) and to the volume, (B, 1, 1)."""

    @abstractmethod
    def eager(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """z and volume by operations that autograd can derive again and again: what `point` and `gradient` must equal."""

    def constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """`inverse_mean_matrices` (J, 4, 4), 1 / scale (J, 3), and the part of volumes that all rotations share (J, 1)."""

        def compute() -> tuple[Tensor, Tensor, Tensor]:
            mean = self.mean if self.mean.shape[-1] == 4 else rotvec_to_unitquat(self.mean)
            level = self.scale.log().sum(-1, keepdim=True) - LOG_TWO_PI_SQUARED
            return inverse_mean_matrices(mean), 1.0 / self.scale, level

        return self.cache((self.mean, self.scale), None, compute)


def observed_weight(observed: Tensor, like: Tensor) -> Tensor | None:
    """(B, J, 1) ones where a mask (B, J) is True and zeros elsewhere, in the type of `like`; None where all is True."""
    return None if bool(observed.all()) else observed.to(like.dtype)[..., None]


class _ChartMap(torch.autograd.Function):
    """z, volume and, for the gradient, the other fields of `ChartPoint`."""

    @staticmethod
    def forward(rotvec: Tensor, chart: Chart, weight: Tensor | None) -> tuple[Tensor, ...]:
        z, volume, factor, filled, log = chart.point(rotvec, weight)
        return z, volume, factor, filled, *log

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        rotvec, ctx.chart, ctx.weight = inputs
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rotvec, *output[2:])

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_volume: Tensor | None, *_: None) -> tuple[Tensor, None, None]:
        rotvec, factor, filled, *log = ctx.saved_tensors
        grad_z = torch.zeros_like(rotvec) if grad_z is None else grad_z
        grad_volume = rotvec.new_zeros(len(rotvec)) if grad_volume is None else grad_volume
        if torch.is_grad_enabled():  # create_graph: the gradient must be differentiable itself
            outputs = ctx.chart.eager(rotvec, ctx.weight)
            (found,) = torch.autograd.grad(outputs, rotvec, (grad_z, grad_volume), create_graph=True)
        else:
            point = ChartPoint(rotvec, rotvec, factor, filled, LogPoint(*log))
            found = ctx.chart.gradient(rotvec, ctx.weight, point, grad_z, grad_volume[:, None, None])
        return found, None, None


# `apply` would parse the signature on every call.
_ChartMap.forward.__signature__ = inspect.signature(_ChartMap.forward)  # type: ignore[attr-defined]


class TangentChart(Chart):
    """Per-joint coordinates z = Log(M_j^-1 R_j) / s_j around each joint's mean rotation M_j.

    volume = sum_j [sum_k log s_jk + log h(x_j)] over observed joints.

    Attributes:
        mean: (J, 3) rotvec of the Fréchet mean.
        scale: (J, 3) standard deviation of each tangent coordinate, radians.
    """

    def __init__(self, num_joints: int) -> None:
        super().__init__(torch.zeros(num_joints, 3))

    def point(self, rotvec: Tensor, weight: Tensor | None) -> ChartPoint:
        inverse_mean, factor, level = self.constants()
        log = log_map(rotvec, inverse_mean)
        volume = level - log.ratio.square().log_()
        if weight is not None:
            factor, volume = factor * weight, volume * weight
        return ChartPoint(log.tangent * factor, volume.sum((1, 2)), factor, factor.new_empty(0), log)

    def gradient(
        self, rotvec: Tensor, weight: Tensor | None, point: ChartPoint, grad_z: Tensor, grad_volume: Tensor
    ) -> Tensor:
        grad_ratio = volume_gradient(point.log.ratio, weight, grad_volume)
        return log_map_gradient(rotvec, self.constants()[0], point.log, grad_z * point.factor, grad_ratio)

    def eager(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        inverse_mean, factor, level = self.constants()
        tangent, ratio = eager_log_map(rotvec, inverse_mean)
        volume = level - 2.0 * ratio.log()
        if weight is not None:
            factor, volume = factor * weight, volume * weight
        return tangent * factor, volume.sum((1, 2))

    def inverse(self, z: Tensor) -> Tensor:
        """(..., J, 3) rotvecs of standardised coordinates; coordinates beyond pi wrap round."""
        return tangent_to_rotvec(z * self.scale, self.mean)

    @torch.no_grad()
    def fit(self, rotvec: Tensor, observed: Tensor, *, jitter: float = 0.0) -> None:
        """Set mean and scale from (N, J, 3) rotvecs and their (N, J) observed mask; `jitter` is the noise they carry."""
        # A handful of poses can show less than their noise.
        mean, scale = moments(rotvec, observed, max(LEAST_SCALE, 0.5 * jitter))
        self.mean.copy_(mean)
        self.scale.copy_(scale)


def volume_gradient(ratio: Tensor, weight: Tensor | None, grad_volume: Tensor) -> Tensor:
    """(B, J, 1) gradient of -2 log |k| to the ratio k."""
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
