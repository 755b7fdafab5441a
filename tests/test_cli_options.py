"""What the command line says and takes: help, suggestions, missing extras, and runs from a configuration file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

import poseprior
from poseprior import skeleton
from poseprior.cli import COMMANDS, main
from poseprior.cli._export import Export
from poseprior.cli._fit import Fit
from poseprior.cli._models import MODELS
from poseprior.cli._parse import parse
from poseprior.cli._train_parse import parse_train
from poseprior.cli._use import Complete, Sample
from poseprior.io import synthetic_poses, write_poses

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Options of constructors that `fit` learns, that --joints gives, or that a command line cannot.
_NOT_FLAGS = {"joints", "groups", "blocks", "context_dim", "context_dropout"}


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """What a command prints in a terminal of 80 columns, and its exit code."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> tuple[int, str]:
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out + err

    return run


@pytest.fixture
def poses(tmp_path: Path) -> str:
    write_poses(tmp_path / "poses.npz", synthetic_poses(200, seed=0, num_subjects=4))
    return str(tmp_path / "poses.npz")


@pytest.mark.parametrize("name", MODELS)
def test_every_option_of_a_model_is_a_flag_with_the_default_of_the_library(
    name: str, said: Callable[..., tuple[int, str]]
) -> None:
    model = MODELS[name]
    taken = set(inspect.signature(model.kind).parameters) - _NOT_FLAGS
    assert {field.name for field in fields(model)} - {"published"} == taken
    joints = skeleton.JOINT_SETS["hands" if name == "hand-vae" else "body"]
    assert model().build(joints).get_config() == model.kind(joints).get_config()
    code, text = said("train", name, "--help")
    assert code == 0 and "None" not in text and "STR\n" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    flat = " ".join(text.replace("│", " ").split())
    for option in taken:
        assert f"--{option.replace('_', '-')}" in flat
    for option, value in {**poseprior.FitConfig().resolve(model.kind.default_fit).__dict__}.items():
        if option in ("learning_rate", "max_steps", "batch_size"):
            flag = option.replace("_", "-")
            assert f"(default: {value})" in flat.split(f"--{flag} ")[1].split(" --")[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("list", "x"), "unexpected 'x'; poseprior list --help says what it takes."),
        (("info",), "missing PRIOR; poseprior info --help says what it takes."),
        (("sample",), "missing PRIOR, --out; poseprior sample --help says what it takes."),
        (("sample", "body-vae", "--out"), "--out: expected a path, got nothing."),
        (("sample", "body-vae", "--out", "x.npz", "-n", "three"), "-n: expected a whole number, got 'three'."),
        (("sample", "body-vae", "--out=x.npz", "--num=1.5"), "--num: expected a whole number, got '1.5'."),
        (
            ("sample", "body-vae", "--out", "x.npz", "more"),
            "unexpected 'more'; poseprior sample --help says what it takes.",
        ),
        (("evaluate", "body-vae", "--data", "x.npz", "--jitter", "x"), "--jitter: expected a number, got 'x'."),
        (("fit", "x.npz", "--out", "y.npz", "--center", "3"), "--center: expected 2 numbers, got 3."),
        (("fit", "x.npz", "--out", "y.npz", "--up", "None"), "--up: expected one of y, z, got 'None'."),
        (
            ("fit", "x.npz", "--out", "y.npz", "--points-up", "-x"),
            "--points-up: expected one of y, z, -y, -z, got nothing.",
        ),
        (
            ("export", "body-vae", "--onnx", "x.onnx", "--what", "grad", "samplee"),
            "got 'samplee'. Did you mean sample?",
        ),
        (("train",), "missing --data, --out; poseprior train --help says what it takes."),
        (("train", "gaussian"), "missing --data, --out; poseprior train gaussian --help says what it takes."),
        (("train", "gaussian", "--data", "x", "--out", "y", "--covarience", "full"), "Did you mean --covariance?"),
        (
            ("export-mesh", "x", "--out", "y", "--row", "3"),
            "--row: poseprior export-mesh has no such option; poseprior export-mesh --help lists them.",
        ),
        (("data",), "data: expected import or info, got nothing."),
        (("data", "inf"), "data: expected import or info, got inf. Did you mean info?"),
        (("data", "import", "x"), "missing --out; poseprior data import --help says what it takes."),
    ],
)
def test_arguments_that_a_command_does_not_take_are_one_line(
    arguments: tuple[str, ...], text: str, said: Callable[..., tuple[int, str]]
) -> None:
    code, output = said(*arguments)
    assert code == 2 and output.startswith("poseprior: error: ") and output.endswith(f"{text}\n")
    assert output.count("\n") == 1


