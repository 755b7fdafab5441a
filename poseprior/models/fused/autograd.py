"""Densities whose gradient is written out: known as soon as the value is, and kept in place of all that leads to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor


def written_out(
    x: Tensor, evaluate: Callable[[Tensor, bool], tuple[Tensor, Tensor]], plain: Callable[[Tensor], Tensor]
) -> Tensor:
    """(B,) values of x (B, ...), row by row, as one operation for autograd.

    Args:
        x: what gradients reach.
        evaluate: gives the values of x and, where the flag asks for it, their gradient (B, ...), else anything.
        plain: the same values, composed of operations that autograd derives: for second derivatives.
    """
    value: Tensor = _WrittenOut.apply(x, evaluate, plain)
    return value


class _HasCoordinates(Protocol):
    @property
    def z(self) -> Tensor: ...

    @property
    def volume(self) -> Tensor: ...


_Point = TypeVar("_Point", bound=_HasCoordinates)


class _WrittenOutChart(Protocol[_Point]):
    """What `Chart` and `RawChart` have in common."""

    def point(self, rotvec: Tensor, seen: Tensor | None) -> _Point: ...

    def gradient(
        self, rotvec: Tensor, seen: Tensor | None, point: _Point, grad_z: Tensor, grad_volume: Tensor | float
    ) -> Tensor: ...


def density_in_chart(
    rotvec: Tensor,
    chart: _WrittenOutChart[_Point],
    seen: Tensor | None,
    density: Callable[[Tensor, bool], tuple[Tensor, Tensor]],
    plain: Callable[[Tensor], Tensor],
) -> Tensor:
    """(B,) Haar nats of rotvecs (B, J, 3), by a density in a chart, as one operation for autograd.

    Args:
        rotvec: what gradients reach.
        chart: takes rotvecs to coordinates.
        seen: (B, J, 1) as from `shown`.
        density: log-densities of coordinates (B, J, 3) and, where the flag asks for it, their gradient.
        plain: see `written_out`.
    """

    def evaluate(rotvec: Tensor, need: bool) -> tuple[Tensor, Tensor]:
        point = chart.point(rotvec, seen)
        value, slope = density(point.z, need)
        return value - point.volume, chart.gradient(rotvec, seen, point, slope, -1.0) if need else slope

    return written_out(rotvec, evaluate, plain)


class _WrittenOut(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        evaluate: Callable[[Tensor, bool], tuple[Tensor, Tensor]],
        plain: Callable[[Tensor], Tensor],
    ) -> Tensor:
        need = ctx.needs_input_grad[0]
        value, slope = evaluate(x, need)
        if need:
            ctx.plain = plain
            ctx.save_for_backward(x, slope)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: derive the composition, which can be derived again
            (again,) = torch.autograd.grad(ctx.plain(x), x, grad, create_graph=True)
            return again, None, None
        return slope * grad.view(-1, *[1] * (x.dim() - 1)), None, None


def in_pieces(
    rows: int, evaluate: Callable[..., tuple[Tensor, Tensor]], *tensors: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`evaluate` of a few rows at a time, so that what it computes stays in the cache; tensors (B, ...) or None."""
    first = tensors[0]
    assert first is not None
    if len(first) <= rows:
        return evaluate(*tensors)
    count = -(-len(first) // rows)
    columns = [[None] * count if t is None else t.split(rows) for t in tensors]
    value, slope = zip(*(evaluate(*piece) for piece in zip(*columns, strict=True)), strict=True)
    return torch.cat(value), torch.cat(slope)
