"""Benchmarks keep what they train, once it is trained to the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmark_scripts import benchmark_script
from torch import Tensor

import poseprior
from poseprior import FitConfig, GaussianPrior, PoseDataset
from poseprior.io import synthetic_poses
from poseprior.training.batches import BatchSource

STEPS = 60


def _splits() -> Mapping[str, PoseDataset]:
    train, val = synthetic_poses(600, seed=0, num_subjects=6).split_by_subject([0.7, 0.3], seed=0)
    return {"train": train, "val": val}


def _short(own: FitConfig) -> FitConfig:
    return replace(own, max_steps=STEPS, batch_size=64, eval_every=20, checkpoint_every=20, progress=False)


def _gaussian() -> GaussianPrior:
    return GaussianPrior("body")


def test_trains_once_with_the_changes_asked_for(tmp_path: Path) -> None:
    kept_prior = benchmark_script("kept_prior").kept_prior
    path = tmp_path / "new" / "gaussian.safetensors"
    first = kept_prior(path, _gaussian, _splits, lambda own: replace(_short(own), jitter=0.1))
    assert first.metadata["training"]["jitter"] == 0.1

    def unread() -> Mapping[str, PoseDataset]:
        raise AssertionError("data were read though the weights exist")

    again = kept_prior(path, _gaussian, unread)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_interrupted_training_is_no_trained_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_prior = benchmark_script("kept_prior").kept_prior
    undisturbed = kept_prior(tmp_path / "undisturbed.safetensors", _gaussian, _splits, _short)
    path, draw = tmp_path / "disturbed.safetensors", BatchSource.batch

    def interrupted(self: BatchSource, step: int) -> tuple[Tensor, Tensor]:
        if step == 31:
            raise KeyboardInterrupt
        return draw(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(BatchSource, "batch", interrupted)
        with pytest.raises(SystemExit, match="run the same command again"):
            kept_prior(path, _gaussian, _splits, _short)
    assert not path.exists()
    resumed = kept_prior(path, _gaussian, _splits, _short)
    assert resumed.metadata["training"]["steps"] == STEPS
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert poseprior.load(path).metadata["training"]["stopped"] == "max_steps"
