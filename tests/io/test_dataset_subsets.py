"""`PoseDataset`: selecting, splitting by subject, subsampling and thinning."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from sample_poses import haar_poses as _poses
from sample_poses import labelled as _dataset

from poseprior.io import PoseDataset
from poseprior.rotations import geodesic_distance

# -- selecting and splitting ----------------------------------------------------------------------------------------


def test_select() -> None:
    dataset = _dataset()
    part = dataset.select([5, -1, 0])
    assert torch.equal(part.poses, dataset.poses[[5, -1, 0]])
    assert part.subject is not None
    assert part.subject.tolist() == ["s0", "s5", "s0"]
    assert part.frame is not None
    assert part.frame.tolist() == [0, 4, 0]
    mask = torch.arange(60) < 3
    assert torch.equal(dataset.select(mask).poses, dataset.poses[:3])


def test_random_subset() -> None:
    dataset = _dataset()
    first, again = dataset.random_subset(10, seed=3), dataset.random_subset(10, seed=3)
    assert first.digest() == again.digest() != dataset.random_subset(10, seed=4).digest()
    assert len(first) == 10
    assert dataset.random_subset(1000, seed=0).digest() == dataset.digest()


def test_split_keeps_subjects_whole() -> None:
    dataset = _dataset(600, 30)
    parts = dataset.split_by_subject({"train": 0.8, "val": 0.1, "test": 0.1}, seed=0)
    assert [len(p) for p in parts.values()] == [480, 60, 60]
    names = [set(p.subjects) for p in parts.values()]
    assert set.union(*names) == set(dataset.subjects)
    assert sum(map(len, names)) == 30
    again = dataset.split_by_subject((0.8, 0.1, 0.1), seed=0)
    assert [p.subjects for p in again] == [p.subjects for p in parts.values()]
    assert (
        dataset.split_by_subject((0.8, 0.2), seed=1)[1].subjects
        != dataset.split_by_subject((0.8, 0.2), seed=2)[1].subjects
    )


def test_split_with_one_giant_subject_fills_every_part() -> None:
    subject = ["giant"] * 90 + ["a"] * 5 + ["b"] * 5
    parts = PoseDataset(_poses(100), subject=subject).split_by_subject((0.6, 0.2, 0.2), seed=0)
    assert parts[0].subjects == ("giant",)
    assert [len(p) for p in parts[1:]] == [5, 5]


def test_split_may_leave_subjects_out() -> None:
    parts = _dataset(600, 30).split_by_subject((0.5, 0.1), seed=0)
    assert [len(p) for p in parts] == [300, 60]


def test_split_by_names() -> None:
    parts = _dataset().split_by_subject({"train": ["s0", "s2"], "val": ["s5"]})
    assert {k: p.subjects for k, p in parts.items()} == {"train": ("s0", "s2"), "val": ("s5",)}


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02), r"at least 7 subjects for 7 parts, got 6 \(s0, .*ask for fewer parts"),
        ((0.5, 0.6), r"fractions that add up to at most 1, got \[0.5, 0.6\]"),
        ((0.5, -0.1), "expected positive fractions"),
        ((["s0"], ["s9"]), r"unknown subjects \['s9'\]; this data set has s0, s1"),
        ((["s0"], ["s0"]), r"in one part, got \['s0'\] in several"),
        ((["s0"], []), "none in part 1"),
        ((["s0"], 0.5), "all fractions or all lists"),
        ((), "at least one fraction"),
    ],
)
def test_split_errors(parts: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _dataset().split_by_subject(parts)  # type: ignore[call-overload]


def test_split_without_subjects() -> None:
    with pytest.raises(ValueError, match=r"expected a data set with subject names, got none; pass subject="):
        PoseDataset(_poses(3)).split_by_subject((0.5, 0.5))


# -- fewer frames ------------------------------------------------------------------------------------------------------


def test_subsample_by_frame_rate() -> None:
    frame = np.tile(np.arange(120), 3)
    sequence = np.repeat(["a", "b", "c"], 120)
    dataset = PoseDataset(_poses(360), sequence=sequence, fps=120.0, frame=frame)
    part = dataset.subsample(30.0, seed=1)
    assert part.frame is not None
    assert part.sequence is not None
    for name in "abc":
        kept = part.frame[part.sequence == name]
        assert len(kept) in (30, 31)  # a phase that cuts a bin leaves its two ends
        assert set(np.diff(kept)[1:]) == {4}
    assert part.subsample(30.0, seed=1).digest() == part.digest()
    assert dataset.subsample(30.0, seed=1).digest() == part.digest()
    assert len(dataset.subsample(240.0)) == 360
    phases = {int(dataset.subsample(2.0, seed=s).frame[1]) for s in range(8)}  # type: ignore[index]
    assert len(phases) > 3


def test_subsample_bridges_gaps_and_mixed_rates() -> None:
    frame = np.array([0, 1, 2, 3, 50, 51, 52, 0, 1, 2, 0, 1])
    sequence = np.repeat(["a", "b", "c"], [7, 3, 2])
    fps = np.repeat([10.0, 1.0, np.nan], [7, 3, 2])
    part = PoseDataset(_poses(12), sequence=sequence, fps=fps, frame=frame).subsample(1.0)
    assert part.sequence is not None
    count = {name: int((part.sequence == name).sum()) for name in "abc"}
    assert count["b"] == 3
    assert count["c"] == 2
    assert 2 <= count["a"] <= 4


def test_subsample_needs_a_rate() -> None:
    with pytest.raises(ValueError, match=r"known frame rate, got fps=None; pass fps="):
        PoseDataset(_poses(3)).subsample(10)
    with pytest.raises(ValueError, match=r"fps: expected a finite number above 0, got 0"):
        _dataset().subsample(0)


def _thin_slowly(dataset: PoseDataset, degrees: float) -> list[int]:
    """The definition of `thin`, frame by frame."""
    pose, observed = dataset.all_poses()
    last: dict[tuple[str, str], int] = {}
    kept = []
    assert dataset.subject is not None
    assert dataset.sequence is not None
    for row, key in enumerate(zip(dataset.subject, dataset.sequence, strict=True)):
        if key in last:
            both = observed[row] & observed[last[key]]
            angle = torch.rad2deg(geodesic_distance(pose[row].double(), pose[last[key]].double()))
            if both.any() and float(angle[both].max()) <= degrees:
                continue
        last[key] = row
        kept.append(row)
    return kept


@pytest.mark.parametrize("degrees", [0.5, 2.0, 8.0, 40.0])
def test_thin_matches_its_definition(degrees: float) -> None:
    generator = torch.Generator().manual_seed(0)
    walk = (torch.randn(300, 55, 3, generator=generator) * 0.01).cumsum(0)
    walk[100:150] = walk[100]  # standing still
    observed = torch.rand(300, 55, generator=generator) < 0.8
    names = [f"{k // 120}" for k in range(300)]
    dataset = PoseDataset(walk, observed, subject=names, sequence="same")
    kept = _thin_slowly(dataset, degrees)
    assert dataset.thin(degrees).digest() == dataset.select(kept).digest()


def test_thin_counts_only_what_is_observed_and_asked() -> None:
    poses = torch.zeros(4, 55, 3)
    poses[1, 20, 0] = 0.5
    poses[2, 0, 1] = 0.5
    observed = torch.ones(4, 55, dtype=torch.bool)
    observed[:, 20] = False
    dataset = PoseDataset(poses, observed)
    assert len(dataset.thin(1.0)) == 3  # rows 0, 2, 3: the wrist is not observed
    assert len(dataset.thin(1.0, joints=range(1, 22))) == 1
    with pytest.raises(ValueError, match=r"0 or more and at most 180, got -1"):
        dataset.thin(-1)


def test_thin_goes_by_frame_number() -> None:
    poses = torch.zeros(3, 55, 3)
    poses[:, 1, 0] = torch.tensor([0.0, 0.5, 0.02])
    shuffled = PoseDataset(poses, sequence="a", frame=[0, 2, 1])
    assert len(shuffled.thin(2.0)) == 2
    assert len(PoseDataset(poses, sequence="a").thin(2.0)) == 3


def test_thin_is_quick_on_a_long_take() -> None:
    generator = torch.Generator().manual_seed(0)
    walk = (torch.randn(100_000, 1, 3, generator=generator) * 0.01).cumsum(0).expand(-1, 55, -1).contiguous()
    observed = torch.zeros(100_000, 55, dtype=torch.bool)
    observed[:, :22] = True
    dataset = PoseDataset(walk, observed)
    start = time.process_time()
    kept = dataset.thin(3.0)
    assert time.process_time() - start < 20.0
    assert 10 < len(kept) < 90_000


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "at least one of the 60 rows, got none"),
        ([60], "indices below 60, got 60 to 60"),
        (torch.zeros(60, dtype=torch.bool), "at least one of the 60 rows"),
        (torch.ones(59, dtype=torch.bool), r"mask of shape \(60,\), got \(59,\)"),
        ([0.5], "bool mask or a list of indices, got float64"),
    ],
)
def test_select_errors(rows: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _dataset().select(rows)  # type: ignore[arg-type]
