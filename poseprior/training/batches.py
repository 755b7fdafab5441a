"""Batches as a pure function of (seed, step): which poses, which are mirrored, what jitter.

Nothing here has state worth saving, which is what makes a killed run repeatable.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import skeleton
from ..io.dataset import PoseDataset
from ..rotations import add_tangent_noise
from .config import FitOptions

_LARGE_PRIME = 2_147_483_629


def derived_seed(seed: int, *parts: int) -> int:
    """A seed for one purpose, from the run's seed; distinct for distinct parts."""
    value = seed % _LARGE_PRIME
    for part in parts:
        value = (value * 1_000_003 + part + 1) % _LARGE_PRIME
    return value


def nothing_observed(argument: str, count: int, joints: Sequence[int], *, whole: bool = False) -> ValueError:
    """The error for data of `count` poses none of which shows the joints (all of them, with `whole`)."""
    names = ", ".join(skeleton.JOINT_NAMES[j] for j in joints[:4])
    return ValueError(
        f"{argument}: none of the {count} poses observes {'all of the' if whole else 'the'} prior's joints ({names}, "
        "...); give files that do."
    )


class BatchSource:
    """Draws training batches of a dataset.

    Args:
        data: the poses.
        joints: the prior's joints; rows that show none of them are never drawn.
        config: `batch_size`, `seed`, `jitter`, `mirror`, `subject_balance`.
        rank, world_size: this process takes every `world_size`-th row of each batch.

    Raises:
        ValueError: no row shows any of the joints, or a batch with less than a row a rank.
    """

    def __init__(
        self, data: PoseDataset, joints: tuple[int, ...], config: FitOptions, *, rank: int = 0, world_size: int = 1
    ) -> None:
        if config.batch_size < world_size:
            raise ValueError(f"batch_size: expected at least one pose a rank ({world_size}), got {config.batch_size}.")
        self.data, self.joints, self.config = data, list(joints), config
        self.rank, self.world_size = rank, world_size
        self.rows = self._usable_rows()
        if len(self.rows) == 0:
            raise nothing_observed("train", len(data), joints)
        self._cumulative = self._balanced_cumulative() if config.subject_balance else None
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def _usable_rows(self) -> Tensor:
        observed = torch.as_tensor(self.data.observed)
        usable = observed[:, self.joints].any(1)
        if self.config.mirror:
            usable |= skeleton.mirror_observed(observed)[:, self.joints].any(1)
        return usable.nonzero()[:, 0]

    def _balanced_cumulative(self) -> Tensor:
        subject = self.data.subject_index[self.rows]
        count = torch.bincount(subject)[subject].double()
        weight = count.pow(-self.config.subject_balance)
        return weight.cumsum(0) / weight.sum()

    def indices(self, step: int) -> Tensor:
        """Dataset rows of the whole batch of a step: shuffled epochs, or balanced draws with replacement."""
        size, count = self.config.batch_size, len(self.rows)
        if self._cumulative is not None:
            generator = torch.Generator().manual_seed(derived_seed(self.config.seed, 1, step))
            draw = torch.rand(size, generator=generator, dtype=torch.float64)
            return self.rows[torch.searchsorted(self._cumulative, draw).clamp_max(count - 1)]
        position = torch.arange(step * size, (step + 1) * size)
        chosen = torch.empty(size, dtype=torch.long)
        for epoch in torch.unique(position // count).tolist():
            inside = position // count == epoch
            chosen[inside] = self._epoch_order(epoch)[position[inside] % count]
        return self.rows[chosen]

    def _epoch_order(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derived_seed(self.config.seed, 2, epoch))
            self._order = torch.randperm(len(self.rows), generator=generator)
            self._epoch = epoch
        return self._order

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(B, J, 3) jittered, half mirrored rotvecs and (B, J) observed of this rank's share of a step."""
        rows = self.indices(step)[self.rank :: self.world_size]
        generator = torch.Generator().manual_seed(derived_seed(self.config.seed, 3, step, self.rank))
        pose, observed = self.data.batch(rows)
        if self.config.mirror:
            pose, observed = self._mirror_some(pose, observed, generator)
        pose, observed = pose[:, self.joints], observed[:, self.joints]
        return add_tangent_noise(pose, self.config.jitter, generator=generator), observed

    def _mirror_some(self, pose: Tensor, observed: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mirror at random, except where only one of the two views shows a modelled joint: take that one."""
        other = skeleton.mirror_observed(observed)
        flip = torch.rand(len(pose), generator=generator) < 0.5
        shows = observed[:, self.joints].any(1)
        other_shows = other[:, self.joints].any(1)
        flip = torch.where(shows & other_shows, flip, other_shows)
        pose = torch.where(flip[:, None, None], skeleton.mirror(pose), pose)
        return pose, torch.where(flip[:, None], other, observed)
