"""Fits of the stand-in body to what held-out real poses look like to a camera or to markers, prior against prior.

    python benchmarks/fitting.py --data ../shared/data --out runs/fitting

Every method gets the same measurements, starts and stages of `fit_body`; only the prior differs. All priors are trained
here with their own defaults, but under more tangent noise than usual (`--jitter`). Weights are tuned once,
on val subjects; test subjects are fitted with the default weight 1 and with the tuned one. Results are kept for every
(task, method, weight, split), so that the command can be interrupted and goes on where it stopped; `--tables` prints
docs/fitting.md's tables from them.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import tyro
from fitting_tables import print_tables
from fitting_tasks import TASKS, Bodies, Task, errors, read_bodies, read_hands
from kept_prior import kept_prior
from torch import nn
from tqdm import tqdm

import poseprior
from poseprior.cli._fit import FEW_ORDERS
from poseprior.fitting import FitBodyConfig, PosePriorTerm, fit_body, stand_in_body
from poseprior.io import read_split
from poseprior.io.atomic import replacing
from poseprior.recipes import RECIPES

#: Factor on the prior, tried on val; 1 is the default of the library.
WEIGHTS = (0.3, 1.0, 3.0)
#: Frames of tasks that no camera sees, for one of the others: their fits are quick.
_MORE = 3

#: Priors by part (a folder of the data) and name.
_PRIORS: dict[str, dict[str, Callable[[], poseprior.PosePrior]]] = {
    "body": {
        "gaussian-diagonal": lambda: poseprior.GaussianPrior("body", covariance="diagonal"),
        "gaussian-full": lambda: poseprior.GaussianPrior("body", covariance="full"),
        "mixture": lambda: poseprior.GaussianMixturePrior("body", num_components=4),
        "vae-latent": lambda: poseprior.BodyVAE(),
        "joint-flow": lambda: poseprior.JointFlow("body"),
        "global-flow": lambda: poseprior.GlobalFlow("body"),
        "order-agnostic": lambda: poseprior.OrderAgnosticPrior("body", **RECIPES["body-order-agnostic-smooth"].options),
    },
    "hands": {
        "gaussian-diagonal": lambda: poseprior.GaussianPrior("hands", covariance="diagonal"),
        "gaussian-full": lambda: poseprior.GaussianPrior("hands", covariance="full"),
        "mixture": lambda: poseprior.GaussianMixturePrior("hands", num_components=4),
        "vae-latent": lambda: poseprior.HandVAE("hands"),
        "order-agnostic": lambda: poseprior.OrderAgnosticPrior("hands", **RECIPES["hand-order-agnostic"].options),
    },
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A prior, where it is searched, and how its regulariser reads."""

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

    data: Path = Path("../shared/data")
    out: Path = Path("runs/fitting")
    jitter: float = 0.1
    """Noise under which every prior is trained, radians; 0.1 was chosen on val (docs/fitting.md)."""
    val_frames: int = 20
    """Frames of a task seen by a camera; three times as many of the others, which are quick."""
    test_frames: int = 45
    weights: tuple[float, ...] = WEIGHTS
    """Factors on the prior to try on val; 1 alone for a comparison without tuning."""
    tasks: tuple[str, ...] = tuple(TASKS)
    methods: tuple[str, ...] = ()
    num_starts: int = 16
    iterations: int = 100
    tables: bool = False
    """Only print the tables."""


def main() -> None:
    """Run what is missing, then print the tables."""
    options = tyro.cli(Options)
    torch.set_num_threads(1)
    results = options.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    if not options.tables:
        run(options, results)
    print_tables(results)
    print(f"results are in {results}")


