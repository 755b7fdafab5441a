"""One array in NumPy's format: the header is checked before a byte of the data is read, and nothing is unpickled."""

from __future__ import annotations

import ast
import functools
import math
import re
import struct
import warnings
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 65536
#: bool, integers, floats, bytes, text, and Python objects (which are named, never read).
_DTYPE = re.compile(r"[<>|=]?([biufSUO])\d*")
_KINDS = "bool, integers, floats or text"


@dataclass(frozen=True)
class Header:
    """Shape and type of an array, and where its data starts."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Size of the data."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        kind = {"O": "Python objects", "U": "text", "S": "bytes"}.get(self.dtype.kind, self.dtype.name)
        return f"{self.shape} {kind}"


def read_header(stream: IO[bytes]) -> Header:
    """The header at the start of a stream.

    Raises:
        ValueError: no array in NumPy's format, a damaged header, or a type that is none of bool, integers, floats or
            text.
    """
    start = stream.read(8)
    if start[:6] != _MAGIC or len(start) < 8:
        raise ValueError("no array in NumPy's format")
    width, form = (2, "<H") if start[6] == 1 else (4, "<I")
    raw = stream.read(width)
    length = struct.unpack(form, raw)[0] if len(raw) == width else _LONGEST_HEADER + 1
    if length > _LONGEST_HEADER:
        raise ValueError("a damaged header")
    text = stream.read(length).decode("latin-1" if start[6] < 3 else "utf-8", "replace")
    try:
        fields = _fields(text)
        shape, fortran, kind = fields["shape"], fields["fortran_order"], fields["descr"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise ValueError("a damaged header") from None
    sized = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**48 for n in shape) and len(shape) <= 32
    if len(fields) != 3 or not sized or type(fortran) is not bool:
        raise ValueError("a damaged header")
    return Header(shape, _dtype(kind), fortran, 8 + width + length)


@functools.lru_cache(4096)  # many files have arrays of the same few shapes
def _fields(text: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged header may be odd Python, of which the compiler warns
        return dict(ast.literal_eval(re.sub(r"(?<=[0-9])L\b", "", text).strip()))  # Python 2 wrote 10L


def _dtype(kind: object) -> np.dtype[Any]:
    if not isinstance(kind, str) or not _DTYPE.fullmatch(kind):
        raise ValueError(f"an array of type {str(kind)[:40]!r}, not {_KINDS}")
    try:
        dtype = np.dtype(kind)
    except (TypeError, ValueError):
        raise ValueError(f"an array of type {kind[:40]!r}, not {_KINDS}") from None
    if dtype.itemsize == 0:
        raise ValueError("text of no length at all")
    return dtype


def as_float64(array: NDArray[Any]) -> NDArray[np.float64]:
    """A copy, without the warnings that NumPy has for the NaN of damaged files."""
    with np.errstate(invalid="ignore", over="ignore"):
        return array.astype(np.float64)


def read_data(stream: IO[bytes], header: Header) -> NDArray[Any]:
    """The array behind a header that was read from this stream."""
    size = header.nbytes
    data = stream.read(size)
    if len(data) != size:
        raise ValueError("less data than its header says")
    order = "F" if header.fortran else "C"
    return np.frombuffer(data, header.dtype).reshape(header.shape, order=order)  # type: ignore[call-overload]
