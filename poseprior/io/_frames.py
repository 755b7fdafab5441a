"""Names of frames in the order of time, and files of one frame each as the recording that they make up."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

_NUMBER = re.compile(r"([0-9]+)")
#: As many people may be in an image.
_FEW = 10
Key = tuple[str | int, ...]


def natural(text: str) -> tuple[Key, str]:
    """A sort key by which frame 2 comes before frame 10."""
    words: list[str | int] = [int(w) if k % 2 else w.lower() for k, w in enumerate(_NUMBER.split(text))]
    return tuple(words), text


def natural_path(path: Path) -> tuple[tuple[Key, str], ...]:
    """The same for paths, folder by folder."""
    return tuple(natural(part) for part in path.parts)


def numbered(paths: Sequence[Path]) -> list[tuple[str, int] | None]:
    """(sequence, frame) of files that are named like the frames of recordings; None for those that are not.

    Of the numbers in a name the one that takes most values counts frames (the first of them, where two do); the others tell
    recordings apart, as a person's number does.
    """
    words = [_NUMBER.split(path.stem) for path in paths]
    families: dict[tuple[Path, tuple[str, ...]], list[int]] = defaultdict(list)
    for k, (path, split) in enumerate(zip(paths, words, strict=True)):
        families[path.parent, tuple(split[0::2])].append(k)
    result: list[tuple[str, int] | None] = [None] * len(paths)
    for (folder, texts), members in families.items():
        if len(members) < 2 or len(texts) < 2:
            continue
        values = [{int(words[k][2 * place + 1]) for k in members} for place in range(len(texts) - 1)]
        place = max(range(len(values)), key=lambda p: len(values[p]))
        for k in members:
            rest = [w for i, w in enumerate(words[k]) if i != 2 * place + 1]
            result[k] = (re.sub(r"[\W_]+", "_", "".join(rest)).strip("_") or folder.name, int(words[k][2 * place + 1]))
    found = [(path.parent, name) for path, name in zip(paths, result, strict=True) if name is not None]
    return result if len(set(found)) == len(found) else [None] * len(paths)


def image_folders(paths: Iterable[Path]) -> tuple[dict[Path, Path], list[tuple[Path, str]]]:
    """Files of one pose in folders of one image, `img_01/000.npz` as SMPLify-X writes, as if they were `img_01_000.npz`.

    Folders are images where their names differ by numbers alone, the same few names of files come again in all of them, and
    some hold a single file. Where none does, they may as well be short recordings, and are taken for those.

    Returns:
        as_named: path as if it lay in the folder above, of each path in a folder of an image.
        notes: a file, and words on what was decided on its folder and those beside it.
    """
    inside: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        inside[path.parent].append(path)
    families: dict[tuple[Path, tuple[str, ...]], list[Path]] = defaultdict(list)
    for folder in inside:
        families[folder.parent, tuple(_NUMBER.split(folder.name)[0::2])].append(folder)
    as_named: dict[Path, Path] = {}
    notes: list[tuple[Path, str]] = []
    for (above, texts), folders in families.items():
        names = {path.stem for folder in folders for path in inside[folder]}
        if len(texts) < 2 or len(names) >= len(folders):
            continue
        shown = f"the folders {folders[0].name}, {folders[1].name}{', ...' if len(folders) > 2 else ''} of {above}"
        example = inside[folders[0]][0]
        if any(len(inside[folder]) == 1 for folder in folders):
            as_named |= {
                path: above / f"{folder.name}_{path.stem}{path.suffix}" for folder in folders for path in inside[folder]
            }
            notes.append((example, (
                f"{shown} hold a pose each, under names that come again: they are frames, and no people "
                "(data.with_names(subject=data.frame) if they are)"
            )))  # fmt: skip
        elif len(names) <= _FEW:
            notes.append((example, (
                f"{shown} hold {len(inside[folders[0]])} files of one pose each, which were read as its frames: if each folder "
                f"is an image of several people, put the files into one folder as {folders[0].name}_{example.name}, ..."
            )))  # fmt: skip
    return as_named, notes
