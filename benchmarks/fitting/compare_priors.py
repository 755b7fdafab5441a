"""Fits of the stand-in body to what held-out real poses look like to a camera or to markers, prior against prior.

    python -m benchmarks.fitting.compare_priors --data DIR --out runs/fitting

Every method gets the same measurements, starts and stages of `fit_body`; only the prior differs. All priors are trained
here with their own defaults, but under more tangent noise than usual (`--jitter`). Weights are tuned once,
on val subjects; test subjects are fitted with the default weight 1 and with the tuned one. Results are stored for every
(task, method, weight, split) with their settings: interrupt the command, and it goes on where it stopped; `--tables` prints
docs/fitting.md's tables from them.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import nn
from tqdm import tqdm

import poseprior
from benchmarks.common import DATA, measure_once, train_once
from benchmarks.fitting.tables import print_tables
from benchmarks.fitting.tasks import TASKS, Bodies, Task, errors, read_bodies, read_hands
from benchmarks.priors import BODY, recipe_order_agnostic
from poseprior.fitting import FitBodyConfig, PosePriorTerm, fit_body, stand_in_body
from poseprior.io import read_split

#: Factor on the prior, tried on val; 1 is the default of the library.
WEIGHTS = (0.3, 1.0, 3.0)
#: Orders of an order-agnostic prior in fits, as `poseprior fit` sets them.
NUM_ORDERS = 2
#: How many times the frames of tasks seen by a camera the other tasks fit: these are quick.
_MORE_FRAMES = 3

#: Priors by part (a folder of the data) and name.
PRIORS: dict[str, dict[str, Callable[[], poseprior.PosePrior]]] = {
    "body": {
        "gaussian-diagonal": BODY["Gaussian, diagonal"],
        "gaussian-full": BODY["Gaussian, full"],
        "mixture": BODY["mixture of 4"],
        "vae-latent": lambda: poseprior.BodyVAE(),
        "joint-flow": BODY["JointFlow"],
        "global-flow": BODY["GlobalFlow"],
        "order-agnostic": lambda: recipe_order_agnostic("body", "body-order-agnostic"),
    },
    "hands": {
        "gaussian-diagonal": lambda: poseprior.GaussianPrior("hands", covariance="diagonal"),
        "gaussian-full": lambda: poseprior.GaussianPrior("hands", covariance="full"),
        "mixture": lambda: poseprior.GaussianMixturePrior("hands", num_components=4),
        "vae-latent": lambda: poseprior.HandVAE("hands"),
        "order-agnostic": lambda: recipe_order_agnostic("hands", "hand-order-agnostic"),
    },
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A prior, the space that is searched, and whether a plain L2 regulariser stands in for a prior."""

    name: str
    prior: poseprior.PosePrior | None = None
    space: Literal["pose", "latent"] = "pose"
    l2: bool = False

    @property
    def weighted(self) -> bool:
        """Whether there is a weight to tune."""
        return self.prior is not None or self.l2


@dataclasses.dataclass(frozen=True)
class Options:
    """Command line."""

    data: Path = DATA
    """Folder with body/ and hands/."""
    out: Path = Path("runs/fitting")
    """Priors and results go here."""
    jitter: float = 0.1
    """Noise under which every prior is trained, radians; 0.1 was chosen on val (docs/fitting.md)."""
    val_frames: int = 20
    """Frames of a task seen by a camera; three times as many of the others, which are quick."""
    test_frames: int = 45
    """The same for test."""
    weights: tuple[float, ...] = WEIGHTS
    """Factors on the prior to try on val; 1 alone for a comparison without tuning."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Names of tasks.py."""
    methods: tuple[str, ...] = ()
    """Rows to measure; none given means all."""
    num_starts: int = 16
    """Starts of a fit in 2D."""
    iterations: int = 100
    """At most this many in a stage of a fit."""
    tables: bool = False
    """Only print the tables."""


def main() -> None:
    """Run what is missing, then print the tables."""
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(1)
    results = options.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not options.tables:
        run(options, results)
    print_tables(results)
    print(f"results are in {results}")


