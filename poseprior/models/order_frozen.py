"""The mixture over orders of a frozen `OrderPart`, with its gradient written out, as one autograd operation.

At batch 1 the price of `log_prob` is the number of tensor operations, on large batches it is memory traffic. With frozen
weights everything that depends on orders and masks alone is a table; rows go through in pieces that stay in the cache,
value and gradient together; joints whose conditionals are not asked for are not computed. A second derivative falls back
to the composition that autograd derives. The equations are those of `OrderPart.log_prob`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .joint_mixture import MOST_LOG_SCALE, NUMBERS, standard_log_prob
from .kept import Kept
from .ordered_gaussian import arrange

if TYPE_CHECKING:
    from .grouped_mlp import GroupedMLP
    from .order_part import OrderPart

#: Chains evaluated at once.
_CHAINS = 384
_FEW_COLUMNS = 64
#: Where the context of the networks saturates, in its units.
MOST_CONTEXT = 3.0
#: Spread of the broad component, radians: wide enough to hold any rotation, narrow enough to pull back from afar.
BROAD_SCALE = 0.7


class Expert(NamedTuple):
    """One network of every target, on the residuals of a Gaussian conditional.

    Attributes:
        whitener: (3J, T 3 K), centred coordinates to residuals in every order, laid out (T, 3, K).
        log_diagonal: (T, K, 1) log-determinants of the conditional's factor.
        first_bias: (T, H, K, 1) bias of the first layer with the part of its input that says which joints are shown.
        weights, biases: of all layers, (T, outputs, inputs) and (T, outputs, 1); the first layer takes all 3J coordinates,
            the last layer's outputs are sorted into logits, means, log-scales and triangles, coordinate by coordinate.
        log_share: in the mixture of the conditional.
    """

    whitener: Tensor
    log_diagonal: Tensor
    first_bias: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    log_share: float


class ChainTables(NamedTuple):
    """What the chains of K orders over J joints need for T of them, the targets.

    Attributes:
        perm: (K, J) the orders, missing joints last.
        targets: (T,) places of the targets.
        experts: the networks that see all joints and, where there are any, those that see near joints.
        before: (T, 3J, K, 1), 1 where a coordinate of the context comes before the target.
        own_whitener: (T, 3, 3); own_log_diagonal: (T,).
        mean: (3J,) of the Gaussian; unit: (3J,) context per chart unit; reach: (T, 3) radians per chart unit.
        broad_constant: (T,) log-density of the broad component at the mean.
    """

    perm: Tensor
    targets: Tensor
    experts: tuple[Expert, ...]
    before: Tensor
    own_whitener: Tensor
    own_log_diagonal: Tensor
    mean: Tensor
    unit: Tensor
    reach: Tensor
    broad_constant: Tensor


def chain_tables(part: OrderPart, perm: Tensor, targets: Tensor) -> ChainTables:
    """Tables of the orders perm (K, J), missing joints last, for the joints `targets` (T,)."""
    arranged, size = part.base.arrangement(perm), part.num_joints
    before = arranged.before[:, targets].permute(1, 2, 0)  # (T, J, K)
    experts = [_expert(part.net, targets, arranged.whitener, arranged.log_diagonal, before, None, part.log_shares[0])]
    if part.near_net is not None and arranged.near is not None:
        near, slots = arranged.near, part.base.slots[targets]
        shown = near.shown[:, targets].permute(1, 2, 0)  # (T, N, K)
        experts.append(
            _expert(part.near_net, targets, near.whitener, near.log_diagonal, shown, (slots, size), part.log_shares[4])
        )
    constant = part.broad_log_prob(torch.zeros_like(part.scale))
    return ChainTables(
        perm=perm,
        targets=targets,
        experts=tuple(experts),
        before=before.repeat_interleave(3, 1)[..., None].contiguous(),
        own_whitener=arranged.own_whitener[targets].contiguous(),
        own_log_diagonal=arranged.own_log_diagonal[targets],
        mean=part.base.mean.clone(),
        unit=part.context_unit().flatten(),
        reach=part.scale[targets],
        broad_constant=constant[targets],
    )


def _expert(
    net: GroupedMLP, targets: Tensor, whitener: Tensor, log_diagonal: Tensor, shown: Tensor,
    places: tuple[Tensor, int] | None, log_share: float,
) -> Expert:  # fmt: skip
    """Tables of one network.

    Args:
        net: sees C context joints: 3C coordinates, then which of them are shown.
        targets: (T,).
        whitener, log_diagonal: (K, 3J, 3J) and (K, J) of the conditional whose residuals it models.
        shown: (T, C, K), 1 where a context joint is shown.
        places: (T, C) places of the context joints, and J; None where the context is all joints. Places may repeat where
            nothing is ever shown.
        log_share: of the network.
    """
    count, flat = len(whitener), whitener.shape[1]
    white = whitener.view(count, -1, 3, flat)[:, targets].permute(3, 1, 2, 0)
    layers = [*net.hidden, net.out]
    weights = [layer.weight[targets].mT for layer in layers]
    biases = [layer.bias[targets].mT for layer in layers]
    coordinates = 3 * shown.shape[1]
    first = biases[0] + weights[0][:, :, coordinates:] @ (shown - 0.5)
    own = weights[0][:, :, :coordinates]
    if places is not None:
        slots, size = places
        # A padded slot is never shown; its weights must not reach the joint that it names.
        own = own * (shown.sum(-1) > 0).repeat_interleave(3, 1)[:, None]
        index = (3 * slots[..., None] + torch.arange(3, device=slots.device)).flatten(1)
        spread = own.new_zeros(*own.shape[:2], 3 * size)
        own = spread.scatter_add(2, index[:, None].expand_as(own), own)
    weights[0] = own
    k = net.out.bias.shape[-1] // NUMBERS
    blocks = torch.arange(k, NUMBERS * k, device=shown.device).view(3, k, 3).transpose(1, 2).flatten()
    order = torch.cat((torch.arange(k, device=shown.device), blocks))
    weights[-1], biases[-1] = weights[-1][:, order], biases[-1][:, order]
    return Expert(
        whitener=white.reshape(flat, -1).contiguous(),
        log_diagonal=log_diagonal[:, targets].mT[..., None].contiguous(),
        first_bias=first[..., None].contiguous(),
        weights=tuple(weight.contiguous() for weight in weights),
        biases=tuple(bias.contiguous() for bias in biases),
        log_share=log_share,
    )


def kept_tables(
    part: OrderPart, ranks: Tensor, seen: Tensor, given: Tensor | None, target: Tensor, kept: Kept
) -> ChainTables:
    """Tables for orders (K, J) of one mask, which comes back call after call: seen, given and target (J,)."""

    def compute() -> ChainTables:
        perm, _ = arrange(ranks, seen[None], None if given is None else given[None])
        return chain_tables(part, perm, target.nonzero()[:, 0])

    key = b"".join(t.cpu().numpy().tobytes() for t in (ranks, seen, target, given) if t is not None)
    return kept(part.tensors(), key, compute)


def chain_mixture(part: OrderPart, tables: ChainTables, z: Tensor) -> Tensor:
    """logsumexp over the K orders of the targets' chains, (B,), for z (B, J, 3), zero where missing.

    Gradients flow to z alone. Returns nats, Lebesgue in z.
    """
    value: Tensor = _ChainMixture.apply(z, tables, part)
    return value


class _ChainMixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, z: Tensor, tables: ChainTables, part: OrderPart) -> Tensor:
        need = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        rows = max(1, _CHAINS // len(tables.perm))
        pieces = [_evaluate(part, tables, piece, need) for piece in z.split(rows)]
        value = torch.cat([v for v, _ in pieces]) if len(pieces) > 1 else pieces[0][0]
        if need:
            ctx.save_for_backward(z, torch.cat([g for _, g in pieces]) if len(pieces) > 1 else pieces[0][1])
            ctx.part, ctx.tables = part, tables  # type: ignore[attr-defined]
        return value

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        z, slope = ctx.saved_tensors  # type: ignore[attr-defined]
        if torch.is_grad_enabled():  # create_graph: derive the composition, which can be derived again
            value = composed_mixture(ctx.part, ctx.tables, z)  # type: ignore[attr-defined]
            (again,) = torch.autograd.grad(value, z, grads, create_graph=True)
            return again, None, None
        return grads[0][:, None, None] * slope, None, None


def composed_mixture(part: OrderPart, tables: ChainTables, z: Tensor) -> Tensor:
    """The same value out of `OrderPart.log_prob`."""
    target = torch.zeros(z.shape[:2], dtype=torch.bool, device=z.device)
    target[:, tables.targets] = True
    orders = len(tables.perm)
    each = part.log_prob(z.repeat(orders, 1, 1), tables.perm, None, target.repeat(orders, 1))
    return each.view(orders, -1).logsumexp(0)


def _evaluate(part: OrderPart, tables: ChainTables, z: Tensor, need: bool) -> tuple[Tensor, Tensor]:
    """Value (B,) and, where needed, gradient (B, J, 3). Inside, shapes are (T, features, K, B) or (T, features, K B)."""
    t, orders = len(tables.targets), len(tables.perm)
    rows, size = len(z), z.shape[1]
    flat = z.flatten(1)
    centred = flat - tables.mean
    _, log_base, log_own, log_broad, _ = part.log_shares
    context = MOST_CONTEXT * torch.tanh(flat * tables.unit / MOST_CONTEXT)
    shown = (tables.before * context.mT[:, None]).view(t, -1, orders * rows)
    networks = [_Network(expert, shown, centred, orders) for expert in tables.experts]
    mixture = _Mixture(networks, part.dof)
    net_part = mixture.value.view(t, orders, rows)
    # The other components.
    full = networks[0]
    square = full.white.square().sum(1)
    base = standard_log_prob(square, part.dof)
    base_part = (base + log_base).view(t, orders, rows) - full.expert.log_diagonal
    own_white = tables.own_whitener @ centred.view(rows, size, 3)[:, tables.targets].permute(1, 2, 0)
    own_square = own_white.square().sum(1)
    own = standard_log_prob(own_square, part.dof) - tables.own_log_diagonal[:, None]
    place = z[:, tables.targets].permute(1, 2, 0)
    spread = (tables.reach / BROAD_SCALE).square()[..., None]
    broad = tables.broad_constant[:, None] - 0.5 * (place.square() * spread).sum(1)
    wary = torch.logaddexp(own + log_own, broad + log_broad)[:, None]
    joint = torch.logaddexp(torch.logaddexp(net_part, base_part), wary)
    chain = joint.sum(0)
    value = chain.logsumexp(0)
    if not need:
        return value, value
    # Gradient: shares of the orders, then of the components of every conditional.
    upstream = (chain - value).exp()
    to_base = (upstream * (base_part - joint).exp()).view(t, 1, -1)
    to_wary = (upstream * (wary - joint).exp()).sum(1)
    to_own = (to_wary * (own + log_own - wary[:, 0]).exp())[:, None]
    to_broad = to_wary[:, None] - to_own
    to_networks = mixture.gradient(upstream.view(1, 1, -1), joint.view(t, 1, -1))
    slope, grad_shown = torch.zeros_like(flat), torch.zeros_like(shown)
    for network, (grad_raw, grad_white) in zip(networks, to_networks, strict=True):
        if network is full:
            grad_white = grad_white + full.white * (to_base * _slope(square, part.dof)[:, None])
        slope = slope + (network.expert.whitener @ grad_white.reshape(-1, rows)).mT
        grad_shown = grad_shown + network.gradient(grad_raw)
    pull = (grad_shown.unflatten(2, (orders, rows)) * tables.before).sum((0, 2)).mT
    slope = slope + pull * (1.0 - (context / MOST_CONTEXT).square()) * tables.unit
    alone = tables.own_whitener.mT @ (own_white * (to_own * _slope(own_square, part.dof)[:, None]))
    slope = slope.view(rows, size, 3)
    slope[:, tables.targets] += (alone - to_broad * spread * place).permute(2, 0, 1)
    return value, slope


class _Network:
    """An expert at the contexts `shown` (T, 3J, K B) and centred coordinates (B, 3J).

    Attributes:
        raw: (T, 10 C, K B) outputs.
        white: (T, 3, K B) residuals.
        offset: (T, 1, K B) log share, and the volume of the residuals' scale.
    """

    def __init__(self, expert: Expert, shown: Tensor, centred: Tensor, orders: int) -> None:
        self.expert, rows, t = expert, len(centred), len(shown)
        self.white = (expert.whitener.mT @ centred.mT).view(t, 3, orders * rows)
        first = _linear(expert.weights[0], shown).unflatten(2, (orders, rows)) + expert.first_bias
        self._hidden = [first.flatten(2)]
        active = torch.nn.functional.silu(self._hidden[0])
        for weight, bias in zip(expert.weights[1:-1], expert.biases[1:-1], strict=True):
            self._hidden.append(_linear(weight, active, bias))
            active = torch.nn.functional.silu(self._hidden[-1])
        self.raw = _linear(expert.weights[-1], active, expert.biases[-1]).contiguous()
        self.offset = (expert.log_share - expert.log_diagonal).expand(t, orders, rows).reshape(t, 1, -1)

    def gradient(self, back: Tensor) -> Tensor:
        """To `shown`, from the gradient to `raw`."""
        for weight, before in zip(reversed(self.expert.weights), reversed(self._hidden), strict=False):
            back = torch.ops.aten.silu_backward(_linear(weight.mT, back), before)
        return _linear(self.expert.weights[0].mT, back)


def _linear(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """weight @ x + bias. Few columns are multiplied as rows, which is twice as fast; the result is a transposed view."""
    if x.shape[-1] > _FEW_COLUMNS:
        return weight @ x if bias is None else torch.baddbmm(bias, weight, x)
    product = x.mT @ weight.mT if bias is None else torch.baddbmm(bias.mT, x.mT, weight.mT)
    return product.mT


class _Mixture:
    """The components of all networks as one mixture of C components, each on the residuals of its network.

    Attributes:
        value: (T, K B) log-density, of total mass the networks' shares.
    """

    def __init__(self, networks: Sequence[_Network], dof: int | None) -> None:
        self.dof = dof
        self._counts = [network.raw.shape[1] // NUMBERS for network in networks]
        heads, rest = zip(
            *(n.raw.split((k, 9 * k), 1) for n, k in zip(networks, self._counts, strict=True)), strict=True
        )
        own = [head.log_softmax(1) for head in heads]
        self._weights = own
        log_weight = torch.cat([w + n.offset for w, n in zip(own, networks, strict=True)], 1)
        numbers = torch.cat([r.unflatten(1, (9, k)) for r, k in zip(rest, self._counts, strict=True)], 2)
        white = torch.cat(
            [n.white[:, :, None].expand(-1, -1, k, -1) for n, k in zip(networks, self._counts, strict=True)], 2
        )  # fmt: skip
        mean, scale, lower = numbers.split(3, 1)  # (T, 3, C, N)
        self.log_scale = MOST_LOG_SCALE * torch.tanh(scale / MOST_LOG_SCALE)
        self.shrink = torch.exp(-self.log_scale)
        self.unit = (white - mean) * self.shrink
        self.a, self.b, self.c = lower.unbind(1)
        first, second, third = self.unit.unbind(1)
        second = second + self.a * first
        third = third + self.b * first + self.c * second
        self.first, self.second, self.third = first, second, third
        self.square = first.square() + second.square() + third.square()
        self.each = log_weight + standard_log_prob(self.square, dof) - self.log_scale.sum(1)
        self.value = self.each.logsumexp(1)

    def gradient(self, upstream: Tensor, total: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of sum(upstream * total) to the `raw` and `white` of each network.

        Args:
            upstream: (1, 1, N), the same for all targets.
            total: (T, 1, N) log-density of which the mixture is a part.
        """
        mine = upstream * (self.each - total).exp()
        pull = mine * _slope(self.square, self.dof)
        third = self.third * pull
        second = self.second * pull + self.c * third
        first = self.first * pull + self.a * second + self.b * third
        to_unit = torch.stack((first, second, third), 1)
        to_mean = to_unit * self.shrink
        bend = 1.0 - (self.log_scale / MOST_LOG_SCALE).square()
        to_scale = (to_unit * self.unit + mine[:, None]) * -bend
        to_lower = torch.stack((self.first * second, self.first * third, self.second * third), 1)
        numbers = torch.cat((-to_mean, to_scale, to_lower), 1)
        found = []
        parts = (mine.split(self._counts, 1), numbers.split(self._counts, 2), to_mean.split(self._counts, 2))
        for weights, share, some, white in zip(self._weights, *parts, strict=True):
            to_logit = share - share.sum(1, keepdim=True) * weights.exp()
            found.append((torch.cat((to_logit, some.flatten(1, 2)), 1), white.sum(2)))
        return found


def _slope(square: Tensor, dof: int | None) -> Tensor:
    """d log-density / d e, over e."""
    return torch.full_like(square, -1.0) if dof is None else -(dof + 3) / (dof + square)
