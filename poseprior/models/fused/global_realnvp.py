"""The published global flow with frozen weights.

The two ActNorms and the permutation between a coupling and the next are one scale, one shift and one choice of columns,
which also puts the components that the next coupling keeps first. The equations are those of `GlobalRealNVP`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .chunks import in_chunks
from .networks import Layers, further_layers

#: Poses of a chunk.
_ROWS = 256


class StepTables(NamedTuple):
    """A coupling over D components, k of which it keeps, and the affine map before it.

    Attributes:
        columns: (D,) choice of columns that puts the kept components first.
        scale, shift: (D,) of the chosen columns.
        layers: of the network; the last gives shifts, then raw log-scales.
    """

    columns: Tensor
    scale: Tensor
    shift: Tensor
    layers: Layers


class GlobalTables(NamedTuple):
    """All couplings; scale and shift (D,) after the last one; level (), what does not depend on the pose."""

    steps: tuple[StepTables, ...]
    scale: Tensor
    shift: Tensor
    level: Tensor


def log_prob(tables: GlobalTables, w: Tensor) -> Tensor:
    """Log-densities (B,), nats, Lebesgue in w (B, D)."""
    return in_chunks(partial(_log_prob, tables), _ROWS, w)


def _log_prob(t: GlobalTables, w: Tensor) -> Tensor:
    log_scales = []
    for step in t.steps:
        x = torch.addcmul(step.shift, w.index_select(1, step.columns), step.scale)
        keeps = len(step.layers[0][0])
        kept, moved = x.split((keeps, x.shape[1] - keeps), 1)
        (weight, bias), *others = step.layers
        units = further_layers(torch.addmm(bias, kept, weight), others, torch.relu_)
        shift, raw = units.split(moved.shape[1], 1)
        log_scales.append(raw.tanh())
        w = torch.cat([kept, torch.addcmul(shift, moved, log_scales[-1].exp())], 1)
    z = torch.addcmul(t.shift, w, t.scale)
    return torch.cat(log_scales, 1).sum(1) - 0.5 * z.square().sum(1) + t.level