def run(options: Options, results: Path) -> None:
    """Fit every task with every method: val for each weight, then test with the default and the tuned weight."""
    import smplx

    with tempfile.TemporaryDirectory() as folder:
        model = smplx.create(
            str(stand_in_body(folder)), "smplx", use_pca=False, flat_hand_mean=True, num_betas=10,
            num_expression_coeffs=10,
        )  # fmt: skip
    tasks = [TASKS[name] for name in options.tasks]
    methods = {hands: _methods(options, "hands" if hands else "body") for hands in {task.hands for task in tasks}}
    jobs = [(task, method) for task in tasks for method in methods[task.hands]]
    bodies: dict[tuple[str, bool, bool], Bodies] = {}
    for task, method in tqdm(jobs, desc="fits"):
        for split in ("val", "test"):
            if (split, task.hands, task.flat) not in bodies:
                count = (options.val_frames if split == "val" else options.test_frames) * (1 if task.flat else _MORE)
                read = read_hands if task.hands else read_bodies
                bodies[split, task.hands, task.flat] = read(options.data, split, count, model)
            tried = options.weights if method.weighted else (1.0,)
            weights = tried if split == "val" else sorted({1.0, tuned_weight(results, task.name, method.name)})
            for weight in weights:
                path = results / f"{task.name}-{method.name}-{weight:g}-{split}.json"
                if not path.exists():
                    found = fit(model, task, method, weight, bodies[split, task.hands, task.flat], options)
                    with replacing(path) as part:
                        part.write_text(json.dumps(found))


def fit(
    model: nn.Module, task: Task, method: Method, weight: float, bodies: Bodies, options: Options
) -> dict[str, object]:
    """One fit of all frames; errors by frame, and seconds a frame."""
    rest = 0.3 / weight**0.5 if method.l2 else (None if method.prior is None else 0.3)
    config = FitBodyConfig(
        space=method.space, rest_sigma=rest, iterations=options.iterations,
        num_starts=options.num_starts if task.flat else None,
    )  # fmt: skip
    prior = None if method.prior is None else PosePriorTerm(method.prior, weight=weight, reduction="sum")
    started = time.perf_counter()
    result = fit_body(model, task.target(model, bodies), prior=prior, config=config)
    seconds = time.perf_counter() - started
    found = errors(model, result.params, bodies, task)
    return {
        "weight": weight, "seconds_a_frame": seconds / len(bodies.pose), "steps": result.steps,
        "converged": float(result.converged.float().mean()), **found,
    }  # fmt: skip


def tuned_weight(results: Path, task: str, method: str) -> float:
    """The weight with the lowest mean error on val."""
    found = {}
    for path in results.glob(f"{task}-{method}-*-val.json"):
        entry = json.loads(path.read_text())
        found[entry["weight"]] = sum(entry["mpjpe_mm"]) / len(entry["mpjpe_mm"])
    return min(found, key=lambda weight: found[weight])


def _methods(options: Options, part: str) -> list[Method]:
    """The asked-for methods of a part, "body" or "hands"."""

    def asked(name: str) -> bool:
        return not options.methods or name in options.methods

    methods = [method for method in (Method("none"), Method("l2", l2=True)) if asked(method.name)]
    for name in filter(asked, _PRIORS[part]):
        methods.append(Method(name, _fitted(options, part, name), "latent" if name == "vae-latent" else "pose"))
    if part == "body" and asked("global-flow-latent"):
        methods.append(Method("global-flow-latent", _fitted(options, part, "global-flow"), "latent"))
    return methods


def _fitted(options: Options, part: str, name: str) -> poseprior.PosePrior:
    """A prior with its own defaults but for the jitter, trained once and kept."""
    path = options.out / "priors" / f"{part}-{name}-{options.jitter:g}.safetensors"
    prior = kept_prior(
        path, _PRIORS[part][name], lambda: read_split(options.data / part),
        lambda own: dataclasses.replace(own, jitter=options.jitter),
    )  # fmt: skip
    return few_orders(prior)


def few_orders(prior: poseprior.PosePrior) -> poseprior.PosePrior:
    """The prior as `poseprior fit` uses it: an order-agnostic one with few orders."""
    if isinstance(prior, poseprior.OrderAgnosticPrior):
        prior.num_orders = FEW_ORDERS
    return prior


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