def run(options: Options, results: Path) -> None:
    """Fit every task with every method: val for each weight, then test with the default and the tuned weight."""
    model = stand_in_model()
    tasks = [TASKS[name] for name in options.tasks]
    methods = {hands: _methods(options, "hands" if hands else "body") for hands in {task.hands for task in tasks}}
    jobs = [(task, method) for task in tasks for method in methods[task.hands]]
    bodies: dict[tuple[str, bool, bool], Bodies] = {}
    for task, method in tqdm(jobs, desc="fits"):
        val_errors: dict[float, float] = {}  # of each weight
        for split in ("val", "test"):
            if (split, task.hands, task.single_view) not in bodies:
                count = options.val_frames if split == "val" else options.test_frames
                count *= 1 if task.single_view else _MORE_FRAMES
                read = read_hands if task.hands else read_bodies
                bodies[split, task.hands, task.single_view] = read(options.data, split, count)
            split_bodies = bodies[split, task.hands, task.single_view]
            conditions = {"frames": len(split_bodies.pose), "jitter": options.jitter, "iterations": options.iterations,
                          "num_starts": options.num_starts}  # fmt: skip
            tried = options.weights if method.weighted else (1.0,)
            weights = tried if split == "val" else sorted({1.0, min(val_errors, key=lambda weight: val_errors[weight])})
            for weight in weights:
                found = measure_once(
                    results / f"{task.name}-{method.name}-{weight:g}-{split}.json", conditions,
                    partial(fit, model, task, method, weight, split_bodies, options),
                )  # fmt: skip
                if split == "val":
                    val_errors[weight] = sum(found["mpjpe_mm"]) / len(found["mpjpe_mm"])


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
    model: nn.Module, task: Task, method: Method, weight: float, bodies: Bodies, options: Options
) -> dict[str, Any]:
    """One fit of all frames; errors by frame, and seconds a frame."""
    rest = 0.3 / weight**0.5 if method.l2 else (None if method.prior is None else 0.3)
    config = FitBodyConfig(
        space=method.space, rest_sigma=rest, iterations=options.iterations,
        num_starts=options.num_starts if task.single_view else None,
    )  # fmt: skip
    prior = None if method.prior is None else PosePriorTerm(method.prior, weight=weight, reduction="sum")
    started = time.perf_counter()
    result = fit_body(model, task.target(model, bodies), prior=prior, config=config)
    seconds = time.perf_counter() - started
    return {
        "weight": weight, "seconds_a_frame": seconds / len(bodies.pose), "steps": result.steps,
        "converged": float(result.converged.float().mean()), **errors(model, result.params, bodies, task),
    }  # fmt: skip


def _methods(options: Options, part: str) -> list[Method]:
    """The methods of a part, "body" or "hands", that `options` name."""

    def named(name: str) -> bool:
        return not options.methods or name in options.methods

    methods = [method for method in (Method("none"), Method("l2", l2=True)) if named(method.name)]
    for name in filter(named, PRIORS[part]):
        methods.append(Method(name, _trained(options, part, name), "latent" if name == "vae-latent" else "pose"))
    if part == "body" and named("global-flow-latent"):
        methods.append(Method("global-flow-latent", _trained(options, part, "global-flow"), "latent"))
    return methods


def _trained(options: Options, part: str, name: str) -> poseprior.PosePrior:
    """A prior with its own defaults but for the jitter, trained unless its file is there."""
    path = options.out / "priors" / f"{part}-{name}-{options.jitter:g}.safetensors"
    jitter = {"jitter": options.jitter}
    return with_few_orders(train_once(path, PRIORS[part][name], lambda: read_split(options.data / part), jitter))


def with_few_orders(prior: poseprior.PosePrior) -> poseprior.PosePrior:
    """The prior as `poseprior fit` uses it: an order-agnostic one with few orders."""
    if isinstance(prior, poseprior.OrderAgnosticPrior):
        prior.num_orders = NUM_ORDERS
    return prior


if __name__ == "__main__":
    main()
