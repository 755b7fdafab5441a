"""`PoseDataset.rig` and `.imputed`: what every operation on rows does with them, and how files hold them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_poses import haar_poses
from torch import Tensor

from poseprior import params, skeleton
from poseprior.io import PoseDataset, read_poses, write_poses

N = 12


def _imputed(n: int = N) -> Tensor:
    return torch.rand(n, 55, generator=torch.Generator().manual_seed(5)) < 0.3


def _dataset() -> PoseDataset:
    return PoseDataset(
        haar_poses(N), rig=["asf", "daz", "hdm05"] * 4, imputed=_imputed(), sequence="s", frame=np.arange(N), fps=30.0
    )


def _same(dataset: PoseDataset, rows: list[int]) -> None:
    assert dataset.rig is not None
    assert dataset.imputed is not None
    assert dataset.rig.tolist() == [["asf", "daz", "hdm05"][r % 3] for r in rows]
    assert torch.equal(dataset.imputed, _imputed()[rows])


def test_rows_keep_their_rig_and_flags(tmp_path: Path) -> None:
    dataset = _dataset()
    _same(dataset, list(range(N)))
    _same(dataset.select([3, -1, 3]), [3, 11, 3])
    _same(dataset.subsample(30.0), list(range(N)))
    _same(dataset.thin(0.5), list(range(N)))
    _same(PoseDataset.concat([dataset, dataset.select([2])]), [*range(N), 2])
    _same(pickle.loads(pickle.dumps(dataset)), list(range(N)))
    part = dataset.random_subset(5, seed=0)
    assert part.frame is not None
    _same(part, part.frame.tolist())
    _same(read_poses(write_poses(tmp_path / "x.npz", dataset)), list(range(N)))


def test_the_mirror_swaps_the_sides_of_imputed() -> None:
    both = _dataset().mirrored()
    assert both.rig is not None
    assert both.imputed is not None
    assert both.rig.tolist() == ["asf", "daz", "hdm05"] * 8
    assert torch.equal(both.imputed[:N], _imputed())
    assert torch.equal(both.imputed[N:], _imputed()[:, list(skeleton.MIRROR)])
    assert not torch.equal(both.imputed[N:], both.imputed[:N])


def test_mapped_sets(tmp_path: Path) -> None:
    mapped = PoseDataset.from_memmap(_dataset().to_memmap(tmp_path / "set"))
    _same(mapped, list(range(N)))
    part = mapped.select([4, 1, 9]).select([2, 0])
    assert "memory-mapped" in repr(part)
    _same(part, [9, 4])
    _same(pickle.loads(pickle.dumps(part)), [9, 4])
    _same(PoseDataset.from_memmap(part.to_memmap(tmp_path / "part")), [9, 4])
    np.save(tmp_path / "set" / "imputed.npy", np.zeros((N, 53), bool))
    with pytest.raises(ValueError, match=r"expected imputed.npy \(12, 55\) in .*, got \(12, 53\); write the folder"):
        PoseDataset.from_memmap(tmp_path / "set")


def test_sets_without_them(tmp_path: Path) -> None:
    bare = PoseDataset(haar_poses(2))
    assert bare.rig is None
    assert bare.imputed is None
    assert PoseDataset.concat([bare, bare]).imputed is None
    assert PoseDataset.from_memmap(bare.to_memmap(tmp_path / "bare")).imputed is None
    both = PoseDataset.concat([bare, _dataset()])
    assert both.rig is not None
    assert both.imputed is not None
    assert both.rig[:3].tolist() == ["unknown", "unknown", "asf"]
    assert not both.imputed[:2].any()
    assert torch.equal(both.imputed[2:], _imputed())
    assert bare.digest() == PoseDataset(bare.poses, imputed=_imputed(2), rig="x").digest()


def test_files_of_53_joints(tmp_path: Path) -> None:
    stored = params.pose_to_joints53(haar_poses(N)).numpy()
    flags = _imputed().numpy()[:, list(params.JOINTS_53)]
    np.savez(tmp_path / "x.npz", poses=stored, imputed=flags, rig=np.array(["uiprmd"] * N))
    dataset = read_poses(tmp_path / "x.npz")
    assert dataset.imputed is not None
    assert np.array_equal(dataset.imputed[:, list(params.JOINTS_53)].numpy(), flags)
    assert not dataset.imputed[:, 23:25].any()
    assert dataset.rig is not None
    assert set(dataset.rig) == {"uiprmd"}
    np.savez(tmp_path / "y.npz", poses=stored, imputed=flags[:, :40])
    with pytest.raises(
        ValueError, match=r"key 'imputed': expected \(12, 53\) or \(12, 55\), a flag per pose and joint"
    ):
        read_poses(tmp_path / "y.npz")


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"imputed: expected \(2, 55\) to match poses, got \(2, 53\)"):
        PoseDataset(haar_poses(2), imputed=torch.ones(2, 53, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"imputed: expected bool .* got float32; pass imputed.bool"):
        PoseDataset(haar_poses(2), imputed=torch.ones(2, 55))
    with pytest.raises(ValueError, match=r"rig: expected 2 names, .* got shape \(3,\)"):
        PoseDataset(haar_poses(2), rig=["a", "b", "c"])


@pytest.mark.real_data
def test_real_rigs(real_data_dir: Path) -> None:
    path = real_data_dir / "smplx_body" / "val_poses.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    dataset = read_poses(path)
    with np.load(path) as raw:
        assert dataset.rig is not None
        assert dataset.imputed is not None
        assert np.array_equal(dataset.rig, raw["rig"])
        assert np.array_equal(dataset.imputed[:, list(params.JOINTS_53)].numpy(), raw["imputed"])
