"""The default joint flow with frozen weights.

The regression on the context, the whitening of its residual and the mirror signs are folded into the first layer. The
equations are those of `JointMixtureFlow.log_prob`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..shared.triangular import unit_lower_product
from .chunks import in_chunks
from .networks import Layers, component_log_probs, further_layers

#: Rows (joints x poses) of a chunk.
_ROWS = 2048


class JointMixtureTables(NamedTuple):
    """What P joints with S context joints each need, hidden layers of H units and K components.

    Attributes:
        slots: (P S,) places of the context joints, any place where a joint has fewer than S.
        first: (P, 3 S + 3, H + 3), the context and the joint's own coordinates to the first layer's units and the whitened
            residual of the regression.
        first_bias: (P, 1, H + 3) where all context joints are known.
        absent: (P, S, H + 3), added to the first layer where a context joint is unknown.
        layers: after the first; the outputs are laid out as `component_log_probs` takes them.
        level: (P, 1, 1), added to the log-density of every learned component.
        broad_level, broad_rate: (2, 1), log-density of the broad components at 0 and its slope in |w|^2.
        most_context: context coordinates are cut off here.
        log_precisions: least and most.
    """

    slots: Tensor
    first: Tensor
    first_bias: Tensor
    absent: Tensor
    layers: Layers
    level: Tensor
    broad_level: Tensor
    broad_rate: Tensor
    most_context: float
    log_precisions: tuple[float, float]


def log_prob(tables: JointMixtureTables, w: Tensor, observed: Tensor | None) -> Tensor:
    """Sum over observed joints of log p(w_j | context).

    Args:
        tables: of the weights.
        w: (B, P, 3) chart coordinates, zero where unobserved.
        observed: (B, P) bool; None where all joints are.

    Returns:
        (B,) nats, Lebesgue in w.
    """
    return in_chunks(partial(_log_prob, tables), max(1, _ROWS // w.shape[1]), w, observed)


def _log_prob(t: JointMixtureTables, w: Tensor, observed: Tensor | None) -> Tensor:
    # Inside, joints stand before poses.
    poses, joints, _ = w.shape
    width = t.absent.shape[1]
    context = w.clamp(-t.most_context, t.most_context).index_select(1, t.slots).view(poses, joints, -1)
    bias = t.first_bias
    if observed is not None:
        absent = (~observed).to(w.dtype).index_select(1, t.slots).view(poses, joints, width)
        bias = torch.baddbmm(bias, absent.transpose(0, 1), t.absent)
    first = torch.baddbmm(bias, torch.cat([context, w], 2).transpose(0, 1), t.first)
    units, residual = first.split((first.shape[2] - 3, 3), 2)
    numbers = further_layers(units, t.layers, silu)
    bound = partial(torch.clamp, min=t.log_precisions[0], max=t.log_precisions[1])
    learned = component_log_probs(numbers.mT, residual.mT, bound=bound, whiten=unit_lower_product)
    broad = torch.addcmul(t.broad_level, w.square().sum(-1).T[:, None], t.broad_rate)
    each = torch.cat([learned + t.level, broad], 1).logsumexp(1)
    return (each if observed is None else each * observed.T).sum(0)
