"""The default joint flow with frozen weights.

The regression on the inputs, the whitening of its residual and the mirror signs are folded into the first layer. The
equations are those of `JointMixtureFlow.log_prob`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .density import Poses, fused_density
from .networks import Affine, ComponentKind, components, further_layers

#: Rows (joints x poses) of a chunk.
_ROWS = 5376


class JointMixtureTables(NamedTuple):
    """What P joints with S parent joints each need, hidden layers of H units and K components.

    Attributes:
        slots: (P S,) places of the parent joints, any place where a joint has fewer than S.
        first: 3 S + 3 inputs and coordinates of the joint itself to H + 3, the first layer's units and the whitened residual
            of the regression, where all parent joints are known.
        absent: (P, H + 3, S), added to the first layer where a parent joint is unknown.
        layers: after the first; the outputs are laid out as `components` takes them.
        level: (P, 1, 1), added to the log-density of every learned component.
        broad_level, broad_rate: (2, 1), log-density of the broad components at 0 and its slope in |w|^2.
        most_input: coordinates of parent joints are cut off here.
        kind: of the learned components.
    """

    slots: Tensor
    first: Affine
    absent: Tensor
    layers: Sequence[Affine]
    level: Tensor
    broad_level: Tensor
    broad_rate: Tensor
    most_input: float
    kind: ComponentKind


def log_prob(tables: JointMixtureTables, poses: Poses, observed: Tensor | None) -> Tensor:
    """Sum over observed joints of log p(w_j | inputs), of the rotations.

    Args:
        tables: of the weights.
        poses: (B, P, 3) in the chart.
        observed: (B, P) bool; None where all joints are.

    Returns:
        (B,) Haar nats.
    """
    return fused_density(partial(_evaluate, tables), max(1, _ROWS // poses.rotvec.shape[1]), poses, observed)


def _evaluate(
    t: JointMixtureTables, with_grad: bool, w: Tensor, observed: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    joints, _, poses = w.shape
    width, hidden = t.absent.shape[2], t.absent.shape[1] - 3
    inputs = w.clamp(-t.most_input, t.most_input).index_select(0, t.slots).view(joints, -1, poses)
    bias = None
    if observed is not None:
        absent = (~observed).T.to(w.dtype).index_select(0, t.slots).view(joints, width, poses)
        bias = torch.baddbmm(t.first.bias, t.absent, absent)
    first = t.first(torch.cat([inputs, w], 1), bias)
    units, residual = first.split((hidden, 3), 1)
    numbers, layers_gradient = further_layers(units, t.layers)
    learned, components_gradient = components(t.kind, numbers.unflatten(1, (10, -1)), residual[:, :, None])
    broad = torch.addcmul(t.broad_level, w.square().sum(1, keepdim=True), t.broad_rate)
    every = torch.cat([learned.add_(t.level), broad], 1)
    log_posterior = every.log_softmax(1)
    each = every[:, -1] - log_posterior[:, -1]
    weight = None if observed is None else observed.T.to(w.dtype)
    value = (each if weight is None else each * weight).sum(0)
    if not with_grad:
        return value, None
    posterior = log_posterior.exp_()
    if weight is not None:
        posterior *= weight[:, None]
    to_learned, to_broad = posterior.split((posterior.shape[1] - 2, 2), 1)
    to_numbers, to_residual = components_gradient(to_learned)
    to_units = layers_gradient(to_numbers.flatten(1, 2))
    to_inputs = t.first.gradient(torch.cat([to_units, to_residual.sum(2)], 1))
    to_parents, to_own = to_inputs.split((3 * width, 3), 1)
    gradient = torch.zeros_like(w).index_add_(0, t.slots, to_parents.reshape(-1, 3, poses))
    gradient = torch.ops.aten.hardtanh_backward(gradient, w, -t.most_input, t.most_input)
    to_square = (to_broad * t.broad_rate).sum(1, keepdim=True)
    return value, gradient.add_(to_own).addcmul_(w, to_square, value=2.0)
