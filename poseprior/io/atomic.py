"""Files are written beside their target and renamed: a reader sees the old file or the new one, never half of one.

A writer works in a hidden folder of its own, which it locks for as long as it lives. So the next writer of the same target
can tell the leftovers of a killed process, which it removes, from what another process is writing right now.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .._checks import check_path
from .._text import first_line, shown

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows has no such locks; leftovers stay there)
    fcntl = None  # type: ignore[assignment]

_TAG = ".tmp"
#: Bytes. Of longer names the hidden folder has a hash: names may have 255, on some file systems 143.
_LONGEST_NAME = 100


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success it replaces the target, on error it is removed.

    Args:
        path: the target, or a symbolic link to it; its folder is made when missing. A file that was there before keeps its
            permissions.

    Raises:
        ValueError: the target cannot be written (a folder or device of that name, a file in place of its folder, no permission, a
            full disk). A file that was there before is still there.
    """
    check_path("path", path)
    with _one_error(path), _replacing(Path(os.path.realpath(path))) as temporary:
        yield temporary


def require_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a target that could not be written, before any work is done for it. Nothing is left behind.

    Raises:
        ValueError: as `replacing`.
    """
    check_path("path", path)
    target = Path(os.path.realpath(path))
    with _one_error(path):
        _refuse_other_than_files(target)
        there = next(folder for folder in target.parents if folder.exists())  # what is missing is made on writing
        with _workplace(there / target.name) as workplace:
            (workplace / target.name).touch()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which it becomes on success, and which is removed on error.

    Raises:
        ValueError: there is something at `path`, or the folder cannot be written.
    """
    if path.exists():
        raise ValueError(
            f"folder: expected a path that does not exist yet, got {shown(path)}; remove it or choose another."
        )
    with _one_error(path), _workplace(path) as workplace:
        temporary = workplace / path.name
        temporary.mkdir()
        yield temporary
        temporary.rename(path)


@contextmanager
def _one_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """Every way in which writing fails, as one ValueError."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"path: cannot write {shown(path)} ({error.strerror or error}); give another place."
        ) from error
    except SafetensorError as error:
        raise ValueError(f"path: cannot write {shown(path)} ({first_line(error)}); give another place.") from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise ValueError(f"path: cannot write {shown(path)} (the disk may be full); give another place.") from error


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON that every parser reads: numbers that are not finite become null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(finite(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """A nest of dicts and lists in which every NaN and infinity, which JSON does not have, is None."""
    if isinstance(value, Mapping):
        return {key: finite(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    _refuse_other_than_files(target)
    with _workplace(target) as workplace:
        temporary = workplace / target.name
        temporary.touch()
        # That of the file that is replaced, or what this process gives to new files.
        mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
        yield temporary
        os.chmod(temporary, mode)  # some writers replace the file by one that is theirs alone
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)


def _refuse_other_than_files(target: Path) -> None:
    """A folder is not overwritten, nor a device or a pipe, which a file would replace for everyone."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file")


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """A new locked folder beside the target, which goes with all that is in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    folder, handle = _locked(target)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _locked(target: Path) -> tuple[Path, int | None]:
    """A new folder and what holds its lock; another one, if a writer that cleans up was quicker to lock it."""
    while True:
        folder = target.with_name(f".{_short_name(target)}.{secrets.token_hex(6)}{_TAG}")
        folder.mkdir(mode=0o700)
        if fcntl is None:
            return folder, None
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        except OSError:
            return folder, handle  # a network file system without locks, on which nothing is cleaned up either
        if folder.exists():
            return folder, handle
        os.close(handle)


def _short_name(target: Path) -> str:
    name = os.fsencode(target.name)
    return target.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()[:32]


def _remove_leftovers(target: Path) -> None:
    """Folders of this target whose writer is gone."""
    if fcntl is None:
        return
    for found in target.parent.glob(f".{glob.escape(_short_name(target))}.{'[0-9a-f]' * 12}{_TAG}"):
        with contextlib.suppress(OSError):
            handle = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found)
            finally:
                os.close(handle)
