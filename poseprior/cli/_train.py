"""`poseprior train`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import skeleton
from ..io import PoseDataset, read_poses, read_split
from ..io.pretrained import load
from ..prior import PosePrior
from ..training import FitConfig
from ..training.evaluation import evaluate, format_table
from ._common import write_json
from ._models import HandVae, Model

#: Flags that, when given, replace the model's own `default_fit`.
_FIT_OPTIONS = (
    "minutes", "max_steps", "batch_size", "learning_rate", "weight_decay", "patience", "jitter", "mirror",
    "subject_balance", "eval_every", "checkpoint_every",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a prior: poses in, RUN/prior.safetensors and RUN/metrics.json out. Run again to resume."""

    model: Model
    """Which prior."""
    data: Path
    """Folder with train_poses.npz, val_poses.npz, test_poses.npz (or any .npz files), or one file."""
    out: Path
    """Run folder: prior.safetensors, metrics.json, checkpoint/, tb/."""
    joints: str | None = None
    """body, hands, left_hand, right_hand, whole_body (all but root and eyes), all, or joint names with commas. Default:
    hands for hand-vae, body for the others."""
    minutes: float | None = None
    """Wall-clock budget over all resumed runs."""
    max_steps: int | None = None
    """Optimiser steps; 0 is the closed form, where the model has one. Default: the model's own."""
    batch_size: int | None = None
    """Poses a step, over all processes."""
    learning_rate: float | None = None
    """Peak learning rate."""
    weight_decay: float | None = None
    """AdamW's weight decay of matrices."""
    patience: int | None = None
    """Stop after this many validations without a new best; 0 never."""
    jitter: float | None = None
    """Tangent noise on every pose, radians."""
    mirror: bool | None = None
    """Reflect half of the training poses."""
    subject_balance: float | None = None
    """0 draws frames evenly, 1 draws subjects evenly."""
    eval_every: int | None = None
    """Steps between validations."""
    checkpoint_every: int | None = None
    """Steps between checkpoints."""
    seed: int = 0
    """Of everything random."""
    device: str | None = None
    """cpu, cuda, ...; default: the GPU when there is one."""
    licence: str = "unspecified"
    """Licence of the weights, kept in the file."""
    overwrite: bool = False
    """Replace a different prior that already stands in the run folder."""

    @property
    def _joints(self) -> str:
        if self.joints is not None:
            return self.joints
        return "hands" if isinstance(self.model, HandVae) else "body"

    def run(self) -> None:
        main_rank = _start_distributed()
        try:
            self._train(main_rank)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def _train(self, main_rank: bool) -> None:
        splits = _splits(self.data)
        prior = self.model.build(skeleton.resolve_joints(self._joints))
        config = self._fit_config(prior)
        recipe = {
            "model": type(self.model).__name__, "options": asdict(self.model), "joints": self._joints,
            "data_digest": splits["train"].digest(),
        }  # fmt: skip
        self._refuse_foreign_run(recipe)
        _say(main_rank, "training on " + _describe(splits["train"]))
        if "val" in splits:
            _say(main_rank, "selecting on " + _describe(splits["val"]))
        for name in (
            "checkpoint",
            "tb",
        ):  # the run folder always has the same rooms, also when a closed form leaves them empty
            (self.out / name).mkdir(parents=True, exist_ok=True)
        result = prior.fit(splits["train"], val=splits.get("val"), config=config)
        if not main_rank:
            return
        prior.metadata["recipe"] = recipe
        prior.metadata["licence"] = self.licence
        held_out = "test" if "test" in splits else "val" if "val" in splits else "train"
        metrics = {"split": held_out, **evaluate(prior, splits[held_out], jitter=config.jitter, seed=self.seed)}
        prior.metadata["metrics"] = {k: metrics[k] for k in ("split", "nll", "nll_rotvec", "bpd", "jitter")}
        prior.save(self.out / "prior.safetensors")
        write_json(self.out / "metrics.json", metrics)
        missing = set(skeleton.resolve_joints(self._joints)) - set(prior.joints)
        if missing:
            names = ", ".join(skeleton.JOINT_NAMES[j] for j in sorted(missing))
            print(f"not modelled, since no training pose observes them: {names}")
        print(f"stopped: {result.stopped} after {result.steps} steps, {result.seconds:.0f} s")
        print(f"kept the weights of step {result.best_step}")
        if held_out == "train":
            print("the numbers below are on the TRAINING poses: there is no val or test split, nothing is held out")
        print(f"on {held_out}:\n{format_table(metrics)}")
        print(f"results: {self.out / 'prior.safetensors'}, {self.out / 'metrics.json'}")
        if result.stopped == "interrupted":
            print("interrupted: the same command goes on from the last checkpoint")

    def _fit_config(self, prior: PosePrior) -> FitConfig:
        given = {name: getattr(self, name) for name in _FIT_OPTIONS if getattr(self, name) is not None}
        return replace(
            prior.default_fit, **given, seed=self.seed, device=self.device,
            checkpoint_dir=str(self.out / "checkpoint"), tensorboard_dir=str(self.out / "tb"),
        )  # fmt: skip

    def _refuse_foreign_run(self, recipe: dict[str, Any]) -> None:
        path = self.out / "prior.safetensors"
        if path.exists() and not self.overwrite:
            found = load(path).metadata.get("recipe")
            if found != json.loads(json.dumps(recipe)):
                raise ValueError(
                    f"--out: {path} already holds another prior (trained as {found}); give another folder, or "
                    "--overwrite to replace it."
                )


def _start_distributed() -> bool:
    """Join the process group when torchrun started us; whether this process is the one that speaks and writes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _splits(path: Path) -> dict[str, PoseDataset]:
    """Train and, where the files have them, val and test; a lone file or an unsplit folder is all train."""
    splits = read_split(path) if path.is_dir() else {"train": read_poses(path)}
    if "train" not in splits:
        found = ", ".join(splits)
        raise ValueError(f"--data: {path} has no train split (found: {found}); name a file train_poses.npz.")
    return splits


def _describe(data: PoseDataset) -> str:
    return f"{len(data):,} poses of {data.num_subjects or 'unknown'} subjects"


def _say(main_rank: bool, text: str) -> None:
    if main_rank:
        print(text, flush=True)
