"""How anatomical the shipped priors' samples are, beside the recordings: the percentages that the model cards quote.

python -m benchmarks.density.sample_anatomy --data DIR
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import poseprior
from benchmarks.common import parser_for
from poseprior import skeleton
from poseprior.recipes import read_parts
from poseprior.rotations import geodesic_distance

DRAWS = 5000
_RIGHT = skeleton.JOINT_SETS["right_hand"]
#: Second and third joints of index, middle, pinky, ring: hinges that flex about +z on the right hand.
_HINGES = [40 + 3 * finger + k for finger in range(4) for k in (1, 2)]


def body_facts(pose: Tensor, observed: Tensor) -> str:
    """Facts about the body of (N, 55, 3) poses; (N, 55) says which joints to look at."""
    limbs = [j for j in skeleton.JOINT_SETS["body"] if bool(observed[:, j].any())]
    knees, hips = pose[:, [4, 5], 0], pose[:, [1, 2], 0]
    elbows = torch.stack([-pose[:, 18, 1], pose[:, 19, 1]], 1)
    halves = torch.rad2deg(geodesic_distance(pose[:, 3], pose[:, 6])).mean()
    return (
        f"knees bent backwards > 5 degrees {percent(knees < -math.radians(5)):.1f}, "
        f"elbows > 10 degrees {percent(elbows < -math.radians(10)):.1f}, "
        f"poses with a joint turned > 150 degrees {percent((pose[:, limbs].norm(dim=-1) > 2.6).any(1)):.1f}, "
        f"both hips flexed > 60 degrees {percent((hips < -math.radians(60)).all(1)):.1f}; "
        f"spine1 to spine2 {float(halves):.1f} degrees"
    )


def hand_facts(pose: Tensor) -> str:
    """Facts about the right hands of (N, 55, 3) poses."""
    flexion = torch.rad2deg(pose[:, _HINGES, 2])
    off_axis = torch.rad2deg(pose[:, _HINGES, :2].norm(dim=-1))
    return (
        f"hinges bent back > 20 degrees {percent(flexion < -20):.1f}, flexed > 95 degrees {percent(flexion > 95):.1f}, "
        f"median turn off the hinge's axis {float(off_axis.median()):.1f} degrees"
    )


def percent(mask: Tensor) -> float:
    """How much of a boolean tensor is true."""
    return 100.0 * float(mask.float().mean())


def main() -> None:
    """Print a line for the recordings and one for each prior."""
    args = parser_for(__doc__).parse_args()
    torch.set_num_threads(1)
    print(f"per cent; {DRAWS:,} draws of each prior, recordings: the training poses")
    train = read_parts(args.data, ("body", "hands"))["train"]
    body, hands = train["body"], train["hands"]
    print("body, recordings:", body_facts(*body.all_poses()))
    pose, observed = hands.all_poses()
    print("hands, recordings:", hand_facts(pose[observed[:, list(_RIGHT)].all(1)]))
    for name in poseprior.list_pretrained():
        prior = poseprior.load(name)
        drawn = prior.sample(DRAWS, generator=torch.Generator().manual_seed(0))
        modelled = torch.zeros(DRAWS, skeleton.NUM_JOINTS, dtype=torch.bool)
        modelled[:, list(prior.joints)] = True
        if 1 in prior.joints:
            print(f"{name}, body:", body_facts(drawn, modelled))
        if set(_RIGHT) <= set(prior.joints):
            print(f"{name}, hands:", hand_facts(drawn))


if __name__ == "__main__":
    main()
