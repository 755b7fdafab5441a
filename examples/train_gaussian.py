"""Gaussian priors of the body: fit, compare on people that training did not see, save, load, sample.

python examples/train_gaussian.py                                  # synthetic poses
python examples/train_gaussian.py --data ../shared/data/body       # train_poses.npz, val_poses.npz, test_poses.npz
"""

from __future__ import annotations

import torch
from poses import arguments, evaluation_size, splits

import poseprior
from poseprior.evaluation import evaluate, format_table


def main() -> None:
    args = arguments(__doc__, "gaussian.safetensors")
    train, val, test = splits(args.data)
    for covariance in ("diagonal", "full"):
        prior = poseprior.GaussianPrior("body", covariance=covariance)
        prior.fit(train, val=val)  # closed form: no steps
        print(f"\n{covariance} covariance:")
        print(format_table(evaluate(prior, test, **evaluation_size(args))))

    prior.save(args.out)
    prior = poseprior.load(args.out)

    # Exact marginals and conditionals: the density without the arms, and the left arm given the rest.
    pose, observed = test.batch([0])
    without_arms = observed.clone()
    without_arms[:, [16, 17, 18, 19, 20, 21]] = False
    print(f"\nlog p(pose) = {float(prior.log_prob(pose, observed=observed)):.1f} nats", end=", ")
    print(f"without arms {float(prior.log_prob(pose, observed=without_arms)):.1f}")
    drawn = prior.complete(pose, without_arms, num_samples=100, generator=torch.Generator().manual_seed(0))
    print(f"left elbow bends by {float(drawn[:, 0, 18].norm(dim=-1).mean()):.2f} rad on average over completions")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
