"""HandVAE: one network for both hands. Train on hands tracked one at a time, evaluate, encode and complete.

python examples/train_hand_vae.py                                   # synthetic poses
python examples/train_hand_vae.py --data ../shared/data/hands       # hands_train.npz, hands_val.npz, hands_test.npz
"""

from __future__ import annotations

import torch
from poses import arguments, config, evaluation_size, splits, summary

import poseprior
from poseprior.evaluation import evaluate, format_table
from poseprior.rotations import geodesic_distance


def main() -> None:
    args = arguments(__doc__, "hand_vae.safetensors")
    train, val, test = splits(args.data, one_hand=True)
    prior = poseprior.HandVAE("hands")  # HandVAE.published("hands") has 2 million parameters
    result = prior.fit(train, val=val, config=config(prior, args))
    print(summary(result))
    prior.save(args.out)
    prior = poseprior.load(args.out)
    print(format_table(evaluate(prior, test, **evaluation_size(args))))

    # A right hand of the test set, encoded and decoded; then three of its fingers hidden and drawn again.
    right = list(range(40, 55))
    rows = test.observed[:, right].all(1).nonzero()[:64, 0]
    pose, observed = test.batch(rows)
    decoded = prior.decode(prior.encode(pose))
    error = torch.rad2deg(geodesic_distance(decoded[:, right], pose[:, right])).mean()
    print(f"encode and decode: {float(error):.2f} degrees a joint")
    observed[:, 43:52] = False  # middle, pinky and ring finger
    drawn = prior.complete(pose, observed, num_samples=5, generator=torch.Generator().manual_seed(0))
    off = torch.rad2deg(geodesic_distance(drawn[:, :, 43:52], pose[:, 43:52])).mean()
    print(f"three hidden fingers: draws are {float(off):.1f} degrees a joint from the truth")
    print(f"results: {args.out}")


if __name__ == "__main__":
    main()