def test_arguments_come_in_every_form_that_tyro_reads() -> None:
    fit = parse(Fit, ["k.json", "--out=o.npz", "--points-up", "-y", "--center", "-1", "2.5"], prog="fit")
    assert (fit.points_up, fit.center) == ("-y", (-1.0, 2.5))
    assert parse(Sample, ["--out", "o.npz", "body-vae", "-n", "3"], prog="sample").num == 3
    assert (
        parse(Complete, ["body-vae", "--data", "d", "--out", "o", "--max_poses", "2"], prog="complete").max_poses == 2
    )
    assert parse(Export, ["body-vae", "--onnx", "o", "--what", "grad", "sample"], prog="export").what == (
        "grad",
        "sample",
    )
    assert not parse_train(["gaussian", "--data", "d", "--out", "o", "--no-mirror"], "train").mirror


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal_and_names_values(name: str, said: Callable[..., tuple[int, str]]) -> None:
    code, text = said(name, "--help")
    assert code == 0
    assert "None" not in text and "True" not in text and "{fixed}" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    if name not in ("train", "fit", "list", "export-mesh", "data"):
        assert "PRIOR" in text.splitlines()[0]


def test_the_commands_are_listed(said: Callable[..., tuple[int, str]]) -> None:
    code, text = said("--help")
    assert code == 0 and all(f"\n  {name} " in text for name in COMMANDS)
    assert max(len(line) for line in text.splitlines()) < 80
    assert said()[0] == 2
    assert said("--version") == (0, f"poseprior {poseprior.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("sampel", "body-gaussian"), "Did you mean sample?"),
        (("train", "jointflow", "--data", "x", "--out", "y"), "Did you mean joint-flow?"),
        (("train", "--data", "x", "gaussian"), "expected the model first: poseprior train gaussian"),
        (("train", "joint-flow", "--data", "x", "--out", "y", "--hiden", "3"), "Did you mean --hidden?"),
        (("sample", "body-gaussain", "--out", "x.npz"), "PRIOR: no file or folder"),
        (("sample", "body-gaussain", "--out", "x.npz"), "Did you mean 'body-gaussian'?"),
        (("sample", "body-gaussian", "--out", "x.npz", "--pgn", "x.png"), "Did you mean --png?"),
        (("score", "body-gaussian", "--data", "nowhere"), "--data: expected an .npz file or a folder"),
    ],
)
def test_a_slip_gets_a_suggestion(arguments: tuple[str, ...], text: str, said: Callable[..., tuple[int, str]]) -> None:
    code, output = said(*arguments)
    assert code == 2 and text in output
    assert "poseprior check" not in output and "poseprior fit" not in output


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("matplotlib", ("sample", "body-gaussian", "--out", "x.npz", "--png", "x.png")),
        ("matplotlib", ("complete", "body-gaussian", "--data", "POSES", "--out", "x.npz", "--png", "x.png")),
        ("matplotlib", ("check", "body-gaussian", "--data", "POSES", "--png", "x.png")),
        ("trimesh", ("fit", "POSES", "--out", "x.npz", "--html", "x.html")),
    ],
)
def test_a_missing_extra_is_said_before_any_work(
    package: str, arguments: tuple[str, ...], poses: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    said: Callable[..., tuple[int, str]],
) -> None:  # fmt: skip
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else find(name, *a))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    code, text = said(*(poses if a == "POSES" else a for a in arguments))
    assert code == 2 and text.count("\n") == 1
    assert f'needs {package}, which is not installed; run: pip install "poseprior[viz]"' in text
    assert set(tmp_path.iterdir()) == before


