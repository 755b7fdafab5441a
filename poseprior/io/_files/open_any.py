"""Arrays of a file by what is in it, whatever its name: `.npz`, `.npy` or torch; for others, code that converts them."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..._text import shown
from .array_file import BROKEN, ArrayFile, open_npy, open_npz, require_file
from .plain_code import conversion_code
from .torch_file import open_torch

#: What pickles begin with that joblib has packed: zlib, gzip, bz2, xz.
_PACKED = (b"x", b"\x1f\x8b", b"BZ", b"\xfd7zXZ")
_TORCH = (".pt", ".pth", ".ckpt")


def open_any(path: Path) -> ArrayFile:
    """The arrays of a file.

    Raises:
        ValueError: a pickle, JSON or another kind of file, or a damaged one.
    """
    require_file(path, ".npz")
    try:
        with path.open("rb") as stream:
            start = stream.read(4096)
    except OSError as error:
        raise ValueError(
            f"{shown(path)}: expected a file that can be read, got {error.strerror or error}; give yourself the right to read "
            "it, or copy it."
        ) from None
    suffix = path.suffix.lower()
    if start[:6] == b"\x93NUMPY":
        return open_npy(path, "poses")
    pickled = suffix in (".pkl", ".pickle", ".joblib") or (start[:1] == b"\x80" and suffix not in (".npz", *_TORCH))
    if pickled and start[:2] != b"PK":  # a zip archive: torch.save and numpy.savez take any name
        kind = "joblib" if b"joblib" in start or start.startswith(_PACKED) or suffix == ".joblib" else "pickle"
        raise ValueError(
            f"{shown(path)}: expected arrays, got a pickle, which is never loaded. For a file that you trust:\n"
            f"{conversion_code(path, kind)}"
        )
    if suffix == ".json":
        raise ValueError(
            f"{shown(path)}: expected arrays, got JSON; this writes what it holds as arrays:\n{conversion_code(path, 'json')}"
        )
    if suffix in _TORCH:
        return open_torch(path)
    file = open_npz(path)
    return open_torch(path) if not file and _is_torch(path) else file


def _is_torch(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist()[:64])
    except BROKEN:
        return False
