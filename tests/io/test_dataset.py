"""`PoseDataset`: batches, masks, splits, thinning, mirror, memory-mapping, and its errors."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from poseprior import skeleton
from poseprior.io import PoseDataset
from poseprior.rotations import geodesic_distance, random_rotvec


def _poses(n: int, seed: int = 0) -> Tensor:
    return random_rotvec(n, 55, generator=torch.Generator().manual_seed(seed))


def _dataset(n: int = 60, subjects: int = 6) -> PoseDataset:
    rows = np.arange(n)
    observed = torch.ones(n, 55, dtype=torch.bool)
    observed[::2, 22:] = False
    return PoseDataset(
        _poses(n),
        observed,
        subject=[f"s{k}" for k in rows * subjects // n],
        sequence=[f"walk{k % 2}" for k in rows * 2 * subjects // n],
        fps=30.0,
        frame=rows % 5,
    )


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tensor", "array", "float64", "read-only", "memmap"])
def test_batches_are_the_rows(kind: str, tmp_path: Path) -> None:
    source = _poses(20)
    observed = torch.rand(20, 55, generator=torch.Generator().manual_seed(1)) < 0.7
    given: object = source
    if kind != "tensor":
        array = source.numpy().astype(np.float64 if kind == "float64" else np.float32)
        given = array
        if kind == "read-only":
            array.flags.writeable = False
        if kind == "memmap":
            np.save(tmp_path / "poses.npy", array)
            given = np.load(tmp_path / "poses.npy", mmap_mode="r")
    dataset = PoseDataset(given, observed)  # type: ignore[arg-type]
    expected = torch.where(observed[..., None], source, torch.zeros_like(source))
    for rows in (torch.tensor([3, 0, 19, 3]), np.array([3, 0, 19, 3]), [3, 0, 19, 3]):
        pose, seen = dataset.batch(rows)
        assert (pose.dtype, seen.dtype) == (torch.float32, torch.bool)
        assert torch.equal(pose, expected[[3, 0, 19, 3]])
        assert torch.equal(seen, observed[[3, 0, 19, 3]])
    pose, seen = dataset[-1]
    assert torch.equal(pose, expected[-1])
    assert torch.equal(seen, observed[-1])
    assert torch.equal(dataset.poses, expected)
    assert torch.equal(dataset.observed, observed)
    assert torch.equal(torch.cat([p for p, _ in dataset.chunks(7)]), expected)
    with pytest.raises(IndexError, match="got 20"):
        dataset[20]


def test_the_callers_arrays_are_left_alone() -> None:
    poses = _poses(4)
    before = poses.clone()
    observed = torch.ones(4, 55, dtype=torch.bool)
    observed[0] = False
    dataset = PoseDataset(poses, observed)
    assert torch.equal(poses, before)
    pose, _ = dataset.batch([1])
    pose.fill_(7.0)
    assert torch.equal(poses, before)


def test_nothing_is_copied_when_everything_is_observed() -> None:
    poses = _poses(4)
    assert PoseDataset(poses).poses.data_ptr() == poses.data_ptr()


def test_unobserved_rubbish_becomes_zero() -> None:
    poses, observed = _poses(3), torch.ones(3, 55, dtype=torch.bool)
    poses[1, 22:25] = float("nan")
    observed[1, 22:25] = False
    pose, seen = PoseDataset(poses, observed).all_poses()
    assert not pose[~seen].any()
    assert torch.isfinite(pose).all()


def test_works_with_a_data_loader() -> None:
    loader = torch.utils.data.DataLoader(_dataset(10), batch_size=4)
    assert [tuple(pose.shape) for pose, _ in loader] == [(4, 55, 3), (4, 55, 3), (2, 55, 3)]


# -- facts -----------------------------------------------------------------------------------------------------------


def test_what_is_observed() -> None:
    observed = torch.zeros(4, 55, dtype=torch.bool)
    observed[:2, 1:4] = True
    observed[2, 25:27] = True
    dataset = PoseDataset(_poses(4), observed)
    assert dataset.observed_joints == (1, 2, 3, 25, 26)
    expected = torch.zeros(55, 55, dtype=torch.bool)
    expected[1:4, 1:4] = True
    expected[25:27, 25:27] = True
    assert torch.equal(dataset.co_observed, expected)


def test_subjects() -> None:
    dataset = PoseDataset(_poses(4), subject=np.array([7, 3, 7, 12]))
    assert dataset.subjects == ("12", "3", "7")
    assert dataset.num_subjects == 3
    assert dataset.subject_index.tolist() == [2, 1, 2, 0]
    assert PoseDataset(_poses(2), subject="ann").subject.tolist() == ["ann", "ann"]  # type: ignore[union-attr]
    nobody = PoseDataset(_poses(4))
    assert (nobody.num_subjects, nobody.subjects) == (0, ())
    assert torch.equal(nobody.subject_index, torch.zeros(4, dtype=torch.int64))


def test_digest_is_of_the_content(tmp_path: Path) -> None:
    dataset = _dataset()
    pose, observed = dataset.all_poses()
    assert PoseDataset(pose, observed).digest() == dataset.digest()
    assert PoseDataset.from_memmap(dataset.to_memmap(tmp_path / "d")).digest() == dataset.digest()
    rubbish = torch.where(observed[..., None], pose, torch.full_like(pose, 9.0))
    assert PoseDataset(rubbish, observed).digest() == dataset.digest()
    changed = pose.clone()
    changed[1, 0, 0] += 1e-6
    others = [PoseDataset(changed, observed), PoseDataset(pose), dataset.select(range(59, -1, -1))]  # type: ignore[arg-type]
    assert len({d.digest() for d in [dataset, *others]}) == 4


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
    with pytest.raises(ValueError, match=r"positive frame rate, got 0"):
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
    with pytest.raises(ValueError, match="0 to 180 degrees, got -1"):
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
    dataset = PoseDataset(walk)
    start = time.perf_counter()
    kept = dataset.thin(3.0)
    assert time.perf_counter() - start < 30.0
    assert 10 < len(kept) < 90_000


# -- mirror and concat -----------------------------------------------------------------------------------------------


def test_mirrored() -> None:
    dataset = _dataset(10, 2)
    observed = dataset.observed.clone()
    observed[:, 20] = False
    dataset = PoseDataset(dataset.poses, observed, subject=dataset.subject, sequence=dataset.sequence)
    both = dataset.mirrored()
    assert len(both) == 20
    assert torch.equal(both.poses[:10], dataset.poses)
    torch.testing.assert_close(both.poses[10:], skeleton.mirror(dataset.poses), rtol=0, atol=0)
    assert torch.equal(both.observed[10:], skeleton.mirror_observed(dataset.observed))
    assert both.subjects == dataset.subjects
    assert both.sequence is not None
    assert both.sequence[10] == "walk0:mirror"


def test_concat() -> None:
    first, second = _dataset(10, 2), PoseDataset(_poses(3, seed=1))
    both = PoseDataset.concat([first, second])
    assert torch.equal(both.poses, torch.cat([first.poses, second.poses]))
    assert both.subjects == ("s0", "s1", "unknown")
    assert isinstance(both.fps, np.ndarray)
    assert both.fps[:10].tolist() == [30.0] * 10
    assert np.isnan(both.fps[10:]).all()
    assert both.frame is not None
    assert both.frame[10:].tolist() == [0, 1, 2]
    assert PoseDataset.concat([first, first]).fps == 30.0
    with pytest.raises(ValueError, match="at least one PoseDataset"):
        PoseDataset.concat([])


# -- on disk -----------------------------------------------------------------------------------------------------------


def test_memmap_round_trip(tmp_path: Path) -> None:
    dataset = _dataset()
    mapped = PoseDataset.from_memmap(dataset.to_memmap(tmp_path / "deep" / "set"))
    assert "memory-mapped" in repr(mapped)
    assert torch.equal(mapped.poses, dataset.poses)
    assert torch.equal(mapped.observed, dataset.observed)
    assert mapped.fps == 30.0
    for name in ("subject", "sequence", "frame"):
        assert np.array_equal(getattr(mapped, name), getattr(dataset, name))
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["set"]  # nothing left beside


def test_selections_of_a_mapped_set_stay_mapped(tmp_path: Path) -> None:
    dataset = _dataset()
    mapped = PoseDataset.from_memmap(dataset.to_memmap(tmp_path / "set"))
    part = mapped.split_by_subject((0.5, 0.5), seed=0)[0].select([3, 1])
    assert "memory-mapped" in repr(part)
    assert torch.equal(part.poses, dataset.split_by_subject((0.5, 0.5), seed=0)[0].poses[[3, 1]])
    assert PoseDataset.from_memmap(part.to_memmap(tmp_path / "part")).digest() == part.digest()


def test_memmap_errors(tmp_path: Path) -> None:
    folder = _dataset().to_memmap(tmp_path / "set")
    with pytest.raises(ValueError, match=r"does not exist yet, got .*set; remove it or choose another"):
        _dataset().to_memmap(folder)
    with pytest.raises(ValueError, match=r"expected poses.npy .* got None and None; write the folder with"):
        PoseDataset.from_memmap(tmp_path)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_non_finite_rows_are_named() -> None:
    poses = _poses(9)
    poses[4, 3, 0] = float("inf")
    poses[7, 3, 0] = float("nan")
    with pytest.raises(ValueError, match=r"nan or inf in 2 of 9 rows \(rows 4, 7\); drop these rows or mark"):
        PoseDataset(poses)


@pytest.mark.parametrize(
    ("poses", "options", "text"),
    [
        (torch.zeros(2, 53, 3), {}, r"poses: expected \(N, 55, 3\), got \(2, 53, 3\); convert other layouts with"),
        (torch.zeros(2, 55, 3).int(), {}, r"poses: expected a floating-point type, got int32"),
        (torch.zeros(0, 55, 3), {}, r"poses: expected at least one row, got none"),
        (
            torch.zeros(2, 55, 3),
            {"observed": torch.ones(2, 53)},
            r"observed: expected \(2, 55\) to match poses, got \(2, 53\)",
        ),
        (
            torch.zeros(2, 55, 3),
            {"observed": torch.ones(2, 55)},
            r"observed: expected bool .* got float32; pass observed.bool",
        ),
        (torch.zeros(2, 55, 3), {"subject": ["a", "b", "c"]}, r"subject: expected 2 names, .* got shape \(3,\)"),
        (torch.zeros(2, 55, 3), {"sequence": [0.5, 1.5]}, r"sequence: expected names or integers, got float64"),
        (torch.zeros(2, 55, 3), {"fps": -1.0}, r"fps: expected positive frame rates, got \[-1.0\]"),
        (
            torch.zeros(2, 55, 3),
            {"fps": [1.0, 2.0, 3.0]},
            r"fps: expected one number or 2, one per row, got shape \(3,\)",
        ),
        (torch.zeros(2, 55, 3), {"frame": [0.0, 1.0]}, r"frame: expected 2 integers, one per row, got float64"),
    ],
)
def test_constructor_errors(poses: Tensor, options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PoseDataset(poses, **options)  # type: ignore[arg-type]


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
