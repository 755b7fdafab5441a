"""Benchmarks store what they train, once it is trained to the end, and what they measure, with its conditions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

import poseprior
from benchmarks.common import measure_once, train_once
from poseprior import GaussianPrior, PoseDataset
from poseprior.io import synthetic_poses
from poseprior.training.batches import BatchSource

STEPS = 60
SHORT = {"max_steps": STEPS, "batch_size": 64, "eval_every": 20, "checkpoint_every": 20, "progress": False}


def _splits() -> Mapping[str, PoseDataset]:
    train, val = synthetic_poses(600, seed=0, num_subjects=6).split_by_subject([0.7, 0.3], seed=0)
    return {"train": train, "val": val}


def _gaussian() -> GaussianPrior:
    return GaussianPrior("body")


def test_trains_once_with_the_given_options(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gaussian.safetensors"
    first = train_once(path, _gaussian, _splits, {**SHORT, "jitter": 0.1})
    assert first.metadata["training"]["jitter"] == 0.1

    def unread() -> Mapping[str, PoseDataset]:
        raise AssertionError("data were read though the weights exist")

    again = train_once(path, _gaussian, unread)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_interrupted_training_is_no_trained_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = train_once(tmp_path / "undisturbed.safetensors", _gaussian, _splits, SHORT)
    path, draw = tmp_path / "disturbed.safetensors", BatchSource.batch

    def interrupted(self: BatchSource, step: int) -> tuple[Tensor, Tensor]:
        if step == 31:
            raise KeyboardInterrupt
        return draw(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(BatchSource, "batch", interrupted)
        with pytest.raises(SystemExit, match="run the same command again"):
            train_once(path, _gaussian, _splits, SHORT)
    assert not path.exists()
    resumed = train_once(path, _gaussian, _splits, SHORT)
    assert resumed.metadata["training"]["steps"] == STEPS
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert poseprior.load(path).metadata["training"]["stopped"] == "max_steps"


def test_numbers_are_measured_again_when_their_conditions_change(tmp_path: Path) -> None:
    calls = []

    def measure() -> dict[str, float]:
        calls.append(1)
        return {"nll": float(len(calls))}

    path = tmp_path / "numbers.json"
    assert measure_once(path, {"max_poses": 3}, measure)["nll"] == 1.0
    assert measure_once(path, {"max_poses": 3}, measure)["nll"] == 1.0
    assert measure_once(path, {"max_poses": None}, measure)["nll"] == 2.0
    assert len(calls) == 2
