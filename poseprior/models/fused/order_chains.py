"""The mixture over orders of an `OrderAgnosticGroup` with frozen weights.

Everything that depends on orders and masks alone is a table, and conditionals that are not asked for are not computed. The
equations are those of `OrderAgnosticGroup.log_prob`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..shared.student_t import standard_log_prob
from .density import Poses, fused_density
from .networks import Affine, ComponentKind, components, further_layers, standard_slope

#: Chains (orders x poses) of a chunk.
_CHAINS = 288


class Expert(NamedTuple):
    """One network of every target, which models the residual of a Gaussian conditional, after its first layer.

    Attributes:
        units: of the first layer.
        layers: after the first, of T targets; the outputs are laid out as `components` takes them.
    """

    units: int
    layers: Sequence[Affine]


class ChainTables(NamedTuple):
    """What the chains of K orders over J joints need for T of them, the targets.

    Attributes:
        targets: (T,) places of the targets.
        before: (T, 3J, K, 1), 1 where a coordinate belongs to a joint before the target.
        first: 3J coordinates to H units, the first layer of all networks, one after the other; its bias (T, H, K) differs
            from order to order, since it tells the networks which joints they see.
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
        mean: (3J, 1) of the Gaussian; unit: (3J, 1) network inputs, over their bound, per chart unit.
    """

    targets: Tensor
    before: Tensor
    first: Affine
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
    return fused_density(partial(_evaluate, tables), max(1, _CHAINS // tables.before.shape[2]), z)


def _evaluate(t: ChainTables, with_grad: bool, z: Tensor) -> tuple[Tensor, Tensor | None]:
    # Shapes are (T, features, K, B), or (T, features, N) with N = K B chains.
    rows, targets, orders = z.shape[2], len(t.targets), t.before.shape[2]
    flat = z.flatten(0, 1)
    white = t.whitener @ (flat - t.mean)
    residual, own_white = white.split((len(white) - 3 * targets, 3 * targets))
    residual, own_white = residual.view(targets, 3, len(t.experts), -1), own_white.view(targets, 3, rows)
    inputs = torch.tanh(flat * t.unit)
    visible = (t.before * inputs[:, None]).flatten(2)
    first = t.first(visible, t.first.bias[..., None].expand(-1, -1, -1, rows).flatten(2))
    numbers, layers_gradients = [first.new_zeros(targets, 10, 1, orders * rows)], []
    for expert, units in zip(t.experts, first.split([expert.units for expert in t.experts], 1), strict=True):
        outputs, gradient_of = further_layers(units, expert.layers)
        numbers.append(outputs.unflatten(1, (10, -1)))
        layers_gradients.append(gradient_of)
    based, components_gradient = components(t.kind, torch.cat(numbers, 2), residual.index_select(2, t.residual_of))
    level = t.level.expand(-1, -1, -1, rows).flatten(2)
    # What does not depend on the inputs is the same in every order.
    own_square = own_white.square().sum(1)
    own = standard_log_prob(own_square, t.kind.dof) + t.own_level
    place = z if targets == len(z) else z.index_select(0, t.targets)
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
        gradient_of(grad.flatten(1, 2))
        for gradient_of, grad in zip(layers_gradients, to_numbers.split(t.kind.sizes, 2)[1:], strict=True)
    ]
    to_context_free = to_context_free.view(targets, orders, rows).sum(1)
    to_own = to_context_free * (own - context_free).exp_()
    to_own_white = own_white * (to_own * standard_slope(own_square, t.kind.dof))[:, None]
    to_white = torch.cat([to_residual.view(-1, rows), to_own_white.view(-1, rows)])
    gradient = t.whitener.mT @ to_white
    to_visible = t.first.gradient(torch.cat(to_first, 1)).unflatten(2, (orders, rows))
    gradient += (to_visible * t.before).sum((0, 2)) * (1.0 - inputs.square()).mul_(t.unit)
    to_place = place * t.broad_rate * (2.0 * (to_context_free - to_own))[:, None]
    return value, gradient.view_as(z).index_add_(0, t.targets, to_place)
