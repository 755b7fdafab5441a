"""JointFlow: a conditional flow for each joint given a few others. Train, evaluate, and find an implausible joint.

python examples/train_joint_flow.py                                  # synthetic poses
python examples/train_joint_flow.py --data ../shared/data/body       # train_poses.npz, val_poses.npz, test_poses.npz
"""

from __future__ import annotations

import torch
from poses import arguments, config, evaluation_size, splits, summary

import poseprior
from poseprior.evaluation import evaluate, format_table
from poseprior.skeleton import JOINT_NAMES
from poseprior.tasks import score


def main() -> None:
    args = arguments(__doc__, "joint_flow.safetensors")
    train, val, test = splits(args.data)
    prior = poseprior.JointFlow("body")  # JointFlow.published("body") is the reference architecture
    result = prior.fit(train, val=val, config=config(prior, args))
    print(summary(result))
    prior.save(args.out)
    prior = poseprior.load(args.out)
    print(format_table(evaluate(prior, test, **evaluation_size(args))))

    # Which joint is wrong? Bend a knee forwards and ask.
    pose, observed = test.batch([0])
    pose[0, 4] = torch.tensor([-1.5, 0.0, 0.0])
    blamed = score(prior, pose, observed=observed, generator=torch.Generator().manual_seed(0)).attribution[0]
    print(f"a knee bent forwards: {JOINT_NAMES[int(blamed.argmax())]} is to blame, by {float(blamed.max()):.0f} nats")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
