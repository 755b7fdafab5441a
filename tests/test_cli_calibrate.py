"""Percentiles among held-out people of a prior that was trained without an evaluation: who says so, and what adds them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from sample_poses import write_split

import poseprior
from poseprior.cli import main
from poseprior.pretrained.listing import pretrained_files

_FAST = ("--num-samples", "0", "--num-completed", "0", "--max-poses", "50")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("poses"), 1600)


def _train(data: Path, out: Path, *more: str) -> list[str]:
    noise = ("--jitter", "0.1", "--rig-noise", "body", "--seed", "3")
    return ["train", "gaussian", "--joints", "body", *noise, "--data", str(data), "--out", str(out), *more]


def test_a_later_evaluation_writes_the_percentiles_that_training_would_have_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, later = tmp_path / "whole", tmp_path / "later run"
    assert main(_train(data, whole)) == 0
    assert "percentiles: the prior holds none" not in capsys.readouterr().out
    assert main(_train(data, later, "--no-evaluate")) == 0
    command = f"poseprior evaluate '{later}' --data {data} --calibrate"
    assert (
        f"percentiles: the prior holds none among held-out people yet; {command} adds them" in capsys.readouterr().out
    )
    before = poseprior.load(later)
    assert main(["evaluate", str(later), "--data", str(data), *_FAST]) == 0
    assert "calibration" not in poseprior.load(later).metadata  # only when asked
    capsys.readouterr()
    assert main(["evaluate", str(later), "--data", str(data), *_FAST, "--calibrate"]) == 0
    assert f"percentiles: {later / 'prior.safetensors'} now holds those of 2 held-out people" in capsys.readouterr().out
    after, complete = poseprior.load(later), poseprior.load(whole)
    assert after.metadata["calibration"] == complete.metadata["calibration"]
    assert {k: v for k, v in after.metadata.items() if k != "calibration"} == before.metadata
    assert all(torch.equal(after.state_dict()[name], value) for name, value in before.state_dict().items())
    assert main(_train(data, later, "--no-evaluate")) == 0  # still the same run


@pytest.mark.parametrize("command", ["score", "check"])
def test_percentiles_among_own_samples_come_with_the_remedy(
    command: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "R"
    assert main(_train(data, run, "--no-evaluate")) == 0
    judged = [command, str(run), "--data", str(data / "test_poses.npz"), "--max-poses", "20"]
    remedy = f"own samples; poseprior evaluate {run} --data DIR --calibrate adds those among held-out people"
    capsys.readouterr()
    assert main(judged) == 0
    assert remedy in capsys.readouterr().out
    assert main(["evaluate", str(run), "--data", str(data / "val_poses.npz"), *_FAST, "--calibrate"]) == 0
    capsys.readouterr()
    assert main(judged) == 0
    said = capsys.readouterr().out
    assert "among held-out people" in said and "own samples" not in said


def test_what_may_not_be_rewritten_or_is_not_held_out_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "R"
    assert main(_train(data, run, "--no-evaluate")) == 0
    content = (run / "prior.safetensors").read_bytes()
    shutil.copytree(data, tmp_path / "no val")
    (tmp_path / "no val" / "val_poses.npz").unlink()
    shipped = str(pretrained_files()["body-gaussian"])
    for prior, poses, reason in (
        ("body-gaussian", data, "a run folder or a .safetensors file of yours, which is rewritten, got body-gaussian"),
        (shipped, data, "of yours, which is rewritten"),
        (str(run), tmp_path / "no val", "a folder --data with a val split, got"),
        (str(run), data / "train_poses.npz", "people that training did not see, got those of the training"),
    ):
        capsys.readouterr()
        assert main(["evaluate", prior, "--data", str(poses), *_FAST, "--calibrate"]) == 2
        said = capsys.readouterr()
        assert reason in said.err and not said.out
    assert (run / "prior.safetensors").read_bytes() == content
