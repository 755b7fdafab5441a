"""Names of rows, each held once: millions of rows of a few thousand recordings stay small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Names:
    """(N,) names: `values[codes]`.

    Attributes:
        values: (K,) sorted distinct names; some may stand in no row.
        codes: (N,) places in `values`.
    """

    values: NDArray[np.str_]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, names: NDArray[np.str_]) -> Names:
        """From a name for each row."""
        values, codes = np.unique(names, return_inverse=True)
        return cls(values, codes.reshape(-1).astype(np.int32))

    @classmethod
    def same(cls, name: str, n: int) -> Names:
        """One name for all of `n` rows."""
        return cls(np.array([name]), np.zeros(n, np.int32))

    @classmethod
    def repeated(cls, names: Sequence[str], rows: Sequence[int]) -> Names:
        """Each name for so many rows in turn."""
        values, codes = np.unique(np.asarray(names, np.str_), return_inverse=True)
        return cls(values, np.repeat(codes.reshape(-1).astype(np.int32), rows))

    @classmethod
    def join(cls, parts: Sequence[Names]) -> Names:
        """All rows of several, in order."""
        values = np.unique(np.concatenate([part.values for part in parts]))
        codes = [np.searchsorted(values, part.values).astype(np.int32)[part.codes] for part in parts]
        return cls(values, np.concatenate(codes))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: Any) -> Names:
        """Some rows."""
        return Names(self.values, self.codes[index])

    def renamed(self, change: Callable[[str], str]) -> Names:
        """Every name changed; distinct ones stay distinct."""
        return Names.of(np.array([change(str(name)) for name in self.values])).take(self.codes)

    def all(self) -> NDArray[np.str_]:
        """(N,) the name of each row."""
        return self.values[self.codes]

    def present(self) -> NDArray[np.str_]:
        """Sorted distinct names that stand in some row."""
        return self.values[self._used()]

    def index(self) -> NDArray[np.int64]:
        """(N,) place of each row's name in `present()`."""
        place = np.zeros(len(self.values), np.int64)
        used = self._used()
        place[used] = np.arange(len(used))
        return place[self.codes]

    def _used(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.bincount(self.codes, minlength=len(self.values)))
