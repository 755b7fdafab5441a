"""`DatasetRows`: reading rows of a data set, and facts about them; `PoseDataset` makes data sets of data sets."""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ... import skeleton
from ..._checks import quoted
from . import columns, storage
from .names import Names

_CHUNK = 16384


class DatasetRows(Dataset[tuple[Tensor, Tensor]], ABC):
    """N poses with their masks: rows by index, whole columns, and what can be said of them."""

    _store: storage.PoseStore
    _columns: columns.Columns

    # -- rows ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Pose (55, 3) and observed (55,) of one row."""
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise TypeError(
                f"index: expected a whole number, got {quoted(index)}; select(rows) and batch(rows) take several."
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected -{len(self)} to {len(self) - 1}, got {index}.")
        pose, observed = self.batch([index])
        return pose[0], observed[0]

    def batch(self, indices: Tensor | NDArray[Any] | Sequence[int] | Sequence[bool]) -> tuple[Tensor, Tensor]:
        """Pose (B, 55, 3) float32 and observed (B, 55) bool of rows: indices (B,) or a bool mask (N,); new memory."""
        poses, observed = self._store.take(self._rows(indices))
        return torch.from_numpy(poses), torch.from_numpy(observed)

    def batch_imputed(self, indices: Tensor | NDArray[Any] | Sequence[int]) -> Tensor | None:
        """`imputed` (B, 55) of rows, as `batch` takes them; None where nobody said."""
        mask = self._store.take_imputed(self._rows(indices))
        return None if mask is None else torch.from_numpy(mask)

    def batch_context(self, indices: Tensor | NDArray[Any] | Sequence[int]) -> Tensor | None:
        """`context` (B, C) float32 of rows, as `batch` takes them; None where there is none."""
        context = self._store.take_context(self._rows(indices))
        return None if context is None else torch.from_numpy(context)

    def _rows(self, indices: Any) -> NDArray[np.int64]:
        return columns.row_indices(np.atleast_1d(indices), len(self), "indices")

    def all_poses(self) -> tuple[Tensor, Tensor]:
        """Poses (N, 55, 3) float32 and observed (N, 55) bool: shared memory, or all of a memory-mapped set read."""
        poses, observed = self._store.arrays()
        return torch.from_numpy(poses), torch.from_numpy(observed)

    @property
    def subject(self) -> NDArray[np.str_] | None:
        """(N,) names of the people; None where nobody said."""
        return None if self._columns.subject is None else self._columns.subject.all()

    @property
    def sequence(self) -> NDArray[np.str_] | None:
        """(N,) names of the recordings; None where nobody said."""
        return None if self._columns.sequence is None else self._columns.sequence.all()

    @property
    def rig(self) -> NDArray[np.str_] | None:
        """(N,) names of the capture rigs; None where nobody said."""
        return None if self._columns.rig is None else self._columns.rig.all()

    @property
    def fps(self) -> float | NDArray[np.float64] | None:
        """Frames a second at which `frame` counts: one number or (N,); None where unknown."""
        return self._columns.fps

    @property
    def frame(self) -> NDArray[np.int64] | None:
        """(N,) frame numbers within the sequence; None where nobody said."""
        return self._columns.frame

    @property
    def ignored(self) -> tuple[str, ...]:
        """Arrays of the files read that look like rotations and were left unread."""
        return self._columns.ignored

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about the files read."""
        return self._columns.notes

    @property
    def poses(self) -> Tensor:
        """(N, 55, 3) float32."""
        return self.all_poses()[0]

    @property
    def observed(self) -> Tensor:
        """(N, 55) bool."""
        return torch.from_numpy(self._store.observed())

    @property
    def imputed(self) -> Tensor | None:
        """(N, 55) bool, where a rule gave the value; None where nobody said."""
        mask = self._store.imputed()
        return None if mask is None else torch.from_numpy(mask)

    @property
    def context(self) -> Tensor | None:
        """(N, C) float32; None where there is none."""
        context = self._store.context()
        return None if context is None else torch.from_numpy(context)

    @property
    def context_dim(self) -> int:
        """C, how many numbers the context of a row has; 0 without one."""
        return self._store.context_dim

    def chunks(self, size: int = _CHUNK) -> Iterator[tuple[Tensor, Tensor]]:
        """Every row once, in order, `size` at a time: what a pass over a memory-mapped set should use."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))

    # -- facts -----------------------------------------------------------------------------------------------------

    @property
    def observed_joints(self) -> tuple[int, ...]:
        """Joints observed in at least one row."""
        return tuple(int(j) for j in np.flatnonzero(np.any([m.any(0) for m in self._store.observed_chunks()], 0)))

    @property
    def co_observed(self) -> Tensor:
        """(55, 55) bool: whether two joints are ever observed in the same row."""
        count = np.zeros((skeleton.NUM_JOINTS,) * 2, np.float32)
        for mask in self._store.observed_chunks():
            part = mask.astype(np.float32)
            count += part.T @ part
        return torch.from_numpy(count > 0)

    def showing(self, joints: Sequence[int], *, mirror: bool = False) -> Tensor:
        """(N,) bool: whether a row observes any of the joints, or with `mirror` its reflection does."""
        wanted = np.zeros(skeleton.NUM_JOINTS, bool)
        wanted[list(joints)] = True
        if mirror:
            wanted |= wanted[list(skeleton.MIRROR)]
        return torch.from_numpy(np.concatenate([mask[:, wanted].any(1) for mask in self._store.observed_chunks()]))

    @property
    def subjects(self) -> tuple[str, ...]:
        """Sorted distinct subject names; empty when there is no `subject`."""
        return () if self._columns.subject is None else tuple(str(s) for s in self._columns.subject.present())

    @property
    def num_subjects(self) -> int:
        """Number of distinct subjects; 0 when there is no `subject`."""
        return len(self.subjects)

    @property
    def subject_index(self) -> Tensor:
        """(N,) int64 position of each row's subject in `subjects`; all zero when there is no `subject`."""
        return self._index(self._columns.subject)

    @property
    def rig_index(self) -> Tensor:
        """(N,) int64 position of each row's rig among the sorted names of rigs; all zero when there is no `rig`."""
        return self._index(self._columns.rig)

    def _index(self, names: Names | None) -> Tensor:
        return torch.zeros(len(self), dtype=torch.int64) if names is None else torch.from_numpy(names.index())

    def digest(self) -> str:
        """sha256 (hex) of poses, observed and context; the same whatever the other columns, memory-mapped or not."""
        sha = hashlib.sha256(f"poseprior.PoseDataset/1 {len(self)}".encode())
        for poses, _ in self.chunks():
            sha.update(poses.numpy().astype("<f4").tobytes())
        for mask in self._store.observed_chunks():
            sha.update(mask.tobytes())
        for start in range(0, len(self) if self.context_dim else 0, _CHUNK):
            context = self._store.take_context(np.arange(start, min(start + _CHUNK, len(self))))
            sha.update(np.asarray(context, "<f4").tobytes())
        return sha.hexdigest()
