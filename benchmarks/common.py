"""What several benchmarks need: where the data is, priors that are trained once, tables, files and timing."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import poseprior
from poseprior import FitConfig, PoseDataset, PosePrior

#: Tangent noise under which held-out densities are measured, radians.
JITTER = 0.02
#: The folder that holds `body/` and `hands/`, where none is named on the command line.
DATA = Path(os.environ.get("POSEPRIOR_DATA") or "../shared/data")


def parser_for(description: str | None, *, data: bool = True) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring and, with `data`, takes `--data`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if data:
        parser.add_argument(
            "--data",
            type=Path,
            default=DATA,
            help="folder with body/ and hands/; default $POSEPRIOR_DATA, else ../shared/data",
        )
    return parser


# Priors


def file_stem(title: str) -> str:
    """A row's title as the name of a file."""
    return title.replace(",", "").replace(" ", "-").lower()


def train_once(
    path: Path,
    build: Callable[[], PosePrior],
    splits: Callable[[], Mapping[str, PoseDataset]],
    options: Mapping[str, Any] | None = None,
) -> PosePrior:
    """The prior in `path`, trained first if there is none; an interrupted training goes on where it stopped.

    Args:
        path: the weights; delete the file to train anew.
        build: the untrained prior.
        splits: reads "train" and "val"; called only to train.
        options: fields of `FitConfig` that differ from the model's own defaults.

    Raises:
        SystemExit: the training was interrupted.
    """
    if not path.exists():
        prior, data = build(), splits()
        checkpoint = path.with_suffix(".checkpoint")
        config = FitConfig(**(options or {}))
        if config.resolve(prior.default_fit).max_steps > 0:  # a closed form has no checkpoints
            config = replace(config, checkpoint_dir=str(checkpoint))
        if prior.fit(data["train"], val=data["val"], config=config).stopped == "interrupted":
            # `fit` returns the best weights so far; saving them would pass them off as trained.
            sys.exit("interrupted: run the same command again to go on")
        path.parent.mkdir(parents=True, exist_ok=True)
        prior.save(path)
        shutil.rmtree(checkpoint, ignore_errors=True)
    return poseprior.load(path)


# Files and tables


def measure_once(path: Path, conditions: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The numbers stored in `path` if they were measured under the same conditions, else measured now and stored.

    Args:
        path: a JSON file.
        conditions: whatever the numbers depend on, as JSON has it; stored with them as "conditions".
        measure: computes the numbers.
    """
    if path.exists():
        stored = json.loads(path.read_text())
        if stored.get("conditions") == conditions:
            return stored
    write_json(path, {"conditions": conditions, **measure()})
    return json.loads(path.read_text())


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a whole file or leave the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(text)
    unfinished.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Write numbers and names as JSON, a whole file or none."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, ending in a newline."""
    return "\n".join([markdown_head(head), *map(markdown_row, rows)]) + "\n"


def markdown_head(head: Sequence[str]) -> str:
    """The first two lines of a Markdown table, for one that is printed row by row."""
    return f"{markdown_row(head)}\n|{'---|' * len(head)}"


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


# Timing


def median_ms(step: Callable[[], object], *, seconds: float = 2.0, least: int = 15) -> float:
    """Median wall time of `step` in milliseconds, after three calls to warm up.

    Args:
        step: what is timed.
        seconds: call it for at least this long.
        least: and at least this often.
    """
    for _ in range(3):
        step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def processor_ms(step: Callable[[], object], *, seconds: float = 2.0) -> float:
    """Processor time of `step` in milliseconds, after one call to warm up: other processes on the machine disturb it little.

    The fastest tenth of the calls ends here; of a slow step the faster of two calls counts, or the only one.

    Args:
        step: what is timed.
        seconds: call it for at least this long, and at least twice unless a call takes 5 seconds.
    """
    step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
        if times[0] > 5.0:
            break
    return 1e3 * (min(times) if len(times) < 10 else statistics.quantiles(times, n=10)[0])


def in_turns_ms(steps: Sequence[Callable[[], object]], *, seconds: float) -> list[float]:
    """Processor times of several steps in milliseconds, which take turns: other processes on the machine disturb them alike.

    The fastest tenth of the calls of each ends here. Before every call that counts stands one that does not, since the other
    steps have emptied the processor's caches.

    Args:
        steps: what is timed.
        seconds: go on for at least this long, and for at least nine turns.
    """
    times: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while len(times[-1]) < 9 or time.perf_counter() < end:
        for step, own in zip(steps, times, strict=True):
            step()
            start = time.process_time()
            step()
            own.append(time.process_time() - start)
    return [1e3 * statistics.quantiles(own, n=10)[0] for own in times]


def gradient_step(log_prob: Callable[[Tensor], Tensor], pose: Tensor) -> Callable[[], object]:
    """A call that computes log_prob of the poses and its gradient to them."""

    def step() -> object:
        leaf = pose.detach().requires_grad_()
        return torch.autograd.grad(log_prob(leaf).sum(), leaf)

    return step


def machine_line() -> str:
    """Date, processor architecture, threads and versions: the first line of what a speed benchmark prints."""
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {torch.get_num_threads()} thread(s); torch "
        f"{torch.__version__}, poseprior {poseprior.__version__}, smplx {version('smplx')}, roma {version('roma')}"
    )
