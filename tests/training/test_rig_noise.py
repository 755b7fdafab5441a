"""`RigNoise` against its equation, the mirror, and what it must leave alone."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import roma
import torch

from poseprior import FitConfig, GaussianPrior, PoseDataset, skeleton
from poseprior.rotations import geodesic_distance, random_rotvec
from poseprior.training import RigNoise
from poseprior.training.batches import BatchSource, draw_weights

DEGREES = math.pi / 180.0
KNEE, OTHER_KNEE, SPINE1, SPINE2 = 4, 5, 3, 6
KNEE_COVARIANCE = [[4.0, 1.0, 0.0], [1.0, 9.0, 2.0], [0.0, 2.0, 16.0]]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _everything(count: int) -> torch.Tensor:
    return torch.ones(count, 55, dtype=torch.bool)


@pytest.mark.parametrize("side", ["parent_frame", "child_frame"])
def test_offsets_have_the_covariance_that_is_asked_for(side: str) -> None:
    noise = RigNoise(**{side: {"left_knee": KNEE_COVARIANCE}})
    start = torch.zeros(40000, 55, 3, dtype=torch.float64)
    start[:, KNEE] = torch.tensor([1.2, 0.1, 0.0])
    moved = noise.apply(start, _everything(len(start)), generator=_generator())
    before, after = (roma.rotvec_to_rotmat(pose[:, KNEE]) for pose in (start, moved))
    offset = after @ before.mT if side == "parent_frame" else before.mT @ after
    found = torch.cov(roma.rotmat_to_rotvec(offset).T / DEGREES)
    torch.testing.assert_close(found, torch.tensor(KNEE_COVARIANCE, dtype=torch.float64), atol=0.4, rtol=0.05)
    assert torch.equal(moved[:, :KNEE], start[:, :KNEE])


def test_right_joints_follow_through_the_mirror() -> None:
    noise = RigNoise(child_frame={"left_knee": KNEE_COVARIANCE}, unmeasured={"left_elbow": [0.0, 5.0, 3.0]})
    pose = random_rotvec(30000, 55, generator=_generator(), dtype=torch.float64) * 0.3
    one = noise.apply(pose, _everything(len(pose)), generator=_generator(1))
    other = skeleton.mirror(noise.apply(skeleton.mirror(pose), _everything(len(pose)), generator=_generator(2)))
    for joint in (KNEE, OTHER_KNEE, 18, 19):
        spread = [torch.cov(roma.rotmat_to_rotvec(roma.rotvec_to_rotmat(pose[:, joint]).mT @ roma.rotvec_to_rotmat(x)).T)
                  for x in (one[:, joint], other[:, joint])]  # fmt: skip
        torch.testing.assert_close(spread[0], spread[1], atol=2e-4, rtol=0.05)


def test_shares_keep_the_chain_and_only_move_what_is_imputed() -> None:
    noise = RigNoise(shares=[("spine1", "spine2", 8.0)])
    pose = random_rotvec(64, 55, generator=_generator(), dtype=torch.float64) * 0.2
    imputed = torch.zeros(64, 55, dtype=torch.bool)
    imputed[::2, SPINE1] = True
    moved = noise.apply(pose, _everything(64), imputed, generator=_generator(1))

    def chain(x: torch.Tensor) -> torch.Tensor:
        return roma.rotvec_to_rotmat(x[:, SPINE1]) @ roma.rotvec_to_rotmat(x[:, SPINE2])

    torch.testing.assert_close(chain(moved), chain(pose))
    assert (geodesic_distance(moved[::2, SPINE1], pose[::2, SPINE1]) > 1e-3).all()
    torch.testing.assert_close(moved[1::2], pose[1::2])


def test_unobserved_joints_stay_and_seeds_repeat() -> None:
    noise = RigNoise(child_frame={"left_knee": KNEE_COVARIANCE}, degrees_of_freedom=4)
    pose = random_rotvec(8, 55, generator=_generator())
    seen = _everything(8)
    seen[:4, KNEE] = False
    once, again = (noise.apply(pose, seen, generator=_generator(5)) for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(once[:4, KNEE], pose[:4, KNEE])
    assert (once[4:, KNEE] != pose[4:, KNEE]).any(-1).all()


def test_the_json_form_comes_back_and_travels_with_the_weights() -> None:
    noise = RigNoise(
        child_frame={"left_knee": KNEE_COVARIANCE}, shares=[("spine1", "spine2", 3.0)], degrees_of_freedom=4
    )
    again = RigNoise.from_dict(json.loads(json.dumps(asdict(noise))))
    pose = random_rotvec(5, 55, generator=_generator())
    first, second = (n.apply(pose, _everything(5), _everything(5), generator=_generator(3)) for n in (noise, again))
    assert torch.equal(first, second)
    prior = GaussianPrior([KNEE])
    prior.fit(random_rotvec(200, 55, generator=_generator()) * 0.1, config=FitConfig(rig_noise=noise))
    assert RigNoise.from_dict(prior.metadata["training"]["rig_noise"]).degrees_of_freedom == 4


def test_training_sees_the_noise() -> None:
    still = torch.zeros(4000, 55, 3)
    wide = RigNoise(child_frame={"left_knee": [[100.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]})
    prior = GaussianPrior([KNEE])
    prior.fit(still, config=FitConfig(rig_noise=wide, jitter=0.0, mirror=False))
    spread = prior.sample(4000, generator=_generator())[:, KNEE].std(0) / DEGREES
    torch.testing.assert_close(spread, torch.tensor([10.0, 1.0, 1.0]), rtol=0.08, atol=0.0)


def test_rigs_and_people_are_balanced() -> None:
    data = PoseDataset(
        torch.zeros(1000, 55, 3), rig=["a"] * 800 + ["b"] * 200, subject=["1"] * 700 + ["2"] * 100 + ["1"] * 200
    )
    options = FitConfig(rig_balance=1.0, subject_balance=1.0).resolve({})
    chance = draw_weights(data, torch.arange(1000), options)
    assert float(chance.sum()) == pytest.approx(1.0)
    assert float(chance[:800].sum()) == pytest.approx(0.5)
    assert float(chance[:700].sum()) == pytest.approx(0.25)
    rows = BatchSource(data, (1,), options).indices(0)
    assert 0.4 < float((rows >= 800).float().mean()) < 0.6


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"child_frame": {"right_knee": KNEE_COVARIANCE}}, "names of left or middle joints"),
        ({"child_frame": {"left_knee": [[1.0, 0.0], [0.0, 1.0]]}}, "symmetric 3 x 3 covariance"),
        ({"parent_frame": {"left_knee": [[-1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]}}, "symmetric 3 x 3 covariance"),
        ({"unmeasured": {"left_knee": [1.0, -2.0, 0.0]}}, "of 0 or more, got -2.0"),
        ({"degrees_of_freedom": 0}, "whole number of 3 or more"),
        ({"shares": [("spine1", "tail", 3.0)]}, "'tail'"),
        ({"shares": [("spine1", "spine2")]}, "a list of .joint, next joint, degrees."),
        ({"shares": 3}, "a list of .joint, next joint, degrees."),
        ({"parent_frame": 3.0}, "parent_frame: expected a mapping of names"),
        ({"child_frame": None}, "child_frame: expected a mapping of names"),
        ({"unmeasured": ["left_knee"]}, "unmeasured: expected a mapping of names"),
    ],
)
def test_refusals(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RigNoise(**fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a RigNoise"):
        FitConfig(rig_noise=fields)  # type: ignore[arg-type]
