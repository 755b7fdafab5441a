"""Weights files: strict, atomic, and never executed."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import poseprior
from poseprior import GaussianPrior, GlobalFlow, LatentPosePrior, PosePrior, checkpoint
from poseprior.io.atomic import replacing


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "prior.safetensors"
    GaussianPrior("body").save(path)
    return path


def _rewrite(path: Path, *, meta: dict | None = None, tensors: dict | None = None) -> None:
    with safe_open(path, framework="pt") as handle:
        raw = json.loads(handle.metadata()["poseprior"])
        kept = {name: handle.get_tensor(name) for name in handle.keys()}
    raw.pop("digest", None)
    save_file({**kept, **(tensors or {})}, path, metadata={"poseprior": json.dumps({**raw, **(meta or {})})})


def test_metadata_says_what_the_file_is(tmp_path: Path) -> None:
    train = poseprior.io.synthetic_poses(200, seed=0, num_subjects=2)
    prior = GaussianPrior("body,left_hand", covariance="full")
    prior.fit(train, val=train)
    prior.metadata["licence"] = "CC0-1.0"
    prior.save(tmp_path / "p.safetensors")
    _, meta = checkpoint.read(tmp_path / "p.safetensors")
    assert meta["format_version"] == 1
    assert meta["class"] == "GaussianPrior"
    assert meta["licence"] == "CC0-1.0"
    assert "left_knee" in meta["joints"]
    assert meta["training"]["data_digest"] == train.digest()
    assert meta["training"]["jitter"] == 0.02
    again = poseprior.load(tmp_path / "p.safetensors")
    again.save(tmp_path / "q.safetensors")
    assert checkpoint.read(tmp_path / "q.safetensors")[1] == meta


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(_Bomb()))
    torch.save({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    for name in ("a", "b"):
        with pytest.raises(ValueError, match=r"looks like a pickle or a PyTorch .pt file, which can run code"):
            poseprior.load(tmp_path / f"{name}.safetensors")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"abc", b"hello, world, this is text", bytes(range(256)) * 10])
def test_a_random_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a safetensors file, or is cut short"):
        poseprior.load(path)


def test_half_a_file_is_refused_at_any_length(saved: Path) -> None:
    whole = saved.read_bytes()
    for part in (4, 20, 200, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:part])
        with pytest.raises(ValueError, match=r"path: .*(cut short|not a safetensors file)"):
            poseprior.load(saved)


def test_foreign_safetensors_and_missing_files(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"something else: it has no 'poseprior' metadata"):
        poseprior.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"path: no file at .*gone.safetensors"):
        poseprior.load(tmp_path / "gone.safetensors")
    with pytest.raises(ValueError, match=r"is a folder without prior.safetensors"):
        poseprior.load(tmp_path)


def test_a_newer_format_is_refused_by_name(saved: Path) -> None:
    _rewrite(saved, meta={"format_version": 99})
    with pytest.raises(ValueError, match=r"format_version 99, this poseprior reads up to 1; update poseprior"):
        poseprior.load(saved)


def test_one_error_lists_every_tensor_that_does_not_fit(saved: Path) -> None:
    with safe_open(saved, framework="pt") as handle:
        raw = json.loads(handle.metadata()["poseprior"])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}
    tensors.pop("mean")
    tensors["log_scale"] = torch.zeros(2, 3)
    tensors["surprise"] = torch.zeros(1)
    tensors["chart.scale"] = torch.full_like(tensors["chart.scale"], float("nan"))
    raw.pop("digest", None)
    save_file(tensors, saved, metadata={"poseprior": json.dumps(raw)})
    with pytest.raises(ValueError) as caught:
        poseprior.load(saved)
    text = str(caught.value)
    assert "missing: mean" in text
    assert "unexpected: surprise" in text
    assert "log_scale (expected (21, 3), got (2, 3))" in text
    assert "not finite: chart.scale" in text


def test_unknown_class_and_options_are_refused(saved: Path) -> None:
    _rewrite(saved, meta={"class": "FuturePrior"})
    with pytest.raises(ValueError, match=r"holds a 'FuturePrior', which this version does not know .*GaussianPrior"):
        poseprior.load(saved)
    _rewrite(saved, meta={"class": "GaussianPrior", "config": {"wings": 2}})
    with pytest.raises(ValueError, match=r"options that GaussianPrior does not take .*wings"):
        poseprior.load(saved)


def test_load_on_a_class_checks_the_class(saved: Path) -> None:
    assert isinstance(GaussianPrior.load(saved), GaussianPrior)
    assert isinstance(PosePrior.load(saved), GaussianPrior)
    with pytest.raises(ValueError, match=r"holds a GaussianPrior, not a LatentPosePrior"):
        LatentPosePrior.load(saved)


def test_double_weights_come_back_double(tmp_path: Path) -> None:
    prior = GlobalFlow((1, 2), hidden=4).double().requires_grad_(False)  # as loaded priors are
    with torch.no_grad():
        for weight in prior.parameters():
            weight.add_(1e-12)
    prior.save(tmp_path / "x.safetensors")
    again = poseprior.load(tmp_path / "x.safetensors")
    assert again.dtype == torch.float64
    assert all(torch.equal(again.state_dict()[name], value) for name, value in prior.state_dict().items())
    poses = torch.zeros(2, 55, 3, dtype=torch.float64)
    assert torch.equal(again.log_prob(poses), prior.eval().log_prob(poses))


def test_save_wants_the_suffix_and_plain_metadata(tmp_path: Path) -> None:
    prior = GaussianPrior("body")
    with pytest.raises(ValueError, match=r"expected a name that ends in .safetensors, got 'x.pt'"):
        prior.save(tmp_path / "x.pt")
    prior.metadata["bad"] = float("nan")
    with pytest.raises(ValueError, match=r"metadata: expected JSON-able values"):
        prior.save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("new, half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_run_folder_loads(saved: Path) -> None:
    assert isinstance(poseprior.load(saved.parent), GaussianPrior)


@pytest.mark.parametrize("key", ["class", "digest", "joints"])
def test_metadata_that_would_describe_the_file_are_refused(key: str, tmp_path: Path) -> None:
    prior = poseprior.load("body-gaussian")
    prior.metadata[key] = "mine"
    with pytest.raises(ValueError, match=f"metadata: expected no entries named format_.*, got {key}; rename them"):
        prior.save(tmp_path / "x.safetensors")
    prior.metadata[f"my_{key}"] = prior.metadata.pop(key)
    prior.save(tmp_path / "x.safetensors")
    assert poseprior.load(tmp_path / "x.safetensors").metadata[f"my_{key}"] == "mine"


@pytest.mark.parametrize("path", [None, 3, b"x.safetensors", ""])
def test_a_target_that_is_no_path(path: Any) -> None:
    with pytest.raises(ValueError, match=r"path: expected a path, got "):
        poseprior.load("body-gaussian").save(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e13])
def test_weights_that_no_file_loads_are_not_saved_over_a_good_one(value: float, saved: Path) -> None:
    before = saved.read_bytes()
    prior = GaussianPrior("body")
    name, tensor = next((n, t) for n, t in prior.state_dict().items() if t.is_floating_point())
    tensor.view(-1)[0] = value
    with pytest.raises(ValueError, match=rf"^prior: expected finite weights within 1e\+12.*{re.escape(name)}"):
        prior.save(saved)
    assert saved.read_bytes() == before
