"""Training checkpoints that are damaged, made to harm or no files: refused before the first step, with a way out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bounds import bounded
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from poseprior import FitConfig, FitResult, GaussianPrior
from poseprior._checkpoint_format import content_digest
from poseprior.io import synthetic_poses
from poseprior.training.state import FILE_NAME

_POSES = synthetic_poses(80, seed=0, num_subjects=4)
_REMEDY = r"is not a training checkpoint.*remove it, or give another folder \(.*--overwrite\)"


def _fit(folder: Path, steps: int = 8, *, resume: bool = True) -> FitResult:
    config = FitConfig(
        max_steps=steps, batch_size=16, eval_every=2, checkpoint_dir=str(folder), checkpoint_every=2, progress=False,
        resume=resume,
    )  # fmt: skip
    return GaussianPrior((1, 2)).fit(_POSES, val=_POSES, config=config)


@pytest.fixture
def state(tmp_path: Path) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    _fit(tmp_path, 4)
    path = tmp_path / FILE_NAME
    with safe_open(path, "pt") as handle:
        return path, {name: handle.get_tensor(name) for name in handle.keys()}, dict(handle.metadata())


def _write(path: Path, tensors: dict[str, Tensor], meta: dict[str, str]) -> None:
    """With a digest that holds."""
    rest = {key: value for key, value in meta.items() if key != "digest"}
    save_file(tensors, path, metadata={**rest, "digest": content_digest(tensors, rest)})


def test_a_checkpoint_that_is_written_again_is_resumed(state: Any) -> None:
    _write(*state)
    assert _fit(state[0].parent).steps == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "x"}, {"step": -5}, {"step": 1.5}, {"step": True}, {"step": 10**400}, {"seconds": None}, {"seconds": -1},
        {"best_score": "x"}, {"best_nll": True}, {"best_nll": None}, {"best_step": 100}, {"stale": -1}, {"train_nll": "x"},
        {"stopped": 5}, {"history": None}, {"history": [5]}, {"history": [{}]}, {"history": [{"step": "x"}]},
        {"history": [{"step": 2, "val_nll": "x"}]}, {"other": 1},
    ],
)  # fmt: skip
def test_progress_of_no_run(changes: dict[str, Any], state: Any) -> None:
    path, tensors, meta = state
    _write(path, tensors, {**meta, "progress": json.dumps({**json.loads(meta["progress"]), **changes})})
    with pytest.raises(ValueError, match=_REMEDY):
        _fit(path.parent)


@pytest.mark.parametrize("key", ["progress", "fingerprint"])
@pytest.mark.parametrize("text", ["[]", "5", "[[1], [2]]", "{", "NaN", "[" * 100_000, None])
def test_metadata_of_other_kinds(key: str, text: str | None, state: Any) -> None:
    path, tensors, meta = state
    _write(path, tensors, {name: value for name, value in {**meta, key: text}.items() if value is not None})
    with bounded(), pytest.raises(ValueError, match=_REMEDY):
        _fit(path.parent)


@pytest.mark.parametrize("group", ["model.", "average.", "best.", "optimiser."])
@pytest.mark.parametrize(
    "change",
    [
        lambda value: None, lambda value: value[:1], lambda value: value * torch.nan, lambda value: value.double(),
        lambda value: value.to(torch.int64), lambda value: value.to(torch.complex64),
    ],
    ids=["missing", "another shape", "NaN", "double", "whole", "complex"],
)  # fmt: skip
def test_tensors_that_do_not_fit(group: str, change: Callable[[Tensor], Tensor | None], state: Any) -> None:
    path, tensors, meta = state
    for name in [name for name in tensors if name.startswith(group) and tensors[name].dim()]:
        value = change(tensors[name])
        _write(path, {k: v for k, v in {**tensors, name: value}.items() if v is not None}, meta)
        with pytest.raises(ValueError, match=_REMEDY):
            _fit(path.parent)
    _write(path, {k: v for k, v in tensors.items() if not k.startswith(group)}, meta)
    with pytest.raises(ValueError, match=f"{_REMEDY}"):
        _fit(path.parent)
    assert _fit(path.parent, resume=False).steps == 8, "the remedy"


@pytest.mark.parametrize("name", ["model.zzz", "other", "optimiser.x.y", "optimiser.7", "optimiser.7.exp_avg"])
def test_tensors_of_no_run(name: str, state: Any) -> None:
    path, tensors, meta = state
    _write(path, {**tensors, name: torch.zeros(2)}, meta)
    with pytest.raises(ValueError, match=_REMEDY):
        _fit(path.parent)


def test_squares_below_zero(state: Any) -> None:
    path, tensors, meta = state
    _write(path, {name: -value - 1 if name.endswith("exp_avg_sq") else value for name, value in tensors.items()}, meta)
    with pytest.raises(ValueError, match=_REMEDY):
        _fit(path.parent)


@pytest.mark.parametrize("target", ["nowhere", FILE_NAME])
def test_a_link_to_nothing_is_not_a_new_run(target: str, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).symlink_to(target)
    with pytest.raises(ValueError, match=_REMEDY):
        _fit(tmp_path)
    assert _fit(tmp_path, resume=False).steps == 8, "the remedy"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.parametrize("resume", [True, False])
def test_what_is_no_file_is_refused_at_once(make: Callable[[Path], None], resume: bool, tmp_path: Path) -> None:
    make(tmp_path / FILE_NAME)
    with bounded(), pytest.raises(ValueError, match=r"checkpoint_dir: cannot write .*; remove what is there"):
        _fit(tmp_path, resume=resume)


def test_huge_files_are_not_read(state: Any) -> None:
    path, _, _ = state
    os.truncate(path, 1 << 40)
    with bounded(), pytest.raises(ValueError, match=_REMEDY):
        _fit(path.parent)
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)
    with bounded(), pytest.raises(ValueError, match=_REMEDY):
        _fit(path.parent)
