"""Sharing of one network between the left side and the right, through the mirror.

The mirror image of a rotvec (x, y, z) is (x, -y, -z), at the joint of the other side (`skeleton.reflect`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ... import skeleton


@dataclass(frozen=True)
class GroupView:
    """How the joints of one group reach the network that models them.

    Attributes:
        network: its index.
        places: positions of the group's joints among the prior's, in the network's order.
        mirrored: whether the network sees their mirror image.
    """

    network: int
    places: list[int]
    mirrored: bool

    def is_whole(self, size: int) -> bool:
        """Whether the network sees all `size` joints of the prior as they are."""
        return not self.mirrored and self.places == list(range(size))

    def rows(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Jg, 3) and (B, Jg) as the network sees them, of the prior's (B, J, 3) and (B, J)."""
        return self.poses(rotvec), observed[:, self.places]

    def poses(self, rotvec: Tensor) -> Tensor:
        """(B, Jg, 3) as the network sees them, of the prior's (B, J, 3)."""
        return self.reflect(rotvec[:, self.places])

    def reflect(self, rotvec: Tensor) -> Tensor:
        """Between the network's rotvecs and the prior's, (..., Jg, 3); its own inverse."""
        return skeleton.reflect(rotvec) if self.mirrored else rotvec

    @property
    def signs(self) -> tuple[float, float, float]:
        """What `reflect` multiplies x, y and z with."""
        return skeleton.REFLECTION if self.mirrored else (1.0, 1.0, 1.0)


def mirror_views(
    groups: Sequence[Sequence[int]],
    joints: tuple[int, ...],
    *,
    share: bool = True,
    parents: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
) -> list[GroupView]:
    """One view for each group; a group whose mirror image came before shares its network.

    Args:
        groups: disjoint sorted groups of joints, SMPL-X indices.
        joints: all joints of the prior.
        share: whether mirror images share a network.
        parents: by joint, the joints that its network sees beside the group. Only groups whose parents are mirror images
            too, one by one, share a network.
    """
    place = {joint: k for k, joint in enumerate(joints)}
    views: list[GroupView] = []
    networks: dict[tuple[int, ...], int] = {}
    for group in groups:
        image = tuple(sorted(skeleton.MIRROR[j] for j in group))
        alike = all(
            parents.get(skeleton.MIRROR[j], ()) == tuple(skeleton.MIRROR[c] for c in parents.get(j, ())) for j in group
        )
        if share and alike and image in networks:
            views.append(GroupView(networks[image], [place[skeleton.MIRROR[j]] for j in image], True))
        else:
            networks[tuple(group)] = len(networks)
            views.append(GroupView(networks[tuple(group)], [place[j] for j in group], False))
    return views


def stack_views(views: list[GroupView], values: Tensor) -> Tensor:
    """What the network sees of each view, one view's rows after the other's: (B, J, 3) or (B, J) to (V B, Jg, ...)."""
    if len(views) == 1 and views[0].is_whole(values.shape[1]):
        return values
    parts = [values[:, view.places] for view in views]
    if values.dim() == 3:
        parts = [view.reflect(part) for view, part in zip(views, parts, strict=True)]
    return torch.cat(parts)
