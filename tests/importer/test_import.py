"""Trees of recordings into shards: what is kept, in which part, and what is left of a run that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.speed.synthetic_tree import make_tree
from poseprior import GaussianPrior, read_poses
from poseprior.cli import main
from poseprior.importer import ImportOptions, ImportReport, import_poses, plan
from poseprior.importer.plan import settle
from poseprior.importer.sources import find_files, source_of
from poseprior.importer.splits import part_of_person, part_of_source
from poseprior.io import PoseDataset, read_split

OPTIONS = ImportOptions()


def _import(source: Path, out: Path, options: ImportOptions = OPTIONS, workers: int = 1) -> ImportReport:
    return import_poses(source, out, options=options, workers=workers, progress=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    counts = make_tree(root, 24, frames=250, people=4)
    assert counts == {"recordings": 24, "frames": counts["frames"], "damaged": 1, "stage_i": 1, "foreign": 1}
    return root


@pytest.fixture(scope="module")
def shards(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "S"
    _import(tree, out)
    return out


def _by_recording(data: PoseDataset) -> dict[str, PoseDataset]:
    assert data.sequence is not None
    return {str(name): data.select(data.sequence == name) for name in np.unique(data.sequence)}


def test_what_is_kept_is_what_reading_trimming_and_thinning_the_files_gives(tree: Path, shards: Path) -> None:
    found = {name: one for part in read_split(shards).values() for name, one in _by_recording(part).items()}
    expected = 0
    for path in sorted(tree.rglob("*.npz")):
        if path.name == "shape.npz" or path.name.endswith("_stagei.npz"):
            continue
        try:
            whole = read_poses(path)
        except ValueError:
            continue  # the damaged one
        expected += 1
        cut = len(whole) // 10
        kept = whole.select(range(cut, len(whole) - cut)).subsample(30.0).thin(1.5)
        mine = found[path.stem]
        assert torch.equal(mine.poses, kept.poses)
        assert torch.equal(mine.observed, kept.observed)
        assert mine.frame is not None and kept.frame is not None
        assert mine.frame.tolist() == kept.frame.tolist()
        assert np.unique(np.asarray(mine.fps)).tolist() == [kept.fps]
        assert mine.subjects == (path.parent.relative_to(tree).as_posix(),)
        assert mine.rig is not None and set(mine.rig.tolist()) == {path.relative_to(tree).parts[0]}
    assert len(found) == expected == 23


def test_parts_are_those_that_vposer_holds_out(shards: Path) -> None:
    parts = read_split(shards)
    assert list(parts) == ["train", "val", "test"]
    sources = {name: {s.split("/")[0] for s in data.subjects} for name, data in parts.items()}
    assert sources == {"train": {"CMU", "KIT", "DanceDB"}, "val": {"HumanEva", "SFU"}, "test": {"SSM"}}
    for name, part in (
        ("HumanEva", "val"), ("MPI_HDM05", "val"), ("HDM05", "val"), ("MPI_mosh", "val"), ("MoSh", "val"), ("SFU", "val"),
        ("Transitions_mocap", "test"), ("Transitions", "test"), ("SSM_synced", "test"), ("SSM", "test"), ("CMU", "train"),
        ("BioMotionLab_NTroje", "train"), ("my_own", "train"),
    ):  # fmt: skip
        assert part_of_source(name) == part
    assert source_of("AMASS/SMPL-X_N/CMU/01/a.npz") == "CMU"
    assert (source_of("mine/01/a.npz"), source_of("a.npz")) == ("mine", ".")


def test_people_are_split_by_their_names_whoever_else_there_is(tree: Path, tmp_path: Path) -> None:
    report = _import(tree, tmp_path / "S", replace(OPTIONS, split="person", fractions=(0.5, 0.25, 0.25)))
    parts = read_split(tmp_path / "S")
    people = {name: set(data.subjects) for name, data in parts.items()}
    assert sum(map(len, people.values())) == len(set.union(*people.values())) == 23  # one person's file is damaged
    assert report.people == {name: len(some) for name, some in people.items()}
    for name, some in people.items():
        assert {part_of_person(p, (0.5, 0.25, 0.25), 0) for p in some} == {name}
    shares = [part_of_person(f"p{k}", (0.5, 0.25, 0.25), 3) for k in range(4000)]
    assert [shares.count(p) / 4000 for p in ("train", "val", "test")] == pytest.approx([0.5, 0.25, 0.25], abs=0.03)


def test_the_report_says_what_was_left_out(tree: Path, shards: Path, tmp_path: Path) -> None:
    report = json.loads((shards / "report.json").read_text())
    reasons = {name: why for name, why in report["skipped"]}
    assert len(reasons) == 3
    assert reasons["KIT/01/shape.npz"] == "holds a shape and no motion (stage i)"
    assert reasons["SFU/01/01_000009.txt"] == "is no .npz"
    assert reasons["DanceDB/01/01_000011_stageii.npz"].startswith(
        "expected an .npz file, got something else or a damaged"
    )
    assert report["rows"] == {name: len(data) for name, data in read_split(shards).items()}
    assert sum(count["frames"] for count in report["sources"].values()) > 5000
    twice = tmp_path / "T" / "CMU" / "01"
    twice.mkdir(parents=True)
    for name in ("a_stageii.npz", "a_poses.npz"):
        np.savez(twice / name, poses=np.random.default_rng(0).normal(size=(9, 165)), mocap_frame_rate=30.0)
    _, skipped = find_files(tmp_path / "T")
    assert [(one.name, one.why) for one in skipped] == [
        ("CMU/01/a_poses.npz", "is the recording of the _stageii.npz beside it")
    ]


def test_a_cap_takes_a_random_subset_of_each_source(tree: Path, shards: Path, tmp_path: Path) -> None:
    whole = read_poses(shards, split="train")
    report = _import(tree, tmp_path / "S", replace(OPTIONS, cap=100))
    data = read_poses(tmp_path / "S", split="train")
    assert len(data) == report.rows["train"] == 300
    assert data.rig is not None
    assert {str(name): int((data.rig == name).sum()) for name in np.unique(data.rig)} == {
        "CMU": 100, "DanceDB": 100, "KIT": 100
    }  # fmt: skip
    rows = {tuple(row) for row in whole.poses.flatten(1).tolist()}
    assert all(tuple(row) in rows for row in data.poses.flatten(1).tolist())
    assert len(read_poses(tmp_path / "S", split="val")) == len(read_poses(shards, split="val"))
    _import(tree, tmp_path / "S")  # without the cap: nothing is imported again
    assert len(read_poses(tmp_path / "S", split="train")) == len(whole)


def test_training_reads_shards_as_it_reads_a_folder(shards: Path, tmp_path: Path) -> None:
    train = read_poses(shards, split="train")
    assert train._store.mapped
    memory = PoseDataset(train.poses, train.observed)
    assert train.digest() == memory.digest()
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:200]
    assert all(torch.equal(a, b) for a, b in zip(train.batch(rows), memory.batch(rows), strict=True))
    first, second = GaussianPrior("body"), GaussianPrior("body")
    assert first.fit(train).train_nll == second.fit(memory).train_nll
    assert main(["train", "gaussian", "--data", str(shards), "--out", str(tmp_path / "R"), "--no-evaluate"]) == 0
    everything = read_poses(shards)
    assert len(everything) == sum(len(part) for part in read_split(shards).values())
    assert everything.select([0, len(everything) - 1]).subject is not None


def test_a_killed_import_goes_on_and_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many, out = tmp_path / "tree", tmp_path / "S"
    make_tree(many, 90, frames=600)
    monkeypatch.setattr(plan, "_LEAST", 2**21)  # a shard of every few files
    settle(out, many, OPTIONS, *find_files(many))
    command = [sys.executable, "-m", "poseprior", "data", "import", str(many), "--out", str(out), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None and len(list((out / "shards").glob("[0-9]*"))) < 2:
        time.sleep(0.01)
    assert process.poll() is None, "the import ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("[0-9]*")}
    with pytest.raises(ValueError, match=r"got an import that was stopped; run the same poseprior data import again"):
        read_poses(out)
    report = _import(many, out)
    after = {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("[0-9]*")}
    assert {name: after[name] for name in done} == done  # not one of them was made again
    assert report.new_shards == len(after) - len(done) > 0
    assert not [p for p in (out / "shards").iterdir() if p.name.startswith(".")]
    undisturbed = _import(many, tmp_path / "U")
    assert report.rows == undisturbed.rows
    for name, part in read_split(out).items():
        assert part.digest() == read_poses(tmp_path / "U", split=name).digest()


def test_processes_import_what_one_does_and_new_files_are_added(tree: Path, shards: Path, tmp_path: Path) -> None:
    more = tmp_path / "tree"
    make_tree(more, 24, frames=250, people=4)
    out = tmp_path / "S"
    _import(more, out)
    assert {k: d.digest() for k, d in read_split(out).items()} == {k: d.digest() for k, d in read_split(shards).items()}
    new = more / "CMU" / "new"
    new.mkdir()
    (next(iter((more / "CMU" / "00").glob("*_poses.npz")))).rename(new / "one_poses.npz")
    report = _import(more, out)
    assert report.new_shards == 1
    assert "CMU/new" in read_poses(out, split="train").subjects


@pytest.mark.slow
def test_two_workers_import_what_one_does(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 120, frames=2000)
    command = [
        sys.executable,
        "-m",
        "poseprior",
        "data",
        "import",
        str(tmp_path / "tree"),
        "--out",
        str(tmp_path / "S"),
    ]
    subprocess.run([*command, "--workers", "2"], check=True, capture_output=True)
    one = _import(tmp_path / "tree", tmp_path / "U")
    for name in one.rows:
        assert read_poses(tmp_path / "S", split=name).digest() == read_poses(tmp_path / "U", split=name).digest()


# -- bad input -------------------------------------------------------------------------------------------------------


def test_a_tree_without_frame_rates_is_imported_as_the_message_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, out = tmp_path / "tree", tmp_path / "S"
    tree.mkdir()
    np.savez(tree / "a.npz", poses=0.1 * np.random.default_rng(0).normal(size=(200, 55, 3)))
    command = ["data", "import", str(tree), "--out", str(out), "--workers", "1", "--split", "none"]
    assert main(command) == 2 and not out.exists()
    assert "--source-fps" in capsys.readouterr().err
    assert main([*command, "--source-fps", "30"]) == 0


def test_trees_without_poses_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, says in (
        (tmp_path / "nothing", "SOURCE: expected a folder of pose files, got"),
        (empty, "got no file at all; give the unpacked tree"),
    ):
        assert main(["data", "import", str(source), "--out", str(tmp_path / "S")]) == 2
        assert says in capsys.readouterr().err
    (empty / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"got 1 other files \(a.txt, ...\)"):
        _import(empty, tmp_path / "S")
    np.savez(empty / "b.npz", numbers=np.arange(3))
    with pytest.raises(ValueError, match=r"got none that can be used; the first of 2: a.txt: is no .npz"):
        _import(empty, tmp_path / "S")
    assert not (tmp_path / "S").exists()
    with pytest.raises(ValueError, match=r"out: expected a folder outside of the tree"):
        _import(empty, empty / "S")
    with pytest.raises(ValueError, match=r"out: expected a new folder, an empty one or that of an import, got"):
        _import(empty, tmp_path)


def test_recordings_without_a_frame_rate_are_left_out_unless_it_is_told(tmp_path: Path) -> None:
    for n in (60, 400):  # one that is read whole, one by rows
        np.savez(tmp_path / f"{n}.npz", poses=np.random.default_rng(0).normal(size=(n, 165)))
    with pytest.raises(ValueError, match=r"400.npz: it does not say its frame rate \(--source-fps gives one\)"):
        _import(tmp_path, tmp_path.parent / f"{tmp_path.name}-a")
    report = _import(tmp_path, tmp_path.parent / f"{tmp_path.name}-b", replace(OPTIONS, source_fps=60.0))
    assert report.rows["train"] == pytest.approx(24 + 160, abs=2)  # half of 48 and of 320, from a random first frame


def test_another_import_is_not_overwritten(tree: Path, shards: Path) -> None:
    with pytest.raises(
        ValueError, match=r"holds another import: fps was 30.0, is 60.0. Give another folder, or the same"
    ):
        _import(tree, shards, replace(OPTIONS, fps=60.0))
    with pytest.raises(ValueError, match=r"path: expected none of the options that say how files are read"):
        read_poses(shards, model_type="smplh")
    with pytest.raises(
        ValueError, match=r"split: expected one of train, val, test in .*, got 'all'|split: expected one of"
    ):
        read_poses(shards, split="all")


def test_a_full_disk_keeps_what_is_finished(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from poseprior.io import shards as format_of_shards

    monkeypatch.setattr(plan, "_LEAST", 2**20)
    write, calls = format_of_shards.ShardWriter.append, []

    def full(self: format_of_shards.ShardWriter, data: PoseDataset) -> None:
        calls.append(1)
        if len(calls) > 12:
            raise OSError(28, "No space left on device")
        write(self, data)

    with monkeypatch.context() as patch, pytest.raises(ValueError) as raised:
        patch.setattr(format_of_shards.ShardWriter, "append", full)
        _import(tree, tmp_path / "S")
    text = str(raised.value)
    assert "No space left on device" in text and "shards are finished" in text and "\n" not in text
    assert not [p for p in (tmp_path / "S" / "shards").iterdir() if p.name.startswith(".")]
    kept = len(list((tmp_path / "S" / "shards").iterdir()))
    assert kept > 0
    assert f"{kept} of " in text
    assert _import(tree, tmp_path / "S").new_shards > 0


def test_options_are_checked() -> None:
    for given, says in (
        ({"fps": 0.0}, "fps: expected a finite number above 0"), ({"trim": 0.5}, "trim: expected"),
        ({"thin": -1.0}, "thin: expected"), ({"split": "mine"}, "split: expected one of 'amass'"),
        ({"fractions": (0.5, 0.1, 0.1)}, "fractions: expected the shares of train, val and test"),
        ({"cap": 0}, "cap: expected a whole number of 1 or more"), ({"seed": -1}, "seed: expected"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            ImportOptions(**given)  # type: ignore[arg-type]
