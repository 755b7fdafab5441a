"""Sizes of rig noise, estimated from the differences between the rigs and people of the training recordings.

The covariances A_j and B_j of each joint's rest frames (docs/rig_noise.md) by empirical Bayes (`rest_frames`), beside those
that ship. The body's come from the people of each rig in `train` and `uiprmd`, those of hands from the sittings of the one
tracker. Printed are standard deviations in degrees about the joint's axes x / y / z, and the root mean square angle of
both sides together.

  python -m benchmarks.density.rig_noise_sizes --data DIR [--draws 20] [--out sizes.json]

`--out` is a file that `RigNoise.from_dict` reads: the body's sizes, with those that ship where one rig alone measures the
joint (toes, collars) or no rig does (hinges, shares).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import markdown_table, parser_for, write_json
from benchmarks.density.rest_frames import DRAWS, Estimate, estimate, groups_of
from poseprior import PoseDataset, RigNoise, read_poses
from poseprior.skeleton import JOINT_NAMES, JOINT_SETS

BODY = tuple(range(1, 22))
#: Of EM, at most: it is slow where the data say little about how a size is split between the two sides.
_STEPS = 500


def body_poses(folder: Path) -> PoseDataset:
    """The recordings that priors of the body are trained on, all rigs and people."""
    files = ("train_poses.npz", "uiprmd_poses.npz")
    return PoseDataset.concat([read_poses(folder / "smplx_body" / name) for name in files])


def hand_poses(folder: Path) -> PoseDataset:
    """The tracker's hands; its sittings stand for people."""
    return read_poses(folder / "hands" / "hands_train.npz").with_names(rig="tracker")


def table(found: Estimate, shipped: RigNoise) -> str:
    """Markdown, one row for each left or middle joint."""
    noise, rows = found.rig_noise(), []
    for k, joint in enumerate(found.joints):
        name = JOINT_NAMES[joint]
        if name not in noise.parent_frame:
            continue
        rigs = {group.rig for group in found.showing(k)}
        sides = [_cell(each, side, name) for side in ("parent_frame", "child_frame") for each in (shipped, noise)]
        angles = [f"{_angle(each, name):.1f}" for each in (shipped, noise)]
        rows.append([name, f"{len(rigs)}, {len(found.showing(k))}", *sides, *angles])
    head = ["joint", "rigs, people", "parent, shipped", "estimated", "child, shipped", "estimated"]
    return markdown_table([*head, "angle, shipped", "estimated"], rows)


def _matrix(noise: RigNoise, side: str, joint: str) -> np.ndarray:
    return np.asarray(getattr(noise, side).get(joint, np.zeros((3, 3))))


def _cell(noise: RigNoise, side: str, joint: str) -> str:
    return " / ".join(f"{math.sqrt(value):.1f}" for value in np.diag(_matrix(noise, side, joint)))


def _angle(noise: RigNoise, joint: str) -> float:
    return math.sqrt(sum(np.trace(_matrix(noise, side, joint)) for side in ("parent_frame", "child_frame")))


def with_shipped(found: Estimate) -> RigNoise:
    """The estimated rest frames of joints that two rigs or more measure; everything else as shipped."""
    shipped, noise = RigNoise.estimated("body"), found.rig_noise()
    single = {
        JOINT_NAMES[joint] for k, joint in enumerate(found.joints) if len({group.rig for group in found.showing(k)}) < 2
    }
    sides = (
        {**getattr(shipped, side), **{j: rows for j, rows in getattr(noise, side).items() if j not in single}}
        for side in ("parent_frame", "child_frame")
    )
    return replace(shipped, parent_frame=next(sides), child_frame=next(sides))


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--draws", type=float, default=DRAWS, help="independent draws that a person's poses are worth")
    parser.add_argument("--out", type=Path, help="where to write the body's sizes, JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    body = estimate(groups_of(body_poses(args.data), BODY), BODY, draws=args.draws, steps=_STEPS)
    print(table(body, RigNoise.estimated("body")))
    if args.out:
        write_json(args.out, json.loads(json.dumps(asdict(with_shipped(body)))))
    hands = JOINT_SETS["hands"]
    found = estimate(groups_of(hand_poses(args.data), hands), hands, draws=args.draws, steps=_STEPS)
    print(table(found, RigNoise.estimated("hands")))
    print(f"EM took {body.steps} and {found.steps} steps.")


if __name__ == "__main__":
    main()
