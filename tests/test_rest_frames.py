"""Sizes of rest frames, estimated from people whose rest frames were drawn with known sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.density.rest_frames import Estimate, estimate, groups_of, turned
from poseprior import PoseDataset, RigNoise, skeleton
from poseprior.rotations import geodesic_distance

DEGREES = math.pi / 180.0
JOINTS = (3, 4, 5)  # spine1 and both knees
KNOWN = RigNoise(
    parent_frame={
        "spine1": [[30.0, 0.0, 0.0], [0.0, 60.0, 20.0], [0.0, 20.0, 90.0]],
        "left_knee": [[100.0, 40.0, -30.0], [40.0, 50.0, 0.0], [-30.0, 0.0, 30.0]],
    },
    child_frame={
        "spine1": [[90.0, 0.0, 0.0], [0.0, 30.0, 0.0], [0.0, 0.0, 60.0]],
        "left_knee": [[30.0, 0.0, 20.0], [0.0, 120.0, 0.0], [20.0, 0.0, 40.0]],
    },
)
PEOPLE, POSES = 60, 60


def _people() -> PoseDataset:
    """People on two rigs who move alike; the second rig does not show the right knee."""
    generator = torch.Generator().manual_seed(0)
    pose = torch.zeros(PEOPLE * POSES, 55, 3, dtype=torch.float64)
    # Joints move by other angles about each axis: where all are alike, Exp(a) R Exp(-a) is distributed as R is.
    spread = torch.tensor([0.2, 0.7, 0.4, 0.9, 0.2, 0.3, 0.9, 0.2, 0.3], dtype=torch.float64)
    pose[:, JOINTS] = (spread * torch.randn(len(pose), 9, generator=generator, dtype=torch.float64)).reshape(-1, 3, 3)
    person = np.repeat(np.arange(PEOPLE), POSES)
    rig = np.where(person < PEOPLE // 2, "one", "two")
    observed = torch.zeros(len(pose), 55, dtype=torch.bool)
    observed[:, JOINTS] = True
    observed[torch.from_numpy(rig == "two"), 5] = False
    return PoseDataset(pose, observed, subject=[f"p{k:03d}" for k in person], rig=rig.tolist())


def _frames(data: PoseDataset) -> dict[tuple[str, str], torch.Tensor]:
    """Rest frames of each person, drawn from the known sizes."""
    generator = torch.Generator().manual_seed(1)
    factors = torch.stack(KNOWN.frame_factors(JOINTS), 1)
    people = sorted(set(zip(np.asarray(data.rig).tolist(), np.asarray(data.subject).tolist(), strict=True)))
    draws = torch.randn(len(people), *factors.shape[:3], 1, generator=generator, dtype=torch.float64)
    return dict(zip(people, (factors @ draws)[..., 0], strict=True))


@pytest.fixture(scope="module")
def moved() -> PoseDataset:
    data = _people()
    return turned(data, JOINTS, _frames(data))


@pytest.fixture(scope="module")
def found(moved: PoseDataset) -> Estimate:
    return estimate(groups_of(moved, JOINTS), JOINTS, draws=POSES)


def test_known_sizes_are_found(found: Estimate) -> None:
    noise = found.rig_noise()
    for side in ("parent_frame", "child_frame"):
        for joint, matrix in getattr(KNOWN, side).items():
            off = torch.tensor(getattr(noise, side)[joint]) - torch.tensor(matrix)
            # 60 draws of a rest frame: a variance is known to a fifth, and less well which side it belongs to.
            assert float(off.abs().max()) < 35.0, (side, joint, off)


def test_people_who_only_pose_differently_have_small_sizes() -> None:
    found = estimate(groups_of(_people(), JOINTS), JOINTS, draws=POSES, steps=40)
    assert float(found.covariance.diagonal(dim1=-2, dim2=-1).max().sqrt()) < 3.0 * DEGREES


def test_the_frames_of_each_person_are_found(moved: PoseDataset, found: Estimate) -> None:
    pose = _people().all_poses()[0][:, JOINTS]
    taken_off = turned(moved, JOINTS, found.by_group(), inverse=True)
    before, after = (
        float(geodesic_distance(d.all_poses()[0][:, JOINTS], pose).square().mean().sqrt()) for d in (moved, taken_off)
    )
    assert after < 0.6 * before


def test_right_joints_have_the_mirrored_covariance(found: Estimate) -> None:
    sign = torch.tensor(skeleton.REFLECTION, dtype=torch.float64)
    torch.testing.assert_close(found.covariance[2], sign[:, None] * sign * found.covariance[1])


def test_turned_has_an_inverse_and_leaves_others_alone() -> None:
    data = _people()
    frames = _frames(data)
    first = next(iter(frames))
    once = turned(data, JOINTS, {first: frames[first]})
    again = turned(once, JOINTS, {first: frames[first]}, inverse=True)
    pose, moved, back = (each.all_poses()[0] for each in (data, once, again))
    assert float(geodesic_distance(pose, back).max()) < 1e-5
    assert torch.equal(pose[POSES:], moved[POSES:])
    assert float(geodesic_distance(moved[:POSES, 4], pose[:POSES, 4]).min()) > 0.01


def test_what_a_rule_made_is_not_observed_where_other_rows_measure_the_joint() -> None:
    data = _people()
    pose, observed = data.all_poses()
    imputed = torch.zeros_like(observed)
    imputed[:, 3] = True  # everywhere: the rule is all that there is
    imputed[torch.from_numpy(np.asarray(data.rig) == "one"), 4] = True
    data = PoseDataset(pose, observed, subject=data.subject, rig=data.rig, imputed=imputed)
    shown = {group.rig: group.shown.tolist() for group in groups_of(data, JOINTS)}
    assert shown == {"one": [True, False, True], "two": [True, True, False]}
