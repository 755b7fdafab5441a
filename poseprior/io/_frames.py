"""Names of frames in the order of time, and files of one frame each as the recording that they make up."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

_NUMBER = re.compile(r"([0-9]+)")
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
