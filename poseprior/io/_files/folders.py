"""Which pose files a folder holds, which of them are train, val and test, and the people whom folders name."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..._text import shown
from .frames import natural_path
from .split_names import SPLITS, mixed, part_of_folder, part_of_stem
from .walk import require_once, walk

#: Kinds of files that may hold poses and that a folder is not searched for, and what to do with them.
_LISTED = dict.fromkeys((".npy", ".pt", ".pth", ".ckpt"), "these are read from a list of files")
_CONVERTED = dict.fromkeys(
    (".pkl", ".pickle", ".pk", ".joblib", ".json"),
    "pass one of them to read_poses, and the message holds the code that writes it as .npz",
)
_OTHERS = {
    **_LISTED,
    **_CONVERTED,
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"), "unpack these first"),
    **dict.fromkeys((".h5", ".hdf5", ".mat"), "write their arrays into an .npz first"),
}


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
        raise ValueError(f"path: expected an .npz file or a folder, got {shown(path)}, which does not exist.")
    if path.is_file():
        if split is not None:
            raise ValueError(
                f"split: expected a folder to find split={split!r} in, got the file {shown(path)}; leave split out."
            )
        return [found_below(path, path.parent, root or path.parent)]
    if not path.is_dir():
        raise ValueError(
            f"path: expected an .npz file or a folder, got {shown(path)}, a pipe or a device; save it as a file."
        )
    parts = split_files(path, root=root)
    if split is not None:
        if split not in parts:
            raise ValueError(
                f"split: expected {split}_poses.npz, hands_{split}.npz or a folder {split} in {shown(path)}, got "
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
        raise ValueError(f"folder: expected a folder with pose files, got {shown(folder)}, which is no folder.")
    files = _below(folder)
    top = {file: found for file in files if (found := _split_of(file, folder, 1)) is not None}
    named = top or {file: found for file in files if (found := _split_of(file, folder, None)) is not None}
    if not top and named and len(named) < len(files):
        odd = next(file for file in files if file not in named)
        raise ValueError(
            f"folder: expected all files in {shown(folder)} to be named train, val or test or none of them, got "
            f"{shown(next(iter(named)))} and {shown(odd)}; give the list of files instead."
        )
    above = root or folder
    parts = {
        name: [found_below(f, base, above) for f, (part, base) in named.items() if part == name] for name in SPLITS
    }
    return {name: found for name, found in parts.items() if found}


def found_below(file: Path, base: Path, root: Path) -> Found:
    """A file, and the people that folders name: those from `root` to the file, but only where some lie below `base`."""
    steps = Path(os.path.abspath(file.parent)).relative_to(os.path.abspath(root)).parts
    name = "/".join(step for step in steps if part_of_folder(step) is None)
    if name:
        return Found(file, likely=name) if file.parent == base else Found(file, person=name)
    parent = file.resolve().parent.name
    return Found(file, likely=None if part_of_folder(parent) else parent)


def _split_of(file: Path, root: Path, depth: int | None) -> tuple[str, Path] | None:
    """The part that a file belongs to by its name or that of a folder above it, looking `depth` levels down.

    With it comes the folder of the part, below which folders name people.
    """
    steps = file.relative_to(root).parts
    for level, step in enumerate(steps[:depth]):
        if level < len(steps) - 1 and (part := part_of_folder(step)) is not None:
            return part, root.joinpath(*steps[: level + 1])
    part = part_of_stem(file.stem)
    return (part, file.parent) if part is not None and len(steps) <= (depth or len(steps)) else None


def _below(folder: Path) -> list[Path]:
    """All pose files in a folder and below, links followed, frames in the order of time."""
    every, twice = walk(folder)
    files = sorted((file for file in every if _has_motion(file)), key=natural_path)
    for again, first in twice:
        if any(file.is_relative_to(first) for file in files):
            raise ValueError(
                f"path: expected each file once below {shown(folder)}, got {shown(first)} and {shown(again)}, which are one "
                "folder; remove the link, or give a list of the folders to read."
            )
    require_once({file: every[file] for file in files}, "path")
    if not files:
        others = _others(every)
        if listed := sorted(set(others) & set(_LISTED)):
            fix = f"pass the list of files, sorted(pathlib.Path({str(folder)!r}).rglob('*{listed[0]}'))"
        elif converted := sorted(set(others) & set(_CONVERTED)):
            fix = f"it holds {converted[0]} files: pass one of them, and the message holds the code that writes it as .npz"
        elif others:
            fix = f"it holds {min(others)} files: {_OTHERS[min(others)]}"
        else:
            fix = "give the folder of the data"
        raise ValueError(f"path: expected .npz files with poses in {shown(folder)} or below, got none; {fix}.")
    return files


def _has_motion(file: Path) -> bool:
    """Whether a file is an `.npz` of poses: macOS writes a twin ._name, and AMASS keeps body shapes beside the motions."""
    shape = file.name == "shape.npz" or file.name.endswith("_stagei.npz")
    return file.suffix.lower() == ".npz" and not (file.name.startswith(".") or shape)


def left_out(folder: Path) -> tuple[str, ...]:
    """What to note of files that may hold poses and that reading a folder leaves out."""
    if not folder.is_dir():
        return ()
    notes = []
    if parts := split_files(folder):
        read = {found.path for part in parts.values() for found in part}
        if unread := [str(file.relative_to(folder)) for file in _below(folder) if file not in read]:
            more = f" and {len(unread) - 4} more" if len(unread) > 4 else ""
            notes.append(
                f"of {shown(folder)} the files named {', '.join(parts)} were read alone, not "
                f"{', '.join(map(shown, unread[:4]))}{more}: give these as a list of files, or name them for their part"
            )
    others = _others(walk(folder)[0])
    for fix in dict.fromkeys(_OTHERS.values()):
        if kinds := [f"{count} {suffix}" for suffix, count in sorted(others.items()) if _OTHERS[suffix] == fix]:
            notes.append(f"of {shown(folder)} the .npz files were read alone, not {', '.join(kinds)}: {fix}")
    return tuple(notes)


def require_no_mixture(folder: Path) -> None:
    """Refuse a folder without named parts in which names say that there are some: `a_train.npz` beside `a_test.npz`."""
    names: dict[Path, set[str]] = defaultdict(set)
    for file in _below(folder):
        names[file.parent].add(file.stem)
        for above in file.relative_to(folder).parents[:-1]:
            names[folder / above.parent].add(above.name)
    for place, inside in names.items():
        if (pair := mixed(sorted(inside))) is not None:
            raise ValueError(
                "folder: expected names that tell train, val and test apart, such as train_poses.npz and test_poses.npz or "
                f"folders train and test, got {shown(pair[0])} and {shown(pair[1])} in {shown(place)}; rename them or move "
                "them into such folders, or read all of them with read_poses if these are no parts."
            )


def _others(files: Iterable[Path]) -> Counter[str]:
    """How many files there are of other kinds that may hold poses, by suffix."""
    found = (file.suffix.lower() for file in files if not file.name.startswith("."))
    return Counter(suffix for suffix in found if suffix in _OTHERS)
