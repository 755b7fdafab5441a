"""Names of frames in the order of time, and files of one frame each as the recording that they make up."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..._text import shown

_NUMBER = re.compile(r"([0-9]+)")
_DECIMAL = re.compile(r"(.*?)(\d+)\.(\d+)(.*?)", re.DOTALL)
#: The ending of an image file, where it is not the whole name.
_IMAGE_ENDING = re.compile(
    r"(?<=[^/\\])\.(jpe?g|jpe|jfif|png|bmp|gif|tiff?|webp|p[pgbn]m|hei[cf]|avif|jp2|exr)$", re.IGNORECASE
)
#: As many people may be in an image.
_FEW = 10
#: Names of sequences that a note lists.
_LISTED = 4
Key = tuple[str | int, ...]


def natural(text: str) -> tuple[Key, str]:
    """A sort key by which frame 2 comes before frame 10."""
    words: list[str | int] = [int(w) if k % 2 else w.lower() for k, w in enumerate(_NUMBER.split(text))]
    return tuple(words), text


def without_image_ending(name: str) -> str:
    """The name of a frame that has the name of an image file."""
    return _IMAGE_ENDING.sub("", name)


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
        more = ", ..." if len(folders) > 2 else ""
        what = f"the folders {shown(folders[0].name)}, {shown(folders[1].name)}{more} of {shown(above)}"
        example = inside[folders[0]][0]
        if any(len(inside[folder]) == 1 for folder in folders):
            as_named |= {
                path: above / f"{folder.name}_{path.stem}{path.suffix}" for folder in folders for path in inside[folder]
            }
            notes.append((example, (
                f"{what} hold a pose each, under names that come again: they are frames, and no people "
                "(data.with_names(subject=data.frame) if they are)"
            )))  # fmt: skip
        elif len(names) <= _FEW:
            notes.append((example, (
                f"{what} hold {len(inside[folders[0]])} files of one pose each, which were read as its frames: if each folder "
                "is an image of several people, put the files into one folder as "
                f"{shown(folders[0].name)}_{shown(example.name)}, ..."
            )))  # fmt: skip
    return as_named, notes


def in_order(names: Sequence[str], path: Path) -> list[int]:
    """The places of frames in the order of time, by the numbers in their names; 0.033 s is before 0.1 s.

    Raises:
        ValueError: names like 0.5 and 0.25, which are in another order as seconds than as numbers on both sides of a dot.
    """
    by_words = sorted(range(len(names)), key=lambda k: natural(names[k]))
    matches = [_DECIMAL.fullmatch(without_image_ending(name)) for name in names]
    found = [match for match in matches if match is not None]
    if len(found) < max(2, len(names)) or len({(m[1].rstrip("0123456789"), m[4]) for m in found}) > 1:
        return by_words
    fractions = [m[3] for m in found]
    widths = {len(f) for f in fractions}
    if any(any(c.isdigit() for c in m[1] + m[4]) for m in found) or len(widths) == 1:
        return by_words
    by_value = sorted(range(len(names)), key=lambda k: float(f"{found[k][2]}.{found[k][3]}"))
    if any(len(f) > 1 and f[0] == "0" for f in fractions):
        return by_value
    if by_value == by_words or any(len(f) > 1 and f[-1] == "0" for f in fractions):
        return by_words
    first = next(k for k, (one, other) in enumerate(zip(by_value, by_words, strict=True)) if one != other)
    raise ValueError(
        f"path: expected names of frames whose order is plain in {shown(path.name)}, got {names[by_words[first]]!r} and "
        f"{names[by_value[first]]!r}, which may be seconds or numbers on both sides of a dot; number the frames 0, 1, 2, ..."
    )


def order_notes(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """What to note of frames in the order of time: those of several recordings, and numbers that skip."""
    found = numbered([Path(f"{name}.json") for name in names])
    if any(one is None for one in found) or len(found) < 2:
        return ()
    pairs = [one for one in found if one is not None]
    sequences = [(str(Path(name).parent), one[0]) for name, one in zip(names, pairs, strict=True)]
    listed = list(dict.fromkeys(sequences))
    if len(listed) > 1 and 2 * len(listed) > len(names):
        return ()  # every name of its own, no recordings
    if len(listed) > 1:
        several = [name if folder == "." else f"{folder}/{name}" for folder, name in listed]
        few = ", ".join(map(shown, several[:_LISTED])) + (", ..." if len(several) > _LISTED else "")
        return (
            f"the frames of {len(listed)} recordings in {shown(path.name)} ({few}) are read one after the other, as one "
            "person's; put each in a folder or file of its own if they are not",
        )
    steps = [later[1] - one[1] for one, later in itertools.pairwise(pairs)]
    usual = max(sorted(set(steps)), key=steps.count)
    gaps = [k for k, step in enumerate(steps) if step > usual]
    if not gaps or 2 * steps.count(usual) < len(steps) or len(steps) < 2 or usual < 1:
        return ()
    lost = sum(steps[k] // usual - 1 for k in gaps)
    return (
        f"about {lost} frames are not in {shown(path.name)} (the first after {shown(names[gaps[0]])}, before "
        f"{shown(names[gaps[0] + 1])}): the frames beside a gap are taken as neighbours; write the missing ones without a "
        "person if their time counts",
    )
