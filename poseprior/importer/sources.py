"""The pose files of a tree, and the files in it that are none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .._text import shown
from .splits import AMASS, plain

#: Files of AMASS that hold the shape of a person and no motion.
_SHAPE_ONLY = re.compile(r"(^shape|(^|_)stagei)\.npz$")
_MOTION = re.compile(r"_(poses|stageii)$")


@dataclass(frozen=True)
class PoseFile:
    """A file to import.

    Attributes:
        name: its path below the tree.
        source: the sub-dataset it belongs to: the folder of a name that AMASS has, else the first folder.
        size: bytes.
    """

    name: str
    source: str
    size: int


@dataclass(frozen=True)
class Skipped:
    """A file that is not imported, and why."""

    name: str
    why: str


def find_files(root: Path) -> tuple[list[PoseFile], list[Skipped]]:
    """The pose files below a folder, sorted by path, and what else is there.

    Raises:
        ValueError: no folder, or one without any `.npz`.
    """
    if not root.is_dir():
        raise ValueError(f"source: expected a folder of pose files, got {shown(root)}, which is no folder.")
    every = sorted(_walk(root))
    files, skipped = [], []
    motions = {name for name, _ in every if name.endswith("_stageii.npz")}
    for name, size in every:
        base = os.path.basename(name)
        if not base.endswith(".npz"):
            skipped.append(Skipped(name, "is no .npz"))
        elif _SHAPE_ONLY.search(base):
            skipped.append(Skipped(name, "holds a shape and no motion (stage i)"))
        elif not name.endswith("_stageii.npz") and f"{_MOTION.sub('', name[:-4])}_stageii.npz" in motions:
            skipped.append(Skipped(name, "is the recording of the _stageii.npz beside it"))
        else:
            files.append(PoseFile(name, source_of(name), size))
    if not files:
        found = f"{len(every)} other files ({every[0][0]}, ...)" if every else "no file at all"
        raise ValueError(
            f"source: expected .npz files with poses below {shown(root)}, got {found}; give the unpacked tree."
        )
    return files, skipped


def source_of(name: str) -> str:
    """The sub-dataset of a path below the tree; "." for files that lie in no folder."""
    folders = name.split("/")[:-1]
    return next((folder for folder in folders if plain(folder) in AMASS), folders[0] if folders else ".")


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    """(path below the root, size) of each file that is not hidden; links are followed once."""
    seen = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for name in names:
            path = os.path.join(place, name)
            if not name.startswith("."):
                try:
                    size = os.stat(path).st_size
                except OSError:  # a link that leads nowhere: reading it says so
                    size = 0
                yield os.path.relpath(path, root).replace(os.sep, "/"), size
