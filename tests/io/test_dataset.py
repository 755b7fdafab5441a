"""`PoseDataset`: batches, masks, splits, thinning, mirror, memory-mapping, and its errors."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_poses import haar_poses as _poses
from sample_poses import labelled as _dataset
from torch import Tensor

from poseprior import skeleton
from poseprior.io import PoseDataset

# -- rows ------------------------------------------------------------------------------------------------------------


def test_a_batch_takes_a_mask() -> None:
    dataset = _dataset(10)
    mask = torch.arange(10) % 3 == 1
    for chosen in (mask, mask.numpy(), mask.tolist()):
        assert torch.equal(dataset.batch(chosen)[0], dataset.poses[mask])
    assert torch.equal(dataset.batch([-1, 2])[0], dataset.poses[[-1, 2]])
    assert dataset.batch([])[0].shape == (0, 55, 3)
    with pytest.raises(ValueError, match=r"indices: expected a mask of shape \(10,\), got \(4,\)"):
        dataset.batch([True, False, True, True])
    with pytest.raises(ValueError, match=r"indices: expected indices below 10, got 3 to 10"):
        dataset.batch([3, 10])


def test_bfloat16_is_converted() -> None:
    poses = _poses(4).bfloat16()
    assert torch.equal(PoseDataset(poses).poses, poses.float())


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


def test_frame_rates() -> None:
    assert PoseDataset(_poses(2), fps=30).fps == 30.0
    assert PoseDataset(_poses(2), fps=[30.0, 30.0]).fps == 30.0
    assert PoseDataset(_poses(2), fps=float("nan")).fps is None
    mixed = PoseDataset(_poses(2), fps=[30.0, 60.0]).fps
    assert isinstance(mixed, np.ndarray)
    assert mixed.tolist() == [30.0, 60.0]


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


def test_memmaps_are_pickled_by_path(tmp_path: Path) -> None:
    dataset = _dataset()
    folder = dataset.to_memmap(tmp_path / "set")
    mapped = PoseDataset.from_memmap(folder)
    part = mapped.select(range(10, 30))
    for some in (mapped, part):
        pickled = pickle.dumps(some)
        assert len(pickled) < dataset.poses.nbytes // 4
        again = pickle.loads(pickled)
        assert "memory-mapped" in repr(again)
        assert again.digest() == some.digest()
        assert again.subjects == some.subjects
    slice_of_map = np.load(folder / "poses.npy", mmap_mode="r")[10:30]  # knows its file, but not where in it
    changed = np.load(folder / "poses.npy", mmap_mode="c")
    changed[0] = 0.0  # in memory alone
    for array in (slice_of_map, changed, np.asfortranarray(slice_of_map)):
        assert torch.equal(pickle.loads(pickle.dumps(PoseDataset(array))).poses, torch.tensor(np.array(array)))


def test_memmap_errors(tmp_path: Path) -> None:
    folder = _dataset().to_memmap(tmp_path / "set")
    with pytest.raises(ValueError, match=r"does not exist yet, got .*set; remove it or choose another"):
        _dataset().to_memmap(folder)
    with pytest.raises(ValueError, match=r"expected poses.npy .* got None and None; write the folder with"):
        PoseDataset.from_memmap(tmp_path)
    for name in ("subject", "poses"):
        content = (folder / f"{name}.npy").read_bytes()
        for damaged in (b"", content[:20], content[:200]):
            (folder / f"{name}.npy").write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"folder: expected {name}.npy as PoseDataset.to_memmap writes it"):
                PoseDataset.from_memmap(folder)
        (folder / f"{name}.npy").write_bytes(content)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_non_finite_rows_are_named() -> None:
    poses = _poses(9)
    poses[4, 3, 0] = float("inf")
    poses[7, 3, 0] = float("nan")
    with pytest.raises(
        ValueError, match=r"nan, inf or larger ones in 2 of 9 rows \(rows 4, 7\); drop these rows or mark"
    ):
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
