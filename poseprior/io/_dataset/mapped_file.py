"""A memory map by its path: what to pickle of it."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MappedFile:
    """What to pickle of a memory map: where it is, not what is in it."""

    path: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    @classmethod
    def of(cls, array: Any) -> Any:
        """The file of an array that is all of a map; any other value as it is."""
        # A slice of a map has the map's offset, not its own, and mode "c" holds changes that are in no file.
        if not isinstance(array, np.memmap) or not isinstance(array.base, mmap) or array.mode == "c":
            return array
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        return cls(str(array.filename), array.dtype, array.offset, array.shape, order)

    def open(self) -> NDArray[Any]:
        """Map the file again, to read."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
