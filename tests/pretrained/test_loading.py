"""`load` by name, path and hub address; `list_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import poseprior
from poseprior import checkpoint
from poseprior.cli import main
from poseprior.pretrained import loading as pretrained


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prior.safetensors"
    poseprior.GaussianPrior("left_knee").save(path)
    return path


def test_an_unknown_name_lists_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no file or folder 'body-elephant'") as caught:
        poseprior.load("body-elephant")
    assert all(name in str(caught.value) for name in ("body-gaussian", *pretrained.pretrained_files()))


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("http://example.com/prior.safetensors", "download the file and pass its path, or pass hf://owner/repo/file"),
        ("ftp://example.com/prior.safetensors", "download the file and pass its path, or pass hf://owner/repo/file"),
        ("https://huggingface.co/me/priors", "download the file and pass its path, or pass hf://owner/repo/file"),
        (
            "https://huggingface.co/me/priors/resolve/main/a/b.safetensors?download=true",
            "pass 'hf://me/priors/a/b.safetensors', or",
        ),
        (
            "https://huggingface.co/me/priors/blob/v2/b.safetensors",
            "pass 'hf://me/priors/b.safetensors@v2', or download",
        ),
        ("file:///tmp/b.safetensors", "pass '/tmp/b.safetensors'"),
    ],
)
def test_an_address_is_told_what_to_pass_instead(address: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"path: expected a name, a file, .*, got the address") as caught:
        poseprior.load(address)
    assert remedy in str(caught.value)
    assert main(["info", address]) == 2
    error = capsys.readouterr().err
    assert "PRIOR: expected a name" in error and remedy in error and error.count("\n") == 1


def test_a_name_is_the_shipped_prior_and_a_path_is_a_path(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "body-gaussian"
    run.mkdir()
    file.rename(run / "prior.safetensors")
    assert len(poseprior.load("body-gaussian").joints) == 21
    assert poseprior.load("./body-gaussian").joints == (4,)
    assert poseprior.load(Path("body-gaussian")).joints == (4,)
    with pytest.raises(ValueError, match="no file at"):
        poseprior.load("elsewhere/body-gaussian")


def test_list_describes_every_shipped_file_without_reading_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise AssertionError("tensors were read")

    monkeypatch.setattr(checkpoint, "read", refuse)
    infos = poseprior.list_pretrained()
    assert list(infos) == sorted(pretrained.pretrained_files())
    for name, info in infos.items():
        assert info.name == name
        assert info.path.stat().st_size == info.num_bytes < 8_000_000
        assert info.num_parameters > 0
        assert info.licence == "MIT"
        assert info.description
        with pytest.raises(AttributeError):
            info.name = "x"  # type: ignore[misc]


def test_an_entry_of_the_list_loads() -> None:
    first = poseprior.list_pretrained()["body-gaussian"]
    prior = poseprior.load(first)
    assert type(prior).__name__ == first.class_name and prior.num_parameters == first.num_parameters


def test_the_list_prints_a_table_that_fits_a_terminal() -> None:
    infos = poseprior.list_pretrained()
    head, *lines = repr(infos).splitlines()
    assert head.split()[:4] == ["name", "class", "joints", "parameters"]
    assert all(len(line) < 80 for line in lines)
    for name, info in infos.items():
        (row,) = (line for line in lines if line.startswith(f"{name} "))
        assert f"{info.num_parameters:,}" in row and info.class_name in row
        assert f"{info.metrics.get('body', info.metrics.get('hands'))['test']['nll']:.1f}" in row
        assert name in infos._repr_html_() and len(repr(info).splitlines()) == 1


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Did you mean 'body-mixture'"):
        poseprior.load("body-mixtrue")


def test_the_command_line_takes_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in pretrained.pretrained_files())
    assert main(["info", "body-gaussian"]) == 0
    told = capsys.readouterr().out
    assert "EIA-0196217" in told
    assert "licence: MIT" in told
    assert main(["info", "body-elephant"]) == 2
    assert "body-gaussian" in capsys.readouterr().err


def test_an_old_name_says_what_takes_its_place() -> None:
    with pytest.raises(ValueError, match="'body-mixture-smooth' no longer ships; load 'body-mixture'"):
        poseprior.load("body-mixture-smooth")
