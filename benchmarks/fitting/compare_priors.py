"""Fits of the stand-in body to what held-out real poses look like to a camera or to markers, prior against prior.

    python -m benchmarks.fitting.compare_priors --data DIR --out runs/fitting \\
        --left-out runs/left_out_rigs --one-rig MIXTURE.safetensors

Four sets of bodies:

  test     people of CMU that no prior was trained on
  hdm05    people and a rig that no prior was trained on
  uiprmd   another rig, for priors that were trained without it (`--left-out`, made by `benchmarks.density.left_out_rigs`)
  hands    right hands of a sitting that no prior was trained on

Every method gets the same measurements, the same number of starts and the same stages of `fit_body`; starts without a prior
are draws around the rest pose. "l2" is the rest regulariser alone, "none" not even that; "oracle" is a mixture fitted to
other people of the very rig. Factors on "l2" and the mixtures are tried on val people, and of "l2" the best one for each
task is a row of its own, "l2, tuned". Each fit is repeated from the true pose: where that ends with a clearly lower
energy, the search has failed, not the prior. `--one-rig` adds a mixture that was trained on CMU in its rig's own terms, and
a set of its own, "cmu-rig", the poses of test as their rig had them.

Results are stored by set, task, method and weight with their settings: interrupt the command, and it goes on where it
stopped; `--tables` prints the tables of docs/fitting_numbers.md from what is there.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn
from tqdm import tqdm

import poseprior
from benchmarks.common import DATA, measure_once
from benchmarks.density.left_out_rigs import JOINTS
from benchmarks.fitting import methods
from benchmarks.fitting.methods import Method
from benchmarks.fitting.tables import print_tables
from benchmarks.fitting.tasks import TASKS, Bodies, Task, errors, read_bodies, read_hands
from poseprior.fitting import FitBodyConfig, PosePriorTerm, fit_body, stand_in_body

#: Factor on the prior, tried on val; 1 is the default of the library.
WEIGHTS = (0.3, 1.0, 3.0)
#: How many times the frames of tasks seen by a camera the other tasks fit: these are quick.
_MORE_FRAMES = 2
#: Methods whose weight is tried on val.
_TUNED = ("l2", "body-mixture", "hand-mixture")
#: The poses of each set, below the data's folder; val is where weights are chosen.
FILES = {
    "val": "smplx_body/val_poses.npz", "test": "smplx_body/test_poses.npz", "hdm05": "smplx_body/hdm05_poses.npz",
    "uiprmd": "smplx_body/uiprmd_poses.npz", "cmu-rig": "body/test_poses.npz", "hands": "hands/hands_test.npz",
    "hands-val": "hands/hands_val.npz",
}  # fmt: skip
_BODY_JOINTS = tuple(range(1, 22))


@dataclasses.dataclass(frozen=True)
class Options:
    """Command line."""

    data: Path = DATA
    """Folder with smplx_body/, hands/ and, with `--one-rig`, body/."""
    out: Path = Path("runs/fitting")
    """Results go here."""
    left_out: Path = Path("runs/left_out_rigs")
    """Priors that were trained without uiprmd."""
    one_rig: Path | None = None
    """A mixture trained on CMU in its rig's own terms, without rig noise, to compare the mixture that ships with."""
    sets: tuple[str, ...] = ("test", "hdm05", "uiprmd", "hands", "cmu-rig")
    """Which bodies."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Names of tasks.py."""
    only: tuple[str, ...] = ()
    """Rows to measure; none given means all."""
    frames: int = 72
    """Frames of a task seen by a camera; twice as many of the others, which are quick."""
    val_frames: int = 24
    """The same for val."""
    num_starts: int = 16
    """Starts of a fit in 2D."""
    tables: bool = False
    """Only print the tables."""


def main() -> None:
    """Run what is missing, then print the tables."""
    options = tyro.cli(Options, prog="python -m benchmarks.fitting.compare_priors", description=__doc__)
    torch.set_num_threads(1)
    results = options.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not options.tables:
        run(options, results)
    print_tables(results)
    print(f"results are in {results}")


def run(options: Options, results: Path) -> None:
    """Fit every task of every set with every method."""
    model = stand_in_model()
    for name in options.sets:
        hands = name == "hands"
        tasks = [TASKS[task] for task in options.tasks if TASKS[task].hands == hands]
        chosen = [m for m in methods_of_set(name, options) if not options.only or m.name in options.only]
        jobs = [(task, method) for method in chosen for task in tasks]
        for task, method in tqdm(jobs, desc=name):
            weights = {1.0}
            if method.l2 or (name in ("test", "hands") and method.name in _TUNED):
                val = "hands-val" if hands else "val"
                tried = {w: _measured(model, options, results, val, task, method, w) for w in WEIGHTS}
                if method.l2:
                    weights.add(min(tried, key=lambda weight: float(np.mean(tried[weight]["mpjpe_mm"]))))
            for weight in sorted(weights):
                _measured(model, options, results, name, task, method, weight)


