"""The default flow of `GlobalFlow` with frozen weights.

The order of the joints is folded into the whitening, and the mixing and the first layer of a coupling are one product. The
equations are those of `ResidualFlow`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from .chunks import in_chunks
from .networks import Layers, further_layers

#: Poses of a chunk.
_ROWS = 512


class CouplingTables(NamedTuple):
    """A `MixedCoupling` over d coordinates, of which it moves m, with a network of H units (and more layers, maybe).

    Attributes:
        inward: (d, d + H) to the moved coordinates, the kept ones, and the first layer's units.
        bias: (H,) of those units.
        layers: after the first; the last gives m shifts and m raw log-scales.
        most_log_scale: bound of log-scales.
    """

    inward: Tensor
    bias: Tensor
    layers: Layers
    most_log_scale: float


class ResidualTables(NamedTuple):
    """A `ResidualFlow` over D coordinates in K blocks.

    Attributes:
        whitener: (D, D), chart coordinates in the prior's order to whitened ones, block by block.
        shift: (D,).
        membership: (D, K) ones where a coordinate belongs to a block.
        rate, scale: (K,) squared length of a whitened block to the ratio of `RadialTails`, and its scale.
        slack: (K,) dimensions less 2.
        level: (K,) added to the log-density of a block.
        couplings: of each block; dims: its length.
    """

    whitener: Tensor
    shift: Tensor
    membership: Tensor
    rate: Tensor
    scale: Tensor
    slack: Tensor
    level: Tensor
    couplings: tuple[tuple[CouplingTables, ...], ...]
    dims: tuple[int, ...]


def log_prob(tables: ResidualTables, w: Tensor, counted: Tensor | None) -> Tensor:
    """Log-density of the blocks that count.

    Args:
        tables: of the weights.
        w: (B, D) chart coordinates in the prior's order, zero where unobserved.
        counted: (B, K) ones where a block counts; None where all do.

    Returns:
        (B,) nats, Lebesgue in w.
    """
    return in_chunks(partial(_log_prob, tables), _ROWS, w, counted)


def _log_prob(t: ResidualTables, w: Tensor, counted: Tensor | None) -> Tensor:
    u = torch.addmm(t.shift, w, t.whitener)
    # Tails: v = u f, f = scale sqrt(log(1 + r) / r), in each block.
    ratio = (u.square() @ t.membership * t.rate).clamp_min(1e-12)
    log_term = torch.log1p(ratio)
    shrink = (log_term / ratio).sqrt()
    each = torch.addcmul(t.level, t.slack, shrink.log()) - log_term
    total = (each if counted is None else each * counted).sum(-1)
    parts = list((u * ((shrink * t.scale) @ t.membership.mT)).split(t.dims, 1))
    for k, stack in enumerate(t.couplings):
        for coupling in stack:
            parts[k], log_det = _couple(coupling, parts[k])
            total = total + (log_det if counted is None else log_det * counted[:, k])
    square = (torch.cat(parts, 1) if len(parts) > 1 else parts[0]).square()
    return total - 0.5 * (square.sum(-1) if counted is None else ((square @ t.membership) * counted).sum(-1))


def _couple(t: CouplingTables, v: Tensor) -> tuple[Tensor, Tensor]:
    """(B, d) coordinates after the coupling of v (B, d), and the log-determinant (B,)."""
    moves = t.layers[-1][0].shape[1] // 2
    moved, kept, units = (v @ t.inward).split((moves, v.shape[1] - moves, len(t.bias)), 1)
    shift, raw = further_layers(units + t.bias, t.layers, silu).split(moves, 1)
    log_scale = raw.tanh() * t.most_log_scale
    return torch.cat([kept, (moved + shift) * log_scale.exp()], 1), log_scale.sum(-1)
