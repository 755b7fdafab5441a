"""The tags that TensorBoard shows, for every family that has them, closed forms included."""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path

import pytest
import torch

import poseprior
from poseprior import FitConfig
from poseprior.io import synthetic_poses

pytest.importorskip("tensorboard")
_ALWAYS = {
    "nll/train", "nll/val", "bpd/val", "samples/mean_rad", "samples/std_rad", "samples/mean_angle_rad",
    "samples/max_angle_rad",
}  # fmt: skip
_LATENT = {"latent/mean", "latent/std", "round_trip/mse_rad2", "round_trip/max_rad"}


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize(
    ("prior", "tags"),
    [
        (poseprior.GaussianPrior("body", covariance="full"), set()),
        (poseprior.GaussianMixturePrior("body", num_components=2), set()),
        (poseprior.JointFlow("body", hidden=8), _LATENT),
        (poseprior.GlobalFlow("body", hidden=8), _LATENT),
        (poseprior.BodyVAE(latent_dim=4, hidden=8, bound_samples=2, encode_steps=2), _LATENT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, poseprior.PosePrior) else "",
)
def test_tags(prior: poseprior.PosePrior, tags: set[str], tmp_path: Path) -> None:
    data = synthetic_poses(400, seed=0)
    closed = prior.closed_form
    steps = {} if closed else {"max_steps": 2, "eval_every": 1}
    config = FitConfig(tensorboard_dir=str(tmp_path), progress=False, **steps)  # type: ignore[arg-type]
    result = prior.fit(data.select(range(300)), val=data.select(range(300, 400)), config=config)
    found = _scalars(tmp_path)
    assert set(found) == _ALWAYS | tags | (set() if closed else {"learning_rate"})
    assert [step for step, _ in found["nll/val"]] == ([0] if closed else [1, 2])
    assert min(value for _, value in found["nll/val"]) == pytest.approx(result.val_nll, rel=1e-4)
    if tags and prior.log_prob_kind == "exact":
        assert found["round_trip/mse_rad2"][-1][1] < 1e-6
        assert abs(found["latent/mean"][-1][1]) < 0.3 and 0.5 < found["latent/std"][-1][1] < 2.0
    drawn = prior.sample(4096, generator=torch.Generator().manual_seed(1))[:, list(prior.joints)]
    assert found["samples/mean_rad"][-1][1] == pytest.approx(float(drawn.mean()), abs=0.05)
    assert found["samples/std_rad"][-1][1] == pytest.approx(float(drawn.std(0).mean()), rel=0.2)


def test_a_full_disk_ends_the_curves_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    monkeypatch.setattr(threading, "excepthook", lambda failure: None)  # TensorBoard's thread tells of it, too
    written = []

    def write(self: RecordWriter, data: bytes) -> None:
        written.append(data)
        if len(written) > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", write)
    config = FitConfig(tensorboard_dir=str(tmp_path), progress=False, max_steps=4, eval_every=1)
    data = synthetic_poses(400, seed=0)
    prior = poseprior.JointFlow("body", hidden=8)
    with pytest.warns(UserWarning, match=rf"tensorboard_dir: cannot write {re.escape(str(tmp_path))}.*without") as told:
        result = prior.fit(data.select(range(300)), val=data.select(range(300, 400)), config=config)
    assert len(told) == 1 and result.val_nll is not None
