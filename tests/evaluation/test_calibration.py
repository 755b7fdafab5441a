"""Percentiles among held-out people: of whole poses, and of each pose's most surprising joint."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

import poseprior
from poseprior import GaussianPrior, PoseDataset
from poseprior.evaluation.calibration import Calibration, calibrate
from poseprior.evaluation.percentile_table import LEVELS, Table
from poseprior.evaluation.surprise import joint_surprise
from poseprior.rotations import add_tangent_noise, rotvec_to_tangent
from poseprior.tasks import adapt, score

TABLE = {"scores": [float(k) for k in range(len(LEVELS))], "num_people": 2, "num_rigs": 1}


def _rougher(prior: poseprior.PosePrior, count: int, seed: int) -> Tensor:
    """Poses that are less plausible than the prior's own samples, as other people are."""
    generator = torch.Generator().manual_seed(seed)
    return add_tangent_noise(prior.sample(count, generator=generator), 0.05, generator=generator)


@pytest.mark.parametrize(
    "name",
    ["body-gaussian", pytest.param("body-global-flow", marks=pytest.mark.slow)],  # conditionals, and replacements
)
def test_percentiles_are_uniform_on_poses_like_those_of_the_calibration(name: str) -> None:
    prior = poseprior.load(name)
    shown = torch.zeros(1500, 55, dtype=torch.bool)
    shown[:, list(prior.joints)] = True
    data = PoseDataset(_rougher(prior, 1500, 0), shown)
    prior.metadata["calibration"] = calibrate(prior, data, seed=0).to_dict()
    result = score(prior, _rougher(prior, 500, 1), generator=torch.Generator().manual_seed(2))
    assert result.percentile_kind == result.joint_percentile_kind == "held-out people"
    for percentile in (result.percentile, result.joint_percentile):
        for level in (5.0, 20.0, 50.0, 80.0):
            share = 100.0 * float((percentile < level).double().mean())
            stderr = (level * (100.0 - level) / 500 + level * (100.0 - level) / 1500) ** 0.5
            assert abs(share - level) < 4.5 * stderr, (level, share)


def test_a_calibration_survives_its_dictionary_and_old_ones_have_no_joints() -> None:
    table = Table(scores=tuple(float(k) for k in range(-22, 0)), num_people=3, num_rigs=1)
    calibration = Calibration(tables={"any": table}, worst_joint={"any": table, "free": table})
    assert Calibration.from_dict(calibration.to_dict()) == calibration

    prior = GaussianPrior("body")
    prior.metadata["calibration"] = {"any": asdict(table)}  # a file from before joints were calibrated
    result = score(prior, prior.sample(40, generator=torch.Generator().manual_seed(0)))
    assert result.percentile_kind == "held-out people" and result.joint_percentile_kind == "own samples"


def test_the_surprise_of_a_gaussian_joint_is_its_mahalanobis_distance_given_the_others() -> None:
    prior = poseprior.load("body-gaussian").double()
    reference = prior.sample(200, generator=torch.Generator().manual_seed(0))
    pose = prior.sample(6, generator=torch.Generator().manual_seed(1))
    seen = torch.zeros(6, 55, dtype=torch.bool)
    seen[:, [3, 6, 9, 12]] = True  # the trunk, whose rotations stay far from pi
    found = joint_surprise(prior, pose, seen, reference)

    joints = [list(prior.joints).index(j) for j in (3, 6, 9, 12)]
    rows = torch.tensor([3 * j + k for j in joints for k in range(3)])
    covariance = prior.covariance.detach()[rows][:, rows]
    precision = torch.linalg.inv(covariance)

    def coordinates(x: Tensor) -> Tensor:
        return rotvec_to_tangent(x[:, [3, 6, 9, 12]], prior.chart.mean[joints]).flatten(1)

    mean = coordinates(prior.sample(10_000, generator=torch.Generator().manual_seed(2))).mean(0)

    def distance(x: Tensor) -> Tensor:
        """(B, 4) half squared distances of each joint given the other three, from the precision matrix."""
        t = coordinates(x) - mean
        pull = (t @ precision).unflatten(1, (4, 3))
        blocks = torch.stack([torch.linalg.inv(precision[3 * k : 3 * k + 3, 3 * k : 3 * k + 3]) for k in range(4)])
        return 0.5 * torch.einsum("bki,kij,bkj->bk", pull, blocks, pull)

    usual = distance(reference[16:144])
    expected = distance(pose) - usual.mean(0)
    # Both surprises also hold the Haar volume at the joint, which hardly varies there.
    torch.testing.assert_close(found.excess[:, [3, 6, 9, 12]], expected, atol=0.1, rtol=0.02)
    assert (found.excess[:, [1, 2, 15]] == 0).all()


def test_a_pose_that_shows_nothing_stands_in_the_middle() -> None:
    prior = poseprior.load("body-gaussian")
    seen = torch.zeros(2, 55, dtype=torch.bool)
    seen[1, 40:] = True  # fingers, which the prior does not know
    result = score(prior, torch.zeros(2, 55, 3), observed=seen, num_reference=32)
    assert result.percentile.tolist() == result.joint_percentile.tolist() == [50.0, 50.0]


@pytest.mark.parametrize(
    "values",
    [
        1, "x", [], {}, True, {"any": 3}, {"any": {}}, {"free": TABLE}, {"any": {**TABLE, "more": 1}},
        {"any": {**TABLE, "scores": [1.0]}}, {"any": {**TABLE, "scores": ["x"] * len(LEVELS)}},
        {"any": {**TABLE, "scores": list(range(len(LEVELS)))[::-1]}}, {"any": {**TABLE, "num_people": -1}},
        {"any": TABLE, "worst_joint": []}, {"any": TABLE, "worst_joint": {"free": TABLE}},
    ],
)  # fmt: skip
def test_tables_that_a_file_cannot_have_are_refused(values: Any) -> None:
    prior = GaussianPrior((16, 18))
    prior.fit(0.2 * torch.randn(100, 55, 3, generator=torch.Generator().manual_seed(0)))
    prior.metadata["calibration"] = values
    with pytest.raises(ValueError, match="calibration"):
        score(prior, torch.zeros(1, 55, 3), num_reference=32)
    prior.metadata["calibration"] = {"any": TABLE, "worst_joint": {"any": TABLE}}
    assert 0 <= float(score(prior, torch.zeros(1, 55, 3), num_reference=32).percentile) <= 100


@pytest.mark.parametrize(
    "training", [3, "my own note", [], {"num_poses": "x"}, {"num_poses": 3, "jitter": "x"}, {"config": 3}]
)
def test_notes_on_the_training_may_be_anything(training: Any) -> None:
    prior = GaussianPrior((16, 18))
    prior.fit(0.2 * torch.randn(100, 55, 3, generator=torch.Generator().manual_seed(0)))
    prior.metadata["training"] = training
    assert "GaussianPrior" in repr(prior)
    poses = 0.2 * torch.randn(150, 55, 3, generator=torch.Generator().manual_seed(1))
    if isinstance(training, dict) and "jitter" in training:
        with pytest.raises(ValueError, match="jitter: expected a finite number"):
            adapt(prior, poses, steps=1)
    else:
        assert adapt(prior, poses, steps=1).joints == prior.joints
