"""A lower bound of the error of a hidden limb: the posterior mean of its joints given all other true rotations.

    python -m benchmarks.fitting.hidden_limb_bound --data DIR

A fit knows less than this (noisy points of the other joints), and the mean of positions, which need not be a pose, has the
least squared error that a density allows. So the numbers bound the errors of the tasks "arm-hidden" and
"legs-out-of-frame" in `benchmarks.fitting.compare_priors`, for people left out (test) and a rig left out (hdm05).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import poseprior
from benchmarks.common import markdown_head, markdown_row, parser_for
from benchmarks.fitting.tasks import spread_over_subjects
from poseprior.io import read_poses
from poseprior.kinematics import keypoint_positions

PRIORS = ("body-gaussian", "body-mixture", "body-joint-flow", "body-order-agnostic")
#: Hidden rotations and scored joints, as in tasks.py.
PARTS = {"left arm": ((13, 16, 18, 20), (18, 20)), "legs": ((1, 2, 4, 5, 7, 8, 10, 11), (4, 5, 7, 8))}


def frames(path: Path, count: int) -> tuple[Tensor, Tensor]:
    """Poses with the root and what was not measured at rest, and what was measured; as many of every subject."""
    data = read_poses(path)
    index = spread_over_subjects(data, count, torch.Generator().manual_seed(3))
    observed = data.observed[index]
    pose = torch.where(observed[..., None], data.poses[index], 0.0)
    pose[:, 0], pose[:, 22:] = 0.0, 0.0
    return pose, observed


def error_mm(filled: Tensor, pose: Tensor, scored: list[int]) -> float:
    """Mean distance of the scored joints in the mean position over (S, B, 55, 3) guesses, to (B, 55, 3) poses."""
    mean = keypoint_positions(filled)[:, :, scored].mean(0)
    return 1000.0 * float((mean - keypoint_positions(pose)[:, scored]).norm(dim=-1).mean())


def main() -> None:
    """Print the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--frames", type=int, default=270, help="of each split; default %(default)s")
    parser.add_argument("--draws", type=int, default=40, help="whose mean is taken; default %(default)s")
    parser.add_argument("--priors", nargs="+", default=PRIORS, help="names of shipped priors; default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    priors = [poseprior.load(name) for name in args.priors]
    splits = {
        split: frames(args.data / "smplx_body" / f"{split}_poses.npz", args.frames) for split in ("test", "hdm05")
    }
    print(markdown_head(("part", "split", "frames", "at rest, mm", *args.priors)))
    for part, (joints, scored) in PARTS.items():
        hidden = torch.zeros(55, dtype=torch.bool)
        hidden[list(joints)] = True
        for split, (pose, observed) in splits.items():
            rest = error_mm(torch.where(hidden[:, None], 0.0, pose)[None], pose, list(scored))
            cells = [part, split, str(len(pose)), f"{rest:.0f}"]
            for prior in priors:
                generator = torch.Generator().manual_seed(0)
                drawn = prior.complete(pose, observed & ~hidden, num_samples=args.draws, generator=generator)
                found = error_mm(torch.where(hidden[:, None], drawn, pose), pose, list(scored))
                cells.append(f"{found:.0f} ({found / rest - 1.0:+.0%})")
            print(markdown_row(cells), flush=True)


if __name__ == "__main__":
    main()
