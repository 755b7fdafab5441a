"""The command line, end to end on synthetic files, and its refusals as a user reads them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_poses import write_split

import poseprior
from poseprior.cli import main
from poseprior.io import read_poses, synthetic_poses, write_poses


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("poses"), 2400)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "R"
    assert main(["train", "gaussian", "--data", str(data), "--joints", "body", "--out", str(out)]) == 0
    return out


def test_train_leaves_a_run_folder(run: Path) -> None:
    assert {p.name for p in run.iterdir()} == {"prior.safetensors", "metrics.json", "config.toml", "checkpoint", "tb"}
    prior = poseprior.load(run / "prior.safetensors")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert prior.metadata["metrics"]["nll"] == metrics["nll"]
    assert prior.metadata["recipe"]["model"] == "gaussian"


def test_gradient_training_fills_checkpoint_and_tensorboard_and_resumes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "train", "gaussian", "--covariance", "full", "--data", str(data), "--out", str(tmp_path / "R"),
        "--max-steps", "40", "--eval-every", "20", "--checkpoint-every", "20", "--batch-size", "64",
    ]  # fmt: skip
    assert main(command) == 0
    assert (tmp_path / "R" / "checkpoint" / "state.safetensors").exists()
    pytest.importorskip("tensorboard")
    assert list((tmp_path / "R" / "tb").iterdir())
    before = (tmp_path / "R" / "prior.safetensors").read_bytes()
    assert main(command) == 0  # finished already: nothing is trained again
    assert "after 40 steps" in capsys.readouterr().out
    assert len((tmp_path / "R" / "prior.safetensors").read_bytes()) == len(before)


def test_a_prior_is_kept_where_its_samples_cannot_be_compared(data: Path, tmp_path: Path) -> None:
    """Fewer than four whole test poses: the numbers that there are, and the reason for the others."""
    folder = tmp_path / "poses"
    folder.mkdir()
    write_poses(folder / "train_poses.npz", read_poses(data / "train_poses.npz"))
    write_poses(folder / "test_poses.npz", read_poses(data / "test_poses.npz").select(range(3)))
    assert main(["train", "gaussian", "--data", str(folder), "--out", str(tmp_path / "R")]) == 0
    metrics = json.loads((tmp_path / "R" / "metrics.json").read_text())
    assert "nll" in metrics and "expected more than 3 poses" in metrics["samples"]["reason"]
    assert poseprior.load(tmp_path / "R").metadata["metrics"]["nll"] == metrics["nll"]


def test_a_prior_is_kept_when_its_evaluation_is_interrupted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import poseprior.evaluation.report as report

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "evaluate", interrupted)
    assert main(["train", "gaussian", "--data", str(data), "--out", str(tmp_path / "R")]) == 130
    assert poseprior.load(tmp_path / "R").metadata["training"]["num_poses"] > 0


def test_overwrite_replaces_what_stands_in_the_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "R"
    short = ["--data", str(data), "--out", str(out), "--max-steps", "3", "--no-evaluate"]
    assert main(["train", "global-flow", *short]) == 0
    assert main(["train", "joint-flow", *short]) == 2
    assert "already holds another prior" in capsys.readouterr().err
    assert main(["train", "joint-flow", *short, "--overwrite"]) == 0  # the checkpoint is foreign, too
    assert isinstance(poseprior.load(out), poseprior.JointFlow)
    closed = ["train", "gaussian", "--data", str(data), "--out", str(tmp_path / "G"), "--no-evaluate"]
    assert main(closed) == 0
    assert main([*closed, "--jitter", "0.5"]) == 2
    assert "jitter was 0.02, is 0.5" in capsys.readouterr().err
    assert main(closed) == 0


def test_data_of_other_joints_is_refused(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = read_poses(data / "test_poses.npz").poses[:20]
    observed = torch.zeros(20, 55, dtype=torch.bool)
    observed[:5, 1:22] = True
    write_poses(tmp_path / "some.npz", bodies, observed=observed)
    assert main(["score", "hand-order-agnostic", "--data", str(tmp_path / "some.npz")]) == 2
    assert "got 20 that observe none" in capsys.readouterr().err
    assert main(["score", str(run), "--data", str(tmp_path / "some.npz")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("5 poses") and "15 poses observe none" in said
    complete = ["complete", str(run), "--data", str(tmp_path / "some.npz"), "--out", str(tmp_path / "o.npz"), "--hide"]
    assert main([*complete, "left_hand"]) == 2
    assert "of which it models none" in capsys.readouterr().err
    assert main([*complete, "foo"]) == 2
    assert "--hide: expected left_arm, right_arm, legs, trunk, a joint set" in capsys.readouterr().err
    assert main([*complete, "pelvis,left_knee"]) == 0
    assert "does not model pelvis" in capsys.readouterr().out


def test_a_completion_of_what_is_whole_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_poses(tmp_path / "whole.npz", torch.zeros(2, 55, 3))
    complete = ["complete", "body-gaussian", "--data", str(tmp_path / "whole.npz"), "--out", str(tmp_path / "o.npz")]
    assert main(complete) == 2 and not (tmp_path / "o.npz").exists()
    assert "--hide: expected joints to draw" in capsys.readouterr().err
    assert main([*complete, "--hide", "legs, left_elbow"]) == 0
    drawn = read_poses(tmp_path / "o.npz").poses
    assert (drawn.abs().sum(-1) > 0).nonzero()[:, 1].unique().tolist() == [1, 2, 4, 5, 7, 8, 10, 11, 18]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["sample", "body-gaussian", "--out", "o.npz", "--seed", "-1"], "--seed: expected a whole number"),
        (["sample", "body-gaussian", "--out", "o.npz", "--png", "o.xyz"], "--png: expected a name that ends in .png"),
        (["sample", "body-gaussian", "--out", "o.npz", "--device", "nowhere"], "--device: 'nowhere' is not usable"),
        (["sample", "body-gaussian", "--out", "/proc/nowhere/o.npz"], "cannot write /proc/nowhere/o.npz"),
        (
            ["evaluate", "body-gaussian", "--data", "DATA", "--json", "/proc/nowhere/m.json"],
            "--json: cannot write",
        ),
        (["score", "body-gaussian", "--data", "DATA", "--json", "/proc/nowhere/m.json"], "--json: cannot write"),
        (["check", "body-gaussian", "--data", "DATA", "--json", "/proc/nowhere/m.json"], "--json: cannot write"),
        (["evaluate", "body-gaussian", "--data", "DATA", "--jitter", "-1"], "--jitter: expected a finite number of 0"),
        (["score", "body-gaussian", "--data", "DATA", "--max-poses", "0"], "--max-poses: expected a whole number of 1"),
        (["score", "body-gaussian", "--data", "DATA", "--worst", "-5"], "--worst: expected a whole number"),
        (["info", "DATA"], "is a folder without prior.safetensors"),
        (["info", "DATA/test_poses.npz"], "which holds arrays"),
        (["sample", "body-gaussian", "--out", "new/o.npz", "--seed", "-1"], "--seed: expected a whole number"),
        (
            ["complete", "body-gaussian", "--data", "DATA", "--out", "o.npz", "--hide", "legs,left_arn"],
            "joint names, with commas between them, got 'left_arn'. Did you mean left_arm?",
        ),
        (["evaluate", "body-gaussian", "--data", "DATA", "--num-samples", "-1"], "--num-samples: expected a whole"),
        (["adapt", "body-gaussian", "--data", "DATA", "--out", "o.safetensors", "--steps", "0"], "--steps: expected"),
        (["export-mesh", "no.npz", "--out", "o.obj"], "POSES: expected an .npz file or a folder, got no.npz"),
        (["data", "info", "no.npz"], "POSES: expected an .npz file or a folder, got no.npz"),
        (["data", "import", "no", "--out", "shards"], "SOURCE: expected a folder of pose files, got no,"),
        (["train", "gaussian", "--data", "no.npz", "--out", "run"], "--data: expected an .npz file or a folder"),
        (
            ["train", "gaussian", "--data", "DATA", "--out", "DATA/test_poses.npz"],
            "--out: expected a folder for the run",
        ),
        (["train", "gaussian", "--data", "DATA", "--out", "run", "--max-steps", "-1"], "--max-steps: expected a whole"),
        (["train", "global-flow", "--data", "DATA", "--out", "run", "--hidden", "0"], "--hidden: expected a whole"),
        (["train", "--recipe", "body-gausian", "--data", "DATA", "--out", "run"], "Did you mean body-gaussian?"),
    ],
)
def test_bad_options_are_refused_before_any_work(
    arguments: list[str], text: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([a.replace("DATA", str(data)) for a in arguments]) == 2
    said = capsys.readouterr().err
    assert text in said and said.startswith("poseprior: error: ") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_evaluate_writes_every_promised_number(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    assert main(["evaluate", str(run), "--data", str(data / "test_poses.npz"), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert {
        "nll", "nll_rotvec", "bpd", "jitter", "num_poses", "active_dims", "log_prob_kind", "per_joint_nll", "samples",
    } <= result.keys()  # fmt: skip
    assert {"frechet", "precision", "recall", "apd_cm", "nn_cm"} <= result["samples"].keys()
    assert result["bpd"] == pytest.approx(result["nll_rotvec"] / np.log(2) / result["active_dims"])
    # A diagonal Gaussian factorises: its joints add up (toes and wrists are not in every row).
    metrics = json.loads((run / "metrics.json").read_text())
    assert result["nll"] == pytest.approx(metrics["nll"])
    assert set(result["per_joint_nll"]) == {poseprior.skeleton.JOINT_NAMES[j] for j in poseprior.load(run).joints}


def test_evaluate_of_a_folder_takes_its_test_split(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--data", str(data), "--num-samples", "0"]) == 0
    count = len(read_poses(data / "test_poses.npz"))
    assert f"{count} held-out poses" in capsys.readouterr().out


def test_sample_is_seeded_readable_and_drawn(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["sample", str(run), "-n", "5", "--out", str(tmp_path / f"{name}.npz"), "--seed", "3"]) == 0
    first, second = read_poses(tmp_path / "a.npz"), read_poses(tmp_path / "b.npz")
    assert len(first) == 5
    assert np.array_equal(first.poses, second.poses)
    assert first.observed_joints == poseprior.load(run).joints
    pytest.importorskip("matplotlib")
    picture = tmp_path / "p.png"
    assert main(["sample", str(run), "-n", "3", "--out", str(tmp_path / "c.npz"), "--png", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_complete_draws_what_is_hidden(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "filled.npz"
    command = [
        "complete",
        str(run),
        "--data",
        str(data),
        "--hide",
        "left_arm",
        "--num-samples",
        "3",
        "--max-poses",
        "4",
    ]
    assert main([*command, "--out", str(out), "--png", str(tmp_path / "p.png")]) == 0
    filled, given = read_poses(out), read_poses(data / "test_poses.npz")
    assert len(filled) == 12
    joints = [j for j in poseprior.load(run).joints if j not in (13, 16, 18, 20)]
    seen = given.observed[:4, joints].repeat(3, 1)
    difference = (filled.poses[:, joints] - given.poses[:4, joints].repeat(3, 1, 1)).abs().amax(-1)
    assert float(difference[seen].max()) < 1e-6
    assert not np.allclose(filled.poses[0, 16], filled.poses[4, 16])


def test_score_names_the_guilty_joint(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poses = read_poses(data / "test_poses.npz")
    broken = poses.poses[:30].clone()
    broken[7, 4] = broken.new_tensor([-2.0, 0.0, 0.0])  # a knee that bends forwards
    write_poses(tmp_path / "b.npz", broken, observed=poses.observed[:30])
    out = tmp_path / "scores.json"
    assert main(["score", str(run), "--data", str(tmp_path / "b.npz"), "--json", str(out), "--worst", "1"]) == 0
    assert "7" in (line := capsys.readouterr().out.splitlines()[6]).split()
    assert "left_knee" in line
    result = json.loads(out.read_text())
    assert min(result["log_prob"]) == result["log_prob"][7]
    assert result["percentile_kind"] == "held-out people"
    assert result["joint_percentile"][7] < 1
    assert result["percentile"][7] == min(result["percentile"])


def test_info_tells_what_the_file_holds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(run)]) == 0
    text = capsys.readouterr().out
    for part in ("GaussianPrior", "left_knee", "does not model: pelvis", "data_digest", "licence", "log_prob is exact"):
        assert part in text
    assert "jitter 0.02" in text and "mirror yes" in text and '"' not in text
    assert main(["info", "body-mixture"]) == 0
    text = capsys.readouterr().out
    assert text.count("rig_noise yes") == 2 and len(text.splitlines()) < 100


def test_refusals(run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*command: str) -> str:
        assert main(list(command)) == 2
        return capsys.readouterr().err

    assert "no file at" in refused("info", str(tmp_path / "none.safetensors"))
    assert "already holds another prior" in refused(
        "train", "mixture", "--data", str(data), "--out", str(run), "--num-components", "2"
    )
    other = write_poses(tmp_path / "other" / "train_poses.npz", synthetic_poses(50, seed=9)).parent
    assert "The poses are not those that it was trained on." in refused(
        "train", "gaussian", "--data", str(other), "--joints", "body", "--out", str(run)
    )
    assert "joints: unknown name 'elbows'" in refused(
        "train", "gaussian", "--data", str(data), "--out", str(tmp_path / "x"), "--joints", "elbows"
    )
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("train", "gaussian", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "x"))
    assert "--num: expected a whole number of 1 or more" in refused(
        "sample", str(run), "-n", "0", "--out", str(tmp_path / "y.npz")
    )
    hands = tmp_path / "hands.npz"
    np.savez(hands, hand_pose=np.zeros((5, 15, 3), np.float32), side=np.zeros(5, np.int8))
    assert "none of the 5 poses observes the prior's joints" in refused("evaluate", str(run), "--data", str(hands))
    assert not (tmp_path / "x").exists()


def test_joint_sets() -> None:
    from poseprior.skeleton import resolve_joints

    assert len(resolve_joints("whole_body")) == 52
    assert not {0, 23, 24} & set(resolve_joints("whole_body"))
    assert resolve_joints("left_hand") == tuple(range(25, 40))


@pytest.mark.real_data
@pytest.mark.slow
def test_the_main_job_on_real_poses(real_data_dir: Path, tmp_path: Path) -> None:
    out, test = tmp_path / "R", str(real_data_dir / "body" / "test_poses.npz")
    command = ["train", "gaussian", "--covariance", "full", "--data", str(real_data_dir / "body"), "--out", str(out)]
    assert main([*command, "--joints", "body"]) == 0
    assert main(["evaluate", str(out), "--data", test, "--json", str(tmp_path / "e.json")]) == 0
    assert (
        main(["sample", str(out), "-n", "6", "--out", str(tmp_path / "s.npz"), "--png", str(tmp_path / "s.png")]) == 0
    )
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["nll"] == pytest.approx(-111.8, abs=0.3)


def test_a_damaged_prior_in_a_run_folder_can_be_replaced(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "R").mkdir()
    (tmp_path / "R" / "prior.safetensors").write_bytes(b"damaged")
    call = ["train", "gaussian", "--data", str(data), "--out", str(tmp_path / "R"), "--no-evaluate"]
    assert main(call) == 2
    assert "--out: " in (said := capsys.readouterr().err) and "--overwrite to replace it" in said
    assert main([*call, "--overwrite"]) == 0


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such names")
def test_a_terminal_obeys_nothing_in_the_names_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a\x1b[2J\x07.npz").write_bytes(b"PK\x03\x04 damaged")
    prior = tmp_path / "w\x1b[2J.safetensors"
    prior.write_bytes(b"damaged")
    for call in (["info", str(prior)], ["score", "body-gaussian", "--data", str(tmp_path)]):
        assert main(call) == 2
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err and "\\x1b[2J" in said.err
