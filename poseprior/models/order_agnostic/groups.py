"""The independent groups of an `OrderAgnosticPrior`: which joints, which networks, which side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ... import skeleton
from ..charts.tangent import TangentChart, shown
from ..fused.autograd import written_out
from ..gaussian.factors import MixtureFactors
from ..shared.independent_groups import partition
from .group_model import OrderPart
from .ordered_gaussian import arrange

#: Orders drawn for each training batch.
_ORDERS_PER_BATCH = 32
#: Chains evaluated at once: bounds the memory of many orders on many poses (about 20 kB a chain of 19 joints).
_MOST_ROWS = 16384
#: Components for a joint that is a group of its own: it has no order, a mixture is all there is.
_SINGLE_COMPONENTS = 4
_ORDER_SEED = 1


class Side(NamedTuple):
    """One group that a part models: where its joints stand, and the sign of (x, y, z) that brings it to the part."""

    places: list[int]
    sign: tuple[float, float, float]


class OrderGroups(nn.Module):
    """A product over groups: an `OrderPart` for joints that depend on each other, a mixture for each lone joint.

    Args:
        joints: all joints, sorted SMPL-X indices.
        groups: partition of `joints`; None is one group.
        share_mirror: a group that is the mirror image of an earlier one uses its part, on mirrored rotations.
        options: of `OrderPart`.

    Attributes:
        members: the groups.
        sides: for each part, the one or two groups that it models.
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
        place = {j: k for k, j in enumerate(joints)}
        self.chart = TangentChart(len(joints))
        self.sides: list[list[Side]] = []
        owner: dict[tuple[int, ...], int] = {}
        for group in self.members:
            image = tuple(sorted(skeleton.MIRROR[j] for j in group))
            if len(group) > 1 and share_mirror and image in owner:
                mirrored = [place[skeleton.MIRROR[j]] for j in image]
                self.sides[owner[image]].append(Side(mirrored, (1.0, -1.0, -1.0)))
            elif len(group) > 1:
                owner[tuple(group)] = len(self.sides)
                self.sides.append([Side([place[j] for j in group], (1.0, 1.0, 1.0))])
        self.parts = nn.ModuleList(
            OrderPart([joints[k] for k in sides[0].places], **options) for sides in self.sides
        )  # fmt: skip
        self.lone = sorted(place[group[0]] for group in self.members if len(group) == 1)
        if self.lone:
            alone = tuple(joints[k] for k in self.lone)
            self.singles = MixtureFactors(alone, [[j] for j in alone], num_components=_SINGLE_COMPONENTS)

    def each(self) -> list[tuple[OrderPart, list[Side]]]:
        """Parts with the groups they model."""
        parts = [part for part in self.parts if isinstance(part, OrderPart)]
        return list(zip(parts, self.sides, strict=True))

    def ranks(self, size: int, num_orders: int, device: torch.device) -> Tensor:
        """(K, size) positions of a group's joints in the fixed orders; a larger K keeps the earlier ones."""
        return _fixed_ranks(size, num_orders).to(device)

    # ------------------------------------------------------------------ densities

    def random_order_log_prob(self, rotvec: Tensor, seen: Tensor) -> Tensor:
        """(B,) log-density of each row in an order drawn with torch's own generator."""
        z, volume = self.chart(rotvec, seen)
        total = self._lone_log_prob(z, seen) - volume
        for part, sides in self.each():
            values, mask = stack_sides(sides, z), stack_sides(sides, seen)
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
            total = total.index_add(0, rows % len(z), part.log_prob(values[rows], perm, own, mask[rows]))
        return total

    def log_prob(self, rotvec: Tensor, seen: Tensor, num_orders: int, given: Tensor | None = None) -> Tensor:
        """(B,) log-density of the mixture over the fixed orders in each group; arguments as in `order_log_prob`."""

        def composed(rotvec: Tensor) -> Tensor:
            chains, rest = self.order_log_prob(rotvec, seen, num_orders, given=given)
            return (chains.logsumexp(0) - math.log(num_orders)).sum(-1) + rest

        if not self.frozen:
            return composed(rotvec)
        wanted = seen if given is None else seen & ~given
        mask_of_chart = shown(seen, rotvec)

        def evaluate(rotvec: Tensor, need: bool) -> tuple[Tensor, Tensor]:
            point = self.chart.point(rotvec, mask_of_chart)
            total, slope = self._lone_value_and_gradient(point.z, wanted, need)
            for part, sides in self.each():
                values, mask, target = (stack_sides(sides, t) for t in (point.z, seen, wanted))
                first = torch.zeros_like(mask) if given is None else stack_sides(sides, given)
                ranks = self.ranks(mask.shape[1], num_orders, rotvec.device)
                chains, pull = _by_mask(part, values, mask, first, target, ranks, need)
                total = total + (chains - math.log(num_orders) * target.any(1)).view(len(sides), -1).sum(0)
                if need:
                    add_sides(slope, sides, pull)
            total = total - (point.volume if given is None else self.chart.point(rotvec, shown(wanted, rotvec)).volume)
            counted = 1.0 if given is None else wanted[..., None].to(rotvec.dtype)
            return total, self.chart.gradient(rotvec, mask_of_chart, point, slope, -counted) if need else slope

        return written_out(rotvec, evaluate, composed)

    @property
    def frozen(self) -> bool:
        """Whether no gradient to the weights is asked for, in evaluation."""
        lone = tuple(self.singles.parameters()) if self.lone else ()
        asked = torch.is_grad_enabled() and any(t.requires_grad for t in lone)
        return not asked and all(part.frozen for part, _ in self.each())

    def _lone_value_and_gradient(self, z: Tensor, seen: Tensor, need: bool) -> tuple[Tensor, Tensor]:
        """(B,) log-density of the lone joints and its gradient (B, J, 3)."""
        if not self.lone or not need:
            return self._lone_log_prob(z, seen), torch.zeros_like(z)
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = self._lone_log_prob(leaf, seen)
        return value.detach(), torch.autograd.grad(value, leaf, torch.ones_like(value))[0]

    def _start(self, rotvec: Tensor, seen: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Chart coordinates, the joints whose conditionals are wanted, and the log-density of what has no order."""
        z, volume = self.chart(rotvec, seen)
        wanted = seen
        if given is not None:
            wanted = seen & ~given
            volume = self.chart(rotvec, wanted)[1]
        return z, wanted, self._lone_log_prob(z, wanted) - volume

    def order_log_prob(
        self,
        rotvec: Tensor,
        seen: Tensor,
        num_orders: int,
        *,
        order: Sequence[int] | None = None,
        given: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log-densities in the fixed orders.

        Args:
            rotvec: (B, J, 3), zero where not seen.
            seen: (B, J) bool.
            num_orders: K.
            order: one order to use instead, as SMPL-X indices; then K is 1.
            given: (B, J) bool, joints that come first and whose own conditionals are left out.

        Returns:
            (K, B, G) for the groups of two joints and more, and (B,) for what does not depend on the order.
        """
        z, wanted, rest = self._start(rotvec, seen, given)
        chains = []
        for part, sides in self.each():
            values, mask, target = (stack_sides(sides, t) for t in (z, seen, wanted))
            first = None if given is None else stack_sides(sides, given)
            if order is None:
                ranks = self.ranks(mask.shape[1], num_orders, z.device)
                chains.append(self._chain(part, values, mask, target, first, ranks).view(num_orders, len(sides), -1))
                continue
            each = len(z)
            for number, side in enumerate(sides):
                rows = slice(number * each, (number + 1) * each)
                ranks = self._ranks_of(order, side.places).to(z.device)
                one = self._chain(part, values[rows], mask[rows], target[rows], None, ranks)
                chains.append(one.view(1, 1, -1))
        size = num_orders if order is None else 1
        stacked = torch.cat(chains, 1).mT if chains else z.new_zeros(size, len(z), 0)
        return stacked, rest

    @staticmethod
    def _chain(part: OrderPart, z: Tensor, seen: Tensor, target: Tensor, given: Tensor | None, ranks: Tensor) -> Tensor:
        """(K, R) log-densities of the rows (R, J, 3) in K orders; rows that show nothing are not computed."""
        rows = None
        shown = target.any(1)
        count = len(z)
        if not bool(shown.all()):
            rows = shown.nonzero()[:, 0]
            z, seen, target = z[rows], seen[rows], target[rows]
            given = None if given is None else given[rows]
            if len(rows) == 0:
                return z.new_zeros(len(ranks), count)
        values = []
        for some in ranks.split(max(1, _MOST_ROWS // len(z))):
            perm, index = arrange(some, seen, given)
            k = len(some)
            values.append(part.log_prob(z.repeat(k, 1, 1), perm, index, target.repeat(k, 1)).view(k, -1))
        value = torch.cat(values)
        return value if rows is None else value.new_zeros(len(ranks), count).index_add(1, rows, value)

    def _lone_log_prob(self, z: Tensor, seen: Tensor) -> Tensor:
        if not self.lone:
            return z.new_zeros(len(z))
        return self.singles.log_prob(z[:, self.lone], seen[:, self.lone], self.chart.scale[self.lone])

    def _ranks_of(self, order: Sequence[int], places: list[int]) -> Tensor:
        joints = [self.joints[p] for p in places]
        late = len(order)
        rank = [order.index(j) if j in order else late + j for j in joints]
        return torch.tensor([rank]).argsort(-1).argsort(-1)

    # ------------------------------------------------------------------ draws

    @torch.no_grad()
    def draw(self, rotvec: Tensor, seen: Tensor, num_orders: int, generator: torch.Generator | None) -> Tensor:
        """(R, J, 3) rotvecs with the missing joints drawn given the seen ones, each row in one of the fixed orders."""
        z, _ = self.chart(rotvec, seen)
        result = z.clone()
        if self.lone:
            scale = self.chart.scale[self.lone]
            result[:, self.lone] = self.singles.draw(z[:, self.lone], seen[:, self.lone], scale, 1, generator)[0]
        for part, sides in self.each():
            values, mask = stack_sides(sides, z), stack_sides(sides, seen)
            chosen = torch.randint(num_orders, (len(values),), generator=generator, device=z.device)
            ranks = self.ranks(mask.shape[1], num_orders, z.device)[chosen]
            drawn = part.draw(values, mask, ranks, generator)
            for side, own in zip(sides, drawn.split(len(z)), strict=True):
                result[:, side.places] = own * own.new_tensor(side.sign)
        return self.chart.inverse(result)


def _by_mask(
    part: OrderPart, z: Tensor, seen: Tensor, given: Tensor, target: Tensor, ranks: Tensor, need: bool
) -> tuple[Tensor, Tensor]:
    """(R,) logsumexp over orders of a frozen part's chains, and gradient; rows with equal masks are computed together."""
    if len(z) > 1:
        masks = torch.stack((seen, given & seen, target), 1)
    if len(z) == 1 or bool((masks == masks[:1]).all()):
        if bool(target[0].any()):
            return part.value_and_gradient(z, ranks, seen[0], given[0] & seen[0], target[0], need)
        return z.new_zeros(len(z)), torch.zeros_like(z)
    distinct, inverse = torch.unique(masks.flatten(1), dim=0, return_inverse=True)
    total, slope = z.new_zeros(len(z)), torch.zeros_like(z)
    for number, mask in enumerate(distinct.view(-1, 3, seen.shape[1])):
        if bool(mask[2].any()):
            rows = (inverse == number).nonzero()[:, 0]
            own, first, wanted = mask
            value, pull = part.value_and_gradient(z[rows], ranks, own, first, wanted, need)
            total[rows] = value
            if need:
                slope[rows] = pull
    return total, slope


@cache
def _fixed_ranks(size: int, num_orders: int) -> Tensor:
    generator = torch.Generator().manual_seed(_ORDER_SEED)
    return torch.stack([torch.randperm(size, generator=generator) for _ in range(num_orders)])


def stack_sides(sides: list[Side], values: Tensor) -> Tensor:
    """The joints of each side, one side's rows after the other's: (B, J, 3) or (B, J) to (S B, J', ...)."""
    if _is_whole(sides, values):
        return values
    if values.dim() == 2:
        return torch.cat([values[:, side.places] for side in sides])
    return torch.cat([
        values[:, side.places] if side.sign[1] > 0 else values[:, side.places] * values.new_tensor(side.sign)
        for side in sides
    ])  # fmt: skip


def add_sides(total: Tensor, sides: list[Side], values: Tensor) -> None:
    """Add what `stack_sides` would have made, (S B, J', 3), to where it came from, in place: (B, J, 3)."""
    if _is_whole(sides, total):
        total += values
        return
    for side, own in zip(sides, values.split(len(total)), strict=True):
        total[:, side.places] += own if side.sign[1] > 0 else own * own.new_tensor(side.sign)


def _is_whole(sides: list[Side], values: Tensor) -> bool:
    """Whether there is one side, with all joints in their places."""
    return len(sides) == 1 and sides[0].places == list(range(values.shape[1])) and sides[0].sign[1] > 0
