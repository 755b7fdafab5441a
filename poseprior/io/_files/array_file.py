"""Files of arrays, opened without ever unpickling: names and shapes first, each array when it is asked for."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._text import printable, short, shown
from .npy import Header, read_data, read_header
from .plain_code import conversion_code

#: What reading raises on files that are not what they seem.
BROKEN = (
    OSError, ValueError, EOFError, KeyError, MemoryError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_MOST_ARRAYS = 5000
#: Flags of every joint of every pose: what was measured, and what was filled in.
MASKS = ("observed", "imputed")
#: Bytes of an array that is read when its file is opened: opening the archive once more takes longer.
_LITTLE = 4096
#: An array larger than this may not unfold to more than so many times its size in the file; masks compress far better.
_SMALL, _SMALL_MASK, _MOST_EXPANSION = 64 * 2**20, 512 * 2**20, 100


#: What files of other kinds begin with.
_OTHER_KINDS = {
    b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull",
    b"<": "a web page: log in and download it again",
    b"BZh": "a packed file: unpack it first",
    b"\x1f\x8b": "a packed file: unpack it first",
    b"\xfd7zXZ": "a packed file: unpack it first",
    b"\x89HDF": "HDF5: write its arrays into an .npz with h5py",
    b"MATLAB": "a .mat file: write its arrays into an .npz with scipy.io.loadmat",
    b"HIERARCHY": "a .bvh file, whose Euler angles are of another skeleton: retarget it to SMPL-X first",
}


class _TooManyArraysError(Exception):
    """With their number."""


class ArrayFile(Mapping[str, NDArray[Any]]):
    """The arrays of a file by name; `used` are the names that were read, `kind` is "npz", "npy" or "torch".

    Args:
        path: of the file, for messages.
        headers: shape and type of each array, or why it cannot be read.
        load: gives the array of a name.
        prefix: of the names in the file, for one of several dicts in it.
    """

    def __init__(
        self, path: Path, headers: Mapping[str, Header | str], load: Callable[[str], NDArray[Any]], prefix: str = "",
        kind: str = "npz",
    ) -> None:  # fmt: skip
        self.path, self.headers, self.prefix, self.used = path, dict(headers), prefix, set[str]()
        self._load, self.kind = load, kind

    def __getitem__(self, key: str) -> NDArray[Any]:
        header = self.headers[key]
        why = header if isinstance(header, str) else ""
        if not why and is_pickle(header):
            code = conversion_code(self.path, self.kind)
            raise ValueError(
                f"{shown(self.path)}: key '{printable(key)}' holds Python objects (a pickle), which are never loaded; save it "
                f"as plain numbers or strings. For a file that you trust:\n{code}"
            )
        try:
            if not why:
                array = self._load(key)
                self.used.add(key)
                return array
        except BROKEN as error:
            why = short(error)
        raise ValueError(
            f"{shown(self.path)}: key '{printable(key)}' cannot be read ({why}); the file is truncated or damaged: copy or "
            "download it again, or save it anew with numpy.savez, as numbers or text."
        )

    def floating(self, key: str) -> NDArray[Any]:
        """The array of a key, which is one of floats; another is not even unpacked."""
        header = self.headers[key]
        if isinstance(header, Header) and header.dtype.kind not in "fO":  # Python objects have an error of their own
            raise ValueError(
                f"key '{printable(key)}': expected floating-point radians, got {header.dtype}; save it as float32."
            )
        return self[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.headers)

    def __len__(self) -> int:
        return len(self.headers)

    def __contains__(self, key: object) -> bool:
        return key in self.headers

    def without(self, keys: Collection[str]) -> ArrayFile:
        """The file as if it had no arrays of these names."""
        headers = {k: h for k, h in self.headers.items() if k not in keys}
        return ArrayFile(self.path, headers, self._load, self.prefix, self.kind)

    def choose(self, places: Mapping[str, str], prefix: str) -> ArrayFile:
        """Arrays of the file under other names: `places` gives the name of each here."""
        headers = {key: self.headers[place] for key, place in places.items()}
        return ArrayFile(self.path, headers, lambda key: self._load(places[key]), prefix, self.kind)

    def rows(self, index: NDArray[np.int64], n: int) -> ArrayFile:
        """The file as if its arrays of `n` rows had only some of them."""

        def cut(header: Header | str) -> bool:
            return isinstance(header, Header) and header.shape[:1] == (n,)

        headers = {
            key: replace(header, shape=(len(index), *header.shape[1:]))
            if isinstance(header, Header) and cut(header)
            else header
            for key, header in self.headers.items()
        }

        def load(key: str) -> NDArray[Any]:
            array = self._load(key)
            return array[index] if cut(self.headers[key]) else array

        return ArrayFile(self.path, headers, load, self.prefix, self.kind)

    def contents(self) -> str:
        """Names and shapes, for messages."""
        listed = [
            f"{printable(key)} {header if isinstance(header, Header) else '(unreadable)'}"
            for key, header in list(self.headers.items())[:24]
        ]
        return ", ".join(listed) + (f" and {len(self) - 24} more" if len(self) > 24 else "") or "no arrays"


def is_pickle(header: Header | str) -> bool:
    """Whether an array holds Python objects."""
    return isinstance(header, Header) and header.dtype.kind == "O"


def open_npz(path: Path) -> ArrayFile:
    """The arrays of an `.npz`.

    Raises:
        ValueError: not an `.npz`, truncated or damaged; on reading: damaged data, Python objects, or a size that is out
            of proportion to the file's.
    """
    require_file(path, ".npz")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            names = [info.filename for info in members]
            if len(set(names)) < len(names):
                raise ValueError("two arrays of one name")
            if len(names) > _MOST_ARRAYS:
                raise _TooManyArraysError(len(names))
            headers = {info.filename[:-4]: _header(archive, info) for info in members}
            little = {info.filename[:-4]: _little(archive, info, headers[info.filename[:-4]]) for info in members}
    except _TooManyArraysError as error:
        raise ValueError(
            f"{shown(path)}: expected at most {_MOST_ARRAYS} arrays, got {error}; save those of one name in all frames as one, "
            "numpy.stack of them, (frames, ...)."
        ) from None
    except BROKEN as error:
        raise ValueError(
            f"{shown(path)}: expected an .npz file, got "
            f"{_other_kind(path) or f'something else or a damaged one ({short(error)})'}; pickles are never loaded: save "
            "arrays with numpy.savez(path, poses=...)."
        ) from None

    def load(key: str) -> NDArray[Any]:
        array = little.get(key)
        if array is not None:
            return array
        with zipfile.ZipFile(path) as archive:
            return _read_member(archive, f"{key}.npy")

    return ArrayFile(path, headers, load)


def open_npy(path: Path, key: str) -> ArrayFile:
    """The one array of an `.npy`, under a name."""
    require_file(path, ".npy")
    try:
        with path.open("rb") as stream:
            header = read_header(stream)
    except BROKEN as error:
        raise ValueError(
            f"{shown(path)}: expected an .npy file, got something else or a damaged one ({short(error)})."
        ) from None

    def load(_: str) -> NDArray[Any]:
        with path.open("rb") as stream:
            found = read_header(stream)
            if found.nbytes > path.stat().st_size:
                raise ValueError("less data than its header says")
            return read_data(stream, found)

    return ArrayFile(path, {key: header}, load, kind="npy")


def load_arrays(path: Path, keys: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays of `keys` that an `.npz` has; others are not even read, so they may be anything."""
    file = open_npz(path)
    return {key: file[key] for key in file if key in keys}


