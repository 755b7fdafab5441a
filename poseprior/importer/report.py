"""What an import kept, and what it left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .sources import Skipped
from .splits import PARTS

_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """Of one sub-dataset.

    Attributes:
        files, frames: that were read.
        rows: kept, by part, before a cap.
        used: training poses that count, after it.
    """

    files: int
    frames: int
    rows: dict[str, int]
    used: int


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import did; `print` shows it as text, `report.json` in the folder has every file.

    Attributes:
        out: the folder.
        rows: poses of each part that a reader gets.
        people: of each part.
        sources: by name.
        skipped: files that were left out.
        notes: what was decided about files, and of how many.
        ignored: arrays that look like rotations and were left unread, and in how many files.
        new_shards: that this run made.
    """

    out: Path
    rows: dict[str, int]
    people: dict[str, int]
    sources: dict[str, SourceCount]
    skipped: tuple[Skipped, ...]
    notes: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    new_shards: int = 0

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it."""
        return {
            "rows": self.rows, "people": self.people, "notes": self.notes, "ignored": self.ignored,
            "sources": {name: vars(count) for name, count in self.sources.items()},
            "skipped": [[one.name, one.why] for one in self.skipped],
        }  # fmt: skip

    def _lines(self) -> Iterator[str]:
        width = max([6, *(len(name) for name in self.sources)])
        yield f"{'source':<{width}} {'files':>7} {'frames':>12} {'train':>11} {'val':>10} {'test':>10}"
        for name, count in sorted(self.sources.items()):
            train = f"{count.used:,}" + ("" if count.used == count.rows.get("train", 0) else "*")
            yield (
                f"{name:<{width}} {count.files:>7,} {count.frames:>12,} {train:>11} "
                f"{count.rows.get('val', 0):>10,} {count.rows.get('test', 0):>10,}"
            )
        capped = [(n, c.rows["train"]) for n, c in sorted(self.sources.items()) if c.used != c.rows.get("train", 0)]
        if capped:
            yield "* a random subset, by the cap, of " + ", ".join(f"{rows:,} ({name})" for name, rows in capped)
        total = ", ".join(f"{part} {self.rows[part]:,} ({self.people[part]:,} people)" for part in self.rows)
        yield f"poses: {total}"
        for reason, names in _by_reason(self.skipped):
            yield f"left out: {len(names):,} that {reason}: {names[0]}{', ...' if len(names) > 1 else ''}"
        for note, number in Counter(self.notes).most_common(_SHOWN):
            yield f"note, {number:,} files: {note}"
        for key, number in Counter(self.ignored).most_common(_SHOWN):
            yield f"left unread, {number:,} files: array '{key}'"


def _by_reason(skipped: tuple[Skipped, ...]) -> list[tuple[str, list[str]]]:
    """The most frequent reasons, and the files of each."""
    found: dict[str, list[str]] = {}
    for one in skipped:
        found.setdefault(one.why, []).append(one.name)
    most = sorted(found.items(), key=lambda item: -len(item[1]))
    rest = [name for _, names in most[_SHOWN:] for name in names]
    return most[:_SHOWN] + ([("have other reasons (report.json)", rest)] if rest else [])


def count_sources(facts: list[dict[str, Any]], used: dict[str, int]) -> dict[str, SourceCount]:
    """Counts of each source, from what became of the files and the training poses that count after the cap."""
    result = {}
    for name in sorted({fact["source"] for fact in facts if "why" not in fact}):
        mine = [fact for fact in facts if fact["source"] == name and "why" not in fact]
        rows: dict[str, int] = {part: sum(fact["rows"].get(part, 0) for fact in mine) for part in PARTS}
        result[name] = SourceCount(
            files=len(mine), frames=sum(fact["frames"] for fact in mine), rows=rows, used=used.get(name, rows["train"])
        )
    return result
