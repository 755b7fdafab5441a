"""Log-densities with a hand-written gradient as one operation for autograd, evaluated a few poses at a time.

Inside, poses stand last: what is computed for each joint or component runs along contiguous memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..._value_and_gradient import ValueAndGradient
from ..charts.chart import Chart, poses_first, poses_last

#: Values (B,) and, where the flag asks for it, gradients (J, 3, B) of B poses, from the flag, coordinates (J, 3, B) and other
#: tensors (B, ...). Without the flag it consists of operations that autograd derives: second derivatives go through it.
Evaluate = Callable[..., tuple[Tensor, Tensor | None]]

#: Chunks are this many times larger on a GPU: it gains nothing from its cache, and loses by many small operations.
_LARGER_ON_GPU = 64


class Poses(NamedTuple):
    """Rotvecs (B, J, 3) for a density in the coordinates of a chart; `weight` as from `observed_weight`."""

    rotvec: Tensor
    chart: Chart
    weight: Tensor | None


def fused_density(evaluate: Evaluate, rows: int, x: Tensor | Poses, *others: Tensor | None) -> Tensor:
    """(B,) values of `evaluate`, `rows` poses at a time: a chunk's intermediate values stay in the processor's cache.

    On a GPU chunks are larger, and only bound the memory.

    The gradient to x is computed with the value, and all that leads to it is freed: what is stored for a pose is its
    gradient alone.

    Args:
        evaluate: values and gradients; poses do not depend on each other.
        rows: poses of a chunk, at least 1.
        x: (B, J, 3), what gradients reach. For poses `evaluate` gets their coordinates, the values are log-densities of
            the rotations, and the chart is part of the one operation.
        others: (B, ...) or None.
    """
    if isinstance(x, Poses):
        rotvec, chart, weight = x
        if not chart.has_gradient(rotvec):
            coordinates, volume = chart.eager(rotvec, weight)
            return fused_density(evaluate, rows, coordinates, *others) - volume
        evaluate, x, others = partial(_in_chart, evaluate, chart), rotvec, (weight, *others)
    else:
        evaluate = partial(_of_coordinates, evaluate)
    if x.device.type != "cpu":
        rows *= _LARGER_ON_GPU
    value: Tensor
    if torch.is_grad_enabled() and x.requires_grad:
        value, _ = ValueAndGradient.apply(
            x, lambda y: _in_chunks(evaluate, True, rows, y, others), lambda y: evaluate(False, y, *others)[0]
        )
    else:
        value, _ = _in_chunks(evaluate, False, rows, x, others)
    return value


def _of_coordinates(
    density: Evaluate, with_grad: bool, z: Tensor, *others: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """`density` of coordinates (B, J, 3), with gradients (B, J, 3)."""
    value, gradient = density(with_grad, poses_last(z), *others)
    return value, None if gradient is None else poses_first(gradient)


def _in_chart(
    density: Evaluate, chart: Chart, with_grad: bool, rotvec: Tensor, weight: Tensor | None, *others: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """`density` of the coordinates that the chart gives to rotvecs (B, J, 3), less the chart's volume."""
    if torch.is_grad_enabled() and rotvec.requires_grad:
        coordinates, volume = chart.eager(rotvec, weight)
        return density(False, poses_last(coordinates), *others)[0] - volume, None
    rotvec, weight = poses_last(rotvec), None if weight is None else poses_last(weight)
    coordinates, volume, saved = chart.point(rotvec, weight)
    value, gradient = density(with_grad, coordinates, *others)
    if gradient is not None:
        gradient = poses_first(chart.gradient(rotvec, weight, saved, gradient, -1.0))
    return value - volume, gradient


def _in_chunks(
    evaluate: Evaluate, with_grad: bool, rows: int, x: Tensor, others: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor | None]:
    if len(x) <= rows:
        return evaluate(with_grad, x, *others)
    values, gradients = zip(*(evaluate(with_grad, *chunk) for chunk in _split(rows, x, others)), strict=True)
    return torch.cat(values), torch.cat(gradients) if with_grad else None


def _split(rows: int, x: Tensor, others: tuple[Tensor | None, ...]) -> Iterator[tuple[Tensor | None, ...]]:
    chunks = x.split(rows)
    columns = [[None] * len(chunks) if t is None else t.split(rows) for t in others]
    return zip(chunks, *columns, strict=True)
