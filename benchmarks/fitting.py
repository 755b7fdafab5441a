"""Fits of the stand-in body to what held-out real poses look like to a camera or to markers, prior against prior.

    python benchmarks/fitting.py --data ../shared/data --out runs/fitting

Every method gets the same measurements, starts and stages of `fit_body`; only the prior differs. Weights are tuned once,
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
from pathlib import Path

import torch
import tyro
from fitting_tables import print_tables
from fitting_tasks import TASKS, Bodies, Task, errors, read_bodies, read_hands
from torch import nn
from tqdm import tqdm

import poseprior
from poseprior.fitting import FittingConfig, PosePriorTerm, fit_body, stand_in_body
from poseprior.io.atomic import replacing
from poseprior.io.npz import read_poses

#: Factor on the prior, tried on val; 1 is the default of the library.
WEIGHTS = (0.3, 1.0, 3.0)


@dataclasses.dataclass(frozen=True)
class Method:
    """A prior, where it is searched, and how its regulariser reads."""

    name: str
    prior: poseprior.PosePrior | None = None
    space: str = "pose"
    l2: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights to tune over; no prior has none."""
        return WEIGHTS if self.prior is not None or self.l2 else (1.0,)


@dataclasses.dataclass(frozen=True)
class Options:
    """Command line."""

    data: Path = Path("../shared/data")
    out: Path = Path("runs/fitting")
    priors: Path | None = None
    """Folder of name.safetensors to use instead of the shipped weights."""
    val_frames: int = 9
    test_frames: int = 27
    tasks: tuple[str, ...] = tuple(TASKS)
    methods: tuple[str, ...] = ()
    num_starts: int = 16
    iterations: int = 40
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
    body_methods, hand_methods = _methods(options)
    jobs = [
        (task, method)
        for task in (TASKS[name] for name in options.tasks)
        for method in (hand_methods if task.hands else body_methods)
        if not options.methods or method.name in options.methods
    ]
    bodies: dict[tuple[str, bool], Bodies] = {}
    for task, method in tqdm(jobs, desc="fits"):
        for split in ("val", "test"):
            if (split, task.hands) not in bodies:
                count = options.val_frames if split == "val" else options.test_frames
                read = read_hands if task.hands else read_bodies
                bodies[split, task.hands] = read(options.data, split, count, model)
            weights = method.weights if split == "val" else sorted({1.0, tuned_weight(results, task.name, method.name)})
            for weight in weights:
                path = results / f"{task.name}-{method.name}-{weight:g}-{split}.json"
                if not path.exists():
                    found = fit(model, task, method, weight, bodies[split, task.hands], options)
                    with replacing(path) as part:
                        part.write_text(json.dumps(found))


def fit(
    model: nn.Module, task: Task, method: Method, weight: float, bodies: Bodies, options: Options
) -> dict[str, object]:
    """One fit of all frames; errors by frame, and seconds a frame."""
    rest = 0.3 / weight**0.5 if method.l2 else (None if method.prior is None else 0.3)
    config = FittingConfig(
        space=method.space, rest_sigma=rest, iterations=options.iterations,
        num_starts=None if not task.flat else (options.num_starts if method.prior is not None else 4),
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


def _methods(options: Options) -> tuple[list[Method], list[Method]]:
    """Methods for bodies and for hands."""

    def shipped(name: str) -> poseprior.PosePrior:
        if options.priors is None:
            return poseprior.load(name)
        return poseprior.load(options.priors / f"{name}.safetensors")

    body, hands = options.data / "body", options.data / "hands"
    agnostic, agnostic_hand = shipped("body-order-agnostic"), shipped("hand-order-agnostic")
    for prior in (agnostic, agnostic_hand):
        assert isinstance(prior, poseprior.OrderAgnosticPrior)
        prior.num_orders = 4  # as `poseprior fit` does
    body_methods = [
        Method("none"), Method("l2", l2=True),
        Method("gaussian-diagonal", _fitted(options.out, "body-diagonal", body)),
        Method("gaussian-full", shipped("body-gaussian")),
        Method("mixture", _fitted(options.out, "body-mixture", body)),
        Method("vae-latent", shipped("body-vae"), "latent"),
        Method("joint-flow", shipped("body-joint-flow")),
        Method("global-flow", shipped("body-global-flow")),
        Method("global-flow-latent", shipped("body-global-flow"), "latent"),
        Method("order-agnostic", agnostic),
    ]  # fmt: skip
    hand_methods = [
        Method("none"), Method("l2", l2=True),
        Method("gaussian-diagonal", _fitted(options.out, "hand-diagonal", hands)),
        Method("gaussian-full", _fitted(options.out, "hand-full", hands)),
        Method("mixture", _fitted(options.out, "hand-mixture", hands)),
        Method("vae-latent", shipped("hand-vae"), "latent"),
        Method("order-agnostic", agnostic_hand),
    ]  # fmt: skip
    return body_methods, hand_methods


def _fitted(out: Path, name: str, data: Path) -> poseprior.PosePrior:
    """Baselines that are not shipped, trained once and kept."""
    path = out / "priors" / f"{name}.safetensors"
    if not path.exists():
        joints = "body" if name.startswith("body") else "hands"
        prior: poseprior.PosePrior
        if name.endswith("mixture"):
            prior = poseprior.GaussianMixturePrior(joints, num_components=4)
        else:
            prior = poseprior.GaussianPrior(joints, covariance="full" if name.endswith("full") else "diagonal")
        prefix = "hands_" if joints == "hands" else ""
        suffix = "" if joints == "hands" else "_poses"
        train, val = (read_poses(data / f"{prefix}{part}{suffix}.npz") for part in ("train", "val"))
        prior.fit(train, val=val)
        path.parent.mkdir(parents=True, exist_ok=True)
        prior.save(path)
    return poseprior.load(path)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
