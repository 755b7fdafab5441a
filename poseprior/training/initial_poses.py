"""Training poses as models see them before the first step, for charts and closed-form starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .. import skeleton
from ..io.dataset import PoseDataset
from ..rotations import add_tangent_noise
from .batches import BatchSource, derived_seed, draw_weights
from .config import FitOptions


def co_observed(data: PoseDataset, *, mirror: bool) -> Tensor:
    """(55, 55) bool: whether some pose (or, with `mirror`, its reflection) shows both joints.

    The diagonal says whether a joint is shown at all.
    """
    together = torch.as_tensor(np.asarray(data.co_observed)).bool()
    if mirror:
        flip = list(skeleton.MIRROR)
        together = together | together[flip][:, flip]
    return together


class InitialPoses:
    """A data set under the noise and reflections of the loop; see `poseprior.trainable.TrainingPoses`.

    Args:
        data: the training poses.
        options: of the training.
    """

    def __init__(self, data: PoseDataset, options: FitOptions) -> None:
        self._data, self._options = data, options
        self._deadline = None if options.minutes is None else time.monotonic() + 60.0 * options.minutes
        self.seed, self.mirror, self.jitter = options.seed, options.mirror, options.jitter
        self.closed_form, self.progress = options.max_steps == 0, options.progress

    @property
    def observed(self) -> Tensor:
        """(N, 55) bool, the masks of the poses, without reflections."""
        return torch.as_tensor(self._data.observed)

    @property
    def co_observed(self) -> Tensor:
        """(55, 55) bool: whether some pose (or, with `mirror`, its reflection) shows both joints."""
        return co_observed(self._data, mirror=self.mirror)

    def poses(self, joints: Sequence[int], *, max_poses: int | None = None) -> tuple[Tensor, Tensor]:
        """(N, J, 3) float64 rotvecs and (N, J) observed: every pose once, then the reflections, noise drawn once.

        With balanced subjects or rigs, as many poses are drawn with those weights instead.

        Args:
            joints: the model's joints; rows that show none of them are left out.
            max_poses: a random subset of at most this many source poses.
        """
        options, generator = self._options, torch.Generator().manual_seed(self.seed)
        data, count = self._data, len(self._data) if max_poses is None else min(max_poses, len(self._data))
        if options.subject_balance or options.rig_balance:
            weight = draw_weights(data, torch.arange(len(data)), options)
            drawn = torch.rand(count, generator=generator, dtype=torch.float64)
            data = data.select(torch.searchsorted(weight.cumsum(0), drawn).clamp_max(len(data) - 1))
        elif count < len(data):
            data = data.select(torch.randperm(len(data), generator=generator)[:count].sort().values)
        if self.mirror:
            data = data.mirrored()
        pose, observed = data.all_poses()
        if options.rig_noise is not None:
            pose = options.rig_noise.apply(pose, observed, data.imputed, generator=generator)
        observed = observed[:, list(joints)]
        keep = observed.any(1)
        rotvec = pose[keep][:, list(joints)].double()
        return add_tangent_noise(rotvec, self.jitter, generator=generator), observed[keep]

    def batches(self, joints: Sequence[int], max_poses: int) -> tuple[Tensor, Tensor]:
        """(N, J, 3) rotvecs and (N, J) observed, drawn as training batches are: balanced, mirrored at random.

        Twice as many poses as the data holds, or `max_poses` if that is less, rounded up to whole batches.
        """
        options = replace(self._options, seed=derived_seed(self.seed, 6))
        source = BatchSource(self._data, tuple(joints), options)
        count = -(-min(max_poses, 2 * len(source.rows)) // options.batch_size)
        rotvec, seen = zip(*(source.batch(step) for step in range(count)), strict=True)
        return torch.cat(rotvec), torch.cat(seen)

    def out_of_time(self) -> bool:
        """Whether the time that `FitConfig.minutes` allows is over."""
        return self._deadline is not None and time.monotonic() >= self._deadline
