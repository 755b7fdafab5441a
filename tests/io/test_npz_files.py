"""`read_poses` and `write_poses`: metadata, folders, writing, and the real recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sample_poses import amass_smplx, haar_poses
from sample_poses import assert_observes as _check
from sample_poses import save_npz as _save
from torch import Tensor

from poseprior import params
from poseprior.io import PoseDataset, read_poses, read_split, synthetic_poses, write_poses

N = 6


def _poses(n: int = N, seed: int = 0) -> Tensor:
    return 0.9 * haar_poses(n, seed)


ALL = tuple(range(55))


def _amass_smplx(n: int = N) -> dict[str, Any]:
    return amass_smplx(_poses(n))


# -- metadata --------------------------------------------------------------------------------------------------------


def test_metadata(tmp_path: Path) -> None:
    path = _save(
        tmp_path / "x.npz",
        poses=_poses().numpy(),
        subject=np.array([3, 3, 3, 12, 12, 12], np.int16),
        seq=np.array(["a", "a", "b", "c", "c", "c"]),
        frame=np.arange(N, dtype=np.int32) * 2,
        fps=np.float32(30),
    )
    dataset = read_poses(path)
    assert dataset.subjects == ("12", "3")
    assert dataset.sequence is not None
    assert dataset.sequence.tolist() == ["a", "a", "b", "c", "c", "c"]
    assert dataset.frame is not None
    assert dataset.frame.tolist() == [0, 2, 4, 6, 8, 10]
    assert dataset.fps == 30.0
    assert read_poses(path, subject="me").subjects == ("me",)


def test_a_bare_file_has_no_subject(tmp_path: Path) -> None:
    dataset = read_poses(_save(tmp_path / "walk.npz", poses=_poses().numpy()), fps=25)
    assert dataset.subject is None
    assert dataset.sequence is not None
    assert set(dataset.sequence) == {"walk"}
    assert dataset.fps == 25.0


def test_target_fps(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", **_amass_smplx(120))
    assert 30 <= len(read_poses(path, target_fps=30)) <= 31
    bare = _save(tmp_path / "y.npz", poses=_poses().numpy())
    with pytest.raises(ValueError, match=r"files that say their frame rate, got none in .*y.npz; pass fps="):
        read_poses(bare, target_fps=30)


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["{}_poses.npz", "hands_{}.npz", "{}.npz", "{}/a.npz"])
def test_split_folders(pattern: str, tmp_path: Path) -> None:
    for k, name in enumerate(("test", "train", "val")):
        _save(tmp_path / pattern.format(name), poses=_poses(2 + k, seed=k).numpy())
    parts = read_split(tmp_path)
    assert {name: len(part) for name, part in parts.items()} == {"train": 3, "val": 4, "test": 2}
    assert list(parts) == ["train", "val", "test"]
    assert torch.equal(read_poses(tmp_path).poses, torch.cat([p.poses for p in parts.values()]))
    assert torch.equal(read_poses(tmp_path, split="val").poses, parts["val"].poses)


def test_body_and_hands_in_one_folder(tmp_path: Path) -> None:
    _save(tmp_path / "train_poses.npz", poses=_poses().numpy())
    _save(tmp_path / "hands_train.npz", hand_pose=_poses()[:, 40:].numpy(), side=1)
    parts = read_split(tmp_path)
    assert list(parts) == ["train"]
    assert len(parts["train"]) == 2 * N


def test_folders_of_split_folders(tmp_path: Path) -> None:
    """body/test_poses.npz must not be read as training data of the folder above."""
    for k, name in enumerate(("train", "val", "test")):
        _save(tmp_path / "body" / f"{name}_poses.npz", poses=_poses(2 + k).numpy())
        _save(tmp_path / "hands" / f"hands_{name}.npz", poses=_poses(1).numpy())
    assert {name: len(part) for name, part in read_split(tmp_path).items()} == {"train": 3, "val": 4, "test": 5}
    stray = _save(tmp_path / "more" / "walk.npz", poses=_poses(1).numpy())
    with pytest.raises(ValueError, match=r"named train, val or test or none of them, got .*walk.npz; give the list"):
        read_split(tmp_path)
    stray.rename(tmp_path / "body" / "all.npz")
    assert list(read_split(tmp_path / "body")) == ["train", "val", "test"]


def test_amass_tree(tmp_path: Path) -> None:
    for who in ("CMU/01", "CMU/02", "ACCAD/01"):
        _save(tmp_path / who / "walk_poses.npz", **_amass_smplx())
        _save(tmp_path / who / "shape.npz", betas=np.zeros(10))
        _save(tmp_path / who / "neutral_stagei.npz", betas=np.zeros(10))
    dataset = read_poses(tmp_path)
    assert dataset.subjects == ("ACCAD/01", "CMU/01", "CMU/02")
    assert len(dataset) == 3 * N
    assert list(read_split(tmp_path)) == ["train"]


def test_people_of_several_folders_are_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for who in ("CMU/01", "CMU/02", "KIT/01"):
        _save(tmp_path / who / "walk_poses.npz", **_amass_smplx())
        _save(tmp_path / "plain" / who / "walk.npz", poses=_poses().numpy())
    people = ("CMU/01", "CMU/02", "KIT/01")
    assert read_poses([tmp_path / "CMU", tmp_path / "KIT"]).subjects == people
    assert read_poses([tmp_path / "plain/CMU", tmp_path / "plain/KIT"]).subjects == people
    assert read_poses([tmp_path / who / "walk_poses.npz" for who in people]).subjects == people
    assert read_poses([tmp_path / "CMU/01/walk_poses.npz", tmp_path / "CMU/02"]).subjects == ("01", "02")
    monkeypatch.chdir(tmp_path)
    assert read_poses(["CMU", tmp_path / "KIT/../KIT"]).subjects == people
    for who in ("A/train/01", "B/train/01", "B/val/01"):
        _save(tmp_path / "parts" / who / "walk.npz", poses=_poses().numpy())
    parts = read_split(tmp_path / "parts")
    assert (parts["train"].subjects, parts["val"].subjects) == (("A/01", "B/01"), ("B/01",))
    assert read_poses([tmp_path / "parts/B/train", tmp_path / "parts/B/val"]).subjects == ("01",)


def test_lists(tmp_path: Path) -> None:
    first, second = (
        _save(tmp_path / "a.npz", poses=_poses(2).numpy()),
        _save(tmp_path / "b.npz", poses=_poses(3).numpy()),
    )
    assert len(read_poses([first, str(second)])) == 5
    assert torch.equal(read_poses([first, second]).poses, torch.cat([_poses(2), _poses(3)]))


# -- writing -----------------------------------------------------------------------------------------------------------


def test_write_and_read_back(tmp_path: Path) -> None:
    dataset = synthetic_poses(90, num_subjects=3)
    path = write_poses(tmp_path / "deep" / "x.npz", dataset)
    back = read_poses(path)
    assert back.digest() == dataset.digest()
    assert back.fps == dataset.fps
    for name in ("subject", "sequence", "frame"):
        assert np.array_equal(getattr(back, name), getattr(dataset, name))
    assert [p.name for p in path.parent.iterdir()] == ["x.npz"]  # nothing left beside


def test_write_bare_poses(tmp_path: Path) -> None:
    observed = torch.ones(N, 55, dtype=torch.bool)
    observed[:, 30] = False
    _check(
        read_poses(write_poses(tmp_path / "a.npz", _poses(), observed=observed)), _poses(), (*range(30), *range(31, 55))
    )
    _check(read_poses(write_poses(tmp_path / "b.npz", _poses(1)[0].numpy())), _poses(1), ALL)
    _check(read_poses(write_poses(tmp_path / "c.npz", _poses().requires_grad_())), _poses(), ALL)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_poses(tmp_path / "x.npz", _poses())
    before = path.read_bytes()

    def broken(handle: Any, **arrays: Any) -> None:
        handle.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(ValueError, match=r"cannot write .*disk full"):
        write_poses(path, _poses(3))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_write_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path: expected a name that ends in .npz, got 'x.pt'; use 'x.pt.npz'"):
        write_poses(tmp_path / "x.pt", _poses())
    with pytest.raises(ValueError, match=r"observed: expected None with a PoseDataset"):
        write_poses(tmp_path / "x.npz", PoseDataset(_poses()), observed=torch.ones(N, 55, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"poses: expected \(N, 55, 3\), got \(6, 53, 3\)"):
        write_poses(tmp_path / "x.npz", _poses()[:, :53])


# -- the shared recordings ---------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_real_bodies(real_data_dir: Path) -> None:
    parts = read_split(real_data_dir / "body")
    assert {name: len(part) for name, part in parts.items()} == {"train": 93445, "val": 10552, "test": 16807}
    subjects = [set(part.subjects) for part in parts.values()]
    assert not subjects[0] & subjects[1] | subjects[0] & subjects[2] | subjects[1] & subjects[2]
    never = {13, 14, 22, 23, 24, *range(25, 55)}  # collars (SMPL-X 13, 14), jaw, eyes, fingers
    for part in parts.values():
        assert set(range(55)) - set(part.observed_joints) == never
        assert part.fps == 30.0
    with np.load(real_data_dir / "body" / "val_poses.npz") as raw:
        stored, observed = raw["poses"], raw["observed"]
    pose = parts["val"].poses[:, list(params.JOINTS_53)].numpy()
    np.testing.assert_allclose(pose[observed], stored[observed], atol=1e-6)
    assert parts["val"].thin(1.4).digest() == parts["val"].digest()  # thinned at 1.5 degrees when recorded


@pytest.mark.real_data
def test_real_hands(real_data_dir: Path) -> None:
    parts = read_split(real_data_dir / "hands")
    assert {name: len(part) for name, part in parts.items()} == {"train": 27337, "val": 2544, "test": 2917}
    assert parts["train"].observed_joints == tuple(range(25, 55))
    assert not parts["train"].co_observed[25:40, 40:].any()
    assert parts["val"].subjects == ("sitting7",)
    # fingers curl with z < 0 on the left, z > 0 on the right
    pose, observed = parts["train"].all_poses()
    assert float(pose[observed[:, 25], 29, 2].mean()) < -0.2
    assert float(pose[observed[:, 40], 44, 2].mean()) > 0.2


@pytest.mark.real_data
def test_real_bodies_and_hands_do_not_share_subjects(real_data_dir: Path) -> None:
    body = read_poses(real_data_dir / "body", split="val")
    hands = read_poses(real_data_dir / "hands", split="val")
    both = PoseDataset.concat([body, hands])
    assert both.num_subjects == body.num_subjects + hands.num_subjects
    assert not both.co_observed[1:22, 25:].any()
