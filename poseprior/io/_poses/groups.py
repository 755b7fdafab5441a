"""Dicts in a file: the one whose poses are read, with what stands above it, or dicts of single frames put together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._text import printable
from .._files.array_file import MASKS, ArrayFile, is_pickle
from .._files.frames import in_order, numbered, without_image_ending
from .._files.npy import Header
from .keys import FRAMES, ONCE, SEQUENCES, SHARED, can_be_poses, has_poses, is_one_pose, looks_like_rotations
from .options import Options

#: Names that a message lists.
_SHOWN = 6

#: Names of the arrays of each dict, by the name of the dict; the top level is "".
_Dicts = Mapping[str, Sequence[str]]


def choose_group(everything: ArrayFile, options: Options) -> tuple[ArrayFile, tuple[str, ...]]:
    """The arrays to read, and the names of those that `ignore` left out.

    Names in `ignore` are those of the file, or those within the group.

    Raises:
        ValueError: no such group, several with poses, or a mask that belongs to none of the poses.
    """
    skipped = tuple(key for key in options.ignore if key in everything)
    file = everything.without(skipped)
    dicts = _dicts(file)
    name = _only(file, dicts) if options.group is None else options.group
    shared = SHARED if options.context is None else (*SHARED, options.context)
    if "*" in name and name not in dicts:
        names = _matching(dicts, name, file.path)
        star = name.split("/").index("*")
        places = {n.split("/")[star]: _places(file, dicts, n, shared, range(star + 1, n.count("/") + 1)) for n in names}
        above = _places(file, dicts, name, shared, range(star + 1))
        inside = tuple(k for k in options.ignore if k not in skipped and any(k in found for found in places.values()))
        chosen = _frames(file, places, above, name, {*shared, *MASKS}, inside)
        read = {*above.values(), *(place for found in places.values() for place in found.values())}
    else:
        if name not in dicts and name:
            shown = [n for n in sorted(dicts) if n]
            raise ValueError(
                f"group: expected one of {_listed(shown, ', ') or 'none, as there are none'}, got {options.group!r}."
            )
        own = _places(file, dicts, name, shared, range(name.count("/") + 1) if name else ())
        if options.context is not None and options.context in file:
            own.setdefault(options.context, options.context)
        inside = tuple(key for key in options.ignore if key not in skipped and key in own)
        chosen = file.choose(own, f"{name}/" if name else "").without(inside)
        read = set(own.values())
    _require_masks(file, dicts, read)
    options.applied.update(f"ignore={key!r}" for key in (*skipped, *inside))
    return chosen, (*skipped, *inside)


def is_inside(key: str, prefix: str) -> bool:
    """Whether an array is one of a group, or of the groups of frames `a/*/`."""
    return re.match(re.escape(prefix).replace(r"\*", "[^/]+"), key) is not None


def _dicts(file: ArrayFile) -> _Dicts:
    dicts = defaultdict(list)
    for key in file:
        name, _, last = key.rpartition("/")
        dicts[name].append(last)
    return dict(dicts)


def _full(name: str, key: str) -> str:
    return f"{name}/{key}" if name else key


def _places(file: ArrayFile, dicts: _Dicts, name: str, shared: Sequence[str], levels: Sequence[int]) -> dict[str, str]:
    """Place in the file of each array of a group: its own, and the shared ones of the dicts at `levels` above it.

    A mask above the group is one of its poses, unless the dict that it stands in has poses of its own.
    """
    places: dict[str, str] = {}
    for level in levels:
        above = "/".join(name.split("/")[:level])
        found = shared if has_poses(dicts.get(above, ())) else (*shared, *MASKS)
        places |= {key: _full(above, key) for key in found if _full(above, key) in file}
    start = f"{name}/" if name else ""
    return places | {key[len(start) :]: key for key in file if key.startswith(start)}


def _only(file: ArrayFile, dicts: _Dicts) -> str:
    """Name of the only dict with poses; the top level where there is none."""
    names = sorted(name for name, keys in dicts.items() if has_poses(keys))
    if len(names) > 1:  # a camera's `pose`, say
        likely = [name for name in names if any(can_be_poses(k, file.headers[_full(name, k)]) for k in dicts[name])]
        names = likely or names
    if len(names) > 1:
        shown = ["group='' (the top level)"] if names[0] == "" else []
        shown += [f"group={name!r}" for name in names if name]
        stars = [f"group={star!r}" for star in _stars(file, dicts, names)]
        frames = f"; {' or '.join(stars)} reads all dicts of such names as the frames of one recording" if stars else ""
        raise ValueError(f"expected one dict with poses, got {len(names)}; pass {_listed(shown, ' or ')}{frames}.")
    return names[0] if names else ""


def _stars(file: ArrayFile, dicts: _Dicts, names: Sequence[str]) -> list[str]:
    """Names with a `*` for the number of a frame, of the groups of one pose each that they stand for.

    The place of the `*` is that of the name with the most groups: others may be of people who are not in every frame.
    """
    stars: dict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = name.split("/")
        for place, part in enumerate(parts):
            if re.search("[0-9]", part):
                stars["/".join((*parts[:place], "*", *parts[place + 1 :]))].append(name)
    most = max(stars, key=lambda star: len(stars[star]), default="*").split("/").index("*")
    found = []
    for star, members in stars.items():
        if len(members) < 2 or star.split("/").index("*") != most:
            continue
        poses = [
            {k: file.headers[_full(n, k)] for k in dicts[n] if can_be_poses(k, file.headers[_full(n, k)])}
            for n in members
        ]
        shapes = {tuple(sorted((k, getattr(h, "shape", ())) for k, h in p.items())) for p in poses}
        if len(shapes) == 1 and all(is_one_pose(shape) for _, shape in next(iter(shapes))):
            found.append(star)
    return found[:_SHOWN]


def _matching(dicts: _Dicts, name: str, path: Path) -> list[str]:
    """Dicts that a name with one `*` stands for, in the order of time."""
    if name.split("/").count("*") != 1 or name.count("*") != 1:
        raise ValueError(f"group: expected one '*' in the place of a whole name, as in 'frames/*/smpl', got {name!r}.")
    found = [n for n in dicts if n and is_inside(f"{n}/", f"{name}/") and n.count("/") == name.count("/")]
    if not found:
        shown = _listed([n for n in sorted(dicts) if n], ", ")
        raise ValueError(f"group: expected a name that fits one of {shown or 'none'}, got {name!r}.")
    return [found[k] for k in in_order(found, path)]


def _frames(
    file: ArrayFile, frames: Mapping[str, Mapping[str, str]], above: Mapping[str, str], name: str,
    needed: Collection[str], ignore: Sequence[str],
) -> ArrayFile:  # fmt: skip
    """Dicts of one frame each as one of arrays (N, ...), and what stands above them all.

    An array that some frames lack, or that has several shapes, is left out, unless it is needed or looks like rotations.

    Args:
        file: that holds them.
        frames: for each frame, the place in the file of each of its arrays.
        above: places of the arrays that stand once for all frames.
        name: of the group, with a `*` for the frame.
        needed: names of arrays that are refused rather than left out.
        ignore: names of arrays that are left out whatever they are.
    """
    headers: dict[str, Header | str] = {}
    loads: dict[str, Callable[[], NDArray[Any]]] = {}
    for key in dict.fromkeys(key for found in frames.values() for key in found if key not in ignore):
        places = {frame: found[key] for frame, found in frames.items() if key in found}
        found = {frame: file.headers[place] for frame, place in places.items()}
        readable = {frame: h for frame, h in found.items() if isinstance(h, Header) and not is_pickle(h)}
        must = key in needed or looks_like_rotations(key, next(iter(found.values())))
        if len(found) < len(frames):
            if must:
                lacking = next(frame for frame in frames if frame not in found)
                raise _refusal(key, f"it in every frame of {name!r}", f"none in {printable(lacking)!r}")
        elif len(readable) < len(frames):
            headers[key] = next(h for frame, h in found.items() if frame not in readable)  # reading it says why
        elif key in ONCE:
            headers[key], loads[key] = _in_memory(_the_same(file, key, list(places.values()), name))
        elif len(kinds := _kinds(readable)) == 1:
            headers[key], loads[key] = _stacked_header(readable.values()), partial(_stack, file, list(places.values()))
        elif must:
            got = " and ".join(f"{kind} in {printable(frame)!r}" for kind, frame in list(kinds.items())[:2])
            raise _refusal(key, f"one shape in all frames of {name!r}, a pose each", got)
    for key, place in above.items():
        if key not in headers and key not in ignore:
            headers[key], loads[key] = file.headers[place], partial(file.__getitem__, place)
    for key, row in _numbers(list(frames)).items():
        if not any(other in headers for other in (FRAMES if key == "frame" else SEQUENCES)):
            headers[key], loads[key] = _in_memory(row)
    return ArrayFile(file.path, headers, lambda key: loads[key](), f"{name}/", file.kind)


def _the_same(file: ArrayFile, key: str, places: Sequence[str], name: str) -> NDArray[Any]:
    """An array that says the same in all frames."""
    first, *others = (file[place] for place in places)
    if not all(np.array_equal(first, other) for other in others):
        raise _refusal(key, f"the same in every frame of {name!r}", "several that differ")
    return first


def _kinds(headers: Mapping[str, Header]) -> dict[str, str]:
    """The first frame of each shape, and of text beside numbers."""
    kinds: dict[str, str] = {}
    for frame, header in headers.items():
        kinds.setdefault(f"{header.shape}{' of text' if header.dtype.kind in 'SU' else ''}", frame)
    return kinds


def _stacked_header(headers: Collection[Header]) -> Header:
    """Of the array that `_stack` makes of arrays of one shape."""
    shape = next(iter(headers)).shape
    dtype = np.result_type(*{header.dtype for header in headers})
    return Header((len(headers), *(shape[1:] if shape[:1] == (1,) else shape)), dtype, False, 0)


def _stack(file: ArrayFile, places: Sequence[str]) -> NDArray[Any]:
    """(N, ...) of the arrays of N frames, each without a first axis of length 1."""
    rows = [file[place] for place in places]
    return np.stack([row[0] if row.shape[:1] == (1,) else row for row in rows])


def _in_memory(array: NDArray[Any]) -> tuple[Header, Callable[[], NDArray[Any]]]:
    return Header(array.shape, array.dtype, False, 0), lambda: array


def _numbers(names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """`frame`, and `sequence` where other numbers in the names tell recordings apart; nothing for names without numbers."""
    plain = [without_image_ending(name) for name in names]
    found = [pair for pair in numbered([Path(f"{name}.npz") for name in plain]) if pair is not None]
    if len(found) < len(names) or any(re.search(r"[0-9]\.[0-9]", name) for name in plain):  # 0.25 s has no number
        return {}
    sequences = [sequence for sequence, _ in found]
    row: dict[str, NDArray[Any]] = {"frame": np.array([frame for _, frame in found])}
    return row | ({"sequence": np.array(sequences)} if len(set(sequences)) > 1 else {})


def _refusal(key: str, wanted: str, got: str) -> ValueError:
    return ValueError(
        f"key {key!r}: expected {wanted}, got {got}; name one dict with group=, or pass ignore=({key!r},)."
    )


def _require_masks(file: ArrayFile, dicts: _Dicts, read: set[str]) -> None:
    """Refuse a mask that nothing reads, and that is not of other poses in the file."""
    for name, keys in dicts.items():
        unread = [key for key in keys if key in MASKS and _full(name, key) not in read]
        if unread and not has_poses(keys):
            place = _full(name, unread[0])
            raise ValueError(
                f"key {printable(place)!r}: expected a mask in the dict of the poses that are read, or above it, got one that "
                f"none of them uses; save it there, or pass ignore=({place!r},)."
            )


def _listed(names: Sequence[str], between: str) -> str:
    more = f" (or another of the {len(names)})" if len(names) > _SHOWN else ""
    return between.join(names[:_SHOWN]) + more
