"""One pose file into the rows that are kept of it, by part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..io._dataset import columns, thinning
from ..io._files.folders import found_below
from ..io._poses.options import Options
from ..io._recordings import read_recording
from ..io.dataset import PoseDataset
from .options import ImportOptions
from .splits import PARTS, Part, part_of_person, part_of_source


def convert(root: Path, name: str, source: str, options: ImportOptions) -> tuple[dict[Part, PoseDataset], int]:
    """The rows of a file by part, and how many frames the file has.

    Raises:
        ValueError: a file that cannot be read, that does not say its frame rate where one is needed, or of which nothing
            is left.
    """
    reading = Options(
        model_type=options.model_type,
        constant_parts_unobserved=options.constant_parts_unobserved,
        context=options.context,
    )
    found = found_below(root / name, root, root)
    counted: list[int] = []

    def select(n: int, rate: float | None, recording: str) -> NDArray[np.int64]:
        counted.append(n)
        return _frames([(recording, np.arange(n))], None, rate, options)

    data = read_recording(found, reading, fps=options.source_fps, select=select)
    frames = counted[0] if counted else len(data)
    if not counted:
        groups = columns.groups(data._columns.subject, data._columns.sequence, data.frame, len(data))
        rows = _frames(groups, data.frame, data.fps, options)
        if not len(rows):
            raise ValueError(f"nothing is left of its {frames} frames after trimming")
        data = data.select(rows)
    elif options.fps is not None and data.fps is None:
        raise ValueError("it does not say its frame rate (--source-fps gives one)")
    if options.thin:
        data = data.thin(options.thin)
    if data.rig is None:
        data = data.with_names(rig=source)
    return _by_part(data, source, options), frames


def _frames(groups: thinning.Groups, frame: object, rate: object, options: ImportOptions) -> NDArray[np.int64]:
    """Sorted rows that stay of recordings: trimmed at both ends, and thinned to the frame rate."""
    inside = []
    for name, rows in groups:
        cut = int(options.trim * len(rows))
        if len(rows) > 2 * cut:
            inside.append((name, rows[cut : len(rows) - cut]))
    if not inside:
        return np.empty(0, np.int64)
    if options.fps is None:
        return np.sort(np.concatenate([rows for _, rows in inside]))
    if rate is None:
        raise ValueError("it does not say its frame rate (--source-fps gives one)")
    n = max(int(rows[-1]) for _, rows in inside) + 1
    return thinning.subsample(inside, np.arange(n) if frame is None else frame, rate, options.fps, options.seed)


def _by_part(data: PoseDataset, source: str, options: ImportOptions) -> dict[Part, PoseDataset]:
    if options.split != "person" or data.subject is None:
        return {part_of_source(source) if options.split == "amass" else "train": data}
    people = {p: part_of_person(p, options.fractions, options.seed) for p in data.subjects}
    part = np.array([people[p] for p in data.subject.tolist()])
    if len(set(people.values())) == 1:
        return {people[data.subjects[0]]: data}
    return {p: data.select(part == p) for p in PARTS if bool((part == p).any())}
