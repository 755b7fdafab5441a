"""Pose files as data sets: whose they are, which recording and frame they are of, and what was measured in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._text import shown
from ._files.array_file import ArrayFile
from ._files.folders import Found
from ._files.frames import image_folders, numbered
from ._files.npy import Header
from ._files.open_any import open_any
from ._poses.context import every_row, file_context
from ._poses.doubts import doubts
from ._poses.finite import require_finite, wrapped
from ._poses.groups import choose_group, is_inside
from ._poses.keys import AMASS_KEYS, FRAMES, PARTS, RATES, SEQUENCES, SUBJECTS, WHOLE, unused_rotations
from ._poses.masks import without_unmeasured
from ._poses.options import Options
from ._poses.row_labels import TRACKS, first, flag_notes, per_row, stored_frames, tracks
from ._poses.rows import Rows, read_rows
from .dataset import PoseDataset

#: Rows from their number, their frame rate and the name of the recording.
Select = Callable[[int, float | None, str], NDArray[np.int64]]
#: More rows than this are no joints, coefficients or other things that an array may hold.
_UNAMBIGUOUS = 200


@dataclass
class _Read:
    """One file: its rows, and what it says of them."""

    path: Path
    file: ArrayFile
    rows: Rows
    subject: Any
    sequence: Any
    frame: Any
    fps: Any
    rig: Any
    context: NDArray[np.float32] | None
    person: str | None = None  #: whom the folders name, where `subject` is from there


def read_recordings(
    files: list[Found], options: Options, subject: str | None, fps: float | None, target_fps: float | None
) -> list[PoseDataset]:
    """A data set of each file, or of each recording where the files are frames."""
    made: dict[int, PoseDataset] = {}
    single: list[tuple[int, _Read]] = []

    def finish(place: int, reads: list[_Read]) -> None:
        part = _dataset(reads, options)
        made[place] = part if target_fps is None else _at_rate(part, target_fps, reads[0])

    for place, found in enumerate(files):
        read = _read(found, options, subject, fps)
        if len(read.rows.pose) == 1 and read.sequence is None and len(files) > 1:
            single.append((place, read))
        else:
            finish(place, [read])
    as_named, notes = image_folders([read.path for _, read in single])
    frames: dict[Path, list[tuple[int, _Read]]] = defaultdict(list)
    for place, read in single:
        read.rows.notes += tuple(note for path, note in notes if path == read.path)
        if read.path in as_named and read.person is not None:  # the last folder is an image
            read.subject = read.person.rpartition("/")[0] or None
        frames[as_named.get(read.path, read.path).parent].append((place, read))
    for together in frames.values():
        for members in _frames_of_recordings(together, [as_named.get(read.path, read.path) for _, read in together]):
            finish(members[0][0], [read for _, read in members])
    return [made[place] for place in sorted(made)]


def _frames_of_recordings(single: list[tuple[int, _Read]], paths: list[Path]) -> list[list[tuple[int, _Read]]]:
    """Files of one pose in a folder, with their places, by the recording that their names say they are of."""
    names = numbered(paths)
    recordings: dict[str, list[tuple[int, _Read]]] = defaultdict(list)
    ranks = {number: k for k, number in enumerate(sorted({name[1] for name in names if name is not None}))}
    too_long = any(number >= 2**63 for number in ranks)
    for k, (place, read) in enumerate(single):
        name = names[k]
        if name is not None:
            number = ranks[name[1]] if too_long else name[1]
            read.sequence = name[0]
            read.frame = number if read.frame is None else read.frame
        recordings[str(place) if name is None else f"{name[0]!r}"].append((place, read))
    if too_long:
        note = "the numbers in the names of its files have more than 18 digits: the frames are counted in their order, from 0"
        single[0][1].rows.notes += (note,)
    if any(names) and len(recordings) > 1:
        each = [
            repr(read.path.stem if read.sequence is None else read.sequence) for ((_, read), *_) in recordings.values()
        ]
        kinds = ", ".join(each[:3]) + (", ..." if len(each) > 3 else "")
        note = f"the numbers in the names of its files make {len(recordings)} recordings of the folder: {kinds}"
        single[0][1].rows.notes += (note,)
    return list(recordings.values())


def _at_rate(part: PoseDataset, target_fps: float, read: _Read) -> PoseDataset:
    """At most `target_fps` frames a second of the recordings of a file; one pose needs no rate."""
    if len(part) == 1:
        return part
    if part.fps is None or bool(np.isnan(part.fps).any()):
        got = "none" if part.fps is None else "none for some of the poses"
        fix = (
            "fps= for files that do not say"
            if part.fps is None
            else "ignore=(NAME,) for the array that holds it, and fps="
        )
        raise ValueError(
            f"target_fps: expected files that say their frame rate, got {got} in {shown(read.path)}; pass {fix}, or leave the "
            "file out."
        )
    try:
        return part.subsample(target_fps)
    except ValueError as error:
        raise _told(read.path, read.file, error) from None


def read_recording(
    found: Found, options: Options, *, fps: float | None = None, select: Select | None = None
) -> PoseDataset:
    """A data set of one file, or of the rows of it that `select` chooses before anything is worked out of them.

    Args:
        found: the file.
        options: of reading.
        fps: frame rate of files that do not say.
        select: gives the rows of a recording from their number, their frame rate (None where unknown) and the name of the
            recording. Files of several recordings, and of no more than 200 rows, are read whole: select from the result.

    Returns:
        The data set; `frame` counts in the recording as it is in the file.
    """
    return _dataset([_read(found, options, None, fps, select)], options)


def _read(
    found: Found, options: Options, subject: str | None, fps: float | None, select: Select | None = None
) -> _Read:
    path = found.path
    everything = open_any(path)
    file = everything
    try:
        file, skipped = choose_group(everything, options)
        rate: Any = first(file, RATES)
        if rate is None or bool(np.all(np.asarray(rate) == fps)):
            rate = fps
            options.applied.add("fps")
        chosen = None if select is None else _choose(file, rate, path.stem, select)
        if chosen is not None:
            file = file.rows(*chosen)
        context = None if options.context is None else file_context(file, options.context)
        rows = read_rows(file, options)
        outside = _outside(everything, file)
        rows.ignored = (*skipped, *rows.ignored, *outside)
        n = len(rows.pose)
        person = subject if subject is not None else per_row(first(file, SUBJECTS), n)
        if person is None and "sitting" in file:  # prefixed: sitting 2 is not the subject 2 of another file
            person = np.char.add("sitting", file["sitting"].astype(np.str_))
        folder = _folder_subject(found, file) if person is None else None
        sequence = per_row(first(file, SEQUENCES), n)
        if (apart := tracks(file, n, sequence, path)) is not None:
            sequence = apart[0]
            rows.notes += (apart[1],)
        if not rows.told:
            rows.notes += tuple(flag_notes(file, n))
        return _Read(
            path, everything, rows, folder if person is None else person, sequence,
            stored_frames(file, n) if chosen is None else chosen[0], per_row(rate, n) if isinstance(rate, np.ndarray) else rate,
            per_row(file.get("rig"), n), None if context is None else every_row(context, options.context or "", n), folder,
        )  # fmt: skip
    except ValueError as error:
        raise _told(path, everything, error, file) from None


def _choose(
    file: ArrayFile, rate: Any, name: str, select: Select
) -> tuple[NDArray[np.int64], int] | None:  # fmt: skip
    """The rows to read and how many there are; None for a file that is to be read whole."""
    key = next((k for k in (*WHOLE, *PARTS["body_pose"]) if isinstance(file.headers.get(k), Header)), None)
    if (
        key is None
        or any(k in file for k in (*SEQUENCES, *FRAMES, *TRACKS))
        or np.size(1.0 if rate is None else rate) != 1
    ):
        return None
    n = file.headers[key].shape[0]  # type: ignore[union-attr]
    if n <= _UNAMBIGUOUS:
        return None
    rows = select(n, None if rate is None else float(np.asarray(rate).ravel()[0]), name)
    return (rows, n) if len(rows) else None


def _outside(everything: ArrayFile, group: ArrayFile) -> tuple[str, ...]:
    """Rotations in the other dicts of a file."""
    if not group.prefix:
        return ()
    return unused_rotations(everything.without([key for key in everything if is_inside(key, group.prefix)]))


def _told(path: Path, file: ArrayFile, error: ValueError, group: ArrayFile | None = None) -> ValueError:
    text = str(error).rstrip()
    prefix = "" if group is None else group.prefix
    for key in group if group is not None and prefix else ():
        if key in file and prefix + key in file:  # the name alone is that of the array outside
            text = text.replace(f"ignore=({key!r},)", f"ignore=({prefix + key!r},)")
    start = "" if text.startswith(shown(path)) else f"{shown(path)}: "
    gap = "\n" if "\n" in text else " "  # code that converts a file ends on a line of its own
    return ValueError(f"{start}{text}{gap}The file holds {file.contents()}; ignore=(NAME,) leaves an array out.")


def _dataset(reads: list[_Read], options: Options) -> PoseDataset:
    """The rows of one recording, in one file or in a file for each frame."""
    path = reads[0].path
    dtype = torch.float64 if any(r.rows.pose.dtype == torch.float64 for r in reads) else torch.float32
    pose = reads[0].rows.pose if len(reads) == 1 else torch.cat([r.rows.pose.to(dtype) for r in reads])
    mask = torch.cat([r.rows.mask for r in reads])
    notes = [note for r in reads for note in r.rows.notes]
    imputed = None
    if any(r.rows.imputed is not None for r in reads):
        parts = [torch.zeros_like(r.rows.mask) if r.rows.imputed is None else r.rows.imputed for r in reads]
        imputed = torch.cat(parts)
    if options.constant_parts_unobserved and not any(r.rows.told for r in reads):
        mask, said = without_unmeasured(pose, mask, _recording(reads, len(pose)))
        notes += said
    notes += doubts(pose, mask)
    try:
        require_finite(pose, mask, reads[0].rows.keys)
        pose = pose.masked_fill(~mask[..., None], 0.0)
        n, alone = len(pose), len(reads) == 1
        data = PoseDataset(
            wrapped(pose).float(),
            mask,
            subject=_column(reads, "subject"),
            sequence=path.stem if reads[0].sequence is None else _column(reads, "sequence"),
            fps=_column(reads, "fps"),
            frame=(np.arange(n) if reads[0].sequence is None and reads[0].frame is None else reads[0].frame)
            if alone
            else np.concatenate([np.atleast_1d(np.asarray(r.frame)) for r in reads]),
            rig=_column(reads, "rig"),
            imputed=imputed,
            context=_contexts(reads),
        )
    except ValueError as error:
        raise _told(path, reads[0].file, error) from None
    ignored = dict.fromkeys(key for r in reads for key in r.rows.ignored)
    return data._noted(tuple(ignored), tuple(dict.fromkeys(notes)))


def _recording(reads: list[_Read], n: int) -> NDArray[np.int64] | None:
    """(n,) number of the recording of each row where there may be several: it is a person's, so two may use one name."""
    names = [_column(reads, name) for name in ("subject", "sequence")]
    codes = [np.unique(name, return_inverse=True)[1].reshape(-1) for name in names if np.shape(name) == (n,)]
    if not codes or n < 2:
        return None
    return np.unique(np.stack(codes, 1), axis=0, return_inverse=True)[1].reshape(-1)


def _contexts(reads: list[_Read]) -> NDArray[np.float32] | None:
    """(N, C) of one file, or joined from the files of single frames."""
    parts = [read.context for read in reads if read.context is not None]
    if len({part.shape[1] for part in parts}) > 1:
        raise ValueError(
            f"context: expected one length in the frames of a recording, got {sorted({p.shape[1] for p in parts})}."
        )
    return np.concatenate(parts) if parts else None


def _column(reads: list[_Read], name: str) -> Any:
    """A column of one file, or joined from the files of single frames."""
    values = [getattr(read, name) for read in reads]
    if len(reads) == 1 or all(value is None for value in values):
        return values[0]
    if name == "fps":
        return [np.nan if value is None else float(np.asarray(value).ravel()[0]) for value in values]
    return [
        "unknown" if v is None else v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v)
        for v in (None if value is None else np.asarray(value).ravel().tolist()[0] for value in values)
    ]


def _folder_subject(found: Found, file: ArrayFile) -> str | None:
    """Name of the person from the folders of an AMASS tree."""
    return found.likely if found.person is None and any(k in file for k in AMASS_KEYS) else found.person
