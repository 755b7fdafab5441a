"""`import_poses`: the whole import, over processes, and gone on with where an earlier run was stopped."""

from __future__ import annotations

import contextlib
import shutil
import zlib
from collections import Counter
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .._text import shown
from .._workers import run_jobs
from ..io.atomic import replacing, write_json
from ..io.shards import INDEX, PLAN, read_shards, write_index
from .options import ImportOptions
from .plan import Plan, settle
from .report import ImportReport, count_sources
from .shard import ShardMaker, shard_files, shard_folder
from .sources import Skipped, find_files
from .splits import PARTS

REPORT = "report.json"


def import_poses(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    options: ImportOptions | None = None,
    workers: int = 1,
    progress: bool = True,
) -> ImportReport:
    """A tree of pose files as shards, which `read_poses`, `read_split` and `poseprior train --data` take.

    One recording at a time is in the memory of a worker. A shard is written beside its place and renamed, so a run that
    is killed at any moment leaves whole shards, and a second run with the same arguments makes those that are missing;
    files that are new in the tree get shards of their own.

    Args:
        source: the tree: `AMASS/CMU/01/01_01_poses.npz`, ... Files that hold no poses are left out, and the report says
            why.
        out: a new folder, or that of an earlier run.
        options: which frames are kept, and in which part.
        workers: processes. With more than one a script needs `if __name__ == "__main__":`.
        progress: show a bar.

    Returns:
        `ImportReport`; `report.json` in the folder holds it too.

    Raises:
        ValueError: no pose file in the tree, a folder of something else, other options than those of the earlier run, a
            full disk, or a worker that died. Finished shards are kept.
    """
    options, root, folder = options or ImportOptions(), Path(source), Path(out)
    if root.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(f"out: expected a folder outside of the tree {shown(root)}, got {shown(folder)}.")
    files, skipped = find_files(root)
    plan = settle(folder, root, options, files, skipped)
    missing = [job for job in plan.jobs if not shard_folder(folder, job.number).exists()]
    if missing:
        (folder / INDEX).unlink(missing_ok=True)  # the shards are not finished any more
    make = partial(ShardMaker, root, folder, options)
    done = sum(len(job.files) for job in plan.jobs) - sum(len(job.files) for job in missing)
    with tqdm(total=len(files), initial=min(done, len(files)), unit="file", desc="import", disable=not progress) as bar:
        try:
            for job, _ in run_jobs(make, missing, workers):
                bar.update(len(job.files))
        except ValueError as error:
            whole = sum(shard_folder(folder, job.number).exists() for job in plan.jobs)
            raise ValueError(
                f"import stopped: {str(error).rstrip('.')}. {whole} of {len(plan.jobs)} shards are finished in "
                f"{shown(folder)}; the same command goes on from there."
            ) from error
    return _finish(folder, plan, options, len(missing))


def _remove_plan(folder: Path) -> None:
    """Leave nothing of an import that no file can be used of: other options, which may use them, would be refused."""
    shutil.rmtree(folder / "shards", ignore_errors=True)
    (folder / PLAN).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _finish(folder: Path, plan: Plan, options: ImportOptions, new: int) -> ImportReport:
    """Count, choose the rows of capped sources, and write report and index."""
    facts: list[dict[str, Any]] = []
    shards: dict[str, list[str]] = {part: [] for part in PARTS}
    ranges: dict[str, list[tuple[int, int]]] = {}
    total: Counter[str] = Counter()
    for job in plan.jobs:
        mine = shard_files(folder, job.number)
        facts += mine
        for part in PARTS:
            if any(part in fact["rows"] for fact in mine):
                shards[part].append(f"{job.number:05d}")
        for fact in mine:
            for part, rows in fact["rows"].items():
                if part == "train":
                    ranges.setdefault(fact["source"], []).append((total[part], total[part] + rows))
                total[part] += rows
    parts = {part: names for part, names in shards.items() if names}
    left_out = (*(Skipped(fact["file"], fact["why"]) for fact in facts if "why" in fact), *plan.skipped)
    if not parts:
        _remove_plan(folder)
        raise ValueError(
            f"source: expected files with poses, got none that can be used; the first of {len(left_out)}: "
            f"{shown(left_out[0].name)}: {left_out[0].why}"
        )
    used = {name: sum(stop - start for start, stop in places) for name, places in ranges.items()}
    rows = _capped(ranges, options)
    if rows is None:
        (folder / "rows" / "train.npy").unlink(missing_ok=True)
    else:
        assert options.cap is not None
        used = {name: min(number, options.cap) for name, number in used.items()}
        with replacing(folder / "rows" / "train.npy") as beside, beside.open("wb") as file:
            np.save(file, rows)
    write_index(folder, parts, {"options": options.to_dict(), "context": options.context})
    data = {part: read_shards(folder, {part: names}) for part, names in parts.items()}
    report = ImportReport(
        out=folder,
        rows={part: len(one) for part, one in data.items()},
        people={part: one.num_subjects for part, one in data.items()},
        sources=count_sources(facts, used),
        skipped=left_out,
        notes=dict(Counter(note for fact in facts for note in fact.get("notes", ()))),
        ignored=dict(Counter(key for fact in facts for key in fact.get("ignored", ()))),
        new_shards=new,
    )
    write_json(folder / REPORT, report.to_dict())
    return report


def _capped(ranges: dict[str, list[tuple[int, int]]], options: ImportOptions) -> NDArray[np.int64] | None:
    """Sorted training rows that count; None where all do."""
    if options.cap is None or all(sum(b - a for a, b in places) <= options.cap for places in ranges.values()):
        return None
    chosen = []
    for name, places in ranges.items():
        rows = np.concatenate([np.arange(a, b) for a, b in places])
        rng = np.random.default_rng([options.seed, zlib.crc32(name.encode())])
        chosen.append(rng.permutation(rows)[: options.cap])
    return np.sort(np.concatenate(chosen))
