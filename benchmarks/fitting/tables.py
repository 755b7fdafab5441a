"""Tables of `benchmarks.fitting.compare_priors`, as Markdown, from its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import markdown_table

_BASELINE = "mixture"
_RESAMPLES = 2000
_HEAD = (
    "prior", "MPJPE, mm", "PA-MPJPE, mm", "hidden joints, mm", "rotation, degrees", "implausible joints", "s a frame",
    "against the mixture, mm (95 %)", "default / best weight",
)  # fmt: skip
_COLUMNS = ("mpjpe_mm", "pa_mpjpe_mm", "hidden_mm", "rotation_deg", "implausible", "seconds_a_frame")


def print_tables(results: Path) -> None:
    """Errors with the default weight, paired differences to the mixture, and the default weight against the best one."""
    found: dict[str, dict[str, dict[tuple[float, str], dict[str, Any]]]] = {}
    for path in sorted(results.glob("*.json")):
        task, method, weight, split = _parts(path.stem)
        found.setdefault(task, {}).setdefault(method, {})[weight, split] = json.loads(path.read_text())
    for task, methods in found.items():
        rows = []
        base = methods.get(_BASELINE, {}).get((1.0, "test"))
        for method, runs in methods.items():
            entry = runs.get((1.0, "test"))
            if entry is None:
                continue
            cells = [_cell(name, entry[name]) for name in _COLUMNS]
            rows.append([method, *cells, _paired(entry, base), _weights(runs)])
        print(f"\n### {task}\n\n{markdown_table(_HEAD, rows)}", end="")


def _parts(stem: str) -> tuple[str, str, float, str]:
    """Task, method, weight and split of a file's name; both names may hold dashes."""
    head, weight, split = stem.rsplit("-", 2)
    methods = (
        "none", "l2", "gaussian-diagonal", "gaussian-full", "mixture", "vae-latent", "joint-flow", "global-flow-latent",
        "global-flow", "order-agnostic",
    )  # fmt: skip
    method = next(name for name in methods if head.endswith("-" + name))
    return head[: -len(method) - 1], method, float(weight), split


def _cell(name: str, value: Any) -> str:
    mean = float(np.mean(value))
    if name == "implausible":
        return f"{100 * mean:.1f} %"
    return f"{mean:.2f}" if name == "seconds_a_frame" else f"{mean:.1f}"


def _paired(entry: dict[str, Any], base: dict[str, Any] | None) -> str:
    """Mean difference to the mixture over the same frames, with a bootstrap interval."""
    if base is None or entry is base or entry["conditions"] != base["conditions"]:
        return "-"
    difference = np.asarray(entry["mpjpe_mm"]) - np.asarray(base["mpjpe_mm"])
    rng = np.random.default_rng(0)
    means = rng.choice(difference, (_RESAMPLES, len(difference))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{difference.mean():+.1f} ({low:+.1f} to {high:+.1f})"


def _weights(runs: dict[tuple[float, str], dict[str, Any]]) -> str:
    """Test error of weight 1 over that of the weight best on val, and that weight."""
    val = {weight: float(np.mean(entry["mpjpe_mm"])) for (weight, split), entry in runs.items() if split == "val"}
    if len(val) < 2:
        return "-"
    best = min(val, key=lambda weight: val[weight])
    default, tuned = (runs.get((weight, "test")) for weight in (1.0, best))
    if default is None or tuned is None:
        return "-"
    ratio = float(np.mean(default["mpjpe_mm"])) / float(np.mean(tuned["mpjpe_mm"]))
    return f"{ratio:.2f} (best {best:g}; val {val[1.0] / val[best]:.2f})"
