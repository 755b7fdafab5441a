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


def draw_weights(data: PoseDataset, rows: Tensor, options: FitOptions) -> Tensor:
    """(R,) float64 chance of each of the rows, by `subject_balance` and `rig_balance`; they sum to 1."""
    rig = data.rig_index[rows]
    person = torch.unique(rig * (1 + int(data.subject_index.max())) + data.subject_index[rows], return_inverse=True)[1]
    weight = torch.bincount(person)[person].double().pow(-options.subject_balance)
    frames, total = torch.bincount(rig).double(), torch.bincount(rig, weight)
    return (weight * frames.pow(1.0 - options.rig_balance)[rig] / total[rig]) / frames.pow(
        1.0 - options.rig_balance
    ).sum()


class BatchSource:
    """Draws training batches of a dataset.

    Args:
        data: the poses.
        joints: the prior's joints; rows that show none of them are never drawn.
        config: options of the training.
        rank, world_size: this process takes every `world_size`-th row of each batch.

    Attributes:
        rows: the rows that are drawn.
        chances: cumulative chances of the rows; None where all are even.

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
        balanced = config.subject_balance or config.rig_balance
        self.chances = draw_weights(data, self.rows, config).cumsum(0) if balanced else None
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def _usable_rows(self) -> Tensor:
        return self.data.showing(self.joints, mirror=self.config.mirror).nonzero()[:, 0]

    def indices(self, step: int) -> Tensor:
        """Dataset rows of the whole batch of a step: shuffled epochs, or balanced draws with replacement."""
        size, count = self.config.batch_size, len(self.rows)
        if self.chances is not None:
            generator = torch.Generator().manual_seed(derived_seed(self.config.seed, 1, step))
            draw = torch.rand(size, generator=generator, dtype=torch.float64)
            return self.rows[torch.searchsorted(self.chances, draw).clamp_max(count - 1)]
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
        rows = self._own(step)
        generator = torch.Generator().manual_seed(derived_seed(self.config.seed, 3, step, self.rank))
        pose, observed = self.data.batch(rows)
        flip = self._flip(observed, generator) if self.config.mirror else None
        if self.config.rig_noise is not None:
            imputed = self.data.batch_imputed(rows)
            if flip is not None:
                pose, observed = _reflected(pose, observed, flip, range(skeleton.NUM_JOINTS))
                if imputed is not None:
                    imputed = torch.where(flip[:, None], skeleton.mirror_observed(imputed), imputed)
            pose = self.config.rig_noise.apply(pose, observed, imputed, generator=generator)
            pose, observed = pose[:, self.joints], observed[:, self.joints]
        elif flip is not None:
            pose, observed = _reflected(pose, observed, flip, self.joints)
        else:
            pose, observed = pose[:, self.joints], observed[:, self.joints]
        return add_tangent_noise(pose, self.config.jitter, generator=generator), observed

    def context(self, step: int) -> Tensor | None:
        """(B, C) contexts of the poses of `batch`, which a reflection leaves as they are; None where there are none."""
        return self.data.batch_context(self._own(step)) if self.data.context_dim else None

    def _own(self, step: int) -> Tensor:
        """This rank's rows of a step."""
        return self.indices(step)[self.rank :: self.world_size]

    def _flip(self, observed: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) which rows to mirror: at random, unless only one of the two views shows a modelled joint."""
        other = skeleton.mirror_observed(observed)
        flip = torch.rand(len(observed), generator=generator) < 0.5
        shows = observed[:, self.joints].any(1)
        other_shows = other[:, self.joints].any(1)
        return torch.where(shows & other_shows, flip, other_shows)


def _reflected(pose: Tensor, observed: Tensor, flip: Tensor, joints: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Some joints of poses (B, 55, 3) and masks (B, 55), of their mirror images where `flip` (B,) says so."""
    own, other = list(joints), [skeleton.MIRROR[j] for j in joints]
    flip = flip[:, None]
    seen = torch.where(flip, observed[:, other], observed[:, own])
    return torch.where(flip[..., None], skeleton.reflect(pose[:, other]), pose[:, own]), seen