def methods_of_set(name: str, options: Options) -> list[Method]:
    """The methods that are fair on a set: no prior that was trained on its rig or its people, but for the oracle."""
    if name == "cmu-rig" and options.one_rig is None:
        return []
    one_rig = [] if options.one_rig is None else [methods.method_of("one rig", poseprior.load(options.one_rig))]
    if name == "cmu-rig":
        return [*one_rig, *(m for m in methods.shipped("body") if m.name == "body-mixture")]
    if name == "hands":
        return [*methods.baselines(), *methods.shipped("hand")]
    folder = options.data / "smplx_body"
    first = [*methods.baselines(), *one_rig]
    if name == "uiprmd":
        oracle = methods.oracle(folder, name, JOINTS, options.out)
        return [*first, oracle, *methods.left_out(options.left_out, name)]
    oracles = [methods.oracle(folder, name, _BODY_JOINTS, options.out)] if name == "hdm05" else []
    return [*first, *oracles, *methods.shipped("body")]


def _measured(
    model: nn.Module, options: Options, results: Path, name: str, task: Task, method: Method, weight: float
) -> dict[str, Any]:  # fmt: skip
    """The stored numbers of one fit, or those of the fit."""
    count = options.val_frames if name.endswith("val") else options.frames
    count *= 1 if task.single_view else _MORE_FRAMES
    conditions = {"set": name, "task": task.name, "method": method.name, "weight": weight, "frames": count,
                  "num_starts": options.num_starts}  # fmt: skip

    def measure() -> dict[str, Any]:
        read = read_hands if task.hands else read_bodies
        return fit(model, task, method, weight, read(options.data / FILES[name], count), options.num_starts)

    stem = f"{name}-{task.name}-{method.name}-{weight:g}".replace(" ", "").replace(",", "-")
    return measure_once(results / f"{stem}.json", conditions, measure)


def stand_in_model() -> nn.Module:
    """The body that is fitted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import smplx
    with tempfile.TemporaryDirectory() as folder:
        return smplx.create(
            str(stand_in_body(folder)), "smplx", use_pca=False, flat_hand_mean=True, num_betas=10,
            num_expression_coeffs=10,
        )  # fmt: skip


def fit(
    model: nn.Module, task: Task, method: Method, weight: float, bodies: Bodies, num_starts: int | None,
    *, from_truth: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Fits of all frames.

    Args:
        model: the body.
        task, method, weight, bodies: what is fitted with what.
        num_starts: of tasks that one camera sees; None is the library's default.
        from_truth: whether each fit is repeated from the true pose.

    Returns:
        By frame: errors, "energy" in nats, whether it "converged", and with `from_truth` the energy and the position errors
        of the fit from the true pose; seconds of processor time a frame; the people.
    """
    rest = 0.3 / weight**0.5 if method.l2 else (0.3 if method.judged else None)
    config = FitBodyConfig(space=method.space, rest_sigma=rest, num_starts=num_starts if task.single_view else None)
    target = task.target(model, bodies)
    found: dict[str, list[Any]] = {}
    order: list[int] = []
    seconds = 0.0
    for rows, judge in method.groups(bodies):
        prior = None if judge is None else PosePriorTerm(judge, weight=weight, reduction="sum")
        own, some = target.select(rows), bodies.select(rows)
        started = time.process_time()
        result = fit_body(model, own, prior=prior, config=config)
        seconds += time.process_time() - started
        numbers: dict[str, list[Any]] = errors(model, result.params, some, task)
        numbers |= {"energy": result.energy.tolist(), "converged": result.converged.tolist()}
        if from_truth:
            check = fit_body(model, own, prior=prior, start=some.pose, config=dataclasses.replace(config, num_starts=1))
            numbers["energy_from_truth"] = check.energy.tolist()
            there = errors(model, check.params, some, task)
            numbers |= {f"{key}_from_truth": there[key] for key in ("mpjpe_mm", "hidden_mm")}
        for key, values in numbers.items():
            found.setdefault(key, []).extend(values)
        order += rows.tolist()
    back = np.argsort(order)
    return {"seconds_a_frame": seconds / len(order), "people": list(bodies.people),
            **{key: [values[k] for k in back] for key, values in found.items()}}  # fmt: skip


if __name__ == "__main__":
    main()
