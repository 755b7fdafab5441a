"""Speed of every prior, as ratios measured side by side in one run: one thread, medians, after warm-up.

    python -m benchmarks.speed.compare_priors

Prints the published `JointFlow` against a loop over joints, log_prob with gradient beside one pass through smplx, sampling,
and training throughput. Priors are fitted for three steps on synthetic poses (their cost does not depend on the weights);
with `--runs` those that `benchmarks.density.held_out` trained are timed. `--zuko` adds the training throughput of zuko's
flows, each in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import poseprior
from benchmarks.common import (
    file_stem,
    gradient_step,
    machine_line,
    median_ms,
    parser_for,
)
from benchmarks.priors import BODY, published_global_flow, published_joint_flow
from benchmarks.speed import joint_flow_loop
from benchmarks.speed.full_size_body import write_full_size_body
from poseprior import FitConfig, PosePrior
from poseprior.io import synthetic_poses

BATCHES = (1, 64, 1024)
#: Fraction of one smplx forward and backward pass that log_prob with gradient may cost at batch 1.
TARGET, TARGETS = 0.10, {"OrderAgnosticPrior": 0.20}
#: The priors that are timed; published architectures model all 55 joints.
PRIORS: dict[str, Callable[[], PosePrior]] = {
    "Gaussian, diagonal": BODY["Gaussian, diagonal"],
    "Gaussian, full": BODY["Gaussian, full"],
    "mixture of 8": BODY["mixture of 8"],
    "JointFlow": BODY["JointFlow"],
    "JointFlow, published": lambda: published_joint_flow("all"),
    "GlobalFlow": BODY["GlobalFlow"],
    "GlobalFlow, published": lambda: published_global_flow("all"),
    "OrderAgnosticPrior": BODY["OrderAgnosticPrior"],
}
TRAINED = ("JointFlow", "GlobalFlow", "OrderAgnosticPrior")
_BATCH_SIZE = 512


def fitted(name: str, runs: Path | None) -> PosePrior:
    """The prior of a row: from the folder of `held_out`, else fitted for a moment."""
    path = None if runs is None else runs / file_stem(name) / "prior.safetensors"
    if path is not None and path.exists() and "published" not in name:
        return poseprior.load(path)
    prior = PRIORS[name]()
    config = FitConfig(max_steps=0 if prior.closed_form else 3, progress=False)
    prior.fit(synthetic_poses(4000, seed=0), config=config)
    return prior


def smplx_step() -> Callable[[], object]:
    """One forward and backward to all pose parameters on a full-size body model, batch 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import smplx
    with tempfile.TemporaryDirectory() as folder:
        write_full_size_body(Path(folder))
        model = smplx.create(folder, "smplx", use_pca=False, flat_hand_mean=True, num_betas=10)
    sizes = {"global_orient": 3, "body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45, "jaw_pose": 3}

    def step() -> object:
        pose = {name: torch.zeros(1, size, requires_grad=True) for name, size in sizes.items()}
        out = model(**pose)
        return torch.autograd.grad(out.vertices.square().sum() + out.joints.square().sum(), list(pose.values()))

    return step


def density_rows(priors: dict[str, PosePrior], seconds: float) -> None:
    """Print log_prob with its gradient, beside one pass through the body model."""
    body = median_ms(smplx_step(), seconds=seconds)
    print(f"\nlog_prob + gradient to the pose, ms (smplx forward + backward, full-size body, batch 1: {body:.1f} ms)")
    print(f"{'prior':<22}" + "".join(f"{f'batch {b}':>11}" for b in BATCHES) + f"{'of smplx':>10}{'at most':>9}")
    for name, prior in priors.items():
        pose = prior.sample(max(BATCHES), generator=torch.Generator().manual_seed(0))
        times = [median_ms(gradient_step(prior.log_prob, pose[:b]), seconds=seconds) for b in BATCHES]
        cells = "".join(f"{t:11.2f}" for t in times)
        print(f"{name:<22}{cells}{times[0] / body:10.1%}{TARGETS.get(name, TARGET):9.0%}")


def sampling_rows(priors: dict[str, PosePrior], seconds: float) -> None:
    """Print the time of 1,024 samples."""
    print("\nsampling 1,024 poses, s (at most 0.5)")
    for name, prior in priors.items():
        generator = torch.Generator().manual_seed(0)
        milliseconds = median_ms(partial(prior.sample, 1024, generator=generator), seconds=seconds)
        print(f"{name:<22}{milliseconds / 1e3:8.3f}")


def training_rows(num_parameters: dict[str, int], steps: int) -> None:
    """Print the poses a second of the training loop."""
    print(f"\ntraining, poses/s at batch {_BATCH_SIZE}, everything a step of `fit` does, one thread")
    for name, count in num_parameters.items():
        print(f"{name:<22}{training_rate(PRIORS[name], steps):8,.0f}   ({count:,} parameters)")


def training_rate(build: Callable[[], PosePrior], steps: int) -> float:
    """Poses a second of `steps` steps: a long fit minus a short one, so that what comes before the first step cancels."""
    poses = synthetic_poses(4000, seed=0)

    def seconds(count: int) -> float:
        prior = build()
        config = FitConfig(max_steps=count, batch_size=_BATCH_SIZE, progress=False)
        return prior.fit(poses, config=config).seconds

    short = 3
    return steps * _BATCH_SIZE / (seconds(short + steps) - seconds(short))


def zuko_rows(data: Path, steps: int) -> None:
    """Print the same of zuko's flows."""
    for flow in ("MAF", "NSF"):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "row.json"
            command = [sys.executable, "-m", "benchmarks.density.zuko_flows", flow, "--data", str(data)]
            subprocess.run([*command, "--out", str(out), "--steps", str(steps)], check=True, stdout=subprocess.DEVNULL)
            row = json.loads(out.read_text())
        print(f"{row['name']:<22}{row['poses_per_second']:8,.0f}   ({row['parameters']:,} parameters)")


def main() -> None:
    """Measure and print, the shortest tables first."""
    parser = parser_for(__doc__)
    parser.add_argument("--runs", type=Path, help="folder that benchmarks.density.held_out wrote")
    parser.add_argument(
        "--zuko", action="store_true", help="train zuko's flows for a moment, too; the only use of --data"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="for each median; default %(default)s")
    parser.add_argument("--steps", type=int, default=30, help="of training, for its throughput; default %(default)s")
    args = parser.parse_args()
    if args.zuko and importlib.util.find_spec("zuko") is None:
        parser.error("--zuko needs zuko: pip install zuko")
    torch.set_num_threads(1)
    print(f"{machine_line()}\n")
    joint_flow_loop.print_rows(joint_flow_loop.measure(seconds=args.seconds))
    priors = {name: fitted(name, args.runs) for name in PRIORS}
    density_rows(priors, args.seconds)
    sampling_rows(priors, args.seconds)
    training_rows({name: priors[name].num_parameters for name in TRAINED}, args.steps)
    if args.zuko:
        zuko_rows(args.data, args.steps)


if __name__ == "__main__":
    main()
