"""A folder of files, one result file for each, over processes; a second run makes the results that are missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tqdm import tqdm

from .._checks import check_whole
from .._text import first_line, shown
from .._workers import run_jobs
from ..io._files.run_folder import require_new, require_same
from ..io.atomic import require_writable, write_json
from ..io.shards import INDEX

#: What a run was asked for and what was said of each input, and the inputs that could not be used, beside the results.
ASKED, FAILED = "run.json", "failed.json"
#: Key of the first file with what was said, and how many different lines are shown.
_SAID, _MOST_LINES = "said", 8


class FileTask(Protocol):
    """What is done with a file.

    Attributes:
        suffix: of the result file.
    """

    suffix: ClassVar[str]

    def facts(self) -> Mapping[str, Any]:
        """Everything that decides the results, as JSON takes it."""

    def prepare(self) -> Callable[[Path, Path], list[str] | None]:
        """Called once in each worker; gives what turns an input into its result file, or raises a ValueError.

        What it returns are lines for the user: notes and what is doubtful about this result.
        """


@dataclass(frozen=True, kw_only=True)
class FilesReport:
    """What a run over files did.

    Attributes:
        out: the folder of the results.
        made: results of this run.
        before: results that were there.
        failed: inputs that could not be used, and why; tried again by the next run.
        said: of each result, of earlier runs too, what was noted and what is doubtful.
    """

    out: Path
    made: int
    before: int
    failed: dict[str, str]
    said: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.made:,} results made, {self.before:,} were there"]
        where: dict[str, list[str]] = {}
        for name, texts in self.said.items():
            for text in dict.fromkeys(texts):
                where.setdefault(text, []).append(name)
        for text, names in sorted(where.items(), key=lambda item: -len(item[1]))[:_MOST_LINES]:
            lines.append(f"{text} ({names[0]}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''})")
        if len(where) > _MOST_LINES:
            lines.append(f"{len(where) - _MOST_LINES:,} more such lines: {shown(self.out / ASKED)}")
        if self.failed:
            name, why = next(iter(self.failed.items()))
            lines.append(f"{len(self.failed):,} inputs left out ({shown(self.out / FAILED)}): {shown(name)}: {why}")
        return "\n".join(lines)


def run_files(
    task: FileTask, inputs: Path, out: Path, *, workers: int = 1, suffixes: Sequence[str] = (".npz",), progress: bool = True
) -> FilesReport:  # fmt: skip
    """Do a task with every file below a folder.

    A result has the path of its input below `out`, and its name with the task's suffix added. It is written beside its
    place and renamed, so a run that is killed leaves whole results, and the same call makes the missing ones.

    Args:
        task: what to do: `ScoreFile`, `CompleteFile`, `CheckFile`.
        inputs: the folder. A folder below it that holds `.json` files is one input where `.json` is among `suffixes`: the
            frames of a recording.
        out: a new folder, or that of an earlier run of the same task.
        workers: processes. With more than one a script needs `if __name__ == "__main__":`.
        suffixes: of the inputs.
        progress: show a bar.

    Raises:
        ValueError: a folder without such files, results of another task, a full disk, a worker that died, or no result at
            all. Results that were made are kept.
    """
    check_whole("workers", workers, least=1)
    names = find_inputs(inputs, suffixes)
    if inputs.resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(
            f"out: expected a folder outside of {shown(inputs)}, whose files are the inputs, got {shown(out)}."
        )
    asked, said = _settle(out, {"task": type(task).__name__, "inputs": str(inputs.resolve()), **task.facts()})
    missing = [name for name in names if not (out / f"{name}{task.suffix}").exists()]
    failed: dict[str, str] = {}
    made = 0
    work = partial(_each, task, inputs, out)
    try:
        with tqdm(total=len(names), initial=len(names) - len(missing), unit="file", disable=not progress) as bar:
            for name, (why, lines) in run_jobs(work, missing, workers):
                bar.update()
                said.pop(name, None)
                if why is None:
                    made += 1
                    said |= {name: lines} if lines else {}
                else:
                    failed[name] = why
    except ValueError as error:
        kept = len(names) - len(missing) + made
        raise ValueError(
            f"stopped: {str(error).rstrip('.')}. {kept} of {len(names)} results are in {shown(out)}; the same command goes on."
        ) from error
    finally:
        if missing:
            write_json(out / ASKED, {**asked, _SAID: said} if said else asked)
    if failed:
        write_json(out / FAILED, failed)
    else:
        (out / FAILED).unlink(missing_ok=True)
    if len(failed) == len(names):
        name, why = next(iter(failed.items()))
        raise ValueError(
            f"{shown(inputs)}: expected files that can be used, got none in {len(names)}; the first, {shown(name)}: {why}"
        )
    return FilesReport(out=out, made=made, before=len(names) - len(missing), failed=failed, said=said)


def find_inputs(folder: Path, suffixes: Sequence[str]) -> list[str]:
    """Paths of the inputs below a folder, sorted.

    Raises:
        ValueError: no folder, shards, or no input.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{shown(folder)}: expected a folder of files with --workers, got none; leave --workers out for a file."
        )
    if (folder / INDEX).exists():
        raise ValueError(
            f"{shown(folder)}: expected a folder of files, got shards; poseprior.scale.score takes a Ray data set."
        )
    found = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or path.suffix.lower() not in suffixes or path.is_dir():
            continue
        frames = path.suffix.lower() == ".json" and len(name.parts) > 1
        found.add((name.parent if frames else name).as_posix())
    if not found:
        raise ValueError(f"{shown(folder)}: expected {' or '.join(suffixes)} files, got none.")
    return sorted(found)


@dataclass(frozen=True)
class _EachFile:
    """Makes the result of an input; gives why not where the input cannot be used, and what was said of it."""

    work: Callable[[Path, Path], list[str] | None]
    inputs: Path
    out: Path
    suffix: str

    def __call__(self, name: str) -> tuple[str | None, list[str]]:
        target = self.out / f"{name}{self.suffix}"
        require_writable(target)  # a full disk or a folder that may not be written ends the run
        try:
            return None, self.work(self.inputs / name, target) or []
        except ValueError as error:
            if "cannot write" in str(error).strip().partition("\n")[0]:
                raise
            return first_line(error, self.inputs / name), []


def _each(task: FileTask, inputs: Path, out: Path) -> _EachFile:
    return _EachFile(task.prepare(), inputs, out, task.suffix)


def _settle(out: Path, asked: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Write what is asked for, or refuse a folder of something else; gives both, and what earlier runs said."""
    path = out / ASKED
    asked = json.loads(json.dumps(asked))
    if not path.is_file():
        require_new(out, ASKED, "an earlier run")
        write_json(path, asked)
        return asked, {}
    try:
        found = dict(json.loads(path.read_text()))
        said = dict(found.pop(_SAID, {}))
    except (OSError, ValueError) as error:
        raise ValueError(f"out: {shown(path)} cannot be read ({type(error).__name__}); give another folder.") from None
    require_same(out, found, asked, "other results")
    return asked, said
