"""Tables of `benchmarks.fitting.compare_priors`, as Markdown, from its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import markdown_row, markdown_table

_MIXTURES = {"hands": "hand-mixture"}  # "body-mixture" in the other sets
_RESAMPLES = 2000
#: A start from the truth finds a lower energy where it ends so many nats below, or more.
_CLEARLY = 1.0
#: What stands above a task's column.
_HEADS = {
    "arm-hidden": "hidden arm", "legs-out-of-frame": "hidden legs", "keypoints-5px": "5 px", "keypoints-15px": "15 px",
    "outliers-20%": "outliers", "joints-20%-missing": "missing joints", "markers-12": "markers", "hand-2d": "hand",
}  # fmt: skip
_WIDEST = 100

#: By task, method and weight.
Results = dict[str, dict[tuple[str, float], dict[str, Any]]]


def print_tables(folder: Path) -> None:
    """Every set: errors, rotations, failed searches and ratios; then what weights would have changed."""
    sets: dict[str, Results] = {}
    for path in sorted(folder.glob("*.json")):
        entry = json.loads(path.read_text())
        of = entry["conditions"]
        sets.setdefault(of["set"], {}).setdefault(of["task"], {})[of["method"], of["weight"]] = entry
    for name in ("test", "hdm05", "uiprmd", "hands", "cmu-rig"):
        if name in sets:
            print(f"\n## {name}, {_frames(sets[name])}")
            _print_set(sets[name], sets.get("hands-val" if name == "hands" else "val", {}), _MIXTURES.get(name))
    for name in ("val", "hands-val"):
        if name in sets:
            _print_weights(sets[name], name)


def _frames(results: Results) -> str:
    counts = {task: next(iter(rows.values()))["conditions"]["frames"] for task, rows in results.items()}
    return ", ".join(f"{count} frames of {task}" for task, count in counts.items())


def _print_set(results: Results, val: Results, mixture: str | None) -> None:
    """The tables of one set of bodies; rows of which nothing was measured are left out."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}  # by title and task
    for task, found in results.items():
        for (method, weight), entry in found.items():
            if weight == 1.0:
                rows.setdefault(method, {})[task] = entry
        tuned = _best_weight(val.get(task, {}), "l2")
        if tuned is not None and ("l2", tuned) in found:
            rows.setdefault("l2, tuned", {})[task] = found["l2", tuned]
    titles = sorted(rows, key=lambda title: (not title.startswith("none"), not title.startswith("l2"), title))
    tasks = list(results)

    def show(title: str, cell: Callable[[str, dict[str, Any]], str]) -> None:
        lines = [
            [row, *(cell(task, rows[row][task]) if task in rows[row] else "-" for task in tasks)] for row in titles
        ]
        lines = [line for line in lines if set(line[1:]) != {"-"}]
        if lines:
            print(f"\n{title}\n\n{task_table('method', tasks, lines)}", end="")

    show("Position error, mm (95 %)", lambda task, entry: _with_interval(_position(task, entry)))
    show("Position error of the lower end, mm: the fit's or that from the truth", _with_perfect_search)
    show("Rotation error, degrees", lambda task, entry: f"{np.mean(entry['rotation_deg']):.1f}")
    show("A start from the truth ends clearly lower, %", lambda task, entry: f"{100 * np.mean(_beaten(entry)):.0f}")
    show("Processor time, ms a frame", lambda task, entry: f"{1000 * entry['seconds_a_frame']:.0f}")
    base = mixture or "body-mixture"
    others = [row for row in titles if row in ("none", "l2", "l2, tuned", "one rig", "oracle")]
    if base in rows:
        lines = [[row, *(_ratio(task, rows[base], rows[row]) for task in tasks)] for row in others]
        print(f"\nError of {base} over that of the row (95 %)\n\n{task_table('row', tasks, lines)}", end="")


def task_table(first: str, tasks: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A column for each task; where that is wider than a page, the hidden limbs and keypoints first, the rest below."""
    head = [first, *(_HEADS[task] for task in tasks)]
    if max(len(markdown_row(line)) for line in [head, *lines]) <= _WIDEST:
        return markdown_table(head, lines)
    upper = [task.startswith(("arm", "legs", "keypoints")) for task in tasks]
    parts = []
    for wanted in (True, False):
        columns = [0, *(k for k, is_upper in enumerate(upper, 1) if is_upper == wanted)]
        rows = [[line[k] for k in columns] for line in lines]
        shown = [row for row in rows if set(row[1:]) != {"-"}]
        parts.append(markdown_table([head[k] for k in columns], shown))
    return "\n".join(parts)


def _position(task: str, entry: dict[str, Any]) -> np.ndarray:
    """Error by frame, mm: of the hidden joints where a task hides some, else MPJPE."""
    return np.asarray(entry[_position_key(task)])


def _position_key(task: str) -> str:
    return "hidden_mm" if task in ("arm-hidden", "legs-out-of-frame") else "mpjpe_mm"


def _with_perfect_search(task: str, entry: dict[str, Any]) -> str:
    """Mean position error where each frame takes the end with the lower energy: what a search that never fails would give."""
    key = _position_key(task)
    if f"{key}_from_truth" not in entry:
        return "-"
    return f"{np.where(_beaten(entry), entry[f'{key}_from_truth'], entry[key]).mean():.1f}"


def _beaten(entry: dict[str, Any]) -> np.ndarray:
    """By frame, whether the fit from the true pose ended clearly lower."""
    return np.asarray(entry["energy"]) - np.asarray(entry["energy_from_truth"]) > _CLEARLY


def _with_interval(values: np.ndarray) -> str:
    means = np.random.default_rng(0).choice(values, (_RESAMPLES, len(values))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    digits = 0 if values.mean() >= 100 else 1
    return f"{values.mean():.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def _ratio(task: str, base: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> str:
    """Mean error over mean error on the same frames, with a bootstrap interval over frames."""
    if task not in base or task not in other or len(base[task]["people"]) != len(other[task]["people"]):
        return "-"
    a, b = _position(task, base[task]), _position(task, other[task])
    rows = np.random.default_rng(0).integers(len(a), size=(_RESAMPLES, len(a)))
    low, high = np.percentile(a[rows].mean(1) / b[rows].mean(1), [2.5, 97.5])
    return f"{a.mean() / b.mean():.2f} ({low:.2f}–{high:.2f})"


def _best_weight(found: dict[tuple[str, float], dict[str, Any]], method: str) -> float | None:
    tried = {weight: float(np.mean(entry["mpjpe_mm"])) for (name, weight), entry in found.items() if name == method}
    return min(tried, key=lambda weight: tried[weight]) if tried else None


def _print_weights(val: Results, name: str) -> None:
    """MPJPE on val with weight 1 over that with the best weight, and which that is."""
    names = sorted({method for found in val.values() for method, _ in found})

    def cell(task: str, method: str) -> str:
        best = _best_weight(val[task], method)
        if best is None or (method, 1.0) not in val[task]:
            return "-"
        means = [float(np.mean(val[task][method, weight]["mpjpe_mm"])) for weight in (1.0, best)]
        return f"{means[0] / means[1]:.2f} ({best:g})"

    lines = [[method, *(cell(task, method) for task in val)] for method in names]
    print(f"\n## {name}: MPJPE with weight 1 over that with the best weight (which)")
    print(f"\n{task_table('method', list(val), lines)}", end="")
