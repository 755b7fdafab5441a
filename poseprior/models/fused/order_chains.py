"""The mixture over orders of an `OrderAgnosticGroup` with frozen weights.

Everything that depends on orders and masks alone is a table, and conditionals that are not asked for are not computed. The
equations are those of `OrderAgnosticGroup.log_prob`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..shared.student_t import standard_log_prob
from .density import Poses, fused_density
from .networks import ComponentKind, Layers, components, further_layers, standard_slope

#: Chains (orders x poses) of a chunk.
_CHAINS = 192


class Expert(NamedTuple):
    """One network of every target, which models the residual of a Gaussian conditional, after its first layer.

    Attributes:
        units: of the first layer.
        layers: after the first, (T, in, out) and (T, 1, out); the outputs are laid out as `components` takes them.
    """

    units: int
    layers: Layers


class ChainTables(NamedTuple):
    """What the chains of K orders over J joints need for T of them, the targets.

    Attributes:
        targets: (T,) places of the targets.
        before: (T, K, 1, 3J), 1 where a coordinate belongs to a joint before the target.
        first, first_bias: (T, 3J, H) and (T, K, 1, H), the first layer of all networks, one after the other; which joints
            the networks see is in the bias.
        experts: the networks that see all joints and, where there are any, those that see near joints.
        whitener: (T 3 E K + T 3, 3J), centred coordinates to the residuals that the E experts model, laid out (T, 3, E, K),
            and those of each joint's own Gaussian.
        residual_of: (M,) the expert whose residual a component has.
        kind: of all M components: the plain conditional, whose numbers are all 0, then those of each expert.
        level: (T, M, K, 1) log weights of the plain conditional and the experts, less the log-determinants of the factors
            of their residuals.
        own_level: (T, 1) the same of the joint's own Gaussian.
        broad_level, broad_rate: (T, 1) and (T, 3, 1), log-density of the broad component at 0, times its weight, and its
            slopes in the squares of the coordinates.
        mean: (3J,) of the Gaussian; unit: (3J,) network inputs, over their bound, per chart unit.
    """

    targets: Tensor
    before: Tensor
    first: Tensor
    first_bias: Tensor
    experts: tuple[Expert, ...]
    whitener: Tensor
    residual_of: Tensor
    kind: ComponentKind
    level: Tensor
    own_level: Tensor
    broad_level: Tensor
    broad_rate: Tensor
    mean: Tensor
    unit: Tensor


def log_sum_of_chains(tables: ChainTables, z: Tensor | Poses) -> Tensor:
    """logsumexp over the K orders of the log-densities of the targets' chains.

    Args:
        tables: of the orders and one mask.
        z: (B, J, 3), zero where missing; or poses in the chart.

    Returns:
        (B,) nats, Lebesgue in z, or Haar nats of poses.
    """
    return fused_density(partial(_evaluate, tables), max(1, _CHAINS // tables.before.shape[1]), z)


def _evaluate(t: ChainTables, with_grad: bool, z: Tensor) -> tuple[Tensor, Tensor | None]:
    # Shapes are (T, features, K, B), or (T, features, N) with N = K B chains.
    rows, targets, orders = len(z), len(t.targets), t.before.shape[1]
    flat = z.flatten(1)
    white = t.whitener @ (flat - t.mean).mT
    residual, own_white = white.split((len(white) - 3 * targets, 3 * targets))
    residual, own_white = residual.view(targets, 3, len(t.experts), -1), own_white.view(targets, 3, rows)
    inputs = torch.tanh(flat * t.unit)
    first = _first_layer(t, inputs)
    numbers, layers_gradients = [first.new_zeros(targets, 10, 1, orders * rows)], []
    for expert, units in zip(t.experts, first.split([expert.units for expert in t.experts], 2), strict=True):
        outputs, gradient_of = further_layers(units, expert.layers)
        numbers.append(outputs.mT.unflatten(1, (10, -1)))
        layers_gradients.append(gradient_of)
    based, components_gradient = components(t.kind, torch.cat(numbers, 2), residual.index_select(2, t.residual_of))
    level = t.level.expand(-1, -1, -1, rows).flatten(2)
    # What does not depend on the inputs is the same in every order.
    own_square = own_white.square().sum(1)
    own = standard_log_prob(own_square, t.kind.dof) + t.own_level
    place = (z if targets == z.shape[1] else z.index_select(1, t.targets)).permute(1, 2, 0)
    context_free = torch.logaddexp(own, t.broad_level + (place.square() * t.broad_rate).sum(1))
    repeated = context_free[:, None].expand(-1, orders, -1).reshape(targets, 1, -1)
    every = torch.cat([based.add_(level), repeated], 1)
    log_posterior = every.log_softmax(1)
    joint = every[:, -1] - log_posterior[:, -1]
    chain = joint.view(targets, orders, rows).sum(0)
    value = chain.logsumexp(0)
    if not with_grad:
        return value, None
    # Posterior of the orders, times that of the terms of every conditional.
    posterior = log_posterior.exp_().mul_((chain - value).exp_().view(-1))
    to_based, to_context_free = posterior.split((every.shape[1] - 1, 1), 1)
    to_numbers, to_each = components_gradient(to_based)
    to_residual = torch.zeros_like(residual).index_add_(2, t.residual_of, to_each)
    to_first = [
        gradient_of(grad.flatten(1, 2).mT)
        for gradient_of, grad in zip(layers_gradients, to_numbers.split(t.kind.sizes, 2)[1:], strict=True)
    ]
    to_context_free = to_context_free.view(targets, orders, rows).sum(1)
    to_own = to_context_free * (own - context_free).exp_()
    to_own_white = own_white * (to_own * standard_slope(own_square, t.kind.dof))[:, None]
    to_white = torch.cat([to_residual.view(-1, rows), to_own_white.view(-1, rows)])
    gradient = to_white.mT @ t.whitener
    to_visible = torch.bmm(torch.cat(to_first, 2), t.first.mT).view(targets, orders, rows, -1)
    gradient += to_visible.mul_(t.before).sum((0, 1)) * (1.0 - inputs.square()).mul_(t.unit)
    gradient = gradient.view_as(z)
    to_place = (place * t.broad_rate * (2.0 * (to_context_free - to_own))[:, None]).permute(2, 0, 1)
    return value, gradient.index_add_(1, t.targets, to_place)


def _first_layer(t: ChainTables, inputs: Tensor) -> Tensor:
    """(T, N, H) units of all networks, before their activation, at inputs (B, 3J)."""
    targets, orders, _, size = t.before.shape
    visible = (t.before * inputs).view(targets, -1, size)
    if len(inputs) == 1:
        return torch.baddbmm(t.first_bias[:, :, 0], visible, t.first)
    units = torch.bmm(visible, t.first).view(targets, orders, len(inputs), -1) + t.first_bias
    return units.flatten(1, 2)