def require_file(path: Path, kind: str) -> None:
    """Refuse what is no ordinary file: opening a pipe or a device may wait for ever."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise ValueError(f"{shown(path)}: expected an {kind} file, got no such file.") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise ValueError(f"{shown(path)}: expected an {kind} file, got {what}.")


def _other_kind(path: Path) -> str:
    """What a file is that begins like one of the kinds that people meet, and what to do; empty for any other."""
    with path.open("rb") as stream:
        start = stream.read(64).lstrip()
    return next((what for first, what in _OTHER_KINDS.items() if start.startswith(first)), "")


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header | str:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "a compression that NumPy does not write"
    try:
        with archive.open(info) as stream:
            header = read_header(stream)
    except BROKEN as error:
        return short(error)
    if header.dtype.kind != "O" and header.offset + header.nbytes != info.file_size:
        return "its size is not what its header says"
    mask = header.dtype.kind == "b" and Path(info.filename).stem in MASKS
    limit = max(_MOST_EXPANSION * info.compress_size, _SMALL_MASK if mask else _SMALL)
    if info.file_size > limit:
        return f"{info.compress_size} bytes would unfold to {info.file_size} of {header.dtype}, which no recording does"
    return header


def _little(archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: Header | str) -> NDArray[Any] | None:
    """An array of a few bytes; None for a larger one, and for what cannot be read, which reading it says."""
    if isinstance(header, str) or is_pickle(header) or info.file_size > _LITTLE:
        return None
    try:
        return _read_member(archive, info)
    except BROKEN:
        return None


def _read_member(archive: zipfile.ZipFile, member: str | zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        array = read_data(stream, read_header(stream))
        stream.read(1)  # reads on to the checksum
    return array
