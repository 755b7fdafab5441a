"""The training loop: resumption to the bit after a real kill -9, ranks that agree, budgets, early stopping, refusals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import poseprior
from poseprior import (
    FitConfig,
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    JointFlow,
    PoseDataset,
    PosePrior,
    VAEPrior,
)
from poseprior.io import synthetic_poses
from poseprior.skeleton import JOINT_SETS
from poseprior.training.batches import BatchSource
from poseprior.training.state import FILE_NAME
from poseprior.training.tensorboard import TensorBoardLog

SCRIPT = Path(__file__).with_name("fit_script.py")
CLOSED = FitConfig(max_steps=0, progress=False)
QUICK = FitConfig(max_steps=60, batch_size=64, warmup_steps=5, eval_every=20, progress=False)


@pytest.fixture(scope="module")
def splits() -> tuple[PoseDataset, ...]:
    return synthetic_poses(900, seed=0, num_subjects=6).split_by_subject([0.7, 0.3], seed=0)


def _weights(path: Path) -> dict[str, Tensor]:
    return poseprior.load(path).state_dict()


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _killed(command: list[str], state: Path, checkpoints: int) -> bool:
    """Start a run and kill it some checkpoints later, at a moment nobody chose; whether it was still running."""
    process = subprocess.Popen(command, env=_environment())
    seen, last = 0, state.stat().st_mtime_ns if state.exists() else None
    while process.poll() is None and seen < checkpoints:
        now = state.stat().st_mtime_ns if state.exists() else None
        seen, last = seen + (now != last), now
        time.sleep(0.001)
    running = process.poll() is None
    if running:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return running


@pytest.mark.parametrize(
    ("family", "steps", "kills"),
    [("gaussian", 600, (1, 3)), *(pytest.param(name, 500, (1, 2, 1, 3, 2, 1, 1), marks=pytest.mark.slow)
                                  for name in ("gaussian", "joint-flow", "vae"))],
)  # fmt: skip
def test_killed_and_resumed_equals_undisturbed(family: str, steps: int, kills: tuple[int, ...], tmp_path: Path) -> None:
    first, second = (
        [sys.executable, str(SCRIPT), str(tmp_path / f"{run}.safetensors"), str(tmp_path / run), str(steps), family]
        for run in "ab"
    )
    subprocess.run(first, check=True, env=_environment())
    for checkpoints in kills:
        assert _killed(second, tmp_path / "b" / FILE_NAME, checkpoints), "the run ended before it could be killed"
    assert not (tmp_path / "b0.safetensors").exists()
    subprocess.run(second, check=True, env=_environment())
    assert _equal(_weights(tmp_path / "a0.safetensors"), _weights(tmp_path / "b0.safetensors"))
    assert [path.name for path in (tmp_path / "b").iterdir()] == [FILE_NAME], "no temporaries stay"


@pytest.mark.slow
def test_two_ranks_end_identical_and_learn(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(SCRIPT), str(tmp_path / "d.safetensors"), str(tmp_path / "d"), "120",
    ]  # fmt: skip
    subprocess.run(command, check=True, env=_environment(), capture_output=True)
    first, second = (poseprior.load(tmp_path / f"d{rank}.safetensors") for rank in (0, 1))
    assert _equal(first.state_dict(), second.state_dict())
    assert first.metadata["training"]["val_nll"] == second.metadata["training"]["val_nll"]
    untrained = GaussianPrior("body", covariance="full")
    train, val = synthetic_poses(1200, seed=0, num_subjects=6).split_by_subject([0.7, 0.3], seed=0)
    start = untrained.fit(train, val=val, config=replace(QUICK, max_steps=1, eval_every=1)).val_nll
    assert first.metadata["training"]["val_nll"] < start


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    script = str(SCRIPT.with_name("rank_gradients.py"))
    alone, ranks = [sys.executable, script], [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script
    ]  # fmt: skip
    for command, name in ((alone, "one.pt"), (ranks, "two.pt")):
        subprocess.run([*command, str(tmp_path / name)], check=True, env=_environment(), capture_output=True)
    one, two = (torch.load(tmp_path / name) for name in ("one.pt", "two.pt"))
    assert len(one) == len(two) == 2 and any(bool(grad.abs().max() > 1e-3) for grad in one[0])
    for first, second in zip(one, two, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-6, atol=1e-9)


def test_resume_after_fewer_steps_equals_one_run(splits: tuple[PoseDataset, ...], tmp_path: Path) -> None:
    train, val = splits
    config = replace(QUICK, checkpoint_dir=str(tmp_path / "c"), checkpoint_every=20)
    constant = replace(config, final_lr_fraction=0.999)  # the cosine depends on max_steps; keep it all but flat
    first = GaussianPrior("body")
    first.fit(train, val=val, config=replace(constant, max_steps=20))
    resumed = GaussianPrior("body")
    result = resumed.fit(train, val=val, config=constant)
    assert result.steps == 60
    assert [h["step"] for h in result.history] == [20, 40, 60]


def test_gradient_training_reaches_the_closed_form(splits: tuple[PoseDataset, ...]) -> None:
    train, val = splits
    closed = GaussianPrior("body", covariance="full")
    best = closed.fit(train, config=FitConfig(max_steps=0, progress=False)).train_nll
    trained = GaussianPrior("body", covariance="full")
    config = replace(QUICK, max_steps=1500, learning_rate=1e-2, eval_every=500, batch_size=256)
    reached = trained.fit(train, val=val, config=config).train_nll
    assert reached is not None and best is not None
    assert reached < best + 3.0


def test_seed_decides_everything_and_no_global_state_moves(splits: tuple[PoseDataset, ...]) -> None:
    train, val = splits
    state = torch.get_rng_state()
    weights = []
    for seed in (1, 1, 2):
        prior = GaussianPrior("body")
        prior.fit(train, val=val, config=replace(QUICK, seed=seed))
        weights.append(prior.state_dict())
    assert _equal(weights[0], weights[1])
    assert not _equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fit_on_the_cpu_leaves_other_devices_alone(
    splits: tuple[PoseDataset, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: False)
    JointFlow((1, 2), hidden=4).fit(splits[0], config=replace(QUICK, max_steps=2, device="cpu"))
    assert not seeded


def test_early_stopping_keeps_the_best_weights(splits: tuple[PoseDataset, ...]) -> None:
    train, val = splits
    prior = GaussianPrior("body")
    config = replace(
        QUICK, max_steps=2000, learning_rate=0.3, clip_grad_norm=0, patience=3, eval_every=5, ema_decay=0.0
    )
    result = prior.fit(train, val=val, config=config)
    assert result.stopped == "early"
    assert result.steps < 2000
    assert result.val_nll == min(h["val_nll"] for h in result.history)
    assert result.best_step == next(h["step"] for h in result.history if h["val_nll"] == result.val_nll)


def test_a_selection_penalty_chooses_with_the_nll(
    splits: tuple[PoseDataset, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = splits
    calls: list[int] = []

    def penalty(self: GaussianPrior, rotvec: Tensor, observed: Tensor) -> Tensor:
        calls.append(len(rotvec))
        return torch.full((len(rotvec),), 1000.0 * len(calls))

    monkeypatch.setattr(GaussianPrior, "selection_penalty", penalty)
    prior = GaussianPrior("body")
    result = prior.fit(train, val=val, config=replace(QUICK, max_steps=40, eval_every=10))
    first, *later = result.history
    assert set(calls) == {len(val)}
    assert result.best_step == first["step"] < later[-1]["step"]  # later penalties outweigh the falling NLL
    assert result.val_nll == first["val_nll"]
    assert first["val_score"] == pytest.approx(first["val_nll"] + 1000.0)


@pytest.mark.parametrize("build", [GaussianPrior, partial(GaussianMixturePrior, num_components=2)])
def test_a_closed_form_fitted_again_is_that_of_the_new_data(
    splits: tuple[PoseDataset, ...], build: Callable[..., PosePrior]
) -> None:
    config = CLOSED
    prior, fresh = build("body"), build("body")
    prior.fit(splits[0], config=config)
    prior.metadata["licence"] = "of the first data"
    again, expected = (some.fit(splits[1], config=config) for some in (prior, fresh))
    assert _equal(prior.state_dict(), fresh.state_dict())
    assert again.train_nll == expected.train_nll
    assert prior.metadata["training"]["data_digest"] == splits[1].digest()
    assert prior.metadata.keys() == {"training"}


def test_a_shipped_gaussian_fits_data_of_ones_own(splits: tuple[PoseDataset, ...]) -> None:
    prior = poseprior.load("body-gaussian")
    fresh = GaussianPrior(prior.joints, covariance="full")
    for some in (prior, fresh):
        some.fit(splits[1])
    assert _equal(prior.state_dict(), fresh.state_dict())


def test_a_start_without_steps_is_measured_on_what_the_prior_can_score() -> None:
    poses = synthetic_poses(600, seed=0).poses
    observed = torch.ones(600, 55, dtype=torch.bool)
    observed[5, 20] = False  # one row without a wrist: too rare to be a block of its own
    ragged = PoseDataset(poses, observed)
    flow = GlobalFlow("body", hidden=8)
    result = flow.fit(ragged, val=ragged, config=replace(CLOSED, jitter=0.0, mirror=False))
    rows = flow.can_score(observed)
    assert 0 < int(rows.sum()) < 600
    expected = -flow.log_prob(poses[rows], observed=observed[rows]).mean()
    torch.testing.assert_close(torch.tensor([result.train_nll, result.val_nll]), expected.expand(2))


def test_a_left_hand_prior_has_a_closed_form_on_right_hands() -> None:
    data = synthetic_poses(200, seed=0)
    observed = data.observed.clone()
    observed[:, list(JOINT_SETS["left_hand"])] = False
    right = PoseDataset(data.poses, observed)
    result = GaussianPrior("left_hand").fit(right, config=CLOSED)
    loop = GaussianPrior("left_hand").fit(right, config=replace(QUICK, max_steps=1))
    assert result.train_nll == pytest.approx(loop.train_nll, abs=2.0)


@pytest.mark.parametrize("steps", [0, 2])
def test_data_that_show_none_of_the_joints_are_refused(splits: tuple[PoseDataset, ...], steps: int) -> None:
    empty = PoseDataset(torch.zeros(3, 55, 3), torch.zeros(3, 55, dtype=torch.bool))
    config = replace(QUICK, max_steps=steps) if steps else CLOSED
    prior = GaussianPrior((1, 2))
    with pytest.raises(ValueError, match=r"val: none of the 3 poses observes the prior's joints \(left_hip.*give"):
        prior.fit(splits[0], val=empty, config=config)
    prior.fit(splits[0], config=config)
    with pytest.raises(ValueError, match=r"train: none of the"):
        prior.fit(empty, config=config)


def test_minutes_is_a_budget(splits: tuple[PoseDataset, ...]) -> None:
    start = time.monotonic()
    result = GaussianPrior("body").fit(splits[0], config=replace(QUICK, max_steps=10**7, minutes=0.03))
    assert result.stopped == "minutes"
    assert time.monotonic() - start < 20
    assert result.steps > 0


def test_interrupt_keeps_the_state_and_the_weights(
    splits: tuple[PoseDataset, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = splits
    undisturbed = GaussianPrior("body")
    undisturbed.fit(train, val=val, config=QUICK)
    draw, calls = BatchSource.batch, []

    def interrupted(self: BatchSource, step: int) -> tuple[Tensor, Tensor]:
        calls.append(step)
        if len(calls) == 31:
            raise KeyboardInterrupt
        return draw(self, step)

    monkeypatch.setattr(BatchSource, "batch", interrupted)
    config = replace(QUICK, checkpoint_dir=str(tmp_path), checkpoint_every=20)
    assert GaussianPrior("body").fit(train, val=val, config=config).stopped == "interrupted"
    resumed = GaussianPrior("body")
    resumed.fit(train, val=val, config=config)
    assert _equal(resumed.state_dict(), undisturbed.state_dict())


def test_interrupt_before_the_first_step_keeps_what_the_weights_come_from(
    splits: tuple[PoseDataset, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = splits
    prior = GaussianPrior("body")
    prior.fit(train, config=QUICK)
    kept = dict(prior.metadata["training"])

    def interrupted(self: BatchSource, step: int) -> tuple[Tensor, Tensor]:
        raise KeyboardInterrupt

    monkeypatch.setattr(BatchSource, "batch", interrupted)
    assert prior.fit(val, config=QUICK).stopped == "interrupted"
    assert prior.metadata["training"] == kept


def test_a_checkpoint_of_another_run_is_refused(splits: tuple[PoseDataset, ...], tmp_path: Path) -> None:
    train, val = splits
    config = replace(QUICK, checkpoint_dir=str(tmp_path), checkpoint_every=20)
    GaussianPrior("body").fit(train, val=val, config=config)
    with pytest.raises(ValueError, match=r"belongs to another run: .*seed was 0, is 3.*resume=False"):
        GaussianPrior("body").fit(train, val=val, config=replace(config, seed=3))
    with pytest.raises(ValueError, match=r"belongs to another run: train was"):
        GaussianPrior("body").fit(train.select(range(10)), val=val, config=config)
    with pytest.raises(ValueError, match=r"belongs to another run: class was"):
        GaussianMixturePrior("body", num_components=2).fit(train, val=val, config=config)
    other = replace(config, checkpoint_dir=str(tmp_path / "flow"), max_steps=2)
    JointFlow("body", hidden=8, dropout=0.1).fit(train, val=val, config=other)
    with pytest.raises(ValueError, match=r"belongs to another run: model.dropout was 0.1, is 0.6"):
        JointFlow("body", hidden=8, dropout=0.6).fit(train, val=val, config=other)
    with pytest.raises(ValueError, match=r"belongs to another run: dtype was 'torch.float32', is 'torch.float64'"):
        GaussianPrior("body").double().fit(train, val=val, config=config)
    balanced = replace(config, checkpoint_dir=str(tmp_path / "balanced"), max_steps=2, subject_balance=0.5)
    GaussianPrior("body").fit(train, val=val, config=balanced)
    renamed = PoseDataset(train.poses, train.observed, subject=["one", *["other"] * (len(train) - 1)])
    with pytest.raises(ValueError, match=r"belongs to another run: subjects was"):
        GaussianPrior("body").fit(renamed, val=val, config=balanced)
    (tmp_path / FILE_NAME).write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"is not a training checkpoint.*remove it"):
        GaussianPrior("body").fit(train, val=val, config=config)


def test_loss_that_is_not_finite_stops_with_a_remedy(
    splits: tuple[PoseDataset, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        GaussianPrior, "training_loss", lambda self, rotvec, observed, context, step: self.mean.sum() * float("nan")
    )
    with pytest.raises(ValueError, match=r"learning_rate: the loss was not finite .* use a lower learning_rate"):
        GaussianPrior("body").fit(splits[0], config=replace(QUICK, max_steps=200))


@pytest.mark.parametrize("eval_every", [1, 100])  # weights of the first validation have no factor, nor those of step 2
def test_a_training_that_diverges_names_the_learning_rate(splits: tuple[PoseDataset, ...], eval_every: int) -> None:
    config = FitConfig(max_steps=3, learning_rate=1e3, warmup_steps=0, eval_every=eval_every, progress=False)
    with pytest.raises(ValueError, match=r"^learning_rate: the training diverged .* use a lower learning_rate"):
        VAEPrior("body").fit(splits[0], val=splits[1], config=config)


@pytest.mark.parametrize("family", [GaussianPrior, GlobalFlow])
def test_far_rotations_are_refused_under_the_name_of_their_argument(family: type[PosePrior]) -> None:
    good, far = torch.zeros(50, 55, 3), torch.full((50, 55, 3), 1e20)
    config = FitConfig(max_steps=0, progress=False)
    for name, (train, val) in {"train": (far, good), "val": (good, far)}.items():
        with pytest.raises(
            ValueError, match=rf"^{name}: expected finite rotvecs within 1e\+15 radians.*in 50 of 50 rows"
        ):
            family("body").fit(train, val=val, config=config)  # type: ignore


def test_tensorboard_gets_curves(splits: tuple[PoseDataset, ...], tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    GaussianPrior("body").fit(splits[0], val=splits[1], config=replace(QUICK, tensorboard_dir=str(tmp_path)))
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"nll/train", "nll/val", "bpd/val", "samples/mean_angle_rad", "samples/max_angle_rad"} <= set(tags)
    assert [e.step for e in events.Scalars("nll/val")] == [20, 40, 60]


def test_tensorboard_measures_without_dropout(splits: tuple[PoseDataset, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[bool] = []
    monkeypatch.setattr(
        TensorBoardLog, "write", lambda self, prior, record, val: modes.extend(m.training for m in prior.modules())
    )
    trained: list[bool] = []
    loss = JointFlow.training_loss
    monkeypatch.setattr(
        JointFlow, "training_loss", lambda self, *args: (trained.append(self.training), loss(self, *args))[1]
    )
    JointFlow((1, 2), hidden=4).fit(splits[0], val=splits[1], config=replace(QUICK, max_steps=4, eval_every=2))
    assert modes
    assert not any(modes)
    assert trained == [True] * 4


def test_batches_balance_subjects_and_mirror_to_what_is_shown() -> None:
    poses = torch.zeros(1000, 55, 3)
    poses[:, 40, 2] = 0.5
    observed = torch.zeros(1000, 55, dtype=torch.bool)
    observed[:, 40:55] = True
    data = PoseDataset(poses, observed, subject=["often"] * 990 + ["rare"] * 10)
    config = replace(QUICK, batch_size=500, jitter=0.0, subject_balance=1.0)
    source = BatchSource(data, (25,), config.resolve({}))  # a left-hand prior, right-hand recordings
    rare = (source.indices(0) >= 990).float().mean()
    assert 0.4 < float(rare) < 0.6
    rotvec, seen = source.batch(0)
    assert seen.all()
    torch.testing.assert_close(rotvec[:, 0, 2], torch.full((500,), -0.5))


def test_epochs_visit_every_pose_once() -> None:
    data = PoseDataset(torch.zeros(100, 55, 3))
    source = BatchSource(data, (1,), replace(QUICK, batch_size=30).resolve({}))
    drawn = torch.cat([source.indices(step) for step in range(10)])
    assert torch.equal(drawn.bincount(), torch.full((100,), 3))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", 0),
        ("max_steps", -1),
        ("ema_decay", 1.0),
        ("minutes", 0.0),
        ("jitter", -0.1),
        ("jitter", 1e30),
        ("learning_rate", 1e30),
    ],
)
def test_config_refuses_nonsense(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"FitConfig.{option}: expected .* got {re.escape(str(value))}"):
        FitConfig(**{option: value})  # type: ignore[arg-type]


def test_device_that_is_not_there_is_refused(splits: tuple[PoseDataset, ...]) -> None:
    with pytest.raises(ValueError, match=r"device: 'cuda:99' is not usable here .* use 'cpu'"):
        GaussianPrior("body").fit(splits[0], config=replace(QUICK, device="cuda:99"))
