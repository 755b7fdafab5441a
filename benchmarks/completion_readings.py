"""Best of ten completions under other readings of "legs" and "trunk" than those that `poseprior evaluate` hides.

    python benchmarks/completion_readings.py --data ../shared/data/body --out runs/held_out

Prints docs/order_agnostic.md's table, for val and test. Baselines are those of `benchmarks/held_out.py`, in its folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from held_out import MODELS
from kept_prior import file_stem, kept_prior
from torch import Tensor

import poseprior
from poseprior import PosePrior, skeleton
from poseprior.evaluation.completion import COMPLETION_PATTERNS, moved_keypoint_mask
from poseprior.io import PoseDataset, read_split
from poseprior.kinematics import keypoint_positions

BASELINES = ("Gaussian, full", "mixture of 4")
SHIPPED = ("body-order-agnostic", "body-joint-flow")
#: Hidden rotations, and the joints that are scored; None for all body joints that the hidden ones move.
READINGS: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None]] = {
    "hips to toes": (COMPLETION_PATTERNS["legs"], None),
    "hips to toes, knees and ankles scored": (COMPLETION_PATTERNS["legs"], (4, 5, 7, 8)),
    "hips, knees": ((1, 2, 4, 5), None),
    "all but wrists, ankles, head": (COMPLETION_PATTERNS["trunk"], None),
    "spine": ((3, 6, 9), None),
    "spine, neck, head": ((3, 6, 9, 12, 15), None),
}
_POSES, _DRAWS = 500, 10


def errors_mm(
    prior: PosePrior, data: PoseDataset, joints: tuple[int, ...], scored: tuple[int, ...] | None
) -> tuple[float, float]:
    """Mean error of all draws, and of the best draw of each pose."""
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:_POSES]
    observed = data.observed[rows]
    pose = torch.where(observed[..., None], data.poses[rows], 0.0)
    hidden = torch.zeros(skeleton.NUM_JOINTS, dtype=torch.bool)
    hidden[list(joints)] = True
    drawn = prior.complete(
        pose, observed & ~hidden, num_samples=_DRAWS, generator=torch.Generator().manual_seed(0)
    )  # fmt: skip
    filled = torch.where((hidden & observed)[..., None], drawn, pose)
    distance = 1000.0 * (keypoint_positions(filled) - keypoint_positions(pose)).norm(dim=-1)
    weight: Tensor = moved_keypoint_mask(hidden & observed)
    if scored is not None:
        weight = weight & torch.isin(torch.arange(weight.shape[1]), torch.tensor(scored))
    each = (distance * weight).sum(-1) / weight.sum(-1)
    return float(each.mean()), float(each.amin(0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/body"))
    parser.add_argument("--out", type=Path, default=Path("runs/held_out"), help="the folder of benchmarks/held_out.py")
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = read_split(args.data)
    priors = {
        name: kept_prior(args.out / file_stem(name) / "prior.safetensors", MODELS[name], lambda: splits)
        for name in BASELINES
    }
    priors |= {name: poseprior.load(name) for name in SHIPPED}
    for split in ("val", "test"):
        print(f"\n{split}, mean / best of {_DRAWS}, mm (best of {_DRAWS} against the {BASELINES[0]})\n")
        print(f"| hidden | {' | '.join(priors)} |\n{'|---' * (1 + len(priors))}|")
        for title, (joints, scored) in READINGS.items():
            found = [errors_mm(prior, splits[split], joints, scored) for prior in priors.values()]
            cells = [f"{mean:.0f} / {best:.0f} ({best / found[0][1] - 1.0:+.0%})" for mean, best in found]
            print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
