"""The charts that models work in: coordinates of rotations around each joint's mean, with the exact change of variables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import roma
import torch
from torch import Tensor, nn

from ...rotations import frechet_mean, rotvec_to_tangent, tangent_to_rotvec
from ..shared.cache import Kept
from .log_map import LOG_TWO_PI_SQUARED, LogPoint, derivable_log_map, log_map, log_map_gradient, turn_matrices

#: No component is scaled by less than this, radians: a joint that never moves must not blow the density up.
LEAST_SCALE = 1e-3


class ChartPoint(NamedTuple):
    """Coordinates of rotations, and what their gradient needs.

    Attributes:
        z: (B, J, 3), zero where unobserved.
        volume: (B,) `log p_haar = log p_z - volume`.
        turn: `turn_matrices` of the means.
        log: the logarithm at the means.
        factor: (B, J, 3) or (J, 3), z over the tangent coordinates.
        filled: (B, J, 1) share of the ball that lies within the rotation's angle, for charts that unfold it.
    """

    z: Tensor
    volume: Tensor
    turn: Tensor
    log: LogPoint
    factor: Tensor
    filled: Tensor | None = None


class Chart(nn.Module, ABC):
    """Coordinates z of rotations around each joint's mean rotation, with a written-out gradient.

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
        self.kept = Kept(1)

    def forward(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates and the log-volume of the change of variables.

        Args:
            rotvec: (B, J, 3) radians, any norm.
            observed: (B, J) bool.

        Returns:
            z (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_z - volume`.
        """
        z, volume = _ChartMap.apply(rotvec, self, shown(observed, rotvec))
        return z, volume

    @abstractmethod
    def point(self, rotvec: Tensor, seen: Tensor | None) -> ChartPoint:
        """Coordinates and volume, not to be derived by autograd; `seen` (B, J, 1) as from `shown`."""

    @abstractmethod
    def gradient(
        self, rotvec: Tensor, seen: Tensor | None, point: ChartPoint, grad_z: Tensor, grad_volume: Tensor | float
    ) -> Tensor:
        """(B, J, 3) gradient to the rotvecs, from those to z (B, J, 3) and to each joint's part of the volume.

        The latter, `grad_volume`, is one number or broadcasts to (B, J, 1).
        """

    @abstractmethod
    def composed(self, rotvec: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """z and volume as a composition that autograd can derive again and again."""

    def constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """`turn_matrices` (J, 4, 4), 1 / scale (J, 3) and what does not depend on the rotation in volumes (J, 1)."""

        def compute() -> tuple[Tensor, Tensor, Tensor]:
            mean = self.mean if self.mean.shape[-1] == 4 else roma.rotvec_to_unitquat(self.mean)
            level = self.scale.log().sum(-1, keepdim=True) - LOG_TWO_PI_SQUARED
            return turn_matrices(mean), 1.0 / self.scale, level

        return self.kept((self.mean, self.scale), None, compute)


def shown(observed: Tensor, like: Tensor) -> Tensor | None:
    """(B, J, 1) ones where a mask (B, J) is set, None where it hides nothing."""
    return None if bool(observed.all()) else observed.to(like.dtype)[..., None]


class _ChartMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rotvec: Tensor, chart: Chart, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        point = chart.point(rotvec, seen)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(rotvec)
            # Without the outputs: a node that holds them is never freed.
            ctx.chart, ctx.seen, ctx.point = chart, seen, point._replace(z=rotvec, volume=rotvec)
        return point.z, point.volume

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (rotvec,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            outputs = ctx.chart.composed(rotvec, ctx.seen)
            (found,) = torch.autograd.grad(outputs, rotvec, grads, create_graph=True)
        else:
            found = ctx.chart.gradient(rotvec, ctx.seen, ctx.point, grads[0], grads[1][:, None, None])
        return found, None, None


class TangentChart(Chart):
    """Per-joint coordinates z = Log(M_j^-1 R_j) / s_j around each joint's mean rotation M_j.

    volume = sum_j [sum_k log s_jk + log h(x_j)] over observed joints.

    Attributes:
        mean: (J, 3) rotvec of the Fréchet mean.
        scale: (J, 3) standard deviation of each tangent coordinate, radians.
    """

    def __init__(self, num_joints: int) -> None:
        super().__init__(torch.zeros(num_joints, 3))

    def point(self, rotvec: Tensor, seen: Tensor | None) -> ChartPoint:
        turn, factor, level = self.constants()
        log = log_map(rotvec, turn)
        volume = level - log.ratio.square().log_()
        if seen is not None:
            factor, volume = factor * seen, volume * seen
        return ChartPoint(log.tangent * factor, volume.sum((1, 2)), turn, log, factor)

    def gradient(
        self, rotvec: Tensor, seen: Tensor | None, point: ChartPoint, grad_z: Tensor, grad_volume: Tensor | float
    ) -> Tensor:
        grad_ratio = volume_gradient(point.log.ratio, seen, grad_volume)
        return log_map_gradient(rotvec, point.turn, point.log, grad_z * point.factor, grad_ratio)

    def composed(self, rotvec: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        turn, factor, level = self.constants()
        tangent, ratio = derivable_log_map(rotvec, turn)
        volume = level - 2.0 * ratio.log()
        if seen is not None:
            factor, volume = factor * seen, volume * seen
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


def volume_gradient(ratio: Tensor, seen: Tensor | None, grad_volume: Tensor | float) -> Tensor:
    """(B, J, 1) gradient of -2 log |k| to the ratio k."""
    pull = -2.0 * grad_volume if seen is None else (-2.0 * grad_volume) * seen
    return pull / ratio


def moments(rotvec: Tensor, observed: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Fréchet means (J, 3) rotvecs and standard deviations (J, 3), at least `least`, of (N, J, 3) with mask (N, J)."""
    weight = observed.double()
    mean = frechet_mean(rotvec, weight)
    tangent = rotvec_to_tangent(rotvec.double(), mean)
    variance = (weight[..., None] * tangent.square()).sum(0) / weight.sum(0).clamp_min(1.0)[:, None]
    unseen = (weight.sum(0) == 0)[:, None]
    return mean, torch.where(unseen, torch.ones_like(variance), variance.sqrt().clamp_min(least))
