"""Bad values in Python: one clear error each, wherever a user may pass them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import poseprior
from poseprior import FitConfig, GaussianPrior, GlobalFlow, PoseDataset, latent, params, tasks
from poseprior.evaluation.report import evaluate
from poseprior.io.atomic import replacing

_POSE = torch.zeros(2, 55, 3)
_ALL = torch.ones(55, dtype=torch.bool)


def _gaussian() -> GaussianPrior:
    prior = poseprior.load("body-gaussian")
    assert isinstance(prior, GaussianPrior)
    return prior


def _flow() -> GlobalFlow:
    prior = poseprior.load("body-global-flow")
    assert isinstance(prior, GlobalFlow)
    return prior


def _conditional() -> GlobalFlow:
    return GlobalFlow((1, 2), hidden=4, context_dim=2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: _flow().decode(torch.zeros(1, 57, dtype=torch.long)), "latent: expected a floating.*got torch.int64"),
        (lambda: _flow().decode(np.zeros((1, 57))), "latent: expected a floating-point tensor.*got ndarray"),
        (lambda: _gaussian().log_prob(torch.tensor(1.0)), r"pose: expected shape .* got \(\)"),
        (lambda: _gaussian().log_prob(torch.zeros(2, 52, 3)), "pose_from_smplh takes 52 joints"),
        (lambda: _gaussian().log_prob(torch.zeros(24, 3)), "pose_from_smpl takes 24 joints"),
        (lambda: _gaussian().log_prob(torch.zeros(2, 63)), 'pose_from_smplx.*"body_pose"'),
        (lambda: _gaussian().log_prob(_POSE + 1e19), "got 1e.19 radians at left_hip of pose 0"),
        (lambda: _gaussian().log_prob(_POSE, observed=[True] * 55), "observed: expected a bool tensor .* got list"),
        (lambda: _gaussian().log_prob(_POSE, observed=np.ones(55, bool)), "observed: .* got ndarray"),
        (lambda: _gaussian().sample(2.5), r"sample_shape: expected whole sizes of 0 or more, got 2.5"),
        (lambda: _gaussian().sample("3"), "sample_shape: expected whole sizes"),
        (lambda: _gaussian().sample(True), r"sample_shape: expected whole sizes of 0 or more, got True"),
        (lambda: _gaussian().sample((2, True)), r"sample_shape: expected whole sizes of 0 or more"),
        (lambda: _gaussian().sample(10**400), r"sample_shape: expected whole sizes of 0 or more"),
        (
            lambda: _gaussian().sample(10**12),
            r"sample_shape: expected at most 10,000,000 poses a call, got 1000000000000;",
        ),
        (lambda: _gaussian().sample((10**6, 10**6)), r"sample_shape: expected at most 10,000,000 poses a call"),
        (
            lambda: _gaussian().complete(_POSE, _ALL, num_samples=10**12),
            "num_samples: expected at most 10,000,000 poses",
        ),
        (
            lambda: _gaussian().complete(_POSE, _ALL, num_samples=10**7),
            "num_samples: expected at most 10,000,000 poses",
        ),
        (
            lambda: _conditional().log_prob(_POSE, context=torch.full((2,), math.nan)),
            "context: expected finite numbers",
        ),
        (lambda: _gaussian().complete(_POSE, _ALL, num_samples=1.5), "num_samples: expected a whole number"),
        (lambda: poseprior.load(None), "path: expected a name, a file or a run folder, got NoneType"),
        (lambda: poseprior.load("body-gaussian", device="nowhere"), "device: 'nowhere' is not usable here"),
        (lambda: GaussianPrior.load("body-gaussian"), "poseprior.load takes names"),
        (lambda: latent.project(_gaussian(), _POSE), "prior: expected one with a latent space"),
        (lambda: tasks.interpolate(_gaussian(), _POSE, _POSE, 5, pull=math.nan), "pull: expected a finite number"),
        (lambda: GaussianPrior("body").fit(_POSE, config={}), "config: expected a FitConfig, got dict"),
        (lambda: params.pose_from_vector(np.zeros((2, 165))), "vector: expected a floating-point tensor"),
        (lambda: params.pose_from_joints53(np.zeros((2, 53, 3))), "joints: expected a floating-point tensor"),
        (lambda: params.pose_to_joints53(np.zeros((2, 55, 3))), "pose: expected a floating-point tensor"),
        (lambda: params.pose_from_joints53(torch.zeros(2, 53, 3), _ALL.expand(3, 55)[:, :53]), "observed: .*match"),
        (lambda: params.pose_from_smplx(None), "params: expected the keyword dict of smplx, got NoneType"),
        (lambda: evaluate(_gaussian(), PoseDataset(_POSE), jitter=-1.0), "jitter: expected a finite number of 0"),
        (lambda: evaluate(_gaussian(), PoseDataset(_POSE), max_poses=0), "max_poses: expected a whole number of 1"),
        (
            lambda: FitConfig(jitter=math.inf),
            "FitConfig.jitter: expected a finite number of 0 or more and at most 100, got inf",
        ),
        (lambda: FitConfig(max_steps=2.5), "FitConfig.max_steps: expected a whole number"),  # type: ignore[arg-type]
        (lambda: FitConfig(subject_balance=math.nan), "FitConfig.subject_balance: expected a finite number"),
        (lambda: FitConfig(seed=10**30), r"FitConfig.seed: expected a whole number of 0 or more and below 2\^63"),
    ],
)
def test_bad_values_have_clear_errors(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_refused(dtype: torch.dtype) -> None:
    prior = GlobalFlow((1, 2), hidden=4).to(dtype)
    for call in (lambda: prior.log_prob(_POSE), lambda: prior.sample(2), lambda: prior.decode(torch.zeros(1, 6))):
        with pytest.raises(ValueError, match=r"prior: its weights are torch.*16; .* call prior.float\(\)"):
            call()
    assert bool(torch.isfinite(prior.float().eval().log_prob(_POSE)).all())


def test_good_values_of_unusual_types_pass() -> None:
    prior = _gaussian()
    assert prior.sample(np.int64(3)).shape == (3, 55, 3)  # type: ignore[arg-type]
    assert prior.sample(torch.Size([2, 1])).shape == (2, 1, 55, 3)
    assert tasks.interpolate(prior, _POSE.double(), _POSE, 3).dtype == torch.float64
    assert math.isfinite(float(prior.log_prob(_POSE[0] + 1e6)))


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder.safetensors").mkdir()
    for target in (tmp_path / "file" / "p.safetensors", tmp_path / "folder.safetensors"):
        with pytest.raises(ValueError, match=f"path: cannot write {target} .*; give another place"):
            _gaussian().save(target)
    with pytest.raises(ValueError, match="cannot write"), replacing(tmp_path / "p") as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.safetensors"]
