"""Files are written beside their target and renamed: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success it replaces the target, on error it is removed.

    Args:
        path: the target; its folder is made when missing.

    Raises:
        ValueError: the target cannot be written (a folder of that name, a file in place of its folder, no permission, a
            full disk).
    """
    try:
        with _replacing(Path(path)) as temporary:
            yield temporary
    except OSError as error:
        raise ValueError(f"path: cannot write {path} ({error.strerror or error}); give another place.") from error


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
