"""The published global flow with frozen weights.

The two ActNorms and the permutation between a coupling and the next are one scale, one shift and one choice of columns,
which also puts the components that the next coupling keeps first. The equations are those of `GlobalRealNVP`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .density import Poses, fused_density
from .networks import RELU, TANH, Layers, couple, couple_gradient, further_layers, further_layers_gradient

#: Poses of a chunk.
_ROWS = 256


class StepTables(NamedTuple):
    """A coupling over D components, k of which it keeps, and the affine map before it.

    Attributes:
        columns, back: (D,) choice of columns that puts the kept components first, and its inverse.
        scale, shift: (D,) of the chosen columns.
        layers: of the network; the last gives shifts, then raw log-scales.
    """

    columns: Tensor
    back: Tensor
    scale: Tensor
    shift: Tensor
    layers: Layers


class GlobalTables(NamedTuple):
    """All couplings; scale and shift (D,) after the last one; level (), what does not depend on the pose."""

    steps: tuple[StepTables, ...]
    scale: Tensor
    shift: Tensor
    level: Tensor


def log_prob(tables: GlobalTables, poses: Poses) -> Tensor:
    """Log-densities (B,), Haar nats, of poses (B, J, 3) in the chart."""
    return fused_density(partial(_evaluate, tables), _ROWS, poses)


def _evaluate(t: GlobalTables, with_grad: bool, coordinates: Tensor) -> tuple[Tensor, Tensor | None]:
    w = coordinates.flatten(1)
    couplings = []
    for step in t.steps:
        x = torch.addcmul(step.shift, w.index_select(1, step.columns), step.scale)
        (weight, bias), *others = step.layers
        kept, moved = x.split((len(weight), x.shape[1] - len(weight)), 1)
        outputs, saved = further_layers(torch.addmm(bias, kept, weight), others, RELU)
        couplings.append((couple(moved, outputs, TANH, shift_first=False), saved))
        w = torch.cat([kept, couplings[-1][0].out], 1)
    z = torch.addcmul(t.shift, w, t.scale)
    log_det = torch.cat([coupled.log_scale for coupled, _ in couplings], 1).sum(1)
    value = log_det - 0.5 * z.square().sum(1) + t.level
    if not with_grad:
        return value, None
    grad = -z * t.scale
    for step, (coupled, saved) in zip(reversed(t.steps), reversed(couplings), strict=True):
        (weight, _), *others = step.layers
        to_kept, to_out = grad.split((len(weight), grad.shape[1] - len(weight)), 1)
        to_moved, to_outputs = couple_gradient(coupled, to_out, 1.0, TANH)
        to_kept = torch.addmm(to_kept, further_layers_gradient(to_outputs, others, RELU, saved), weight.mT)
        grad = torch.cat([to_kept, to_moved], 1).mul_(step.scale).index_select(1, step.back)
    return value, grad.view_as(coordinates)
