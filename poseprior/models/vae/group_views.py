"""Independent groups of joints of a VAE, and which of them share a network through the left/right mirror."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ... import skeleton


@dataclass(frozen=True)
class GroupView:
    """How one group's joints reach its network.

    Attributes:
        core: index of the network.
        places: positions of the group's joints among the prior's, in the network's order.
        flip: whether the network sees them reflected.
    """

    core: int
    places: list[int]
    flip: bool

    def rows(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Jg, 3) and (B, Jg) as the network sees them, of the prior's (B, J, 3) and (B, J)."""
        return self.unflip(rotvec[:, self.places]), observed[:, self.places]

    def unflip(self, rotvec: Tensor) -> Tensor:
        """Between the network's and the prior's rotvecs (..., Jg, 3); its own inverse."""
        if not self.flip:
            return rotvec
        return rotvec * torch.tensor([1.0, -1.0, -1.0], dtype=rotvec.dtype, device=rotvec.device)


def group_views(groups: Sequence[Sequence[int]], joints: tuple[int, ...]) -> list[GroupView]:
    """One view for each group; a group whose mirror image came before shares its network."""
    place = {j: k for k, j in enumerate(joints)}
    views: list[GroupView] = []
    owners: dict[tuple[int, ...], int] = {}
    for group in groups:
        reflected = tuple(sorted(skeleton.MIRROR[j] for j in group))
        if reflected in owners and reflected != tuple(group):
            order = [skeleton.MIRROR[j] for j in reflected]
            views.append(GroupView(owners[reflected], [place[j] for j in order], True))
        else:
            core = len(owners)
            owners[tuple(group)] = core
            views.append(GroupView(core, [place[j] for j in group], False))
    return views
