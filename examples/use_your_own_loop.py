"""Train a prior in a loop of your own, here a flow that takes a context: p(pose | label), and p(pose) without one.

`prior.fit(PoseDataset(poses, context=label))` does this with averaging, validation and checkpoints; a loop of your own is
for objectives that it does not have. On SYNTHETIC poses.
"""

from __future__ import annotations

import argparse

import torch

import poseprior
from poseprior.io import synthetic_poses
from poseprior.rotations import add_tangent_noise
from poseprior.training import start_from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()

    poses = synthetic_poses(4000, seed=0).poses
    label = (poses[:, 4, 0] > poses[:, 4, 0].median()).float()[:, None]  # 1 where the left knee is bent more than usual

    torch.manual_seed(0)
    prior = poseprior.GlobalFlow("body", context_dim=1)
    start_from(prior, poses)
    prior.train()

    optimiser = torch.optim.AdamW(prior.parameters(), lr=1e-3)
    joints = list(prior.joints)
    for step in range(args.steps):
        rows = torch.randint(len(poses), (256,))
        rotvec = add_tangent_noise(poses[rows][:, joints], 0.02)
        observed = torch.ones(rotvec.shape[:-1], dtype=torch.bool)
        loss = prior.training_loss(rotvec, observed, label[rows], step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 5.0)
        optimiser.step()

    prior.eval().requires_grad_(False)
    for value in (0.0, 1.0):
        drawn = prior.sample(500, context=torch.tensor([value]))
        print(f"label {value:.0f}: left knee of samples {float(drawn[:, 4, 0].mean()):.2f} rad")
    print(f"with the label {float(prior.log_prob(poses, context=label).mean()):.2f} nats, ", end="")
    print(f"without {float(prior.log_prob(poses).mean()):.2f} nats a pose")


if __name__ == "__main__":
    main()