def test_a_run_is_repeated_from_its_folder(poses: str, tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    out, again = tmp_path / "R", tmp_path / "S"
    flags = ("--hidden", "8", "--layers", "1", "--max-steps", "2", "--no-mirror", "--ema-decay", "0.5")
    code, text = said("train", "joint-flow", "--data", poses, "--out", str(out), "--no-evaluate", *flags)
    assert code == 0 and str(out / "config.toml") in text
    written = tomllib.loads((out / "config.toml").read_text())
    assert written["model"] == "joint-flow" and written["mirror"] is False and written["ema_decay"] == 0.5
    assert written["options"]["hidden"] == 8 and written["options"]["num_components"] == 12
    assert written["learning_rate"] == poseprior.JointFlow.default_fit["learning_rate"]
    assert said("train", "--config", str(out / "config.toml"), "--out", str(again))[0] == 0
    first, second = poseprior.load(out), poseprior.load(again)
    assert first.metadata["training"]["config"] == second.metadata["training"]["config"]
    assert all((a == b).all() for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert said("train", "--config", str(out / "config.toml"), "--out", str(again), "--jitter", "0.1")[0] == 2
    text = said("train", "--config", str(out / "config.toml"), "--help")[1]
    assert "(default: 8)" in text and "(default: 2)" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('model = "gaussian"\ncovarianc = "full"', "Did you mean covariance under [options]?"),
        ('model = "gaussian"\nmiror = true', "Did you mean mirror?"),
        (None, "c.toml is not a readable TOML file (No such file or directory)."),
    ],
)
def test_a_slip_in_a_configuration_file_gets_a_suggestion(
    text: str | None, message: str, poses: str, tmp_path: Path, said: Callable[..., tuple[int, str]]
) -> None:
    if text is not None:
        (tmp_path / "c.toml").write_text(text)
    code, output = said("train", "--config", str(tmp_path / "c.toml"), "--data", poses, "--out", str(tmp_path / "R"))
    assert code == 2 and output.count("\n") == 1 and message in output


