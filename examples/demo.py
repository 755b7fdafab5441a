"""The library's main job in one go: train, evaluate, save, load, sample, look.

With no argument it trains on SYNTHETIC poses (a small kinematic sampler, not people). With `--data DIR` it does the same
on real files (`train_poses.npz`, `val_poses.npz`, `test_poses.npz`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import poseprior
from poseprior.io import read_split, synthetic_poses
from poseprior.training.evaluation import evaluate, format_table
from poseprior.viz import plot_poses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of real pose files; default: synthetic poses")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    args = parser.parse_args()

    if args.data is None:
        print("synthetic poses: a kinematic sampler with anatomical limits, not recordings of people")
        train, val, test = synthetic_poses(12_000, seed=0, num_subjects=12).split_by_subject([0.7, 0.15, 0.15], seed=0)
    else:
        splits = read_split(args.data)
        train, val, test = splits["train"], splits["val"], splits["test"]
    print(f"train on {len(train):,} poses, held out: {len(test):,} poses of {test.num_subjects} other subjects")

    for covariance in ("diagonal", "full"):
        prior = poseprior.GaussianPrior("body", covariance=covariance)
        prior.fit(train, val=val)
        path = args.out / f"gaussian-{covariance}.safetensors"
        prior.save(path)
        prior = poseprior.load(path)
        print(format_table(evaluate(prior, test)))

    samples = prior.sample(12, generator=torch.Generator().manual_seed(0))
    picture = args.out / "samples.png"
    plot_poses(samples, joints=prior.joints, path=picture)

    # Hide the left arm of a held-out pose and let the prior fill it in.
    arm = [16, 18, 20]
    whole = test.observed[:, list(prior.joints)].all(1).nonzero()[:, 0]
    pose, observed = test.batch(whole[len(whole) // 2][None])
    hidden = observed[0].clone()
    hidden[arm] = False
    filled = prior.complete(pose[0], hidden, num_samples=5, generator=torch.Generator().manual_seed(0))
    titles = ["recorded", *(f"left arm drawn {k}" for k in range(1, 6))]
    plot_poses(torch.cat([pose, filled]), joints=prior.joints, titles=titles, path=args.out / "completions.png")
    print(f"results: {args.out}/gaussian-*.safetensors, pictures: {picture}, {args.out}/completions.png")


if __name__ == "__main__":
    main()
