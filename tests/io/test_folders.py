"""`read_poses` and `read_split` on folders: links, files that are one, names of parts, images, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sample_poses import amass_smplx, haar_poses
from sample_poses import save_npz as _save

from poseprior.io import read_poses, read_split

N = 6


def _motion(path: Path, seed: int = 0) -> Path:
    return _save(path, **amass_smplx(0.9 * haar_poses(N, seed)))


# -- links -------------------------------------------------------------------------------------------------------------


def test_linked_folders_are_read(tmp_path: Path) -> None:
    _motion(tmp_path / "amass" / "CMU" / "01" / "a_poses.npz")
    _motion(tmp_path / "disk" / "KIT" / "3" / "b_poses.npz", 1)
    _motion(tmp_path / "other" / "7" / "c_poses.npz", 2)
    (tmp_path / "amass" / "KIT").symlink_to(tmp_path / "disk" / "KIT")
    (tmp_path / "disk" / "KIT" / "more").symlink_to(tmp_path / "other")
    assert read_poses(tmp_path / "amass").subjects == ("CMU/01", "KIT/3", "KIT/more/7")


def test_links_that_go_round_end(tmp_path: Path) -> None:
    _motion(tmp_path / "a" / "b" / "x_poses.npz")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "b" / "here").symlink_to(tmp_path / "a" / "b")
    assert len(read_poses(tmp_path / "a")) == N
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert len(read_poses(tmp_path / "link")) == N


def test_one_file_under_two_paths_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _motion(tmp_path / "a" / "x.npz")
    monkeypatch.chdir(tmp_path)
    for paths in (["a/x.npz", file], [file, "a/../a/x.npz"], ["a", file], ["a", tmp_path / "a"]):
        with pytest.raises(ValueError, match=r"path: expected each file once, got .*leave"):
            read_poses(paths)  # type: ignore[arg-type]
    (tmp_path / "a" / "latest.npz").symlink_to(file)
    for read in (read_poses, read_split):
        with pytest.raises(
            ValueError, match=r"each file once, got .*latest.npz and .*x.npz, which are one; leave one out"
        ):
            read(tmp_path / "a")
    assert len(read_poses([file])) == N


def test_one_folder_under_two_paths_is_refused(tmp_path: Path) -> None:
    _motion(tmp_path / "train" / "ann" / "x.npz")
    _motion(tmp_path / "test" / "bob" / "x.npz")
    (tmp_path / "test" / "ann").symlink_to(tmp_path / "train" / "ann")
    for read in (read_poses, read_split):
        with pytest.raises(ValueError, match=r"train/ann and .*test/ann, which are one folder; remove the link"):
            read(tmp_path)
    assert len(read_poses([tmp_path / "train", tmp_path / "test" / "bob"])) == 2 * N


# -- names of parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["{}.npz", "{}_poses.npz", "hands_{}.npz", "{}/a.npz", "body/{}/ann/a.npz"])
@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "Val", "Test"),
        ("TRAIN", "VALID", "TESTING"),
        ("training", "validation", "testing"),
        ("train", "dev", "eval"),
    ],
)
def test_parts_are_known_in_any_case_and_by_other_words(
    pattern: str, train: str, val: str, test: str, tmp_path: Path
) -> None:
    for k, name in enumerate((test, train, val)):
        _save(tmp_path / pattern.format(name), poses=haar_poses(2 + k, seed=k).numpy())
    parts = read_split(tmp_path)
    assert {name: len(part) for name, part in parts.items()} == {"train": 3, "val": 4, "test": 2}
    assert all(part.subjects == (("body/ann",) if "ann" in pattern else ()) for part in parts.values())
    assert torch.equal(read_poses(tmp_path, split="test").poses, parts["test"].poses)


@pytest.mark.parametrize(
    ("first", "second"),
    [("smplx_train.npz", "smplx_test.npz"), ("Train-01.npz", "Test-01.npz"), ("TrainSet/a.npz", "TestSet/a.npz"),
     ("x/my_training/ann/a.npz", "x/my_validation/bob/a.npz"), ("trainset.npz", "v2_dev.npz")],
)  # fmt: skip
def test_names_that_speak_of_parts_but_are_not_known_are_no_train_part(first: str, second: str, tmp_path: Path) -> None:
    _motion(tmp_path / first)
    _motion(tmp_path / second, 1)
    with pytest.raises(ValueError, match=r"folder: expected names that tell train, val and test apart.*move them into"):
        read_split(tmp_path)
    assert len(read_poses(tmp_path)) == 2 * N, "all of them were asked for"


def test_names_of_movements_are_no_parts(tmp_path: Path) -> None:
    for name in ("walk_test.npz", "contest.npz", "testify.npz", "evaluate_2.npz"):
        _motion(tmp_path / "CMU" / "01" / name)
    assert list(read_split(tmp_path)) == ["train"]


def test_files_beside_those_of_parts_are_noted(tmp_path: Path) -> None:
    _motion(tmp_path / "train.npz")
    _motion(tmp_path / "val.npz", 1)
    assert read_poses(tmp_path).notes == read_poses(tmp_path / "train.npz").notes
    _motion(tmp_path / "more" / "walk.npz", 2)
    (tmp_path / "test.pt").write_bytes(b"")
    note = (
        f"of {tmp_path} the files named train, val were read alone, not {Path('more/walk.npz')}: give these as a list"
    )
    for data in (read_poses(tmp_path), read_split(tmp_path)["train"]):
        assert len(data) in (N, 2 * N)
        assert any(line.startswith(note) for line in data.notes)
        assert any("not 1 .pt: these are read from a list of files" in line for line in data.notes)
    assert not any("read alone" in line for line in read_poses(tmp_path, split="train").notes)


# -- other kinds of files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "fix"),
    [(".npy", "read from a list of files"), (".ckpt", "read from a list of files"), (".json", "code that writes it as .npz"),
     (".joblib", "code that writes it as .npz"), (".pk", "code that writes it as .npz"), (".PKL", "code that writes it"),
     (".zip", "unpack"), (".bz2", "unpack"), (".mat", "write their arrays into an .npz")],
)  # fmt: skip
def test_other_kinds_of_files_are_noted(suffix: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("x", "y", "._z"):
        (tmp_path / "a" / f"{name}{suffix}").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"expected .npz files with poses in .* or below, got none;") as caught:
        read_poses(tmp_path)
    assert suffix.lower() in str(caught.value)
    _motion(tmp_path / "w.npz")
    (tmp_path / "README.txt").write_text("")
    (note,) = (line for line in read_poses(tmp_path).notes if "read alone" in line)
    assert f"not 2 {suffix.lower()}: " in note and fix in note
