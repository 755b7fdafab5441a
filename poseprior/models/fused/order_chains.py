"""The mixture over orders of a frozen `OrderPart`, written out: value and gradient to the coordinates only.

At batch 1 the price of `log_prob` is the number of tensor operations, on large batches it is memory traffic. With frozen
weights everything that depends on orders and masks alone is a table; rows go through in pieces that stay in the cache,
value and gradient together; joints whose conditionals are not asked for are not computed. The equations are those of
`OrderPart.log_prob`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..order_agnostic.mixture_head import MOST_LOG_SCALE, NUMBERS, standard_log_prob
from ..order_agnostic.ordered_gaussian import arrange
from ..shared.cache import Kept
from .autograd import in_pieces

if TYPE_CHECKING:
    from ..order_agnostic.group_model import OrderPart
    from ..shared.grouped_mlp import GroupedMLP

#: Chains evaluated at once: with more of them memory goes back to the system after every piece, and fresh pages cost as much
#: as the products.
_CHAINS = 48
#: Where the context of the networks saturates, in its units.
MOST_CONTEXT = 3.0
#: Spread of the broad component, radians: wide enough to hold any rotation, narrow enough to pull back from afar.
BROAD_SCALE = 0.7


class Expert(NamedTuple):
    """One network of every target, on the residuals of a Gaussian conditional, after its first layer.

    Attributes:
        weights, biases: (T, inputs, outputs) and (T, 1, outputs) of the layers. The last one's outputs are, for all
            components each, logits, means, log-scales over `MOST_LOG_SCALE` and triangles.
        turned: (T, outputs, inputs), the same weights in the order that gradients are multiplied with.
        level: (T, 1, K, 1) log share of the network and log-density at the middle of a component.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    turned: tuple[Tensor, ...]
    level: Tensor

    @property
    def units(self) -> int:
        """Of the first layer."""
        return self.weights[0].shape[1]

    @property
    def components(self) -> int:
        """C, of the mixture."""
        return self.weights[-1].shape[2] // NUMBERS


class ChainTables(NamedTuple):
    """What the chains of K orders over J joints need for T of them, the targets.

    Attributes:
        targets: (T,) places of the targets.
        before: (T, K, 1, 3J), 1 where a coordinate of the context comes before the target.
        first, first_turned, first_bias: (T, 3J, H), (T, H, 3J) and (T, K, 1, H), the first layer of all networks, one after
            the other; which joints are shown to them is in the bias.
        experts: the networks that see all joints and, where there are any, those that see near joints.
        whitener: (E T 3 K + T 3, 3J), centred coordinates to the residuals that the experts model, laid out (T, 3, K), and
            those of each joint's own Gaussian.
        base_level, own_level: (T, 1, K, 1) and (T, 1), log share of the plain conditional and of the joint's own Gaussian
            and their log-densities at their means; broad_level (T, 1), of the broad component.
        broad_rate: (T, 3, 1) the precision of the broad component in chart units.
        mean: (3J,) of the Gaussian; unit: (3J,) context over `MOST_CONTEXT` per chart unit.
        dof: degrees of freedom of all components but the broad one.
    """

    targets: Tensor
    before: Tensor
    first: Tensor
    first_turned: Tensor
    first_bias: Tensor
    experts: tuple[Expert, ...]
    whitener: Tensor
    base_level: Tensor
    own_level: Tensor
    broad_level: Tensor
    broad_rate: Tensor
    mean: Tensor
    unit: Tensor
    dof: int | None


def chain_tables(part: OrderPart, perm: Tensor, targets: Tensor) -> ChainTables:
    """Tables of the orders perm (K, J), missing joints last, for the joints `targets` (T,)."""
    arranged, size = part.base.arrangement(perm), part.num_joints
    log_net, log_base, log_own, log_broad, log_near = part.log_shares
    middle = float(standard_log_prob(torch.zeros((), dtype=torch.float64), part.dof))
    before = arranged.before[:, targets].transpose(0, 1)  # (T, K, J)
    log_diagonal = arranged.log_diagonal[:, targets].mT[:, None, :, None]
    firsts = [_first_layer(part.net, targets, before, None)]
    experts = [_expert(part.net, targets, log_net + middle - log_diagonal)]
    white = [_residuals(arranged.whitener, targets)]
    if part.near_net is not None and arranged.near is not None:
        near, slots = arranged.near, part.base.slots[targets]
        firsts.append(_first_layer(part.near_net, targets, near.shown[:, targets].transpose(0, 1), (slots, size)))
        near_diagonal = near.log_diagonal[:, targets].mT[:, None, :, None]
        experts.append(_expert(part.near_net, targets, log_near + middle - near_diagonal))
        white.append(_residuals(near.whitener, targets))
    own = torch.zeros(len(targets), 3, size, 3, dtype=before.dtype, device=before.device)
    own[torch.arange(len(targets)), :, targets] = arranged.own_whitener[targets]
    weights, biases = (torch.cat(parts, 2) for parts in zip(*firsts, strict=True))
    return ChainTables(
        targets=targets,
        before=before.repeat_interleave(3, 2)[:, :, None].contiguous(),
        first=weights,
        first_turned=weights.mT.contiguous(),
        first_bias=biases[:, :, None],
        experts=tuple(experts),
        whitener=torch.cat([*white, own.flatten(2).flatten(0, 1)]),
        base_level=log_base + middle - log_diagonal,
        own_level=log_own + middle - arranged.own_log_diagonal[targets, None],
        broad_level=log_broad + part.broad_log_prob(torch.zeros_like(part.scale))[targets, None],
        broad_rate=(part.scale[targets] / BROAD_SCALE).square()[..., None],
        mean=part.base.mean.clone(),
        unit=part.context_unit().flatten() / MOST_CONTEXT,
        dof=part.dof,
    )


