"""Error of completions for several sets of hidden body joints, beyond those that `poseprior evaluate` hides.

    python -m benchmarks.density.completion_by_part --data DIR --out runs/held_out

Prints a table for val and one for test. The Gaussian baselines are those of `benchmarks.density.held_out`, in its folder.
"""

from __future__ import annotations

from pathlib import Path

import torch

import poseprior
from benchmarks.common import file_stem, markdown_head, markdown_row, parser_for, train_once
from benchmarks.priors import BODY
from poseprior import PoseDataset, PosePrior, skeleton
from poseprior.evaluation import COMPLETION_PATTERNS, moved_keypoint_mask
from poseprior.io import read_split
from poseprior.kinematics import keypoint_positions

BASELINES = ("Gaussian, full", "mixture of 4")
SHIPPED = ("body-order-agnostic", "body-joint-flow")
#: Hidden rotations, and the joints that are scored; None for all body joints that the hidden ones move.
HIDDEN: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None]] = {
    "hips to toes": (COMPLETION_PATTERNS["legs"], None),
    "hips to toes, knees and ankles scored": (COMPLETION_PATTERNS["legs"], (4, 5, 7, 8)),
    "hips, knees": ((1, 2, 4, 5), None),
    "all but wrists, ankles, head": (COMPLETION_PATTERNS["trunk"], None),
    "spine": ((3, 6, 9), None),
    "spine, neck, head": ((3, 6, 9, 12, 15), None),
}
DRAWS = 10


def errors_mm(
    prior: PosePrior, data: PoseDataset, joints: tuple[int, ...], scored: tuple[int, ...] | None, num_poses: int
) -> tuple[float, float]:
    """Mean error of all draws, and of the best draw of each pose."""
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:num_poses]
    observed = data.observed[rows]
    pose = torch.where(observed[..., None], data.poses[rows], 0.0)
    hidden = torch.zeros(skeleton.NUM_JOINTS, dtype=torch.bool)
    hidden[list(joints)] = True
    generator = torch.Generator().manual_seed(0)
    drawn = prior.complete(pose, observed & ~hidden, num_samples=DRAWS, generator=generator)
    filled = torch.where((hidden & observed)[..., None], drawn, pose)
    distance = 1000.0 * (keypoint_positions(filled) - keypoint_positions(pose)).norm(dim=-1)
    weight = moved_keypoint_mask(hidden & observed)
    if scored is not None:
        weight = weight & torch.isin(torch.arange(weight.shape[1]), torch.tensor(scored))
    each = (distance * weight).sum(-1) / weight.sum(-1)
    return float(each.mean()), float(each.amin(0).mean())


def main() -> None:
    """Print the tables."""
    parser = parser_for(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/held_out"), help="the folder of held_out")
    parser.add_argument("--num-poses", type=int, default=500, help="poses of each split; default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = read_split(args.data / "body")
    priors = {
        name: train_once(args.out / file_stem(name) / "prior.safetensors", BODY[name], lambda: splits)
        for name in BASELINES
    }
    priors |= {name: poseprior.load(name) for name in SHIPPED}
    for split in ("val", "test"):
        print(f"\n{split}, mean / best of {DRAWS}, mm (best of {DRAWS} against the {BASELINES[0]})\n")
        print(markdown_head(("hidden", *priors)))
        for title, (joints, scored) in HIDDEN.items():
            found = [errors_mm(prior, splits[split], joints, scored, args.num_poses) for prior in priors.values()]
            cells = [f"{mean:.0f} / {best:.0f} ({best / found[0][1] - 1.0:+.0%})" for mean, best in found]
            print(markdown_row([title, *cells]), flush=True)


if __name__ == "__main__":
    main()