def test_rig_noise_is_written_so_that_it_can_be_read(
    poses: str, tmp_path: Path, said: Callable[..., tuple[int, str]]
) -> None:
    sizes = tmp_path / "noise.json"
    sizes.write_text('{"unmeasured": {"left_knee": [0.0, 5.0, 5.0]}}')
    out = tmp_path / "R"
    command = ("train", "gaussian", "--data", poses, "--out", str(out), "--no-evaluate")
    assert said(*command, "--rig-noise", str(sizes))[0] == 0
    sizes.unlink()
    assert said("train", "--config", str(out / "config.toml"), "--out", str(tmp_path / "S"))[0] == 0
    noise = [poseprior.load(folder).metadata["training"]["rig_noise"] for folder in (out, tmp_path / "S")]
    assert noise[0] == noise[1] and noise[0]["unmeasured"]["left_knee"] == [0.0, 5.0, 5.0]
    text = said("train", "--config", str(out / "config.toml"), "--help")[1]
    assert "config.toml)" in text and "unmeasured" not in text  # the sizes fill a screen
    (tmp_path / "bad.json").write_text('{"unmeasured": {"left_knee": 1}}')
    for name, wrong in (("bad.json", r"RigNoise.unmeasured"), ("none.toml", "not a readable TOML file")):
        code, text = said(*command, "--rig-noise", str(tmp_path / name))
        assert code == 2 and f"--rig-noise: {tmp_path / name}" in text and wrong in text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"model": "gausian"}, "Did you mean gaussian?"),
        ({"model": "gaussian", "jiter": 0.1}, "has no use for jiter"),
        ({"model": "gaussian", "options": {"hidden": 4}}, "gaussian has no option hidden"),
        ({"model": "gaussian", "jitter": "much"}, "jitter: expected a number, got 'much'"),
        ({"model": "gaussian", "evaluate": 1}, "evaluate: expected true or false, got 1"),
        ({"model": "joint-flow", "options": {"hidden": "wide"}}, "hidden: expected a whole number, got 'wide'"),
        (
            {"model": "gaussian", "options": {"covariance": "odd"}},
            "covariance: expected 'diagonal' or 'full', got 'odd'",
        ),
        ({"model": "gaussian", "data": 5}, "data: expected text, got 5"),
        ({"options": {"hidden": 4}}, "beside a model"),
        ({"recipe": "body-guassian"}, "no recipe 'body-guassian'"),
    ],
)
def test_a_configuration_file_is_checked(
    values: dict[str, Any], text: str, poses: str, tmp_path: Path, said: Callable[..., tuple[int, str]]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(tomli_w.dumps({"data": poses, "out": str(tmp_path / "R"), **values}))
    code, output = said("train", "--config", str(file))
    assert code == 2 and text in output
    file.write_text("model = ")
    assert "is not a readable TOML file" in said("train", "--config", str(file))[1]


def test_options_without_effect_are_refused(poses: str, tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    command = ("train", "joint-flow", "--data", poses, "--out", str(tmp_path / "R"), "--published")
    code, text = said(*command, "--hidden", "64", "--dropout", "0.1")
    assert code == 2 and text.count("\n") == 1
    assert "--hidden, --dropout: --published, whose architecture is fixed, takes --num-particles alone" in text
    code, text = said(*(word.replace("joint", "global") for word in command), "--layers", "2")
    assert code == 2 and "--layers: --published, whose architecture is fixed, takes none" in text
    command = ("train", "gaussian", "--data", poses, "--out", str(tmp_path / "R"))
    code, text = said(*command, "--learning-rate", "0.1")
    assert (
        code == 2
        and "--learning-rate: training takes no steps (--max-steps is 0, the default of GaussianPrior)" in text
    )
    assert "leave it out, or give --max-steps above 0 too" in text
    code, text = said(*command, "--ema-decay", "0.5", "--learning-rate", "0.1", "--rig-noise", "hands")
    assert code == 2 and "--learning-rate, --ema-decay: training takes no steps" in text
    assert "--rig-noise: it moves none of the prior's joints, so it would have no effect" in text
    code, text = said(*command, "--max-steps", "2", "--patience", "3")
    assert code == 2 and "--patience: there are no validation poses, so 3 would have no effect" in text
    assert not (tmp_path / "R").exists()


def test_names_of_options_in_paths_stay_as_they_are(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    for name in ("max_steps", "a max_steps", "seed=3"):
        missing = tmp_path / name / "max_val_poses.npz"
        code, text = said("train", "gaussian", "--data", str(missing), "--out", str(tmp_path / "R"))
        assert code == 2 and str(missing) in text


#: Small options of every model that `poseprior train` has.
_SMALL: dict[str, tuple[str, ...]] = {
    "gaussian": ("--covariance", "full"),
    "mixture": ("--num-components", "2", "--em-iterations", "3"),
    "joint-flow": ("--hidden", "4", "--max-steps", "2"),
    "global-flow": ("--hidden", "4", "--max-steps", "2", "--patience", "4"),
    "order-agnostic": ("--hidden", "4", "--max-steps", "2", "--learning-rate", "0.01"),
    "vae": ("--hidden", "4", "--latent-dim", "2", "--max-steps", "2"),
    "hand-vae": ("--hidden", "4", "--latent-dim", "2", "--max-steps", "2"),
    "body-vae": ("--published", "--latent-dim", "2", "--max-steps", "2"),
}


@pytest.mark.parametrize("model", MODELS)
def test_the_configuration_of_a_run_repeats_it(
    model: str, tmp_path: Path, said: Callable[..., tuple[int, str]]
) -> None:
    """Options that the run did not read are not in the file; the file is taken, with and without validation poses."""
    data = poseprior.io.synthetic_poses(60, seed=0)
    poses, observed = (array.numpy() for array in data.all_poses())
    whole = np.ones_like(observed) if model == "hand-vae" else observed
    for name in ("train", "val")[: 2 if model == "global-flow" else 1]:
        np.savez(tmp_path / f"{name}_poses.npz", poses=poses, observed=whole)
    first, second = tmp_path / "R", tmp_path / "S"
    small = ("--no-evaluate", "--seed", "3", *_SMALL[model])
    code, text = said("train", model, "--data", str(tmp_path), "--out", str(first), *small)
    assert code == 0, text
    written = tomllib.loads((first / "config.toml").read_text())
    assert ("learning_rate" in written) == ("--max-steps" in small)
    assert ("patience" in written) == (model == "global-flow")
    code, text = said("train", "--config", str(first / "config.toml"), "--out", str(second))
    assert code == 0, text
    again = tomllib.loads((second / "config.toml").read_text())
    assert {**again, "out": ""} == {**written, "out": ""}
    one, two = poseprior.load(first), poseprior.load(second)
    assert one.metadata["training"]["config"] == two.metadata["training"]["config"]
    assert all((a == b).all() for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_file_that_needs_options_of_the_reader_says_how_to_give_them(
    tmp_path: Path, said: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(0.0, 0.3, (20, 159))
    np.savez("mine.npz", poses=values)
    for command in (["score", "body-gaussian", "--data", "mine.npz"], ["data", "info", "mine.npz"]):
        code, text = said(*command)
        assert code == 2 and "layout='smplx_53'" in text
        lines = text.splitlines()
        first = next(k for k, line in enumerate(lines) if line.startswith("from poseprior"))
        exec("\n".join(lines[first : first + 2]).replace("...", "layout='smplx_53'"), {})
        code, text = said(*[word.replace("mine.npz", "read.npz") for word in command])
        assert code == 0
        Path("read.npz").unlink()


def test_rows_that_do_not_apply_say_so(poses: str, said: Callable[..., tuple[int, str]]) -> None:
    code, text = said("evaluate", "body-global-flow", "--data", poses, "--num-samples", "50", "--num-completed", "20")
    assert code == 0 and max(len(line) for line in text.splitlines() if line.startswith(" ")) < 80
    assert "NLL of each joint alone: not available: cannot marginalise" in text
    assert "legs hidden: mean_mm" in text and "not available: no conditional of this part" in text


def test_messages_of_the_library_name_flags(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    command = ("data", "import", str(tmp_path), "--out", str(tmp_path / "S"), "--split", "none")
    code, text = said(*command, "--fractions", "0.6", "0.2", "0.2")
    assert code == 2 and "--fractions: has no effect with --split none, got" in text
    assert "leave it out, or give --split person" in text


def test_commands_say_what_was_decided_in_reading(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    rng = np.random.default_rng(0)
    pose = 0.2 * rng.normal(size=(40, 22, 3))
    pose[:, 13:15] = 0
    file = tmp_path / "a.npz"
    np.savez(file, poses=pose.reshape(40, 66), surface_model_type="smplx", camera_rotation=np.zeros((40, 3)))
    for command in (
        ("score", "body-gaussian"),
        ("evaluate", "body-gaussian", "--num-samples", "0", "--num-completed", "0"),
    ):
        code, text = said(*command, "--data", str(file))
        assert code == 0 and "reading: joints that never move are unobserved: left_collar, right_collar" in text
        assert text.count("reading: not read: camera_rotation") == 1
    code, text = said("train", "gaussian", "--data", str(file), "--out", str(tmp_path / "R"), "--no-evaluate")
    assert code == 0 and text.count("reading: ") == 2


def test_the_joint_to_blame_is_one_of_the_prior(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    prior = poseprior.GaussianPrior((16, 18))
    prior.fit(0.2 * torch.randn(200, 55, 3, generator=torch.Generator().manual_seed(0)))
    prior.save(tmp_path / "p.safetensors")
    np.savez(tmp_path / "a.npz", poses=np.zeros((2, 55, 3)), observed=np.ones((2, 55), bool))  # no joint is surprising
    code, text = said("score", str(tmp_path / "p.safetensors"), "--data", str(tmp_path / "a.npz"))
    assert code == 0 and text.count("left_shoulder") + text.count("left_elbow") == 2 and "pelvis" not in text


def test_metadata_of_others_are_printed_escaped(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    prior = poseprior.GaussianPrior((16, 18))
    prior.fit(0.2 * torch.randn(200, 55, 3, generator=torch.Generator().manual_seed(0)))
    prior.metadata |= {"notices": ["line\nred \x1b[31m"], "calibration": 3, "evil\x1b[2J": {"a\x1b[2J": "\x1b[2J"}}
    prior.save(tmp_path / "p.safetensors")
    code, text = said("info", str(tmp_path / "p.safetensors"))
    assert code == 0 and "\x1b" not in text and "line\nred \\x1b[31m" in text and "calibration: 3" in text
