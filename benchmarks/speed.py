"""Speed, as ratios measured side by side in one run: one thread, medians, after warm-up.

    python benchmarks/speed.py [--runs runs/held_out] [--peers]

With `--runs` the priors that `benchmarks/held_out.py` trained are timed; otherwise priors fitted for a moment on synthetic
poses (same shapes, same cost). `--peers` adds the training throughput of zuko's flows, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from full_size_body import write_full_size_body
from held_out import MODELS
from speed_joint_flow import gradient_step, median_ms
from speed_joint_flow import measure as measure_joint_flow

import poseprior
from poseprior import PosePrior
from poseprior.io import synthetic_poses
from poseprior.training.batches import BatchSource

BATCHES = (1, 64, 1024)
#: Share of one smplx forward and backward that log_prob with gradient may cost at batch 1.
SHARE = {"OrderAgnosticPrior": 0.20}
#: The rows of `benchmarks/held_out.py`, but published presets with all 55 joints.
MADE: dict[str, Callable[[], PosePrior]] = {
    **MODELS,
    "JointFlow, published": lambda: poseprior.JointFlow("all", preset="published"),
    "GlobalFlow, published": lambda: poseprior.GlobalFlow("all", preset="published"),
}
NAMES = (
    "Gaussian, diagonal", "Gaussian, full", "mixture of 8", "JointFlow", "JointFlow, published", "GlobalFlow",
    "GlobalFlow, published", "OrderAgnosticPrior",
)  # fmt: skip


def fitted(name: str, runs: Path | None) -> PosePrior:
    """The prior of a row."""
    path = None if runs is None else runs / name.replace(",", "").replace(" ", "-").lower() / "prior.safetensors"
    if path is not None and path.exists() and "published" not in name:
        return poseprior.load(path)
    prior = MADE[name]()
    steps = min(3, prior.default_fit.max_steps)
    prior.fit(synthetic_poses(4000, seed=0), config=replace(prior.default_fit, max_steps=steps, progress=False))
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
    body = median_ms(smplx_step(), seconds=seconds)
    print(f"\nlog_prob + gradient to the pose, ms (smplx forward + backward, full-size body, batch 1: {body:.1f} ms)")
    print(f"{'prior':<22}" + "".join(f"{f'batch {b}':>11}" for b in BATCHES) + f"{'of smplx':>10}{'at most':>9}")
    for name, prior in priors.items():
        pose = prior.sample(max(BATCHES), generator=torch.Generator().manual_seed(0))
        times = [median_ms(gradient_step(prior.log_prob, pose[:b]), seconds=seconds) for b in BATCHES]
        cells = "".join(f"{t:11.2f}" for t in times)
        print(f"{name:<22}{cells}{times[0] / body:10.1%}{SHARE.get(name, 0.10):9.0%}")


def sampling_rows(priors: dict[str, PosePrior], seconds: float) -> None:
    print("\nsampling 1,024 poses, s (at most 0.5)")
    for name, prior in priors.items():
        generator = torch.Generator().manual_seed(0)
        print(
            f"{name:<22}{median_ms(lambda p=prior, g=generator: p.sample(1024, generator=g), seconds=seconds) / 1e3:8.3f}"
        )


def training_rows(peers: bool, data: Path) -> None:
    print("\ntraining, poses/s at batch 512, forward + backward + AdamW, one thread")
    poses = synthetic_poses(4000, seed=0)
    for name in ("JointFlow", "GlobalFlow", "OrderAgnosticPrior"):
        prior = fitted(name, None).train().requires_grad_(True)
        whole = poses.select(poses.observed[:, list(prior.joints)].all(1))
        source = BatchSource(whole, prior.joints, replace(prior.default_fit, batch_size=512))
        optimiser = torch.optim.AdamW(prior.parameters())
        rate = _throughput(lambda p=prior, s=source, o=optimiser: _train_step(p, s, o))
        print(f"{name:<22}{rate:8,.0f}   ({prior.num_parameters:,} parameters)")
    if peers:
        for flow in ("MAF", "NSF"):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "row.json"
                script = str(Path(__file__).with_name("zuko_peer.py"))
                command = [sys.executable, script, flow, "--data", str(data), "--out", str(out), "--steps", "30"]
                subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
                row = json.loads(out.read_text())
            print(f"{row['name']:<22}{row['poses_per_second']:8,.0f}   ({row['parameters']:,} parameters)")


def _train_step(prior: PosePrior, source: BatchSource, optimiser: torch.optim.Optimizer) -> None:
    loss = prior(*source.batch(0), None, 0)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _throughput(step: Callable[[], object], *, seconds: float = 5.0) -> float:
    return 512e3 / median_ms(step, seconds=seconds, least=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="folder that benchmarks/held_out.py wrote")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/body"), help="for --peers")
    parser.add_argument("--peers", action="store_true", help="train zuko's flows for a moment, too")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each median")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, 1 thread; torch {torch.__version__}, "
          f"poseprior {poseprior.__version__}, smplx {version('smplx')}, roma {version('roma')}")  # fmt: skip
    print("\nJointFlow published preset (55 joints) against the same flows in a Python loop, ms")
    print(f"{'batch':>6}{'loop':>10}{'JointFlow':>11}{'ratio':>8}{'at least':>10}")
    for row in measure_joint_flow(seconds=args.seconds):
        print(
            f"{row['batch']:6.0f}{row['loop_ms']:10.2f}{row['joint_flow_ms']:11.2f}{row['ratio']:8.1f}{row['target']:10.1f}"
        )
    priors = {name: fitted(name, args.runs) for name in NAMES}
    density_rows(priors, args.seconds)
    sampling_rows(priors, args.seconds)
    training_rows(args.peers, args.data)


if __name__ == "__main__":
    main()
