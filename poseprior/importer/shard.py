"""One job of an import: some files into one shard, written beside its place and then renamed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._text import first_line, shown
from ..io.atomic import new_folder
from ..io.shards import ShardWriter
from .convert import convert
from .options import ImportOptions
from .sources import source_of
from .splits import Part

#: What became of each file of a shard.
FILES = "files.json"


@dataclass(frozen=True)
class Job:
    """Files that make a shard."""

    number: int
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"shard {self.number:05d} ({self.files[0]} to {self.files[-1]})"


@dataclass(frozen=True)
class ShardMaker:
    """Makes shards: called with a `Job`, gives what became of each file, as `shard_files` reads it again.

    Attributes:
        root: the tree.
        out: the folder of the import.
        options: of the import.
    """

    root: Path
    out: Path
    options: ImportOptions

    def __call__(self, job: Job) -> list[dict[str, Any]]:
        folder = shard_folder(self.out, job.number)
        if not folder.exists():
            try:
                with new_folder(folder) as beside:
                    self._write(job, beside)
            except ValueError:
                if not (folder / FILES).exists():  # else a process that outlived its killed parent was quicker
                    raise
        return shard_files(self.out, job.number)

    def _write(self, job: Job, folder: Path) -> None:
        writers: dict[Part, ShardWriter] = {}
        facts = []
        for name in job.files:
            fact: dict[str, Any] = {"file": name, "source": source_of(name), "frames": 0, "rows": {}}
            facts.append(fact)
            try:
                parts, fact["frames"] = convert(self.root, name, fact["source"], self.options)
            except (ValueError, OSError, MemoryError) as error:
                fact["why"] = first_line(error, self.root / name)
                continue
            for part, data in parts.items():
                if part not in writers:
                    writers[part] = ShardWriter(folder / part)
                try:
                    writers[part].append(data)
                except ValueError as error:  # a context of another length
                    fact["why"] = first_line(error)
                    continue
                fact["rows"][part] = len(data)
                fact |= {k: list(v) for k, v in (("notes", data.notes), ("ignored", data.ignored)) if v}
        for writer in writers.values():
            writer.close()
        (folder / FILES).write_text(json.dumps(facts))


def shard_folder(out: Path, number: int) -> Path:
    """Where a shard is."""
    return out / "shards" / f"{number:05d}"


def shard_files(out: Path, number: int) -> list[dict[str, Any]]:
    """What became of each file of a shard.

    Raises:
        ValueError: a shard that is not as it was written.
    """
    path = shard_folder(out, number) / FILES
    try:
        facts: list[dict[str, Any]] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"out: expected a whole shard at {shown(path.parent)}, got a damaged one ({type(error).__name__}); remove it and run "
            "the same again."
        ) from None
    return facts
