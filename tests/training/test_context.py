"""Contexts of poses: in data sets and files, and conditional priors trained with them through `fit` and the command."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_poses import haar_poses
from torch import Tensor

import poseprior
from poseprior import FitConfig, GaussianPrior, GlobalFlow, PoseDataset
from poseprior.cli import main
from poseprior.io import read_poses, read_split, write_poses
from poseprior.training.batches import BatchSource

JOINTS = (1, 2, 3)
QUICK = FitConfig(
    max_steps=300, batch_size=128, warmup_steps=10, eval_every=100, learning_rate=5e-3, jitter=0.0, progress=False
)


def _labelled(n: int = 1200, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Poses whose joints are N(0.6 or -0.6, 0.1^2) by a class, and the one-hot class."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 2
    poses = torch.zeros(n, 55, 3)
    poses[:, list(JOINTS)] = (1.2 * label - 0.6)[:, None, None] + 0.1 * torch.randn(n, 3, 3, generator=generator)
    return poses, torch.nn.functional.one_hot(label).float()


def _indexed(n: int = 12) -> PoseDataset:
    """Data whose context says which row it is."""
    subject = [f"s{k % 3}" for k in range(n)]
    return PoseDataset(haar_poses(n), subject=subject, context=torch.arange(2.0 * n).reshape(n, 2))


def _rows(dataset: PoseDataset) -> list[int]:
    assert dataset.context is not None
    assert torch.equal(dataset.context[:, 0] + 1, dataset.context[:, 1])
    return (dataset.context[:, 0] / 2).long().tolist()


def test_rows_keep_their_context(tmp_path: Path) -> None:
    data = _indexed()
    assert data.context_dim == 2 and "context of 2" in repr(data)
    assert _rows(data) == list(range(12))
    assert _rows(data.select([3, -1, 3])) == [3, 11, 3]
    assert _rows(PoseDataset.concat([data, data.select([2])])) == [*range(12), 2]
    assert _rows(data.mirrored()) == [*range(12), *range(12)]
    assert _rows(data.split_by_subject([["s1"]])[0]) == [1, 4, 7, 10]
    assert _rows(pickle.loads(pickle.dumps(data))) == list(range(12))
    mapped = PoseDataset.from_memmap(data.to_memmap(tmp_path / "folder"))
    assert isinstance(mapped._store._context, np.memmap)
    assert _rows(mapped.select([5, 1])) == [5, 1]
    assert torch.equal(mapped.batch_context([4])[0], torch.tensor([8.0, 9.0]))  # type: ignore[index]
    again = read_poses(write_poses(tmp_path / "x.npz", data), context="context")
    assert _rows(again) == list(range(12))
    assert data.digest() == mapped.digest() == again.digest()
    without = PoseDataset(data.poses)
    assert without.context is None and without.digest() != data.digest()
    with pytest.raises(ValueError, match=r"datasets: expected contexts of one length in all .* got \[0, 2\] numbers"):
        PoseDataset.concat([data, without])


@pytest.mark.parametrize(
    ("context", "says"),
    [
        (torch.zeros(12), r"context: expected \(12, C\).* got \(12,\); one number a row is context\[:, None\]"),
        (torch.zeros(3, 2), r"context: expected \(12, C\).* got \(3, 2\)"),
        (torch.zeros(12, 2, dtype=torch.long), r"context: expected a floating-point type, got int64; .*one_hot"),
        (torch.full((12, 1), torch.nan), r"context: expected finite numbers, got nan or inf in row 0"),
    ],
)
def test_contexts_that_are_none_are_refused(context: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PoseDataset(haar_poses(12), context=context)


def test_batches_pair_poses_and_contexts() -> None:
    data = _indexed(40)
    options = replace(QUICK, batch_size=16, mirror=False).resolve({})
    shares = [BatchSource(data, tuple(range(55)), options, rank=rank, world_size=2) for rank in (0, 1)]
    for step in range(4):
        for source in shares:
            context = source.context(step)
            assert context is not None
            rows = (context[:, 0] / 2).long()
            assert len(rows) == 8
            torch.testing.assert_close(source.batch(step)[0], data.batch(rows)[0])


def test_a_conditional_prior_learns_what_the_context_says() -> None:
    poses, label = _labelled()
    val_poses, val_label = _labelled(400, seed=1)
    prior = GlobalFlow(JOINTS, hidden=32, context_dim=2)
    result = prior.fit(PoseDataset(poses, context=label), val=PoseDataset(val_poses, context=val_label), config=QUICK)
    right = prior.log_prob(val_poses, context=val_label).mean()
    assert result.val_nll == pytest.approx(-float(right), abs=1e-3)
    assert float(right - prior.log_prob(val_poses, context=val_label.flip(1)).mean()) > 20.0
    # Without the class the density is that of an even mixture of two: log 2 less, with something for what is not learnt.
    assert 0.3 < float(right - prior.log_prob(val_poses).mean()) < 3.0
    for k, mean in ((0, -0.6), (1, 0.6)):
        drawn = prior.sample(500, context=torch.eye(2)[k], generator=torch.Generator().manual_seed(0))[:, list(JOINTS)]
        assert float(drawn.mean()) == pytest.approx(mean, abs=0.1)
    assert prior.metadata["training"]["mirror"] is False


def test_mirrored_training_keeps_the_context_where_it_is_asked_for() -> None:
    poses, label = _labelled(200)
    prior = GlobalFlow(JOINTS, hidden=8, context_dim=2)
    prior.fit(PoseDataset(poses, context=label), config=replace(QUICK, max_steps=2, mirror=True))
    assert prior.metadata["training"]["mirror"] is True


def test_data_without_the_context_are_refused() -> None:
    poses, label = _labelled(200)
    flow = GlobalFlow(JOINTS, hidden=8, context_dim=2)
    with pytest.raises(ValueError, match=r"train: expected a context of 2 numbers a pose .*, got no context; pass"):
        flow.fit(poses, config=QUICK)
    with pytest.raises(ValueError, match=r"val: expected a context of 2 numbers a pose .*, got a context of 1 numbers"):
        flow.fit(PoseDataset(poses, context=label), val=PoseDataset(poses, context=label[:, :1]), config=QUICK)
    with pytest.raises(ValueError, match=r"train: expected a data set without a context for a GaussianPrior"):
        GaussianPrior(JOINTS).fit(PoseDataset(poses, context=label))


def test_a_checkpoint_belongs_to_its_contexts(tmp_path: Path) -> None:
    poses, label = _labelled(200)
    config = replace(QUICK, max_steps=2, checkpoint_dir=str(tmp_path))
    GlobalFlow(JOINTS, hidden=8, context_dim=2).fit(PoseDataset(poses, context=label), config=config)
    with pytest.raises(ValueError, match=r"belongs to another run: train was"):
        GlobalFlow(JOINTS, hidden=8, context_dim=2).fit(PoseDataset(poses, context=label.flip(1)), config=config)


# -- files and the command -------------------------------------------------------------------------------------------


def test_files_give_contexts(tmp_path: Path) -> None:
    poses = haar_poses(4).numpy()
    for name, arrays in {
        "rows": {"feature": np.arange(8.0).reshape(4, 2)},
        "one": {"betas": np.arange(16.0)},
        "label": {"label": np.arange(4)},
        "unclear": {"feature": np.arange(4.0)},
        "short": {"feature": np.zeros((3, 2))},
        "none": {},
    }.items():
        np.savez(tmp_path / f"{name}.npz", poses=poses, **arrays)
    assert _rows(read_poses(tmp_path / "rows.npz", context="feature")) == [0, 1, 2, 3]
    betas = read_poses(tmp_path / "one.npz", context="betas").context
    assert betas is not None
    assert torch.equal(betas, torch.arange(16.0).expand(4, 16))
    assert read_poses(tmp_path / "rows.npz").context is None
    for name, key, says in (
        ("none", "feature", r"none.npz: context: expected an array 'feature', got none of that name"),
        ("label", "label", r"context: expected floating-point numbers under 'label', got int64; .*one-hot"),
        ("unclear", "feature", r"'feature' has 4 numbers and there are 4 poses.*\(4, 1\) or as \(1, 4\)"),
        ("short", "feature", r"context: expected \(4, C\) or \(1, C\) under 'feature' for 4 poses, got \(3, 2\)"),
    ):
        with pytest.raises(ValueError, match=says):
            read_poses(tmp_path / f"{name}.npz", context=key)


def test_train_takes_a_context_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, n, seed in (("train", 600, 0), ("val", 200, 1), ("test", 200, 2)):
        poses, label = _labelled(n, seed)
        np.savez(folder / f"{name}_poses.npz", poses=poses.numpy(), label=label.numpy(), subject=np.arange(n) % 4)
    assert read_split(folder, context="label")["val"].context_dim == 2
    command = [
        "train", "global-flow", "--data", str(folder), "--context", "label", "--out", str(tmp_path / "R"),
        "--joints", "left_hip,right_hip,spine1", "--max-steps", "60", "--eval-every", "30", "--jitter", "0.02",
    ]  # fmt: skip
    assert main(command) == 0
    metrics = json.loads((tmp_path / "R" / "metrics.json").read_text())
    assert metrics["given_context"] is True
    prior = poseprior.load(tmp_path / "R")
    assert prior.context_dim == 2 and prior.metadata["recipe"]["context"] == "label"
    assert main(command) == 0  # the same run
    capsys.readouterr()
    assert main([*command[:4], *command[6:]]) == 2  # without the context: another prior
    assert "already holds another prior" in capsys.readouterr().err
    assert main(["train", "gaussian", *command[2:8]]) == 2
    assert "--context: only global-flow takes a context, got Gaussian; leave it out." in capsys.readouterr().err
