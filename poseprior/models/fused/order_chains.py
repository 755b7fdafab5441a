"""The mixture over orders of an `OrderAgnosticGroup` with frozen weights.

Everything that depends on orders and masks alone is a table, and conditionals that are not asked for are not computed. The
equations are those of `OrderAgnosticGroup.log_prob`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..shared.student_t import standard_log_prob
from ..shared.triangular import unit_lower_solve
from .chunks import in_chunks
from .networks import Layers, component_log_probs, further_layers

#: Chains (orders x poses) of a chunk.
_CHAINS = 192


class Expert(NamedTuple):
    """One network of every target, which models the residual of a Gaussian conditional, after its first layer.

    Attributes:
        units: of the first layer.
        layers: after the first, (T, in, out) and (T, 1, out); the outputs are laid out as `component_log_probs` takes them.
        level: (T, 1, K, 1) log weight of the network, less the log-determinant of the residual's factor.
    """

    units: int
    layers: Layers
    level: Tensor


class ChainTables(NamedTuple):
    """What the chains of K orders over J joints need for T of them, the targets.

    Attributes:
        targets: (T,) places of the targets.
        before: (T, K, 1, 3J), 1 where a coordinate of the context comes before the target.
        first, first_bias: (T, 3J, H) and (T, K, 1, H), the first layer of all networks, one after the other; which joints
            the networks see is in the bias.
        experts: the networks that see all joints and, where there are any, those that see near joints.
        whitener: (E T 3 K + T 3, 3J), centred coordinates to the residuals that the experts model, laid out (T, 3, K), and
            those of each joint's own Gaussian.
        base_level: (T, 1, K, 1) log weight of the plain conditional, less the log-determinant of its factor.
        own_level: (T, 1) the same of the joint's own Gaussian.
        broad_level, broad_rate: (T, 1) and (T, 3, 1), log-density of the broad component at 0, times its weight, and its
            slopes in the squares of the coordinates.
        mean: (3J,) of the Gaussian; unit: (3J,) context over `most_context` per chart unit.
        most_log_scale: bound of log-scales.
        dof: degrees of freedom of all components but the broad one.
    """

    targets: Tensor
    before: Tensor
    first: Tensor
    first_bias: Tensor
    experts: tuple[Expert, ...]
    whitener: Tensor
    base_level: Tensor
    own_level: Tensor
    broad_level: Tensor
    broad_rate: Tensor
    mean: Tensor
    unit: Tensor
    most_log_scale: float
    dof: int | None


def log_sum_over_orders(tables: ChainTables, z: Tensor) -> Tensor:
    """logsumexp over the K orders of the log-densities of the targets' chains.

    Args:
        tables: of the orders and one mask.
        z: (B, J, 3), zero where missing.

    Returns:
        (B,) nats, Lebesgue in z.
    """
    return in_chunks(partial(_log_sum, tables), max(1, _CHAINS // tables.before.shape[1]), z)


def _log_sum(t: ChainTables, z: Tensor) -> Tensor:
    # Shapes are (T, features, K, B), or (T, features, N) with N = K B chains.
    rows, targets, orders = len(z), len(t.targets), t.before.shape[1]
    flat = z.flatten(1)
    white = t.whitener @ (flat - t.mean).mT
    residual, own_white = white.split((len(white) - 3 * targets, 3 * targets))
    residuals = residual.view(len(t.experts), targets, 3, orders * rows)
    units = _first_layer(t, torch.tanh(flat * t.unit)).split([expert.units for expert in t.experts], 2)
    terms = []
    for expert, own_units, own_residual in zip(t.experts, units, residuals, strict=True):
        numbers = further_layers(own_units, expert.layers, silu).mT
        bound = partial(_bounded, t.most_log_scale)
        each = component_log_probs(numbers, own_residual, bound=bound, whiten=unit_lower_solve, dof=t.dof)
        terms.append(each + _by_chain(expert.level, rows))
    base = standard_log_prob(residuals[0].square().sum(1, keepdim=True), t.dof)
    terms.append(base + _by_chain(t.base_level, rows))
    # What does not depend on the context is the same in every order.
    own = standard_log_prob(own_white.view(targets, 3, rows).square().sum(1), t.dof) + t.own_level
    place = z if targets == z.shape[1] else z.index_select(1, t.targets)
    broad = t.broad_level + (place.permute(1, 2, 0).square() * t.broad_rate).sum(1)
    context_free = torch.logaddexp(own, broad)
    terms.append(context_free[:, None].expand(-1, orders, -1).reshape(targets, 1, -1))
    joint = torch.cat(terms, 1).logsumexp(1)
    return joint.view(targets, orders, rows).sum(0).logsumexp(0)


def _first_layer(t: ChainTables, context: Tensor) -> Tensor:
    """(T, N, H) units of all networks, before their activation, at contexts (B, 3J)."""
    targets, orders, _, size = t.before.shape
    seen = (t.before * context).view(targets, -1, size)
    if len(context) == 1:
        return torch.baddbmm(t.first_bias[:, :, 0], seen, t.first)
    units = torch.bmm(seen, t.first).view(targets, orders, len(context), -1) + t.first_bias
    return units.flatten(1, 2)


def _bounded(most: float, raw: Tensor) -> Tensor:
    return most * torch.tanh(raw)


def _by_chain(level: Tensor, rows: int) -> Tensor:
    """(T, 1, N) of a table (T, 1, K, 1)."""
    return level.expand(-1, -1, -1, rows).flatten(2)
