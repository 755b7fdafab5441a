"""Opening `.npz` files without ever unpickling, with one kind of error for every way in which they can be broken."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BROKEN = (OSError, ValueError, EOFError, KeyError, SyntaxError, MemoryError, NotImplementedError)
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error)


def load_arrays(path: Path, keys: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays of `keys` that the file has; others are not even read, so they may be anything.

    Raises:
        ValueError: not an `.npz`, truncated, damaged, or one of `keys` holds Python objects (a pickle).
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected an .npz file, got {'a folder' if path.is_dir() else 'no such file'}.")
    try:
        archive = np.load(path, allow_pickle=False)
    except (*_BROKEN, *_BROKEN_ZIP) as error:
        raise ValueError(
            f"{path}: expected an .npz file, got something else or a damaged one ({_short(error)}); pickles are never "
            "loaded: save arrays with numpy.savez(path, poses=...)."
        ) from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(
            f"{path}: expected an .npz file, got a bare .npy array; save it with numpy.savez(path, poses=...)."
        )
    arrays = {}
    with archive:
        for key in archive.files:
            if key not in keys:
                continue
            try:
                arrays[key] = archive[key]
            except (*_BROKEN, *_BROKEN_ZIP) as error:
                objects = "allow_pickle" in str(error)
                raise ValueError(
                    f"{path}: key '{key}' "
                    + (
                        "holds Python objects (a pickle), which are never loaded; save it as a plain array of numbers "
                        "or strings."
                        if objects
                        else f"cannot be read ({_short(error)}); the file is truncated or damaged: copy or download it again."
                    )
                ) from None
    return arrays


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else 'no details'}"
