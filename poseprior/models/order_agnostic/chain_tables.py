"""The tables of `fused.order_chains`, from the weights of an `OrderAgnosticGroup`, for one mask and a set of orders."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fused.density import Poses
from ..fused.networks import Affine, ComponentKind, scaled_tanh
from ..fused.order_chains import ChainTables, Expert, log_sum_of_chains
from ..shared.grouped_mlp import GroupedMLP
from .group_model import OrderAgnosticGroup
from .mixture_head import MOST_INPUT, MOST_LOG_SCALE, NUMBERS
from .ordered_gaussian import arrange


def log_sum_over_orders(
    group: OrderAgnosticGroup,
    z: Tensor | Poses,
    ranks: Tensor,
    observed: Tensor,
    given: Tensor | None,
    target: Tensor,
) -> Tensor:
    """logsumexp over orders of the chains of frozen weights, for rows that all have the same masks.

    Args:
        group: with frozen weights.
        z: (B, J, 3) chart coordinates, zero where missing; or poses in the chart.
        ranks: (K, J) position of each joint in K orders.
        observed, given, target: (J,) bool: joints with a value, those of them to put first, and those whose
            conditionals are summed.

    Returns:
        (B,) nats, Lebesgue in z, or Haar nats of poses.
    """
    return log_sum_of_chains(cached_tables(group, ranks, observed, given, target), z)


def cached_tables(
    group: OrderAgnosticGroup, ranks: Tensor, observed: Tensor, given: Tensor | None, target: Tensor
) -> ChainTables:
    """Tables for orders (K, J) of one mask, cached: observed, given and target (J,) bool."""

    def compute() -> ChainTables:
        perm, _ = arrange(ranks, observed[None], None if given is None else given[None])
        return chain_tables(group, perm, target.nonzero()[:, 0])

    key = b"".join(t.cpu().numpy().tobytes() for t in (ranks, observed, target, given) if t is not None)
    return group.cache(group.tensors(), key, compute)


def chain_tables(group: OrderAgnosticGroup, perm: Tensor, targets: Tensor) -> ChainTables:
    """Tables of the orders perm (K, J), missing joints last, for the joints `targets` (T,)."""
    arranged, size = group.base.arrangement(perm), group.num_joints
    log_net, log_base, log_own, log_broad, log_near = group.log_weights
    before = arranged.before[:, targets].transpose(0, 1)  # (T, K, J)
    log_diagonal = arranged.log_diagonal[:, targets].mT
    firsts = [_first_layer(group.net, targets, before, None)]
    experts = [_expert(group.net, targets)]
    levels = [log_base - log_diagonal, log_net - log_diagonal]
    whiteners = [_of_targets(arranged.whitener, targets)]
    if group.near_net is not None and arranged.near is not None:
        near, slots = arranged.near, group.base.slots[targets]
        visible = near.visible[:, targets].transpose(0, 1)
        firsts.append(_first_layer(group.near_net, targets, visible, (slots, size)))
        experts.append(_expert(group.near_net, targets))
        levels.append(log_near - near.log_diagonal[:, targets].mT)
        whiteners.append(_of_targets(near.whitener, targets))
    own = torch.zeros(len(targets), 3, size, 3, dtype=before.dtype, device=before.device)
    own[torch.arange(len(targets)), :, targets] = arranged.own_whitener[targets]
    weights, biases = (torch.cat(parts, 2) for parts in zip(*firsts, strict=True))
    sizes = [expert.layers[-1].bias.shape[1] // NUMBERS for expert in experts]
    counts = torch.tensor([1 + sizes[0], *sizes[1:]], device=perm.device)
    broad_level = log_broad + group.broad_log_prob(torch.zeros_like(group.scale))
    return ChainTables(
        targets=targets,
        before=before.repeat_interleave(3, 2).mT[..., None].contiguous(),
        first=Affine.of_rows(weights, biases),
        experts=tuple(experts),
        whitener=torch.cat([torch.stack(whiteners, 2).flatten(0, 3), own.flatten(2).flatten(0, 1)]),
        residual_of=torch.repeat_interleave(counts),
        kind=ComponentKind((1, *sizes), scaled_tanh(MOST_LOG_SCALE), solved=True, dof=group.dof),
        level=torch.stack(levels, 1).repeat_interleave(torch.tensor([1, *sizes], device=perm.device), 1)[..., None],
        own_level=log_own - arranged.own_log_diagonal[targets, None],
        broad_level=broad_level[targets, None],
        broad_rate=group.broad.rate * group.scale[targets].square()[..., None],
        mean=group.base.mean[:, None].clone(),
        unit=group.input_unit().flatten()[:, None] / MOST_INPUT,
    )


def _of_targets(whitener: Tensor, targets: Tensor) -> Tensor:
    """(T, 3, K, 3J) rows of the targets, of (K, 3J, 3J) in every order."""
    count, flat = len(whitener), whitener.shape[1]
    return whitener.view(count, -1, 3, flat)[:, targets].permute(1, 2, 0, 3)


def _first_layer(
    net: GroupedMLP, targets: Tensor, visible: Tensor, places: tuple[Tensor, int] | None
) -> tuple[Tensor, Tensor]:
    """Weights (T, 3J, H) and biases (T, K, H) for inputs of 3C coordinates of C joints, then which of them are visible.

    Args:
        net: of all joints.
        targets: (T,).
        visible: (T, K, C), 1 where the network sees the joint.
        places: (T, C) places of the C joints, and J; None where they are all joints. Places may repeat where
            a joint is never visible.
    """
    layer = net.layers()[0]
    weight, coordinates = layer.weight[targets], 3 * visible.shape[2]
    bias = layer.bias[targets] + (visible - 0.5) @ weight[:, coordinates:]
    own = weight[:, :coordinates] * MOST_INPUT
    if places is not None:
        slots, size = places
        # A padded slot is never visible; its weights must not reach the joint that it names.
        own = own * (visible.sum(1) > 0).repeat_interleave(3, 1)[..., None]
        index = (3 * slots[..., None] + torch.arange(3, device=slots.device)).flatten(1)
        spread = own.new_zeros(len(own), 3 * size, own.shape[2])
        own = spread.scatter_add(1, index[..., None].expand_as(own), own)
    return own, bias


def _expert(net: GroupedMLP, targets: Tensor) -> Expert:
    """Tables of the layers after the first one."""
    first, *others = net.layers()
    layers = [(layer.weight[targets], layer.bias[targets]) for layer in others]
    k = layers[-1][0].shape[-1] // NUMBERS
    numbers = torch.arange(k, NUMBERS * k, device=targets.device).view(3, k, 3).transpose(1, 2).flatten()
    order = torch.cat((torch.arange(k, device=targets.device), numbers))
    # Log-scales become log-precisions over their bound; the triangle becomes that of the factor, see `mixture_head`.
    factor = layers[-1][0].new_ones(NUMBERS * k)
    factor[4 * k : 7 * k] /= -MOST_LOG_SCALE
    factor[7 * k :] = -1.0
    layers[-1] = tuple((tensor[..., order] * factor).contiguous() for tensor in layers[-1])  # type: ignore[assignment]
    return Expert(first.weight.shape[-1], tuple(Affine.of_rows(*layer) for layer in layers))
