"""The independent groups of an `OrderAgnosticPrior`: which joints, which networks, which side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..._tracing import is_traced
from ..charts.chart import observed_weight
from ..charts.tangent import TangentChart
from ..fused.density import Poses
from ..gaussian.grouped_mixture import IndependentGroupsMixture
from ..shared.independent_groups import partition
from ..shared.masks import rows_by_mask
from ..shared.mirror import GroupView, mirror_views, stack_views
from .chain_tables import log_sum_over_orders
from .group_model import OrderAgnosticGroup
from .ordered_gaussian import arrange, order_key

#: Orders drawn for each training batch.
_ORDERS_PER_BATCH = 32
#: Chains evaluated at once: bounds the memory of many orders on many poses (about 20 kB a chain of 19 joints).
_MOST_ROWS = 16384
#: Components for a joint that is a group of its own: it has no order, a mixture is all there is.
_SINGLE_COMPONENTS = 4
_ORDER_SEED = 1


class OrderGroups(nn.Module):
    """A product over groups: an `OrderAgnosticGroup` for joints that depend on each other, a mixture for each lone joint.

    Args:
        joints: all joints, sorted SMPL-X indices.
        groups: partition of `joints`; None is one group.
        share_mirror: a group that is the mirror image of an earlier one uses its networks, on mirrored rotations.
        options: of `OrderAgnosticGroup`.

    Attributes:
        members: the groups.
        views: for each module of `parts`, the one or two groups that it models.
        lone: places of the joints that are groups of their own.
    """

    def __init__(
        self,
        joints: tuple[int, ...],
        groups: Sequence[Sequence[int]] | None,
        *,
        share_mirror: bool,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.joints = joints
        self.members = partition(joints, groups)
        self.chart = TangentChart(len(joints))
        larger = [group for group in self.members if len(group) > 1]
        views = mirror_views(larger, joints, share=share_mirror)
        count = 1 + max((view.network for view in views), default=-1)
        self.views = [[view for view in views if view.network == k] for k in range(count)]
        self.parts = nn.ModuleList(
            OrderAgnosticGroup([joints[k] for k in views[0].places], **options) for views in self.views
        )
        self.lone = sorted(joints.index(group[0]) for group in self.members if len(group) == 1)
        if self.lone:
            alone = tuple(joints[k] for k in self.lone)
            self.singles = IndependentGroupsMixture(alone, [[j] for j in alone], num_components=_SINGLE_COMPONENTS)
        self._order_keys: dict[int, bytes] = {}
        self.set_num_orders(1)

    def each(self) -> list[tuple[OrderAgnosticGroup, list[GroupView]]]:
        """Networks with the groups they model."""
        parts = [part for part in self.parts if isinstance(part, OrderAgnosticGroup)]
        return list(zip(parts, self.views, strict=True))

    def set_num_orders(self, num_orders: int) -> None:
        """Set K, the number of fixed orders; a larger K keeps the earlier ones."""
        self._num_orders = num_orders
        for views in self.views:
            size = len(views[0].places)
            ranks = _fixed_ranks(size, num_orders)
            self.register_buffer(f"_ranks{size}", ranks.to(self.chart.mean.device), persistent=False)
            self._order_keys[size] = order_key(ranks.argsort(-1))

    def ranks(self, size: int) -> Tensor:
        """(K, size) positions of a group's joints in the fixed orders."""
        ranks: Tensor = getattr(self, f"_ranks{size}")  # older versions of torch.compile do not know get_buffer
        return ranks

    # ------------------------------------------------------------------ densities

    def random_order_log_prob(self, rotvec: Tensor, observed: Tensor) -> Tensor:
        """(B,) log-density of each row in an order drawn with torch's own generator."""
        z, volume = self.chart(rotvec, observed)
        total = self._lone_log_prob(z, observed) - volume
        for part, views in self.each():
            values, mask = stack_views(views, z), stack_views(views, observed)
            rows = mask.any(1).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            ranks = torch.rand(_ORDERS_PER_BATCH, mask.shape[1], device=z.device).argsort(-1)
            perm, index = arrange(ranks, mask[rows])
            column = torch.arange(len(rows), device=z.device)
            own = column % _ORDERS_PER_BATCH
            if index is not None:
                used, own = torch.unique(index.view(len(ranks), -1)[own, column], return_inverse=True)
                perm = perm[used]
            table = part.base.arrangement(perm)
            total = total.index_add(0, rows % len(z), part.log_prob(values[rows], table, own, mask[rows]))
        return total

    def log_prob(self, rotvec: Tensor, observed: Tensor | None, given: Tensor | None = None) -> Tensor:
        """(B,) log-density of the mixture over the fixed orders in each group; arguments as in `order_log_prob`."""
        num_orders = self._num_orders
        if observed is None or is_traced() or not self.frozen:
            chains, total = self.order_log_prob(rotvec, observed, given=given)
            return (chains.logsumexp(0) - math.log(num_orders)).sum(-1) + total
        part = self._whole_part()
        if part is not None and given is None and bool((observed == observed[:1]).all()) and bool(observed[0].any()):
            poses, mask = Poses(rotvec, self.chart, observed_weight(observed, rotvec)), observed[0]
            ranks = self.ranks(len(mask))
            return log_sum_over_orders(part, poses, ranks, mask, None, mask) - math.log(num_orders)
        z, wanted, total = self._start(rotvec, observed, given)
        assert wanted is not None
        for part, views in self.each():
            first = torch.zeros_like(observed) if given is None else given & observed
            masks = torch.stack([stack_views(views, mask) for mask in (observed, first, wanted)], 1)
            ranks = self.ranks(masks.shape[2])
            chains = _log_sum_by_mask(part, stack_views(views, z), masks, ranks)
            total = total + (chains - math.log(num_orders) * masks[:, 2].any(1)).view(len(views), -1).sum(0)
        return total

    def _whole_part(self) -> OrderAgnosticGroup | None:
        """The one network that models all joints, in their order, if there is one."""
        each = self.each()
        if len(each) != 1:
            return None
        part, views = each[0]
        return part if len(views) == 1 and views[0].is_whole(len(self.joints)) else None

    @property
    def frozen(self) -> bool:
        """Whether no gradient to the weights is asked for, in evaluation."""
        return all(part.frozen for part, _ in self.each())

    def _start(
        self, rotvec: Tensor, observed: Tensor | None, given: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Chart coordinates, the joints whose conditionals are wanted, and the log-density of what has no order."""
        z, volume = self.chart(rotvec, observed)
        wanted = observed
        if given is not None:
            assert observed is not None
            wanted = observed & ~given
            volume = self.chart(rotvec, wanted)[1]
        return z, wanted, self._lone_log_prob(z, wanted) - volume

    def order_log_prob(
        self,
        rotvec: Tensor,
        observed: Tensor | None,
        *,
        order: Sequence[int] | None = None,
        given: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log-densities in the fixed orders.

        Args:
            rotvec: (B, J, 3), zero where not observed.
            observed: (B, J) bool; None where all joints are (without `given`).
            order: one order to use instead, as SMPL-X indices; then K is 1.
            given: (B, J) bool, joints that come first and whose own conditionals are left out.

        Returns:
            (K, B, G) for the groups of two joints and more, and (B,) for what does not depend on the order.
        """
        z, wanted, rest = self._start(rotvec, observed, given)
        chains = []
        for part, views in self.each():
            values = stack_views(views, z)
            mask, target, first = (None if t is None else stack_views(views, t) for t in (observed, wanted, given))
            if order is None:
                size = values.shape[1]
                key = self._order_keys[size] if mask is None else None
                chain = self._chain(part, values, mask, target, first, self.ranks(size), key)
                chains.append(chain.unflatten(1, (len(views), -1)))
                continue
            each = len(z)
            for number, view in enumerate(views):
                rows = slice(number * each, (number + 1) * each)
                ranks = self._ranks_of(order, view.places).to(z.device)
                own, wish = (None if t is None else t[rows] for t in (mask, target))
                one = self._chain(part, values[rows], own, wish, None, ranks)
                chains.append(one.view(1, 1, -1))
        orders = self._num_orders if order is None else 1
        stacked = torch.cat(chains, 1).mT if chains else z.new_zeros(orders, z.shape[0], 0)
        return stacked, rest

    @staticmethod
    def _chain(
        part: OrderAgnosticGroup,
        z: Tensor,
        observed: Tensor | None,
        target: Tensor | None,
        given: Tensor | None,
        ranks: Tensor,
        key: bytes | None = None,
    ) -> Tensor:
        """(K, R) log-densities of the rows (R, J, 3) in K orders; rows without a target are not computed.

        Without masks `key` names the orders in caches.
        """
        num_orders = len(ranks)
        if is_traced() or observed is None or target is None:
            perm, index = (ranks.argsort(-1), None) if observed is None else arrange(ranks, observed, given)
            wide = None if target is None else target.repeat(num_orders, 1)
            table = part.base.arrangement(perm, key)
            return part.log_prob(z.repeat(num_orders, 1, 1), table, index, wide).unflatten(0, (num_orders, -1))
        rows, count, some_target = None, len(z), target.any(1)
        if not bool(some_target.all()):
            rows = some_target.nonzero()[:, 0]
            z, observed, target = z[rows], observed[rows], target[rows]
            given = None if given is None else given[rows]
            if len(rows) == 0:
                return z.new_zeros(len(ranks), count)
        values = []
        for some in ranks.split(max(1, _MOST_ROWS // len(z))):
            perm, index = arrange(some, observed, given)
            k = len(some)
            table = part.base.arrangement(perm)
            values.append(part.log_prob(z.repeat(k, 1, 1), table, index, target.repeat(k, 1)).view(k, -1))
        value = torch.cat(values)
        return value if rows is None else value.new_zeros(len(ranks), count).index_add(1, rows, value)

    def _lone_log_prob(self, z: Tensor, observed: Tensor | None) -> Tensor:
        if not self.lone:
            return z.new_zeros(z.shape[0])
        own = None if observed is None else observed[:, self.lone]
        return self.singles.log_prob(z[:, self.lone], own, self.chart.scale[self.lone])

    def _ranks_of(self, order: Sequence[int], places: list[int]) -> Tensor:
        joints = [self.joints[p] for p in places]
        late = len(order)
        rank = [order.index(j) if j in order else late + j for j in joints]
        return torch.tensor([rank]).argsort(-1).argsort(-1)

    # ------------------------------------------------------------------ draws

    @torch.no_grad()
    def draw(self, rotvec: Tensor, observed: Tensor, generator: torch.Generator | None) -> Tensor:
        """(R, J, 3) rotvecs with the missing joints drawn given the observed ones, each row in one of the fixed orders."""
        z, _ = self.chart(rotvec, observed)
        result = z.clone()
        if self.lone:
            own, scale = observed[:, self.lone], self.chart.scale[self.lone]
            result[:, self.lone] = self.singles.draw(z[:, self.lone], own, scale, 1, generator)[0]
        for part, views in self.each():
            values, mask = stack_views(views, z), stack_views(views, observed)
            chosen = torch.randint(self._num_orders, (len(values),), generator=generator, device=z.device)
            ranks = self.ranks(mask.shape[1])[chosen]
            drawn = part.draw(values, mask, ranks, generator)
            for view, own in zip(views, drawn.split(len(z)), strict=True):
                result[:, view.places] = view.reflect(own)
        return self.chart.inverse(result)


def _log_sum_by_mask(part: OrderAgnosticGroup, z: Tensor, masks: Tensor, ranks: Tensor) -> Tensor:
    """(R,) logsumexp over orders of a frozen group's chains.

    Args:
        part: the group.
        z: (R, J, 3), zero where missing.
        masks: (R, 3, J) bool: joints with a value, those of them to put first, and those whose conditionals are summed.
        ranks: (K, J) position of each joint in K orders.
    """
    total = z.new_zeros(len(z))
    for rows, (observed, first, target) in rows_by_mask(masks):
        if not bool(target.any()):
            continue
        if len(rows) == len(z):
            return log_sum_over_orders(part, z, ranks, observed, first, target)
        value = log_sum_over_orders(part, z[rows], ranks, observed, first, target)
        total = total.index_add(0, rows, value)
    return total


@cache
def _fixed_ranks(size: int, num_orders: int) -> Tensor:
    generator = torch.Generator().manual_seed(_ORDER_SEED)
    return torch.stack([torch.randperm(size, generator=generator) for _ in range(num_orders)])
