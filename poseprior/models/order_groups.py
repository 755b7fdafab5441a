"""The independent groups of an `OrderAgnosticPrior`: which joints, which networks, which side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import skeleton
from ..io.dataset import PoseDataset
from ..training.batches import BatchSource, derived_seed
from ..training.config import FitConfig
from .chart import TangentChart
from .em import fit_mixture
from .factors import MixtureFactors
from .order_part import OrderPart
from .ordered_gaussian import arrange

#: Orders drawn for each training batch, and poses that the Gaussian start is fitted to.
_ORDERS_PER_BATCH = 32
_START_POSES = 60_000
_START_ITERATIONS = 50
#: Components for a joint that is a group of its own: it has no order, a mixture is all there is.
_SINGLE_COMPONENTS = 4
_ORDER_SEED = 1


class OrderGroups(nn.Module):
    """A product over groups: an `OrderPart` for joints that depend on each other, a mixture for each lone joint.

    Args:
        joints: all joints, sorted SMPL-X indices.
        groups: partition of `joints`; None is one group.
        share_mirror: a group that is the mirror image of an earlier one uses its part, on mirrored rotations.
        options: of `OrderPart`.
    """

    sign: Tensor

    def __init__(
        self,
        joints: tuple[int, ...],
        groups: Sequence[Sequence[int]] | None,
        *,
        share_mirror: bool,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.members = [list(joints)] if groups is None else [sorted(int(j) for j in group) for group in groups]
        if sorted(j for group in self.members for j in group) != list(joints):
            raise ValueError(f"groups: expected a partition of the joints {list(joints)}, got {self.members}.")
        self.register_buffer("sign", torch.tensor([1.0, -1.0, -1.0]), persistent=False)
        place = {j: k for k, j in enumerate(joints)}
        self._singles = [group[0] for group in self.members if len(group) == 1]
        self._single_places = [place[j] for j in self._singles]
        if self._singles:
            lone = tuple(sorted(self._singles))
            self.single_chart = TangentChart(len(lone))
            self.singles = MixtureFactors(lone, [[j] for j in lone], num_components=_SINGLE_COMPONENTS)
            self._single_places = [place[j] for j in lone]
        self.parts = nn.ModuleList()
        #: (part, places of its joints in `joints`, whether the rotations are mirrored first)
        self._uses: list[tuple[int, list[int], bool]] = []
        owner: dict[tuple[int, ...], int] = {}
        for group in self.members:
            if len(group) == 1:
                continue
            image = tuple(sorted(skeleton.MIRROR[j] for j in group))
            if share_mirror and image in owner:
                self._uses.append((owner[image], [place[skeleton.MIRROR[j]] for j in image], True))
                continue
            owner[tuple(group)] = len(self.parts)
            self._uses.append((len(self.parts), [place[j] for j in group], False))
            self.parts.append(OrderPart(len(group), **options))

    def _part(self, number: int) -> OrderPart:
        part = self.parts[number]
        assert isinstance(part, OrderPart)
        return part

    def _view(self, rotvec: Tensor, places: list[int], flipped: bool) -> Tensor:
        chosen = rotvec[..., places, :]
        return chosen * self.sign if flipped else chosen

    # ------------------------------------------------------------------ densities

    def random_order_log_prob(self, rotvec: Tensor, seen: Tensor) -> Tensor:
        """(B,) log-density of each row in an order drawn with torch's own generator."""
        total = self._singles_log_prob(rotvec, seen)
        for number, places, flipped in self._uses:
            inside = seen[:, places]
            rows = inside.any(1).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            part = self._part(number)
            ranks = torch.rand(_ORDERS_PER_BATCH, len(places), device=rotvec.device).argsort(-1)
            perm, index = arrange(ranks, inside[rows])
            column = torch.arange(len(rows), device=rows.device)
            own = column % _ORDERS_PER_BATCH
            if index is not None:
                used, own = torch.unique(index.view(len(ranks), -1)[own, column], return_inverse=True)
                perm = perm[used]
            z, volume = part.chart(self._view(rotvec[rows], places, flipped), inside[rows])
            value = part.log_prob(z, perm, own, inside[rows]) - volume
            total = total.index_add(0, rows, value)
        return total

    def order_log_prob(
        self,
        rotvec: Tensor,
        seen: Tensor,
        num_orders: int,
        *,
        order: Sequence[int] | None = None,
        given: Tensor | None = None,
    ) -> list[Tensor]:
        """Log-densities of the fixed orders, (K, B) for each group and (1, B) for all lone joints.

        Args:
            rotvec: (B, J, 3), zero where not seen.
            seen: (B, J) bool.
            num_orders: K.
            order: one order of SMPL-X indices to use instead.
            given: (B, J) bool, joints that come first and whose own conditionals are left out.
        """
        wanted = seen if given is None else seen & ~given
        result = [self._singles_log_prob(rotvec, wanted)[None]]
        for number, places, flipped in self._uses:
            part, inside, target = self._part(number), seen[:, places], wanted[:, places]
            ranks = self._ranks(places, num_orders, order, rotvec.device)
            k, b = len(ranks), len(rotvec)
            perm, index = arrange(ranks, inside, None if given is None else given[:, places])
            view = self._view(rotvec, places, flipped)
            z, volume = part.chart(view, inside)
            if given is not None:
                volume = part.chart(view, target)[1]
            rows = z.expand(k, *z.shape).flatten(0, 1)
            chain = part.log_prob(rows, perm, index, target.expand(k, *target.shape).flatten(0, 1))
            result.append(chain.view(k, b) - volume)
        return result

    def _singles_log_prob(self, rotvec: Tensor, seen: Tensor) -> Tensor:
        if not self._singles:
            return rotvec.new_zeros(len(rotvec))
        inside = seen[:, self._single_places]
        z, volume = self.single_chart(rotvec[:, self._single_places], inside)
        return self.singles.log_prob(z, inside, self.single_chart.scale) - volume

    def _ranks(self, places: list[int], num_orders: int, order: Sequence[int] | None, device: torch.device) -> Tensor:
        """(K, J) position of each joint of a group in the orders; orders are the same for every K that has them."""
        if order is None:
            generator = torch.Generator().manual_seed(_ORDER_SEED)
            ranks = [torch.randperm(len(places), generator=generator) for _ in range(num_orders)]
            return torch.stack(ranks).to(device)
        joints = sorted(j for group in self.members for j in group)
        missing = len(joints)
        rank = [order.index(joints[p]) if joints[p] in order else missing + p for p in places]
        return torch.tensor([rank], device=device).argsort(-1).argsort(-1)

    # ------------------------------------------------------------------ draws

    @torch.no_grad()
    def draw(self, rotvec: Tensor, seen: Tensor, num_orders: int, generator: torch.Generator | None) -> Tensor:
        """(R, J, 3) rotvecs with the missing joints drawn given the seen ones, each row in one of the fixed orders."""
        result = rotvec.clone()
        if self._singles:
            inside = seen[:, self._single_places]
            z, _ = self.single_chart(rotvec[:, self._single_places], inside)
            drawn = self.singles.draw(z, inside, self.single_chart.scale, 1, generator)[0]
            result[:, self._single_places] = self.single_chart.inverse(drawn)
        for number, places, flipped in self._uses:
            part, inside = self._part(number), seen[:, places]
            z, _ = part.chart(self._view(rotvec, places, flipped), inside)
            chosen = torch.randint(num_orders, (len(rotvec),), generator=generator, device=rotvec.device)
            ranks = self._ranks(places, num_orders, None, rotvec.device)[chosen]
            drawn = part.chart.inverse(part.draw(z, inside, ranks, generator))
            result[:, places] = self._view(drawn, list(range(len(places))), flipped)
        return result

    # ------------------------------------------------------------------ start

    @torch.no_grad()
    def fit_start(self, train: PoseDataset, config: FitConfig) -> None:
        """Fit charts and Gaussians to batches as the loop draws them (balanced, mirrored, jittered)."""
        joints = tuple(sorted(j for group in self.members for j in group))
        source = BatchSource(train, joints, dataclasses.replace(config, seed=derived_seed(config.seed, 6)))
        steps = max(1, min(_START_POSES, 2 * len(source.rows)) // config.batch_size)
        batches = [source.batch(step) for step in range(steps)]
        rotvec, seen = (torch.cat(part) for part in zip(*batches, strict=True))
        if self._singles:
            self.single_chart.fit(rotvec[:, self._single_places], seen[:, self._single_places])
            lone = rotvec[:, self._single_places].double()
            self.singles.fit(
                self.single_chart, lone, seen[:, self._single_places], config, iterations=_START_ITERATIONS,
                prior_count=50.0,
            )  # fmt: skip
        for number in range(len(self.parts)):
            uses = [(places, flipped) for owner, places, flipped in self._uses if owner == number]
            views = [self._view(rotvec, places, flipped) for places, flipped in uses]
            masks = [seen[:, places] for places, _ in uses]
            shown = [mask.any(1) for mask in masks]
            rows = torch.cat([view[keep] for view, keep in zip(views, shown, strict=True)]).double()
            mask = torch.cat([m[keep] for m, keep in zip(masks, shown, strict=True)])
            _start_part(self._part(number), rows, mask, config)


def _start_part(part: OrderPart, rotvec: Tensor, seen: Tensor, config: FitConfig) -> None:
    """Chart and Gaussian of one part from (N, J, 3) rotvecs, by EM where joints are missing."""
    part.chart.fit(rotvec, seen)
    z, _ = part.chart(rotvec.to(part.chart.mean), seen)
    generator = torch.Generator().manual_seed(config.seed)
    _, mean, covariance = fit_mixture(
        z.flatten(1), seen, 1, iterations=_START_ITERATIONS, prior_count=0.0, generator=generator,
        progress=config.progress,
    )  # fmt: skip
    part.base.mean.copy_(mean[0])
    part.base.covariance.copy_(covariance[0])
