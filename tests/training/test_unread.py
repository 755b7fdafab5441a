"""Fields of `FitConfig` that a training does not read are refused, unless they have the value that holds anyway."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from prior_cases import CASES

from poseprior import (
    FitConfig,
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    JointFlow,
    PoseDataset,
    PosePrior,
    RigNoise,
)
from poseprior.training import start_from
from poseprior.training import tensorboard as curves
from poseprior.training.config import FitOptions

#: Other values than the defaults, of the fields that only steps read.
OF_STEPS: dict[str, Any] = {
    "batch_size": 7, "learning_rate": 0.5, "weight_decay": 0.5, "warmup_steps": 7, "final_lr_fraction": 0.5,
    "clip_grad_norm": 7.0, "ema_decay": 0.5, "eval_every": 7, "patience": 7, "checkpoint_every": 7,
    "checkpoint_dir": "somewhere",
}  # fmt: skip
HANDS = RigNoise(child_frame={"left_index1": [[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]]})


def _poses(count: int = 60) -> PoseDataset:
    """Small random poses."""
    return PoseDataset(0.2 * torch.randn(count, 55, 3, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", OF_STEPS)
@pytest.mark.parametrize("kind", [GaussianPrior, GaussianMixturePrior])
def test_closed_forms_refuse_fields_that_only_steps_read(kind: type[PosePrior], name: str) -> None:
    prior = kind((16, 18, 20), **({"num_components": 2} if kind is GaussianMixturePrior else {}))
    with pytest.raises(
        ValueError, match=rf"FitConfig.{name}: training takes no steps .* leave it out, or give max_steps"
    ):
        prior.fit(_poses(), val=_poses(), config=FitConfig(**{name: OF_STEPS[name]}))
    assert not prior.fitted


def test_the_values_that_hold_anyway_pass() -> None:
    usual = FitConfig().resolve(GaussianPrior.default_fit)
    whole = FitConfig(**{field.name: getattr(usual, field.name) for field in fields(FitOptions)})
    GaussianPrior((16, 18, 20)).fit(_poses(), config=replace(whole, progress=False))
    off = FitConfig(weight_decay=0.0, warmup_steps=0, clip_grad_norm=0.0, ema_decay=0.0, patience=0, progress=False)
    GaussianPrior((16, 18, 20)).fit(_poses(), config=off)  # what 0 switches off
    same_for_all = FitConfig(max_steps=0, eval_every=20, batch_size=8, learning_rate=0.1, progress=False)
    GaussianPrior((16, 18, 20)).fit(_poses(), config=same_for_all)  # max_steps=0 says that there are no steps
    quiet = FitConfig(max_steps=1, batch_size=8, patience=0, progress=False)
    JointFlow((16, 18, 20), hidden=4).fit(_poses(), config=quiet)  # its own patience is not 0


def test_the_remedies_work(tmp_path: Path) -> None:
    config = FitConfig(**{**OF_STEPS, "checkpoint_dir": str(tmp_path), "max_steps": 2, "progress": False})
    assert GaussianPrior((16, 18, 20)).fit(_poses(), val=_poses(), config=config).steps == 2
    assert (tmp_path / "state.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"patience": 3}, "there are no validation poses"),
        ({"max_val_poses": 3}, "there are no validation poses"),
        ({"rig_noise": HANDS}, "it moves none of the prior's joints"),
    ],
)
def test_fields_that_need_something_else(given: dict[str, Any], text: str) -> None:
    (name, _) = next(iter(given.items()))
    prior = GlobalFlow((16, 18, 20), hidden=4)
    with pytest.raises(ValueError, match=rf"FitConfig.{name}: {text}, so .* would have no effect; leave it out, or "):
        prior.fit(_poses(), config=FitConfig(max_steps=1, **given))
    remedy = {"rig_noise": RigNoise.estimated()} if name == "rig_noise" else {}
    prior.fit(_poses(), val=_poses(), config=FitConfig(**{"max_steps": 1, "progress": False, **given, **remedy}))


def test_a_closed_form_measures_its_training_poses_on_so_many() -> None:
    """`max_val_poses` is read without validation poses there."""
    few = GaussianPrior((16, 18, 20)).fit(_poses(), config=FitConfig(max_val_poses=5, progress=False)).train_nll
    all_of_them = GaussianPrior((16, 18, 20)).fit(_poses(), config=FitConfig(progress=False)).train_nll
    assert few != all_of_them


def test_a_prior_without_parameters_takes_no_steps() -> None:
    prior = CASES["kernel-density"].build((16, 18))
    with pytest.raises(
        ValueError, match=r"FitConfig.max_steps: KernelDensity has no parameters that steps could train"
    ):
        prior.fit(_poses(), config=FitConfig(max_steps=3))


def test_all_fields_are_named_at_once() -> None:
    config = FitConfig(learning_rate=0.5, ema_decay=0.5, rig_noise=HANDS)
    with pytest.raises(ValueError, match="no effect") as refusal:
        GaussianMixturePrior((16, 18, 20), num_components=2).fit(_poses(), config=config)
    text = str(refusal.value)
    assert "FitConfig.learning_rate, FitConfig.ema_decay: training takes no steps" in text
    assert "so 0.5, 0.5 would have no effect; leave them out, or give max_steps above 0 too." in text
    assert "FitConfig.rig_noise: it moves none of the prior's joints, so it would have no effect" in text


def test_loops_of_ones_own_may_share_a_configuration() -> None:
    """`start_from` reads what comes before the first step; the steps of the caller read the rest."""
    start_from(GaussianPrior((16, 18, 20)), _poses(), config=FitConfig(learning_rate=0.5))


def test_curves_need_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'tensorboard_dir: needs tensorboard, .* pip install "poseprior\[train\]"'):
        GaussianPrior((16, 18, 20)).fit(_poses(), config=FitConfig(tensorboard_dir=str(tmp_path)))
