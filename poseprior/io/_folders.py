"""Which pose files a folder holds, which of them are train, val and test, and the people whom folders name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ._frames import natural_path

SPLITS = ("train", "val", "test")
_STEMS = {stem.format(name): name for name in SPLITS for stem in ("{}_poses", "hands_{}", "{}", "poses_{}", "{}_hands")}


#: Kinds of files with poses that are read from a list of files, and that are converted first.
_LISTED, _CONVERTED = {".npy", ".pt", ".pth"}, {".pkl", ".pickle"}


class Found(NamedTuple):
    """A file.

    Attributes:
        path: of the file.
        person: whom the folders name that it lies in.
        likely: whom they name if its arrays are those of AMASS, where each person has a folder.
    """

    path: Path
    person: str | None = None
    likely: str | None = None


def common_root(entries: Sequence[Path]) -> Path | None:
    """The folder above all of several folders and files; None for one of them, or on different disks."""
    places = {os.path.abspath(entry.parent if entry.is_file() else entry) for entry in entries}
    try:
        return Path(os.path.commonpath(places)) if len(places) > 1 else None
    except ValueError:
        return None


def pose_files(path: Path, split: str | None, *, root: Path | None = None) -> list[Found]:
    """The files of a path: itself, those of a split, or all (train, val, test in this order, where they are named).

    Args:
        path: a file or a folder.
        split: the part to take of a folder.
        root: the folder below which paths name people, so that `CMU/01` and `KIT/01` are two; None for `path` itself.
    """
    if not path.exists():
        raise ValueError(f"path: expected an .npz file or a folder, got {path}, which does not exist.")
    if path.is_file():
        if split is not None:
            raise ValueError(
                f"split: expected a folder to find split={split!r} in, got the file {path}; leave split out."
            )
        return [found_below(path, path.parent, root or path.parent)]
    if not path.is_dir():
        raise ValueError(f"path: expected an .npz file or a folder, got {path}, a pipe or a device; save it as a file.")
    parts = split_files(path, root=root)
    if split is not None:
        if split not in parts:
            raise ValueError(
                f"split: expected {split}_poses.npz, hands_{split}.npz or a folder {split} in {path}, got "
                f"{', '.join(parts) or 'no named part'}; read the folder whole and use PoseDataset.split_by_subject."
            )
        return parts[split]
    if parts:
        return [found for name in parts for found in parts[name]]
    return [found_below(file, path, root or path) for file in _below(path)]


def split_files(folder: Path, *, root: Path | None = None) -> dict[str, list[Found]]:
    """The files of each named part that exists, in the order train, val, test; empty when nothing is named.

    Names directly in the folder count alone. Without any, folders below may be named or hold named files, and then all
    must: a test file must never slip into a folder read as one.
    """
    if not folder.is_dir():
        raise ValueError(f"folder: expected a folder with pose files, got {folder}, which is no folder.")
    files = _below(folder)
    top = {file: found for file in files if (found := _split_of(file, folder, 1)) is not None}
    named = top or {file: found for file in files if (found := _split_of(file, folder, None)) is not None}
    if not top and named and len(named) < len(files):
        odd = next(file for file in files if file not in named)
        raise ValueError(
            f"folder: expected all files in {folder} to be named train, val or test or none of them, got "
            f"{next(iter(named))} and {odd}; give the list of files instead."
        )
    above = root or folder
    parts = {
        name: [found_below(f, base, above) for f, (part, base) in named.items() if part == name] for name in SPLITS
    }
    return {name: found for name, found in parts.items() if found}


def found_below(file: Path, base: Path, root: Path) -> Found:
    """A file, and the people that folders name: those from `root` to the file, but only where some lie below `base`."""
    steps = Path(os.path.abspath(file.parent)).relative_to(os.path.abspath(root)).parts
    name = "/".join(step for step in steps if step not in SPLITS)
    if name:
        return Found(file, likely=name) if file.parent == base else Found(file, person=name)
    parent = file.resolve().parent.name
    return Found(file, likely=None if parent in SPLITS else parent)


def _split_of(file: Path, root: Path, depth: int | None) -> tuple[str, Path] | None:
    """The part that a file belongs to by its name or that of a folder above it, looking `depth` levels down.

    With it comes the folder of the part, below which folders name people.
    """
    steps = file.relative_to(root).parts
    for level, step in enumerate(steps[:depth]):
        if level < len(steps) - 1 and step in SPLITS:
            return step, root.joinpath(*steps[: level + 1])
    return (_STEMS[file.stem], file.parent) if file.stem in _STEMS and len(steps) <= (depth or len(steps)) else None


def _below(folder: Path) -> list[Path]:
    """All pose files in a folder and below, frames in the order of time."""
    files = [
        file
        for file in sorted(folder.rglob("*"), key=natural_path)
        if file.suffix.lower() == ".npz"
        # macOS writes a twin ._name beside each file on other disks; AMASS keeps body shapes beside the motions
        and not (file.name.startswith(".") or file.name == "shape.npz" or file.name.endswith("_stagei.npz"))
    ]
    if not files:
        others = _others(folder)
        if listed := sorted(set(others) & _LISTED):
            fix = f"pass the list of files, sorted(pathlib.Path({str(folder)!r}).rglob('*{listed[0]}'))"
        elif others:
            kind = min(others)
            fix = f"it holds {kind} files: pass one of them, and the message holds the code that writes it as .npz"
        else:
            fix = "give the folder of the data"
        raise ValueError(f"path: expected .npz files with poses in {folder} or below, got none; {fix}.")
    return files


def other_files(folder: Path) -> str | None:
    """What to note of files that may hold poses and that reading a folder leaves out."""
    others = _others(folder) if folder.is_dir() and not split_files(folder) else Counter()
    listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return (
        f"of {folder} the .npz files were read alone, not {listed}: these are read from a list of files"
        if listed
        else None
    )


def _others(folder: Path) -> Counter[str]:
    """How many files of other kinds with poses are in a folder and below, by suffix."""
    found = (file.suffix.lower() for file in folder.rglob("*") if not file.name.startswith("."))
    return Counter(suffix for suffix in found if suffix in _LISTED | _CONVERTED)
