"""A folder of files with a result for each: what the single calls give, and what a second run finds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import poseprior
from poseprior.cli import main
from poseprior.io import read_poses, synthetic_poses, write_poses
from poseprior.scale import CompleteFile, ScoreFile, run_files
from poseprior.scale.many_files import find_inputs
from poseprior.tasks import score

NAME = "body-gaussian"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    poses = synthetic_poses(60, seed=0).poses
    for k, name in enumerate(("a", "b/a", "b/c")):
        path = tmp_path / "in" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_poses(path, poses[20 * k : 20 * k + 20])
    return tmp_path / "in"


def _results(out: Path) -> dict[str, int]:
    return {p.relative_to(out).as_posix(): p.stat().st_mtime_ns for p in out.rglob("*.npz")}


def test_scores_are_those_of_single_files_and_are_made_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (folder / "broken.npz").write_bytes(b"no poses")
    os.mkfifo(folder / "pipe.npz")
    command = ["score", NAME, "--data", str(folder), "--out", str(out), "--workers", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "3 results made, 0 were there" in printed and "2 inputs left out" in printed
    failed = json.loads((out / "failed.json").read_text())
    assert set(failed) == {"broken.npz", "pipe.npz"} and "a pipe or a device" in failed["pipe.npz"]
    first = _results(out)
    assert set(first) == {"a.npz.score.npz", "b/a.npz.score.npz", "b/c.npz.score.npz"}
    prior = poseprior.load(NAME)
    for name in ("a", "b/a", "b/c"):
        expected = score(prior, read_poses(folder / f"{name}.npz").poses, generator=torch.Generator().manual_seed(0))
        with np.load(out / f"{name}.npz.score.npz") as found:
            torch.testing.assert_close(torch.from_numpy(found["log_prob"]), expected.log_prob)
            torch.testing.assert_close(
                torch.from_numpy(found["attribution"]), expected.attribution[:, list(prior.joints)]
            )
            assert found["percentile_kind"] == expected.percentile_kind
    (out / "b" / "a.npz.score.npz").unlink()  # as a run that was killed leaves it
    (folder / "broken.npz").unlink()
    (folder / "pipe.npz").unlink()
    assert main(command) == 0
    assert "1 results made, 2 were there" in capsys.readouterr().out
    again = _results(out)
    assert {k: v for k, v in again.items() if k != "b/a.npz.score.npz"} == {
        k: v for k, v in first.items() if k != "b/a.npz.score.npz"
    }
    assert not (out / "failed.json").exists()
    assert main([*command, "--seed", "1"]) == 2
    assert "holds other results: seed was 0, is 1" in capsys.readouterr().err


def test_completions_and_checks_of_a_folder(folder: Path, tmp_path: Path) -> None:
    complete = ["complete", NAME, "--data", str(folder), "--hide", "left_elbow", "--out", str(tmp_path / "c")]
    assert main([*complete, "--num-samples", "2", "--workers", "1"]) == 0
    found, source = read_poses(tmp_path / "c" / "b" / "c.npz.completed.npz"), read_poses(folder / "b" / "c.npz")
    assert len(found) == 40
    assert torch.equal(found.poses[:20, 4], source.poses[:, 4])
    assert not torch.equal(found.poses[:20, 18], source.poses[:, 18])
    assert main(["check", NAME, "--data", str(folder), "--out", str(tmp_path / "k"), "--workers", "1"]) == 0
    assert json.loads((tmp_path / "k" / "a.npz.check.json").read_text())["num_poses"] == 20


@pytest.mark.slow
def test_two_workers_do_what_one_does(folder: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        run_files(CompleteFile(prior=NAME, hide="left_knee"), folder, tmp_path / str(workers),
                  workers=workers, progress=False)  # fmt: skip
    for name in _results(tmp_path / "1"):
        assert torch.equal(read_poses(tmp_path / "1" / name).poses, read_poses(tmp_path / "2" / name).poses)


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line_and_keeps_the_rest(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stopped: workers: a worker process ended with exit code 7 .*results are in"):
        run_files(_Dies(prior=NAME), folder, tmp_path / "out", workers=2, progress=False)
    assert (
        run_files(_Dies(prior=NAME), folder, tmp_path / "out", progress=False).made > 0
    )  # in this process it does not


@pytest.mark.slow
def test_fits_of_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("smplx")
    (tmp_path / "in").mkdir()
    points = 0.25 * np.random.default_rng(0).normal(size=(1, 55, 3)).astype(np.float32)
    np.savez(tmp_path / "in" / "one.npz", keypoints3d=points, layout="smplx_55")
    np.savez(tmp_path / "in" / "two.npz", keypoints=points)  # no camera
    command = ["fit", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1", "--iterations", "2"]
    assert main(command) == 0
    assert read_poses(tmp_path / "out" / "one.npz.fit.npz").poses.shape == (1, 55, 3)
    assert list(json.loads((tmp_path / "out" / "failed.json").read_text())) == ["two.npz"]


def test_inputs_are_files_and_folders_of_frames(tmp_path: Path) -> None:
    for name in ("a.npz", "b.json", "c/0.json", "c/1.json", "d/e.npz", ".hidden/f.npz", "g.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert find_inputs(tmp_path, (".npz",)) == ["a.npz", "d/e.npz"]
    assert find_inputs(tmp_path, (".npz", ".json")) == ["a.npz", "b.json", "c", "d/e.npz"]


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ScoreFile(prior=NAME)
    (tmp_path / "empty").mkdir()
    for inputs, out, says in (
        (tmp_path / "empty", tmp_path / "o", r"expected .npz files, got none"),
        (folder / "a.npz", tmp_path / "o", r"expected a folder of files with --workers, got none"),
        (folder, folder / "o", r"out: expected a folder outside of"),
        (folder, tmp_path, r"out: expected a new folder, an empty one or that of an earlier run"),
    ):
        with pytest.raises(ValueError, match=says):
            run_files(task, inputs, out, progress=False)
    with pytest.raises(ValueError, match=r"^workers: expected a whole number of 1 or more, got 0"):
        run_files(task, folder, tmp_path / "o", workers=0, progress=False)
    assert main(["score", NAME, "--data", str(folder), "--workers", "2"]) == 2
    assert "--out: expected a folder for the results with --workers" in capsys.readouterr().err
    assert main(["score", NAME, "--data", str(folder), "--workers", "1", "--out", "x", "--json", "y.json"]) == 2
    assert "--json: expected none with --workers" in capsys.readouterr().err
    assert main(["score", NAME, "--data", str(folder), "--workers", "1", "--out", "x", "--worst", "3"]) == 2
    assert "--worst: expected none with --workers" in capsys.readouterr().err


class _Dies(ScoreFile):
    """Ends its process at the second file, if that is a worker's."""

    def prepare(self):  # type: ignore[no-untyped-def]
        work = super().prepare()

        def dies(path: Path, target: Path) -> None:
            import multiprocessing

            if path.name == "c.npz" and multiprocessing.parent_process() is not None:
                os._exit(7)
            work(path, target)

        return dies


def test_results_say_what_was_decided_in_reading(tmp_path: Path) -> None:
    pose = 0.2 * np.random.default_rng(0).normal(size=(30, 22, 3))
    pose[:, 13:15] = 0
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", poses=pose, surface_model_type="smplx", camera_rotation=np.zeros((30, 3)))
    for command in ("score", "check"):
        assert (
            main([command, NAME, "--data", str(tmp_path / "in"), "--out", str(tmp_path / command), "--workers", "1"])
            == 0
        )
    with np.load(tmp_path / "score" / "a.npz.score.npz") as found:
        notes = found["reading"].tolist()
    assert "left_collar, right_collar" in notes[0] and notes[1] == "not read: camera_rotation"
    assert json.loads((tmp_path / "check" / "a.npz.check.json").read_text())["reading"] == notes
