"""What the examples share: poses of `--data DIR`, or synthetic ones, and how long to train on either."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from poseprior import FitConfig, FitResult, PoseDataset, PosePrior
from poseprior.io import read_split, synthetic_poses

#: A short run, enough to show how it is done.
SYNTHETIC_STEPS = 60


def arguments(description: str | None, out: str) -> argparse.Namespace:
    """`--data DIR`, `--out FILE`, `--minutes M`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of train, val and test files; default: synthetic poses")
    parser.add_argument("--out", type=Path, default=Path(out), help="the weights to write")
    parser.add_argument("--minutes", type=float, help="training time at most; default: the prior's own number of steps")
    return parser.parse_args()


def splits(data: Path | None, *, one_hand: bool = False) -> tuple[PoseDataset, PoseDataset, PoseDataset]:
    """Train, val and test poses of different people; `one_hand` hides all but one hand of each synthetic pose."""
    if data is not None:
        found = read_split(data)
        missing = [name for name in ("train", "val", "test") if name not in found]
        if missing:
            raise SystemExit(f"{data} has no {', '.join(missing)} split; see docs/training.md for making splits.")
        return found["train"], found["val"], found["test"]
    print("synthetic poses: a kinematic sampler with anatomical limits, not recordings of people")
    made = synthetic_poses(4000, seed=0, num_subjects=10)
    if one_hand:
        observed = torch.zeros_like(made.observed)
        observed[::2, 25:40] = True
        observed[1::2, 40:] = True
        made = PoseDataset(made.poses, observed, subject=made.subject)
    train, val, test = made.split_by_subject([0.7, 0.15, 0.15], seed=0)
    return train, val, test


def config(prior: PosePrior, args: argparse.Namespace) -> FitConfig:
    """The prior's own options; a short run on synthetic poses."""
    if args.data is not None:
        return FitConfig(minutes=args.minutes)
    steps = {} if prior.closed_form else {"max_steps": SYNTHETIC_STEPS, "eval_every": 20}
    return FitConfig(minutes=args.minutes, max_val_poses=256, **steps)


def evaluation_size(args: argparse.Namespace) -> dict[str, int]:
    """Options of `evaluate`: a quick look at synthetic poses, its defaults on real ones."""
    return {"num_samples": 500, "num_completed": 20, "max_poses": 150} if args.data is None else {}


def summary(result: FitResult) -> str:
    """One line about a fit: the step whose weights were kept, and their validation NLL."""
    if result.val_nll is None:
        return f"stopped after {result.steps} steps, before the first look at the validation poses"
    return f"kept step {result.best_step} of {result.steps}, val NLL {result.val_nll:.2f} nats"
