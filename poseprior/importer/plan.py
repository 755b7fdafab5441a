"""Which files go into which shard: settled once, kept beside the shards, and gone on with by a second run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._text import shown
from ..io._files.run_folder import require_new, require_same
from ..io.atomic import write_json
from ..io.shards import PLAN
from .options import FREE_OPTIONS, ImportOptions
from .shard import Job
from .sources import PoseFile, Skipped

#: Bytes of pose files that make a shard, at least and at most.
_LEAST, _MOST = 32 * 2**20, 2**30
#: Shards to aim for, so that workers end together.
_SHARDS = 64


@dataclass(frozen=True)
class Plan:
    """Jobs, and the files that are in none."""

    jobs: tuple[Job, ...]
    skipped: tuple[Skipped, ...]

    @classmethod
    def of(cls, files: list[PoseFile], skipped: list[Skipped], *, first: int = 0) -> Plan:
        """Files in order, cut into jobs of about the same size."""
        size = min(_MOST, max(_LEAST, sum(file.size for file in files) // _SHARDS))
        jobs: list[Job] = []
        names: list[str] = []
        held = 0
        for file in files:
            if names and held + file.size > size:
                jobs.append(Job(first + len(jobs), tuple(names)))
                names, held = [], 0
            names.append(file.name)
            held += file.size
        if names:
            jobs.append(Job(first + len(jobs), tuple(names)))
        return cls(tuple(jobs), tuple(skipped))

    def grown(self, files: list[PoseFile], skipped: list[Skipped]) -> Plan:
        """With jobs for files that are new in the tree."""
        known = {name for job in self.jobs for name in job.files}
        new = Plan.of([file for file in files if file.name not in known], skipped, first=len(self.jobs))
        return replace(new, jobs=self.jobs + new.jobs)


def settle(out: Path, root: Path, options: ImportOptions, files: list[PoseFile], skipped: list[Skipped]) -> Plan:
    """The plan of an import, written to its folder.

    Raises:
        ValueError: a folder that holds something else, or an import of another tree or with other options.
    """
    path = out / PLAN
    asked = {"source": str(root.resolve()), **_binding(options.to_dict())}
    before = 0
    if path.is_file():
        earlier, found = _read(path)
        require_same(out, found, asked, "another import")
        plan, before = earlier.grown(files, skipped), len(earlier.jobs)
    else:
        require_new(out, PLAN, "an import")
        plan = Plan.of(files, skipped)
    if len(plan.jobs) != before:
        jobs = [[job.number, list(job.files)] for job in plan.jobs]
        write_json(path, {"options": asked, "jobs": jobs})
    return plan


def _binding(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in FREE_OPTIONS}


def _read(path: Path) -> tuple[Plan, dict[str, Any]]:
    try:
        stored = json.loads(path.read_text())
        jobs = tuple(Job(int(number), tuple(files)) for number, files in stored["jobs"])
        return Plan(jobs, ()), dict(stored["options"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"out: expected the plan of an import in {shown(path)}, got a damaged one ({type(error).__name__}); remove the "
            "folder and import again."
        ) from None
