"""Arrays on disk that grow by rows."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_HEADER = 128


class GrowingArray:
    """An `.npy` file to which rows are appended; its header is written when it is closed.

    A full disk is an `OSError`; writing through a mapping of the file would end the process instead.
    """

    def __init__(self, path: Path, dtype: Any, row: tuple[int, ...]) -> None:
        self._dtype, self.row, self.rows = np.dtype(dtype), row, 0
        self._file: IO[bytes] = path.open("wb")
        self._file.write(bytes(_HEADER))

    def append(self, rows: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self.rows += len(rows)

    def close(self) -> None:
        shape = (self.rows, *self.row)
        fields = (
            f"{{'descr': '{np.lib.format.dtype_to_descr(self._dtype)}', 'fortran_order': False, 'shape': {shape}, }}"
        )
        length = _HEADER - 10
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + f"{fields:<{length - 1}}\n".encode())
        self._file.close()
