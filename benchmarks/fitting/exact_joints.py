"""How many real poses fits miss when the joints that they are given are exact.

    python -m benchmarks.fitting.exact_joints --data ../shared/data --count 1000 --out runs/exact_joints

Bodies of random shapes stand in poses of `smplx_body/`; their joints, without noise, are what `fit_body` gets. A pose is
missed when its 22 body joints are more than 3 mm off on average. "above" counts fits that end more than 1 nat above one
that starts from the true pose, and "wrong" those of them that call themselves converged. A prior or a regulariser may
pull a fit off the joints by itself; the column "from the truth" says how many are missed then.

Fits are stored by chunk in `--out`: interrupt the command, and it goes on where it stopped. Delete the folder when the code
of fits has changed.

With `--split samples` the poses are samples of each prior itself.

Data: val, test or hdm05 poses of the shared data; none for samples. About 1 minute for 100 poses and the default methods.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn

import poseprior
from benchmarks.common import measure_once
from poseprior import PosePrior
from poseprior.fitting import BodyFit, BodyPoints, FitBodyConfig, Joints3D, fit_body, stand_in_body
from poseprior.io import read_poses

_BODY = 22
_MISSED, _FAR = 3.0, 50.0  # mm
_SHAPE_SPREAD = 0.5
_ABOVE = 1.0  # nats


@dataclasses.dataclass(frozen=True)
class Options:
    """Command line."""

    data: Path = Path("../shared/data")
    out: Path = Path("runs/exact_joints")
    """Results go here."""
    split: Literal["val", "test", "hdm05", "samples"] = "val"
    """Whose poses; `samples` are of each method's own prior."""
    count: int = 100
    """Random poses of the split."""
    methods: tuple[str, ...] = ("none", "rest", "body-gaussian", "body-mixture", "body-joint-flow")
    """`none` is neither prior nor regulariser, `rest` the regulariser alone, `all` every shipped prior of bodies."""
    optimizers: tuple[Literal["lbfgs", "adam"], ...] = ("lbfgs", "adam")
    points: tuple[Literal["body", "all"], ...] = ("body", "all")
    """22 joints of the body, or all 55."""
    sigmas: tuple[float, ...] = (0.001,)
    """Noise that the fit expects, metres; there is none."""
    chunk: int = 250
    """Bodies fitted at once."""


def main() -> None:
    """Print one row for each combination."""
    import smplx

    options = tyro.cli(Options, prog="python -m benchmarks.fitting.exact_joints", description=__doc__)
    if options.split == "samples" and {"none", "rest"} & set(options.methods):
        raise SystemExit("--split samples: expected priors as --methods; none and rest have no samples.")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = smplx.create(str(stand_in_body(folder)), "smplx", use_pca=False, flat_hand_mean=True)
    print("| method | optimizer | points | sigma, mm | missed | > 50 mm | from the truth | missed, converged | above | wrong "
          "| converged | median, mm | s for 100 |")  # fmt: skip
    print("|---" * 13 + "|")
    for name in methods(options.methods):
        prior = None if name in ("none", "rest") else poseprior.load(name)
        pose, truth = bodies(options, prior, model)
        for points, sigma, optimizer in itertools.product(options.points, options.sigmas, options.optimizers):
            config = FitBodyConfig(optimizer=optimizer, rest_sigma=None if name == "none" else 0.3)
            measured = truth.clone()
            if points == "body":
                measured[:, _BODY:] = torch.nan
            parts = []
            for rows in torch.arange(len(pose)).split(options.chunk):
                what = {"set": options.split, "count": len(pose), "first": int(rows[0]), "bodies": len(rows), "method": name,
                        "optimizer": optimizer, "points": points, "sigma": sigma}  # fmt: skip
                file = options.out / f"{'-'.join(map(str, what.values()))}.json"
                target = Joints3D(measured[rows], sigma=sigma)
                run = functools.partial(chunk, model, pose[rows], truth[rows], target, prior, config)
                parts.append(measure_once(file, what, run))
            print(f"| {name} | {optimizer} | {points} | {1000 * sigma:g} | {' | '.join(cells(parts))} |", flush=True)


def methods(names: tuple[str, ...]) -> list[str]:
    """The methods by name, `all` spelt out."""
    shipped = [name for name in poseprior.list_pretrained() if name.startswith(("body-", "whole-body"))]
    return [each for name in names for each in (shipped if name == "all" else [name])]


def bodies(options: Options, prior: PosePrior | None, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Random poses (N, 55, 3), what their file did not measure at rest, and the joints (N, 55, 3) of bodies in them."""
    generator = torch.Generator().manual_seed(0)
    if options.split == "samples":
        assert prior is not None
        pose = prior.sample(options.count, generator=generator)
    else:
        dataset = read_poses(options.data / "smplx_body" / f"{options.split}_poses.npz")
        rows = torch.randperm(len(dataset.poses), generator=generator)[: options.count]
        pose = torch.where(dataset.observed[rows][..., None], dataset.poses[rows], 0.0)
    betas = _SHAPE_SPREAD * torch.randn(len(pose), 10, generator=generator)
    return pose, BodyPoints(model, joints=range(55))(pose, betas=betas)


def chunk(
    model: nn.Module, pose: Tensor, truth: Tensor, target: Joints3D, prior: PosePrior | None, config: FitBodyConfig
) -> dict[str, Any]:
    """By body: errors of the fit and of that from the true pose, mm, their energies, nats, whether it converged; seconds."""
    started = time.process_time()
    fit = fit_body(model, target, prior=prior, config=config)
    seconds = time.process_time() - started
    check = fit_body(model, target, prior=prior, config=config, start=pose)
    return {
        "mm": errors(model, fit, truth).tolist(), "mm_from_truth": errors(model, check, truth).tolist(),
        "energy": fit.energy.tolist(), "energy_from_truth": check.energy.tolist(),
        "converged": fit.converged.tolist(), "seconds": seconds,
    }  # fmt: skip


def cells(parts: list[dict[str, Any]]) -> list[str]:
    """Cells of one combination, from its chunks."""
    off, reference, energy, lowest, converged = (
        torch.tensor([value for part in parts for value in part[name]])
        for name in ("mm", "mm_from_truth", "energy", "energy_from_truth", "converged")
    )
    missed, above = off > _MISSED, energy - lowest > _ABOVE
    counts = (missed, off > _FAR, reference > _MISSED, missed & converged, above, above & converged, converged)
    seconds = 100 * sum(part["seconds"] for part in parts) / len(off)
    return [*(str(int(c.sum())) for c in counts), f"{float(off.median()):.2f}", f"{seconds:.1f}"]


def errors(model: nn.Module, fit: BodyFit, truth: Tensor) -> Tensor:
    """(N,) mean distance of the body's joints, mm."""
    params = {name: fit.params[name] for name in ("betas", "expression", "transl")}
    found = BodyPoints(model, joints=range(_BODY))(fit.pose, **params)
    return 1000.0 * (found - truth[:, :_BODY]).norm(dim=-1).mean(-1)


if __name__ == "__main__":
    main()
