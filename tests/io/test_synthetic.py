"""The made-up people bend the right way and stay within their limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from poseprior.io import PoseDataset, synthetic_poses
from poseprior.io.synthetic import LIMITS, MODES
from poseprior.skeleton import JOINT_NAMES, JOINT_SETS, MIRROR


@pytest.fixture(scope="module")
def people() -> PoseDataset:
    return synthetic_poses(6000, seed=0)


def _rows(people: PoseDataset, name: str, mode: str = "") -> torch.Tensor:
    """Rotvecs (n, 3) of a joint where it is observed, in sequences of a mode."""
    assert people.sequence is not None
    joint = JOINT_NAMES.index(name)
    pose, observed = people.all_poses()
    return pose[observed[:, joint] & torch.from_numpy(np.char.startswith(people.sequence, mode)), joint]


def test_same_seed_same_poses() -> None:
    first = synthetic_poses(200, seed=3, num_subjects=5)
    assert first.digest() == synthetic_poses(200, seed=3, num_subjects=5).digest()
    assert first.digest() != synthetic_poses(200, seed=4, num_subjects=5).digest()


def test_metadata(people: PoseDataset) -> None:
    assert len(people) == 6000
    assert people.num_subjects == 10
    assert all(s.startswith("synthetic") for s in people.subjects)
    assert people.fps == 30.0
    assert people.sequence is not None
    assert {str(s)[:-3] for s in people.sequence} == set(MODES)
    rows = np.bincount(people.subject_index.numpy())
    assert rows.max() - rows.min() <= 40


def test_hinges_bend_the_right_way(people: PoseDataset) -> None:
    for side, sign in (("left", -1.0), ("right", 1.0)):
        assert float(_rows(people, f"{side}_knee")[:, 0].min()) >= 0.0
        assert float((_rows(people, f"{side}_elbow")[:, 1] * sign).min()) >= 0.0
        assert float((_rows(people, f"{side}_index2")[:, 2] * sign).median()) > 0.2
        assert float((_rows(people, f"{side}_shoulder", "stand")[:, 2] * sign).mean()) > 0.8  # arms hang


def test_limits_hold(people: PoseDataset) -> None:
    flip = torch.tensor([1.0, -1.0, -1.0])
    for name, limits in LIMITS.items():
        low, high = torch.tensor(limits).T
        other = JOINT_NAMES[MIRROR[JOINT_NAMES.index(name)]]
        for value in (_rows(people, name), _rows(people, other) * (flip if other != name else 1.0)):
            assert bool((value >= low - 1e-5).all())
            assert bool((value <= high + 1e-5).all())


def test_limbs_move_together(people: PoseDataset) -> None:
    left, right = _rows(people, "left_hip", "walk")[:, 0], _rows(people, "right_hip", "walk")[:, 0]
    assert float(torch.corrcoef(torch.stack([left, right]))[0, 1]) < -0.5
    assert float(_rows(people, "left_hip", "sit")[:, 0].mean()) < -1.2
    assert float(_rows(people, "left_knee", "sit")[:, 0].mean()) > 1.0


def test_time_is_smooth(people: PoseDataset) -> None:
    assert people.frame is not None
    pose = people.poses
    follows = torch.from_numpy(people.frame[1:] > 0)
    step = (pose[1:] - pose[:-1])[follows][:, JOINT_SETS["body"]].norm(dim=-1)
    assert float(step.max()) < 0.5


def test_masks_are_like_real_ones(people: PoseDataset) -> None:
    observed = people.observed
    assert people.observed_joints == tuple(range(55))
    kinds = {int(k) for k in observed.sum(1)}
    assert kinds == {55, 22, 18}
    assert not people.poses[~observed].any()
    for kind in kinds:
        assert 0.2 < float((observed.sum(1) == kind).float().mean()) < 0.5


def test_subjects_differ(people: PoseDataset) -> None:
    index = people.subject_index
    pose = people.poses
    means = torch.stack([pose[index == k][:, 1:22].mean(0) for k in range(10)])
    assert float(means.std(0).mean()) > 0.02


@pytest.mark.parametrize("n", [10, 11, 37, 100])
def test_small_numbers(n: int) -> None:
    people = synthetic_poses(n, num_subjects=10)
    assert len(people) == n
    assert people.num_subjects == 10


def test_too_few_poses() -> None:
    with pytest.raises(ValueError, match="at least one pose for each of 10 subjects, got 9; raise n"):
        synthetic_poses(9)
