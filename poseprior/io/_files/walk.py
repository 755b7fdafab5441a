"""All files in a folder and below, through links."""

from __future__ import annotations

import os
from pathlib import Path

from ..._text import shown


def walk(folder: Path) -> tuple[dict[Path, str], list[tuple[str, str]]]:
    """Files by path with where each really is, and folders that links lead to once more.

    Folders come under their own names before those that links give them. A link to a folder above itself is left out: what
    it leads to is read already.

    Returns:
        files: path of each file and its real path.
        twice: (path, path) of a folder that was met again, and where it was met first.
    """
    seen: dict[str, str] = {}
    files: dict[Path, str] = {}
    twice = []
    starts = [str(folder)]
    for start in starts:
        for place, folders, names in os.walk(start, onerror=_refuse):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                if not Path(os.path.realpath(os.path.dirname(place))).is_relative_to(real):
                    twice.append((place, seen[real]))
                continue
            seen[real] = place
            starts += [path for name in sorted(folders) if os.path.islink(path := os.path.join(place, name))]
            for name in names:
                path = os.path.join(place, name)
                files[Path(path)] = os.path.realpath(path) if os.path.islink(path) else os.path.join(real, name)
    return files, twice


def _refuse(error: OSError) -> None:
    raise ValueError(
        f"path: expected folders that can be listed, got {shown(error.filename)} ({error.strerror}); give yourself the right "
        "to read it, or leave it out of a list of folders."
    )


def require_once(files: dict[Path, str], argument: str) -> None:
    """Refuse two paths that lead to one file, as its poses would count double."""
    first: dict[str, Path] = {}
    for path, real in files.items():
        if (other := first.setdefault(real, path)) != path:
            raise ValueError(
                f"{argument}: expected each file once, got {shown(other)} and {shown(path)}, which are one; leave one out."
            )
