"""Ctrl-C in training: the first one saves and stops at once, and the run goes on to the bit; damaged checkpoints are refused."""

from __future__ import annotations

import json
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import poseprior.training.loop as loop
from poseprior import FitConfig, GaussianPrior, PoseDataset
from poseprior.cli import main
from poseprior.io import synthetic_poses, write_poses
from poseprior.training.batches import BatchSource
from poseprior.training.state import FILE_NAME

QUICK = FitConfig(max_steps=12, batch_size=32, warmup_steps=2, eval_every=4, progress=False)


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    """Python's handler of Ctrl-C, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def splits() -> tuple[PoseDataset, ...]:
    return synthetic_poses(300, seed=0, num_subjects=6).split_by_subject([0.7, 0.3], seed=0)


@pytest.fixture
def undisturbed(splits: tuple[PoseDataset, ...]) -> GaussianPrior:
    prior = GaussianPrior((1, 2, 4))
    prior.fit(splits[0], val=splits[1], config=QUICK)
    return prior


def _equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())


def _pressed_in(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, presses: int = 1
) -> Callable[..., Any]:
    """Ctrl-C in the middle of a function, at one of its calls."""
    original, calls = getattr(owner, name), []

    def pressed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, pressed)
    return pressed


@pytest.mark.parametrize(
    ("owner", "name", "call", "steps"),
    [
        (BatchSource, "batch", 7, 7),  # in a step, which is finished
        (loop, "mean_nll", 2, 8),  # in a validation, which is left and done again
        (loop.TensorBoardLog, "write", 3, 12),  # in the log of the last one
        (loop._Run, "_update_average", 1, 1),
    ],
)
def test_the_first_one_saves_and_stops(
    owner: Any, name: str, call: int, steps: int, undisturbed: GaussianPrior, splits: tuple[PoseDataset, ...],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = replace(QUICK, checkpoint_dir=str(tmp_path))
    with monkeypatch.context() as patched:
        _pressed_in(patched, owner, name, call)
        prior = GaussianPrior((1, 2, 4))
        result = prior.fit(splits[0], val=splits[1], config=config)
    assert result.stopped == "interrupted" and result.steps == steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (tmp_path / FILE_NAME).exists(), "no checkpoint was due before"
    resumed = GaussianPrior((1, 2, 4))
    again = resumed.fit(splits[0], val=splits[1], config=config)
    assert again.stopped == "max_steps" and [entry["step"] for entry in again.history] == [4, 8, 12]
    assert _equal(resumed, undisturbed)


def test_a_second_one_does_not_wait(
    splits: tuple[PoseDataset, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(QUICK, checkpoint_dir=str(tmp_path), checkpoint_every=5)
    _pressed_in(monkeypatch, BatchSource, "batch", 8, presses=2)
    assert GaussianPrior((1, 2, 4)).fit(splits[0], val=splits[1], config=config).stopped == "interrupted"
    monkeypatch.undo()
    assert GaussianPrior((1, 2, 4)).fit(splits[0], val=splits[1], config=config).steps == 12


def test_a_handler_of_the_users_own_stays(
    splits: tuple[PoseDataset, ...], undisturbed: GaussianPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def own(number: int, frame: Any) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, own)
    try:
        _pressed_in(monkeypatch, BatchSource, "batch", 3)
        prior = GaussianPrior((1, 2, 4))
        assert prior.fit(splits[0], val=splits[1], config=QUICK).stopped == "max_steps"
        assert signal.getsignal(signal.SIGINT) is own and seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
    assert _equal(prior, undisturbed)


# ---------------------------------------------------------------------- the command


@pytest.fixture
def data(splits: tuple[PoseDataset, ...], tmp_path: Path) -> Path:
    for name, part in zip(("train", "val"), splits, strict=True):
        write_poses(tmp_path / "data" / f"{name}_poses.npz", part)
    return tmp_path / "data"


def _command(data: Path, out: Path, *more: str) -> list[str]:
    return ["train", "gaussian", "--joints", "left_hip,right_hip", "--data", str(data), "--out", str(out), "--max-steps", "6",
            "--eval-every", "3", *more]  # fmt: skip


def test_the_command_says_so_and_leaves_the_evaluation_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import poseprior.evaluation.calibration as calibration
    import poseprior.evaluation.report as report

    def never(*_: object, **__: object) -> None:
        raise AssertionError("evaluated")

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(report, "evaluate", never)
        _pressed_in(patched, BatchSource, "batch", 4)
        assert main(_command(data, out)) == 130
    told = capsys.readouterr().out
    assert f"the best weights so far are in {out / 'prior.safetensors'}" in told
    assert f"goes on from {out / 'checkpoint'}" in told
    assert main(_command(data, out, "--no-evaluate")) == 0
    assert not (out / "metrics.json").exists()
    _pressed_in(monkeypatch, calibration, "calibrate", 1)
    assert main(_command(data, out)) == 130
    assert "interrupted in the evaluation: the prior is in" in capsys.readouterr().out
    assert main(_command(data, out)) == 0
    bars = capsys.readouterr().err
    assert all(f"evaluation: {part}" in bars for part in ("densities", "joints", "completion"))
    assert (out / "metrics.json").exists()


def test_data_that_changed_are_named(
    data: Path, splits: tuple[PoseDataset, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(_command(data, out, "--no-evaluate")) == 0
    write_poses(data / "val_poses.npz", splits[1].select(range(40)))
    assert main(_command(data, out, "--no-evaluate")) == 2
    assert "The poses of val are not those that the run began with" in capsys.readouterr().err
    write_poses(data / "train_poses.npz", splits[0].select(range(100)))
    (out / "prior.safetensors").unlink()
    assert main(_command(data, out, "--no-evaluate")) == 2
    said = capsys.readouterr().err
    assert "The poses of train and val are not those" in said and "--overwrite" in said
    assert main(_command(data, out, "--no-evaluate", "--overwrite")) == 0


# ---------------------------------------------------------------------- damage


def _changed(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    change(head)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda c: c[: len(c) // 2], "cannot be read"), (lambda c: b"", "cannot be read"), (lambda c: b"\x80\x02K\x01.", "read"),
        (lambda c: c[:-9] + bytes([c[-9] ^ 1]) + c[-8:], "does not match the digest"),
        (lambda c: _changed(c, lambda h: h["__metadata__"].pop("digest")), "cannot be read: .*digest"),
        (lambda c: _changed(c, lambda h: h["__metadata__"].update(progress="[]")), "cannot be read: progress"),
        (lambda c: _changed(c, lambda h: h.pop("__metadata__")), "cannot be read"),
    ],
)  # fmt: skip
def test_damaged_checkpoints_are_refused_with_a_way_on(
    damage: Callable[[bytes], bytes], reason: str, splits: tuple[PoseDataset, ...], tmp_path: Path
) -> None:
    config = replace(QUICK, checkpoint_dir=str(tmp_path), max_steps=4)
    GaussianPrior((1, 2, 4)).fit(splits[0], config=config)
    path = tmp_path / FILE_NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"checkpoint_dir: .*{reason}.*remove it, or give another folder") as caught:
        GaussianPrior((1, 2, 4)).fit(splits[0], config=config)
    assert len(str(caught.value)) < 1500
    assert GaussianPrior((1, 2, 4)).fit(splits[0], config=replace(config, resume=False)).steps == 4


def test_no_flipped_bit_goes_on(splits: tuple[PoseDataset, ...], tmp_path: Path) -> None:
    config = replace(QUICK, checkpoint_dir=str(tmp_path), max_steps=4)
    GaussianPrior((1, 2, 4)).fit(splits[0], config=config)
    path, generator = tmp_path / FILE_NAME, torch.Generator().manual_seed(0)
    whole = path.read_bytes()
    for place in torch.randint(len(whole), (40,), generator=generator).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            prior = GaussianPrior((1, 2, 4))
            prior.fit(splits[0], config=config)
        except ValueError as error:
            assert "checkpoint_dir: " in str(error)  # noqa: PT017
        else:
            assert path.read_bytes()[place] in (0x20, 0x24), "a blank of the padding became another one"
