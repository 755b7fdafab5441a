"""Shuffled batches from shards: poses a second of one core, and the loader's share of a training step.

python -m benchmarks.speed.loader SHARDS
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from poseprior import FitConfig, GaussianMixturePrior, GlobalFlow, JointFlow, PosePrior, RigNoise, read_poses
from poseprior.io import PoseDataset
from poseprior.training import BatchSource


def rate(work: Callable[[int], object], poses: int, *, seconds: float = 3.0) -> float:
    """Poses a second of processor time; `work(step)` handles `poses` of them."""
    for step in range(3):
        work(step)
    started, step = time.process_time(), 0
    while time.process_time() - started < seconds:
        work(step + 3)
        step += 1
    return poses * step / (time.process_time() - started)


def measure(data: PoseDataset, *, batch_size: int = 512) -> dict[str, float]:
    """Poses a second: rows alone, rows of shuffled epochs, and whole training batches of 21 joints."""
    joints = tuple(range(1, 22))

    def source(**options: Any) -> BatchSource:
        return BatchSource(data, joints, FitConfig(batch_size=batch_size, **options).resolve({}))

    plain, mirrored, noisy = (
        source(mirror=False, jitter=0.0), source(mirror=True), source(mirror=True, rig_noise=RigNoise.estimated("body"))
    )  # fmt: skip
    return {
        "shuffled_rows": rate(lambda step: data.batch(plain.indices(step)), batch_size),
        "batches_plain": rate(plain.batch, batch_size),
        "batches_mirrored_jittered": rate(mirrored.batch, batch_size),
        "batches_with_rig_noise": rate(noisy.batch, batch_size),
    }


def loading_share(prior: PosePrior, data: PoseDataset, *, steps: int = 100) -> float | None:
    """The share of the time of a fit's steps that making batches takes."""
    return prior.fit(data, config=FitConfig(max_steps=steps, progress=False)).loading_share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[512, 4096])
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = read_poses(args.shards, split="train")
    print(f"{data}, from the shards in {args.shards}")
    for size in args.batch_size:
        print(
            f"batch {size}: {json.dumps({name: round(value) for name, value in measure(data, batch_size=size).items()})}"
        )
    for prior in (GaussianMixturePrior("body", num_components=8), JointFlow("body"), GlobalFlow("body")):
        print(
            f"{type(prior).__name__}: loading is {100 * (loading_share(prior, data) or 0.0):.1f} % of a training step"
        )


if __name__ == "__main__":
    main()
