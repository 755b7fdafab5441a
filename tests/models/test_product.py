"""ProductPrior: the sum of its parts, mirrored hands with shared weights, parts that cannot marginalise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import poseprior
from poseprior import FitConfig, GaussianPrior, PoseDataset, ProductPrior
from poseprior.checkpoint import read_metadata
from poseprior.io import synthetic_poses
from poseprior.skeleton import mirror

CLOSED = FitConfig(max_steps=0, progress=False)


@pytest.fixture(scope="module")
def data() -> PoseDataset:
    return synthetic_poses(600, seed=0, num_subjects=4)


@pytest.fixture(scope="module")
def parts(data: PoseDataset) -> list[GaussianPrior]:
    body, hand = GaussianPrior("body", covariance="full"), GaussianPrior("left_hand", covariance="full")
    for prior in (body, hand):
        prior.fit(data, config=CLOSED)
    return [body, hand]


def test_log_prob_is_the_sum_and_fitted_parts_are_kept(data: PoseDataset, parts: list[GaussianPrior]) -> None:
    prior = ProductPrior(parts, mirrored=[1])
    assert prior.fitted
    assert prior.num_parameters == sum(p.num_parameters for p in parts)
    poses = data.poses[:20]
    expected = parts[0].log_prob(poses) + parts[1].log_prob(poses) + parts[1].log_prob(mirror(poses))
    torch.testing.assert_close(prior.log_prob(poses), expected, rtol=1e-5, atol=1e-3)


def test_a_part_that_cannot_marginalise_decides_what_can_be_scored(
    data: PoseDataset, parts: list[GaussianPrior]
) -> None:
    flow = poseprior.GlobalFlow("body")
    flow.fit(data, config=FitConfig(max_steps=2, batch_size=32, progress=False))
    prior = ProductPrior([flow, parts[1]], mirrored=[1])
    observed = torch.ones(3, 55, dtype=torch.bool)
    observed[0, 18] = False  # an elbow
    observed[1, 1:22] = False  # the whole body
    assert not prior.can_marginalise and prior.can_score(observed).tolist() == [False, True, True]
    assert prior.log_prob(data.poses[1:3], observed=observed[1:]).isfinite().all()
    with pytest.raises(ValueError, match=r"GlobalFlow cannot marginalise.*leaves out left_elbow"):
        prior.log_prob(data.poses[:3], observed=observed)


def test_a_mirrored_pose_swaps_the_hands(data: PoseDataset, parts: list[GaussianPrior]) -> None:
    prior = ProductPrior([parts[1]], mirrored=[0])
    assert prior.joints == tuple(range(25, 55))
    poses = data.poses[:20]
    torch.testing.assert_close(prior.log_prob(mirror(poses)), prior.log_prob(poses), rtol=1e-5, atol=1e-3)
    drawn = prior.sample(4000, generator=torch.Generator().manual_seed(0))
    left, right = drawn[:, 25:40], mirror(drawn)[:, 25:40]
    torch.testing.assert_close(left.mean(0), right.mean(0), atol=0.04, rtol=0)


def test_fit_trains_every_part_on_what_shows_it(data: PoseDataset) -> None:
    fresh = ProductPrior([GaussianPrior("body"), GaussianPrior("left_hand")], mirrored=[1])
    fresh.fit(data, config=CLOSED)
    alone = GaussianPrior("left_hand")
    alone.fit(data, config=CLOSED)
    hand_only = torch.zeros(55, dtype=torch.bool)
    hand_only[25:40] = True
    poses = data.poses[:20]
    torch.testing.assert_close(fresh.log_prob(poses, observed=hand_only), alone.log_prob(poses), rtol=1e-4, atol=1e-2)
    gradient = ProductPrior([GaussianPrior("body"), GaussianPrior("left_hand")], mirrored=[1])
    config = FitConfig(max_steps=30, batch_size=64, eval_every=10, progress=False)
    result = gradient.fit(data, val=data, config=config)
    assert result.history[-1]["val_nll"] < result.history[0]["val_nll"] + 1e-3


def test_fit_leaves_fitted_parts_as_they_are(data: PoseDataset, tmp_path: Path) -> None:
    body, hand = GaussianPrior("body"), GaussianPrior("left_hand")
    body.fit(synthetic_poses(300, seed=7), config=CLOSED)
    kept = {name: value.clone() for name, value in body.state_dict().items()}
    prior = ProductPrior([body, hand], mirrored=[1])
    assert not prior.fitted
    prior.fit(data, config=CLOSED)
    assert prior.fitted and all(torch.equal(value, kept[name]) for name, value in prior.parts[0].state_dict().items())
    alone = GaussianPrior("left_hand")
    alone.fit(data, config=CLOSED)
    assert torch.equal(prior.parts[1].chart.scale, alone.chart.scale)  # type: ignore[union-attr]
    prior.save(tmp_path / "p.safetensors")
    assert all(part.fitted for part in ProductPrior.load(tmp_path / "p.safetensors").parts)


def test_gradient_steps_leave_fitted_parts_as_they_are(data: PoseDataset) -> None:
    body, hand = GaussianPrior("body"), GaussianPrior("left_hand")
    body.fit(synthetic_poses(300, seed=7), config=CLOSED)
    prior = ProductPrior([body, hand])
    before = {name: value.clone() for name, value in body.state_dict().items()}
    config = FitConfig(max_steps=5, batch_size=64, warmup_steps=0, progress=False)
    prior.fit(data, config=config)
    after, drawn = prior.parts[0].state_dict(), prior.parts[1]
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert bool(drawn.mean.abs().max() > 0)  # type: ignore[union-attr,operator]
    prior.fit(data, config=config)  # fitted as a whole now, and so trained as a whole
    assert any(not torch.equal(value, before[name]) for name, value in prior.parts[0].state_dict().items())


def test_metadata_of_parts_are_saved(parts: list[GaussianPrior], tmp_path: Path) -> None:
    body, hand = parts[0], parts[1]
    body.metadata |= {"licence": "CC-BY-4.0", "notices": ["by them"]}
    whole = ProductPrior([ProductPrior([body]), hand])
    whole.metadata["name"] = "mine"
    whole.save(tmp_path / "p.safetensors")
    again = ProductPrior.load(tmp_path / "p.safetensors")
    assert again.metadata["name"] == "mine" and "parts" not in again.metadata
    inner = again.parts[0]
    assert isinstance(inner, ProductPrior) and inner.parts[0].metadata == body.metadata
    assert again.parts[1].metadata == hand.metadata
    again.save(tmp_path / "q.safetensors")
    assert read_metadata(tmp_path / "q.safetensors") == read_metadata(tmp_path / "p.safetensors")


def test_shared_hand_is_saved_once(parts: list[GaussianPrior], tmp_path: Path) -> None:
    prior = ProductPrior(parts, mirrored=[1])
    prior.save(tmp_path / "p.safetensors")
    again = poseprior.load(tmp_path / "p.safetensors")
    assert isinstance(again, ProductPrior)
    assert again.mirrored == (1,)
    assert len(again.state_dict()) == sum(len(p.state_dict()) for p in parts)


def test_completion_goes_part_by_part(data: PoseDataset, parts: list[GaussianPrior]) -> None:
    prior = ProductPrior(parts, mirrored=[1])
    observed = torch.ones(55, dtype=torch.bool)
    observed[25:40] = False
    observed[18] = False
    filled = prior.complete(data.poses[:2], observed, num_samples=7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(filled[:, :, 40:], data.poses[:2, 40:].expand(7, -1, -1, -1))
    assert float(filled[:, :, 25:40].std(0).mean()) > 0.01


def test_refusals(parts: list[GaussianPrior]) -> None:
    with pytest.raises(ValueError, match="parts: expected at least one prior"):
        ProductPrior([])
    with pytest.raises(ValueError, match="expected disjoint joints, but left_index1"):
        ProductPrior([parts[1], GaussianPrior("left_index1")])
    with pytest.raises(ValueError, match="more than one part or mirror view"):
        ProductPrior([parts[0]], mirrored=[0])
    with pytest.raises(ValueError, match=r"mirrored: expected distinct indices of the 1 parts, got \[3\]"):
        ProductPrior([parts[1]], mirrored=[3])
    with pytest.raises(ValueError, match=r"parts: expected a prior, got .*Nothing.* does not know"):
        ProductPrior([{"class": "Nothing", "config": {}}])
