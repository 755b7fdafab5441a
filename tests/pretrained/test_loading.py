"""`load` by name, path and hub address; `list_pretrained`."""

from __future__ import annotations

import hashlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import poseprior
from poseprior import checkpoint
from poseprior.cli import main
from poseprior.pretrained import hub
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
        assert info.num_bytes < 8_000_000
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
    assert 'licence: "MIT"' in told
    assert main(["info", "body-elephant"]) == 2
    assert "body-gaussian" in capsys.readouterr().err


# ---------------------------------------------------------------------- hub


class FakeHub(types.ModuleType):
    """Stands in for huggingface_hub: a cache of blobs named by their hash, behind symbolic links."""

    def __init__(self, cache: Path, content: bytes) -> None:
        super().__init__("huggingface_hub")
        self.calls: list[dict[str, Any]] = []
        self.cache, self.content, self.error = cache, content, None
        self.etag = hashlib.sha256(content).hexdigest()

    def hf_hub_download(self, *, repo_id: str, filename: str, revision: str | None) -> str:
        self.calls.append({"repo_id": repo_id, "filename": filename, "revision": revision})
        if self.error is not None:
            raise self.error
        blob, link = self.cache / self.etag, self.cache / "snapshot" / filename
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(self.content)
        if not link.is_symlink():
            os.symlink(blob, link)
        return str(link)


@pytest.fixture
def fake(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    module = FakeHub(tmp_path, file.read_bytes())
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def test_hub_address_is_fetched_and_loaded(fake: FakeHub) -> None:
    assert poseprior.load("hf://ann/priors/sub/knee.safetensors@v1.0").joints == (4,)
    assert fake.calls == [{"repo_id": "ann/priors", "filename": "sub/knee.safetensors", "revision": "v1.0"}]
    assert poseprior.load(f"hf://ann/priors/knee.safetensors#sha256={fake.etag.upper()}").joints == (4,)
    assert fake.calls[-1]["revision"] is None


def test_hub_content_is_checked(fake: FakeHub) -> None:
    with pytest.raises(ValueError, match="does not hash to what it should"):
        poseprior.load("hf://ann/priors/knee.safetensors#sha256=" + "0" * 64)
    fake.etag = "1" * 64  # the hub says another hash than the content has
    with pytest.raises(ValueError, match="does not hash to what it should"):
        poseprior.load("hf://ann/priors/other.safetensors")


def test_small_files_are_checked_by_their_git_hash(fake: FakeHub) -> None:
    header = b"blob %d\0" % len(fake.content)
    fake.etag = hashlib.sha1(header + fake.content).hexdigest()
    assert poseprior.load("hf://ann/priors/knee.safetensors").joints == (4,)
    fake.content = fake.content[:-1] + b"\1"
    with pytest.raises(ValueError, match="does not hash"):
        poseprior.load("hf://ann/priors/knee.safetensors")


def test_hub_out_of_reach_says_what_to_do(fake: FakeHub) -> None:
    fake.error = FileNotFoundError("cannot find the requested files in the local cache")
    with pytest.raises(ValueError, match=r"could not be fetched.*local cache.*give its path"):
        poseprior.load("hf://ann/priors/knee.safetensors")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # what an import of a missing package does
    with pytest.raises(ValueError, match=r"pip install 'poseprior\[hub\]'"):
        poseprior.load("hf://ann/priors/knee.safetensors")


@pytest.mark.parametrize(
    "address",
    ["hf://ann/knee.safetensors", "hf://ann/priors/knee.pt", "hf://ann/priors/knee.safetensors#sha256=12", "hf://"],
)
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(ValueError, match=r"expected hf://owner/repo/file\.safetensors"):
        hub.parse(address)


def test_an_old_name_says_what_takes_its_place() -> None:
    with pytest.raises(ValueError, match="'body-mixture-smooth' no longer ships; load 'body-mixture'"):
        poseprior.load("body-mixture-smooth")
