"""`Chart`: coordinates of rotations in R^3 with their change of variables and a hand-written gradient."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ..._tracing import is_traced

#: What the gradient of a chart needs of a forward pass.
Saved = tuple[Tensor, ...]


class Chart(nn.Module, ABC):
    """Coordinates z of rotations: `log_haar(z) = log p_z(z) - volume`."""

    def forward(self, rotvec: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Coordinates and the log-volume of the change of variables.

        Args:
            rotvec: (B, J, 3) radians, any norm.
            observed: (B, J) bool; None where all joints are.

        Returns:
            z (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_z - volume`.
        """
        weight = observed_weight(observed, rotvec)
        if is_traced() or not self.has_gradient(rotvec):
            return self.eager(rotvec, weight)
        z, volume, *_ = _ChartMap.apply(rotvec, self, weight)
        return z, volume

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """(..., J, 3) rotvecs of coordinates."""

    @abstractmethod
    def eager(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """z and volume by operations that autograd can derive again and again; `weight` as from `observed_weight`."""

    @abstractmethod
    def point(self, rotvec: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Saved]:
        """`eager` without autograd and with poses last, and what `gradient` needs of it.

        Args:
            rotvec: (J, 3, B) radians, any norm.
            weight: (J, 1, B), of `observed_weight`; None where all joints are observed.

        Returns:
            z (J, 3, B), volume (B,), and tensors for `gradient`.
        """

    @abstractmethod
    def gradient(
        self, rotvec: Tensor, weight: Tensor | None, saved: Saved, grad_z: Tensor, grad_volume: Tensor | float
    ) -> Tensor:
        """(J, 3, B) gradient to the rotvecs, from those to z (J, 3, B) and to the volume, (B,) or one number."""

    def has_gradient(self, rotvec: Tensor) -> bool:
        """Whether `point` and `gradient` hold for these rotvecs."""
        return True


def observed_weight(observed: Tensor | None, like: Tensor) -> Tensor | None:
    """(B, J, 1) ones where a mask (B, J) is True and zeros elsewhere, in the type of `like`; None where all is True."""
    if observed is None or (not is_traced() and bool(observed.all())):
        return None
    return observed.to(like.dtype)[..., None]


def poses_last(x: Tensor) -> Tensor:
    """(J, C, B) contiguous of (B, J, C)."""
    return x.permute(1, 2, 0).contiguous()


def poses_first(x: Tensor) -> Tensor:
    """(B, J, C) contiguous of (J, C, B)."""
    return x.permute(2, 0, 1).contiguous()


class _ChartMap(torch.autograd.Function):
    """z, volume and what the gradient needs."""

    @staticmethod
    def forward(rotvec: Tensor, chart: Chart, weight: Tensor | None) -> tuple[Tensor, ...]:
        z, volume, saved = chart.point(poses_last(rotvec), None if weight is None else poses_last(weight))
        return poses_first(z), volume, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        rotvec, ctx.chart, ctx.weight = inputs
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rotvec, *output[2:])

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_volume: Tensor | None, *_: None) -> tuple[Tensor, None, None]:
        rotvec, *saved = ctx.saved_tensors
        grad_z = torch.zeros_like(rotvec) if grad_z is None else grad_z
        grad_volume = rotvec.new_zeros(len(rotvec)) if grad_volume is None else grad_volume
        if torch.is_grad_enabled() or is_traced():  # the gradient is differentiable itself, and can be transformed
            create_graph = torch.is_grad_enabled()
            with torch.enable_grad():
                outputs = ctx.chart.eager(rotvec, ctx.weight)
                (found,) = torch.autograd.grad(outputs, rotvec, (grad_z, grad_volume), create_graph=create_graph)
        else:
            weight = None if ctx.weight is None else poses_last(ctx.weight)
            gradient = ctx.chart.gradient(poses_last(rotvec), weight, tuple(saved), poses_last(grad_z), grad_volume)
            found = poses_first(gradient)
        return found, None, None


# `apply` binds its arguments to the signature on every call, which costs as much as several tensor operations.
_ChartMap.forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [inspect.Parameter("inputs", inspect.Parameter.VAR_POSITIONAL)]
)
