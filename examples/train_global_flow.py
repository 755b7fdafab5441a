"""GlobalFlow: one flow over the whole pose, z ~ N(0, I). Train, evaluate, and walk its latent space.

python examples/train_global_flow.py                                  # synthetic poses
python examples/train_global_flow.py --data ../shared/data/body       # train_poses.npz, val_poses.npz, test_poses.npz
"""

from __future__ import annotations

import torch
from poses import arguments, config, evaluation_size, splits, summary

import poseprior
from poseprior.evaluation import evaluate, format_table
from poseprior.rotations import geodesic_distance


def main() -> None:
    args = arguments(__doc__, "global_flow.safetensors")
    train, val, test = splits(args.data)
    prior = poseprior.GlobalFlow("body")  # GlobalFlow.published("body") is the reference architecture
    result = prior.fit(train, val=val, config=config(prior, args))
    print(summary(result))
    prior.save(args.out)
    prior = poseprior.load(args.out)
    print(format_table(evaluate(prior, test, **evaluation_size(args))))

    # Encode and decode are exact inverses, for poses that observe every modelled joint.
    rows = test.observed[:, list(prior.joints)].all(1).nonzero()[:32, 0]
    pose, _ = test.batch(rows)
    z = prior.encode(pose)
    joints = list(prior.joints)
    error = torch.rad2deg(geodesic_distance(prior.decode(z)[:, joints], pose[:, joints])).max()
    print(f"latents have {prior.latent_dim} numbers; decode(encode(pose)) is off by {float(error):.4f} degrees at most")
    halfway = prior.decode(0.5 * (z[0] + z[-1]))
    print(f"halfway between two poses in latent space: log p = {float(prior.log_prob(halfway)):.1f} nats")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
