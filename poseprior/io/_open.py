"""Opening `.npz` files without ever unpickling, with one kind of error for every way in which they can be broken."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

#: What NumPy and zipfile raise on files that are not what they seem.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    SyntaxError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_arrays(path: Path, keys: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays of `keys` that the file has; others are not even read, so they may be anything.

    Raises:
        ValueError: not an `.npz`, truncated, damaged, or one of `keys` holds Python objects (a pickle).
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected an .npz file, got {'a folder' if path.is_dir() else 'no such file'}.")
    with path.open("rb") as handle:  # opened here because numpy leaves the file open when it cannot read it
        archive = _archive(path, handle)
        return {key: _array(path, archive, key) for key in archive.files if key in keys}


def _archive(path: Path, handle: IO[bytes]) -> Any:
    try:
        archive = np.load(handle, allow_pickle=False)
    except _BROKEN as error:
        raise ValueError(
            f"{path}: expected an .npz file, got something else or a damaged one ({_short(error)}); pickles are never "
            "loaded: save arrays with numpy.savez(path, poses=...)."
        ) from None
    if not hasattr(archive, "files"):
        raise ValueError(
            f"{path}: expected an .npz file, got a bare .npy array; save it with numpy.savez(path, poses=...)."
        )
    return archive


def _array(path: Path, archive: Any, key: str) -> NDArray[Any]:
    try:
        return np.asarray(archive[key])
    except _BROKEN as error:
        if "allow_pickle" in str(error):
            why = "holds Python objects (a pickle), which are never loaded; save it as plain numbers or strings."
        else:
            why = f"cannot be read ({_short(error)}); the file is truncated or damaged: copy or download it again."
    raise ValueError(f"{path}: key '{key}' {why}")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else 'no details'}"
