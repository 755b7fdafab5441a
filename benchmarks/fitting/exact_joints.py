"""How many real poses fits miss when the joints that they are given are exact.

    python -m benchmarks.fitting.exact_joints --data ../shared/data --count 1000

Bodies of random shapes stand in poses of `smplx_body/`; their joints, without noise, are what `fit_body` gets. A pose is
missed when its 22 body joints are more than 3 mm off on average. "above" counts fits that end more than 1 nat above one
that starts from the true pose, and "wrong" those of them that call themselves converged. A prior or a regulariser may
pull a fit off the joints by itself; the column "from the truth" says how many are missed then.

Data: val or hdm05 poses of the shared data. About 1 minute for 100 poses and the default methods.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor, nn

import poseprior
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
    split: Literal["val", "test", "hdm05"] = "val"
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
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = smplx.create(str(stand_in_body(folder)), "smplx", use_pca=False, flat_hand_mean=True)
    pose, truth = read_bodies(options.data / "smplx_body" / f"{options.split}_poses.npz", options.count, model)
    print("| method | optimizer | points | sigma, mm | missed | > 50 mm | from the truth | missed, converged | above | wrong "
          "| converged | median, mm | s for 100 |")  # fmt: skip
    print("|---" * 13 + "|")
    for name in methods(options.methods):
        prior = None if name in ("none", "rest") else poseprior.load(name)
        for points in options.points:
            for sigma in options.sigmas:
                for optimizer in options.optimizers:
                    config = FitBodyConfig(optimizer=optimizer, rest_sigma=None if name == "none" else 0.3)
                    cells = row(model, pose, truth, points == "all", sigma, prior, config, options.chunk)
                    print(f"| {name} | {optimizer} | {points} | {1000 * sigma:g} | {' | '.join(cells)} |", flush=True)


def methods(names: tuple[str, ...]) -> list[str]:
    """The methods by name, `all` spelt out."""
    shipped = [name for name in poseprior.list_pretrained() if name.startswith(("body-", "whole-body"))]
    return [each for name in names for each in (shipped if name == "all" else [name])]


def read_bodies(path: Path, count: int, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Random poses (N, 55, 3) of a file, what it did not measure at rest, and the joints (N, 55, 3) of bodies in them."""
    dataset = read_poses(path)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(dataset.poses), generator=generator)[:count]
    pose = torch.where(dataset.observed[rows][..., None], dataset.poses[rows], 0.0)
    betas = _SHAPE_SPREAD * torch.randn(len(rows), 10, generator=generator)
    return pose, BodyPoints(model, joints=range(55))(pose, betas=betas)


def row(
    model: nn.Module, pose: Tensor, truth: Tensor, fingers: bool, sigma: float, prior: PosePrior | None,
    config: FitBodyConfig, chunk: int,
) -> list[str]:  # fmt: skip
    """Cells of one combination."""
    measured = truth.clone()
    if not fingers:
        measured[:, _BODY:] = torch.nan
    parts = torch.arange(len(pose)).split(chunk)
    started = time.process_time()
    fits = [fit_body(model, Joints3D(measured[k], sigma=sigma), prior=prior, config=config) for k in parts]
    seconds = time.process_time() - started
    checks = [
        fit_body(model, Joints3D(measured[k], sigma=sigma), prior=prior, config=config, start=pose[k]) for k in parts
    ]
    off, reference = errors(model, fits, truth), errors(model, checks, truth)
    converged = torch.cat([fit.converged for fit in fits])
    above = torch.cat([fit.energy - check.energy for fit, check in zip(fits, checks, strict=True)]) > _ABOVE
    missed = off > _MISSED
    counts = (missed, off > _FAR, reference > _MISSED, missed & converged, above, above & converged, converged)
    return [*(str(int(c.sum())) for c in counts), f"{float(off.median()):.2f}", f"{100 * seconds / len(pose):.1f}"]


def errors(model: nn.Module, fits: list[BodyFit], truth: Tensor) -> Tensor:
    """(N,) mean distance of the body's joints, mm."""
    points = BodyPoints(model, joints=range(_BODY))
    found = [
        points(f.pose, betas=f.params["betas"], expression=f.params["expression"], transl=f.params["transl"])
        for f in fits
    ]
    return 1000.0 * (torch.cat(found) - truth[:, :_BODY]).norm(dim=-1).mean(-1)


if __name__ == "__main__":
    main()
