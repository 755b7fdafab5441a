"""Rows of several mapped files as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mapped_file import MappedFile


class ShardedArray:
    """(N, ...) rows of mapped arrays (n_k, ...), after one another; only rows that are asked for are read.

    Args:
        parts: of one row shape and type, at least one.
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self._parts = list(parts)
        self._plain = [np.asarray(part) for part in self._parts]  # without the cost of np.memmap at every access
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """A copy of rows, by a slice or by indices from 0 to N - 1."""
        index = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        shard = np.searchsorted(self._ends, index, side="right")
        order = np.argsort(shard, kind="stable")
        cuts = np.searchsorted(shard[order], np.arange(len(self._parts) + 1))
        result = np.empty((len(index), *self.shape[1:]), self.dtype)
        for k in np.flatnonzero(np.diff(cuts)):
            where = order[cuts[k] : cuts[k + 1]]
            start = self._ends[k] - len(self._parts[k])
            result[where] = self._plain[k].take(index[where] - start, 0)
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": [MappedFile.of(part) for part in self._parts]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__([p.open() if isinstance(p, MappedFile) else p for p in state["parts"]])  # type: ignore[misc]
