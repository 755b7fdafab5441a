"""What a pose file says of its rows beside their poses: names, numbers of frames, tracks of people, and flags."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._text import printable
from .._files.array_file import ArrayFile
from .._files.npy import Header
from .keys import FRAMES, SIDES

#: Numbers of people within a video: the rows of each are a recording.
TRACKS = ("track_id", "track_ids", "tracking_id", "person_id", "person_ids")
#: Names of numbers 0 and 1 that say whether a row holds a pose.
_FLAGS = re.compile(r"valid|has_|mask|visib|found|detect|success", re.IGNORECASE)


def first(file: ArrayFile, keys: tuple[str, ...]) -> NDArray[Any] | None:
    """What the file says under one of several names; under two of them it must say the same."""
    found = [key for key in keys if key in file]
    for other in found[1:]:
        one, two = np.atleast_1d(file[found[0]]), np.atleast_1d(file[other])
        if not (len(one) and len(two)) or not np.array_equiv(one, two):
            raise ValueError(
                f"keys '{found[0]}' and '{other}': expected the same under both, got two that differ; pass "
                f"ignore=('{other}',) or ignore=('{found[0]}',)."
            )
    return file[found[0]] if found else None


def per_row(values: NDArray[Any] | None, n: int) -> NDArray[Any] | None:
    """(n,) of a column (n, 1) or a row (1, n); all else as it is."""
    return values.reshape(n) if values is not None and values.ndim == 2 and values.size == n else values


def stored_frames(file: ArrayFile, n: int) -> NDArray[Any] | None:
    """The file's own numbers of its frames; under names of others only where they are integers, one a row."""
    found = []
    for key in FRAMES:
        header = file.headers.get(key)
        if isinstance(header, Header) and (key == FRAMES[0] or (header.dtype.kind in "iu" and _is_column(header, n))):
            found.append(key)
    frames = first(file, tuple(found))
    if frames is not None and frames.dtype.kind in "US":
        example = str(np.ravel(frames)[0]) if frames.size else ""
        raise ValueError(
            f"key '{found[0]}': expected {n} integers, one a row, got text ({example!r}); write its numbers into the file, "
            f"numpy.array([int(re.findall('[0-9]+', str(name).split('.')[0])[-1]) for name in {found[0]}.ravel()]), or pass "
            f"ignore=('{found[0]}',) to count the rows."
        )
    return np.reshape(frames, n) if frames is not None and frames.size == n else frames


def tracks(file: ArrayFile, n: int, sequence: NDArray[Any] | None, path: Path) -> tuple[NDArray[np.str_], str] | None:
    """The recording of each row where a file holds the tracks of several people, and words that say so."""
    headers = ((key, file.headers.get(key)) for key in TRACKS)
    keys = tuple(k for k, h in headers if isinstance(h, Header) and h.dtype.kind in "iuUS" and _is_column(h, n))
    track = per_row(first(file, keys), n)
    if track is None or len(np.unique(track)) < 2:
        return None
    names = np.char.decode(track, "utf-8", "replace") if track.dtype.kind == "S" else track.astype(np.str_)
    base = np.broadcast_to(np.array(path.stem if sequence is None else sequence).astype(np.str_), n)
    count = len(np.unique(names))
    return np.char.add(np.char.add(base, "_"), names), (
        f"the rows of each of the {count} values of '{keys[0]}' are a recording of their own (ignore=('{keys[0]}',) reads them "
        "as one)"
    )


def flag_notes(file: ArrayFile, n: int) -> list[str]:
    """Notes on flags, one a row, that are false somewhere and that nobody read: rows without a pose may be meant."""
    notes = []
    for key, header in file.headers.items():
        name = key.rsplit("/", 1)[-1]
        if not isinstance(header, Header) or key in file.used or name in SIDES or not _is_column(header, n):
            continue
        if header.dtype.kind != "b" and not (header.dtype.kind in "iuf" and _FLAGS.search(name)):
            continue
        flags = file[key].reshape(-1)
        file.used.discard(key)
        if np.isin(flags, (0, 1)).all() and (missing := int((flags == 0).sum())) and n > 1:
            shown = printable(key)
            notes.append(
                f"'{shown}' is false in {missing} of {n} rows and was not read: if these hold no pose, add "
                f"observed=numpy.repeat({shown}.reshape(-1, 1).astype(bool), 55, 1) to the file"
            )
    return notes


def _is_column(header: Header, n: int) -> bool:
    """Whether an array has one number a row."""
    return header.shape in ((n,), (n, 1), (1, n)) or (n == 1 and header.shape == ())
