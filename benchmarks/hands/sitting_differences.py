"""How far finger joints of one tracker differ from sitting to sitting, when the same words are signed.

    python -m benchmarks.hands.sitting_differences --data DIR

For each joint: the mean rotation of every word in every sitting, as a tangent vector at the word's mean over sittings.
Printed are the standard deviations, in degrees about the joint's three axes, of what a sitting adds to all its words
(hands and conventions of the tracker), and of what remains (how a word is signed).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import markdown_head, markdown_row, parser_for
from poseprior.rotations import nearest_rotmat, rotmat_to_rotvec, rotvec_to_rotmat
from poseprior.skeleton import JOINT_NAMES, JOINT_SETS

_LEAST_FRAMES = 30
_FILES = ("hands_train.npz", "hands_val.npz", "hands_test.npz")


def main() -> None:
    """Print one row for each joint."""
    folder = Path(parser_for(__doc__).parse_args().data) / "hands"
    parts = [np.load(folder / name) for name in _FILES]
    pose, side, sitting, word = (
        np.concatenate([part[key] for part in parts]) for key in ("hand_pose", "side", "sitting", "word")
    )
    right = side == 1  # nearly all are
    rotation = rotvec_to_rotmat(torch.from_numpy(pose[right]).double())
    offsets, sittings = word_offsets(rotation, sitting[right], word[right])
    between, within = components(offsets, sittings)
    print(markdown_head(["joint", "between sittings", "within sittings"]))
    for k, joint in enumerate(JOINT_SETS["right_hand"]):
        cells = (" / ".join(f"{math.degrees(v):.1f}" for v in part[k].sqrt().tolist()) for part in (between, within))
        print(markdown_row([JOINT_NAMES[joint], *cells]))
    print(f"\n{len(offsets)} means of words in {len(set(sittings.tolist()))} sittings")


def word_offsets(rotation: Tensor, sitting: np.ndarray, word: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """(M, 15, 3) means of words in sittings, as tangent vectors at the words' own means, and the sitting of each (M,)."""
    offsets, sittings = [], []
    for one in np.unique(word):
        rows = {s: torch.from_numpy((word == one) & (sitting == s)) for s in np.unique(sitting)}
        means = {s: _mean(rotation[r]) for s, r in rows.items() if int(r.sum()) >= _LEAST_FRAMES}
        if len(means) < 2:
            continue
        centre = _mean(torch.stack(list(means.values())))
        # The centre is made of the same means: their spread about it is too small by this factor.
        factor = math.sqrt(len(means) / (len(means) - 1))
        offsets += [factor * rotmat_to_rotvec(centre.mT @ mean) for mean in means.values()]
        sittings += list(means)
    return torch.stack(offsets), np.asarray(sittings)


def components(offsets: Tensor, sittings: np.ndarray) -> tuple[Tensor, Tensor]:
    """(15, 3) variances between sittings and within them: a one-way analysis of variance for each axis."""
    groups = [offsets[torch.from_numpy(sittings == s)] for s in np.unique(sittings)]
    groups = [group for group in groups if len(group) > 1]
    within = torch.stack([group.var(0) for group in groups]).mean(0)
    means = torch.stack([group.mean(0) for group in groups])
    size = sum(len(group) for group in groups) / len(groups)
    return (means.square().mean(0) - within / size).clamp_min(0.0), within


def _mean(rotation: Tensor) -> Tensor:
    return nearest_rotmat(rotation.mean(0))


if __name__ == "__main__":
    main()