def _residuals(whitener: Tensor, targets: Tensor) -> Tensor:
    """(T 3 K, 3J) rows of the targets, of (K, 3J, 3J) in every order."""
    count, flat = len(whitener), whitener.shape[1]
    return whitener.view(count, -1, 3, flat)[:, targets].permute(1, 2, 0, 3).reshape(-1, flat)


def _first_layer(
    net: GroupedMLP, targets: Tensor, shown: Tensor, places: tuple[Tensor, int] | None
) -> tuple[Tensor, Tensor]:
    """Weights (T, 3J, H) and biases (T, K, H) of a network that sees C context joints: 3C coordinates, then which are shown.

    Args:
        net: of all joints.
        targets: (T,).
        shown: (T, K, C), 1 where a context joint is shown.
        places: (T, C) places of the context joints, and J; None where the context is all joints. Places may repeat where
            nothing is ever shown.
    """
    layer = net.layers()[0]
    weight, coordinates = layer.weight[targets], 3 * shown.shape[2]
    bias = layer.bias[targets] + (shown - 0.5) @ weight[:, coordinates:]
    own = weight[:, :coordinates] * MOST_CONTEXT
    if places is not None:
        slots, size = places
        # A padded slot is never shown; its weights must not reach the joint that it names.
        own = own * (shown.sum(1) > 0).repeat_interleave(3, 1)[..., None]
        index = (3 * slots[..., None] + torch.arange(3, device=slots.device)).flatten(1)
        spread = own.new_zeros(len(own), 3 * size, own.shape[2])
        own = spread.scatter_add(1, index[..., None].expand_as(own), own)
    return own, bias


def _expert(net: GroupedMLP, targets: Tensor, level: Tensor) -> Expert:
    """Tables of the layers after the first one."""
    layers = net.layers()[1:]
    weights, biases = [layer.weight[targets] for layer in layers], [layer.bias[targets] for layer in layers]
    k = weights[-1].shape[-1] // NUMBERS
    numbers = torch.arange(k, NUMBERS * k, device=targets.device).view(3, k, 3).transpose(1, 2).flatten()
    order = torch.cat((torch.arange(k, device=targets.device), numbers))
    factor = weights[-1].new_ones(NUMBERS * k)
    factor[4 * k : 7 * k] /= MOST_LOG_SCALE
    weights[-1], biases[-1] = weights[-1][..., order] * factor, biases[-1][..., order] * factor
    turned = tuple(weight.mT.contiguous() for weight in weights)
    return Expert(tuple(weights), tuple(biases), turned, level)


def kept_tables(
    part: OrderPart, ranks: Tensor, seen: Tensor, given: Tensor | None, target: Tensor, kept: Kept
) -> ChainTables:
    """Tables for orders (K, J) of one mask, which comes back call after call: seen, given and target (J,)."""

    def compute() -> ChainTables:
        perm, _ = arrange(ranks, seen[None], None if given is None else given[None])
        return chain_tables(part, perm, target.nonzero()[:, 0])

    key = b"".join(t.cpu().numpy().tobytes() for t in (ranks, seen, target, given) if t is not None)
    return kept(part.tensors(), key, compute)


def value_and_gradient(tables: ChainTables, z: Tensor, need: bool) -> tuple[Tensor, Tensor]:
    """logsumexp over the K orders of the targets' chains, and its gradient.

    Args:
        tables: of the orders and one mask.
        z: (B, J, 3), zero where missing.
        need: whether the gradient is asked for.

    Returns:
        (B,) nats, Lebesgue in z, and (B, J, 3), of no meaning unless asked for.
    """
    return in_pieces(max(1, _CHAINS // tables.before.shape[1]), partial(_evaluate, tables, need), z)


def _evaluate(t: ChainTables, need: bool, z: Tensor) -> tuple[Tensor, Tensor]:
    # Shapes are (T, features, K, B), or (T, features, N) with N = K B chains.
    rows, count, orders = len(z), len(t.targets), t.before.shape[1]
    flat = z.flatten(1)
    white = t.whitener @ (flat - t.mean).mT
    own_white = white[-3 * count :].view(count, 3, rows)
    residuals = white[: -3 * count].view(len(t.experts), count, 3, orders * rows)
    context = torch.tanh(flat * t.unit)
    networks = _Networks(t, context)
    mixture = _Mixture(t, networks.raw, residuals, rows)
    # What trusts no context is the same in every order.
    own_square = own_white.square().sum(1)
    own = _log_tail(own_square, t.dof).add_(t.own_level)
    place = z.permute(1, 2, 0) if count == z.shape[1] else z[:, t.targets].permute(1, 2, 0)
    pulled = place * t.broad_rate
    broad = t.broad_level - 0.5 * (pulled * place).sum(1)
    wary = torch.logaddexp(own, broad)
    joint = mixture.close(wary)
    chain = joint.view(count, orders, rows).sum(0)
    value = chain.logsumexp(0)
    if not need:
        return value, value
    # Shares of the orders, then of the components of every conditional.
    share = mixture.share.mul_((chain - value).exp_().view(-1))
    to_wary = share[:, -1].view(count, orders, rows).sum(1)
    to_own = to_wary * (own - wary).exp_()
    to_raw, to_white = mixture.gradient()
    to_white.append(own_white * (to_own * _slope(own_square, t.dof))[:, None])
    slope = torch.cat([some.reshape(-1, rows) for some in to_white]).mT @ t.whitener
    slope += networks.gradient(to_raw) * (1.0 - context.square()).mul_(t.unit)
    slope = slope.view_as(z)
    alone = pulled.mul_((to_own - to_wary)[:, None]).permute(2, 0, 1)
    if count == z.shape[1]:
        slope += alone
    else:
        slope[:, t.targets] += alone
    return value, slope


class _Networks:
    """All networks at the contexts of N = K B chains.

    Args:
        t: tables.
        context: (B, 3J).

    Attributes:
        raw: of each expert, (T, N, 10 C) outputs.
    """

    def __init__(self, t: ChainTables, context: Tensor) -> None:
        self._tables = t
        targets, orders, _, size = t.before.shape
        shown = (t.before * context).view(targets, -1, size)
        if len(context) == 1:
            self._first = torch.baddbmm(t.first_bias[:, :, 0], shown, t.first)
        else:
            first = torch.bmm(shown, t.first)
            first.view(targets, orders, len(context), -1).add_(t.first_bias)
            self._first = first
        self._hidden: list[list[Tensor]] = []
        self.raw = []
        actives = functional.silu(self._first).split([expert.units for expert in t.experts], 2)
        for expert, active in zip(t.experts, actives, strict=True):
            hidden = []
            for weight, bias in zip(expert.weights[:-1], expert.biases[:-1], strict=True):
                hidden.append(torch.baddbmm(bias, active, weight))
                active = functional.silu(hidden[-1])
            self.raw.append(torch.baddbmm(expert.biases[-1], active, expert.weights[-1]))
            self._hidden.append(hidden)

    def gradient(self, to_raw: Sequence[Tensor]) -> Tensor:
        """(B, 3J) gradient to the context, from those (T, N, 10 C) to `raw`."""
        backs = []
        for expert, back, hidden in zip(self._tables.experts, to_raw, self._hidden, strict=True):
            back = torch.bmm(back, expert.turned[-1])
            for weight, before in zip(reversed(expert.turned[:-1]), reversed(hidden), strict=True):
                back = torch.bmm(torch.ops.aten.silu_backward(back, before), weight)
            backs.append(back)
        back = torch.ops.aten.silu_backward(torch.cat(backs, 2), self._first)
        targets, orders, _, size = self._tables.before.shape
        to_shown = torch.bmm(back, self._tables.first_turned).view(targets, orders, -1, size)
        return to_shown.mul_(self._tables.before).sum((0, 1))


class _Mixture:
    """All components of a conditional, M of them: the plain Gaussian conditional, those of every expert, what trusts nothing.

    The plain conditional is a component whose numbers are all 0.

    Args:
        t: tables.
        raw: of each expert, (T, N, 10 C) outputs.
        residuals: (E, T, 3, N) of each expert's Gaussian conditional.
        rows: B.

    Attributes:
        share: (T, M, N) of the density, once `close` was called.
    """

    share: Tensor

    def __init__(self, t: ChainTables, raw: Sequence[Tensor], residuals: Tensor, rows: int) -> None:
        self._dof = t.dof
        ends = list(accumulate((expert.components for expert in t.experts), initial=1))
        self._own = [slice(start, end) for start, end in pairwise(ends)]
        self._on_residual = [slice(0, ends[1]), *self._own[1:]]
        _, targets, _, chains = residuals.shape
        numbers = residuals.new_empty(targets, NUMBERS, ends[-1], chains)
        numbers[:, :, 0] = 0.0
        self._unit = residuals.new_empty(targets, 3, ends[-1], chains)
        self._each = residuals.new_empty(targets, ends[-1] + 1, chains)
        for own, some, outputs, white in zip(self._own, self._on_residual, raw, residuals, strict=True):
            numbers[:, :, own] = outputs.mT.unflatten(1, (NUMBERS, -1))
            torch.sub(white[:, :, None], numbers[:, 1:4, some], out=self._unit[:, :, some])
        self._bounded = numbers[:, 4:7].tanh()  # log-scales over their bound
        self._shrink = (self._bounded * -MOST_LOG_SCALE).exp_()
        self._unit.mul_(self._shrink)
        self._triangle = numbers[:, 7:].unbind(1)
        a, b, c = self._triangle
        self._white = self._unit.clone()
        first, second, third = self._white.unbind(1)
        second.addcmul_(a, first)
        third.addcmul_(b, first).addcmul_(c, second)
        self._square = self._white.square().sum(1)
        tail = _log_tail(self._square, t.dof)
        torch.sub(tail, self._bounded.sum(1), alpha=MOST_LOG_SCALE, out=self._each[:, :-1])
        self._each[:, :1] += _by_chain(t.base_level, rows)
        self._logits = []
        for own, expert in zip(self._own, t.experts, strict=True):
            logits = numbers[:, 0, own].log_softmax(1)
            self._each[:, own].add_(logits).add_(_by_chain(expert.level, rows))
            self._logits.append(logits)
        self._numbers = numbers

    def close(self, wary: Tensor) -> Tensor:
        """(T, N) log-density with what trusts no context, wary (T, B)."""
        last = self._each[:, -1]
        last.view(len(last), -1, wary.shape[1]).copy_(wary[:, None])
        log_share = self._each.log_softmax(1)
        joint = last - log_share[:, -1]
        self.share = log_share.exp_()
        return joint

    def gradient(self) -> tuple[list[Tensor], list[Tensor]]:
        """To the `raw` and the residuals of each expert, of the sum that `share` stands for; overwrites what is kept."""
        mine = self.share[:, :-1]
        a, b, c = self._triangle
        white = self._white
        grad = white * (mine * _slope(self._square, self._dof))[:, None]
        first, second, third = grad.unbind(1)
        second.addcmul_(c, third)
        first.addcmul_(a, second).addcmul_(b, third)
        numbers = torch.empty_like(self._numbers)
        torch.mul(white[:, :1], grad[:, 1:], out=numbers[:, 7:9])
        torch.mul(white[:, 1], third, out=numbers[:, 9])
        # d tanh = 1 - tanh^2; log-scales make components wider, hence the sign.
        bend = self._bounded.square_().sub_(1.0).mul_(MOST_LOG_SCALE)
        torch.mul(torch.addcmul(mine[:, None], grad, self._unit), bend, out=numbers[:, 4:7])
        to_mean = grad.mul_(self._shrink)
        torch.neg(to_mean, out=numbers[:, 1:4])
        to_raw, to_white = [], []
        for own, some, logits in zip(self._own, self._on_residual, self._logits, strict=True):
            share = mine[:, own]
            torch.sub(share, logits.exp_().mul_(share.sum(1, keepdim=True)), out=numbers[:, 0, own])
            to_raw.append(numbers[:, :, own].flatten(1, 2).mT)
            to_white.append(to_mean[:, :, some].sum(2))
        return to_raw, to_white


def _by_chain(level: Tensor, rows: int) -> Tensor:
    """(T, 1, N) of a table (T, 1, K, 1)."""
    return level.expand(-1, -1, -1, rows).flatten(2)


def _log_tail(square: Tensor, dof: int | None) -> Tensor:
    """`standard_log_prob` less its value at 0."""
    return square * -0.5 if dof is None else (square * (1.0 / dof)).log1p_().mul_(-0.5 * (dof + 3))


def _slope(square: Tensor, dof: int | None) -> Tensor:
    """d log-density / d e, over e."""
    return torch.full_like(square, -1.0) if dof is None else (square + dof).reciprocal_().mul_(-(dof + 3.0))
