"""The `poseprior` command: train, evaluate, sample, info. Thin: every command is one call into the library."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from . import __version__, load, skeleton
from .io import PoseDataset, read_poses, read_split, write_poses
from .io.atomic import replacing
from .models import GaussianMixturePrior, GaussianPrior
from .prior import PosePrior
from .training import FitConfig
from .training.evaluation import evaluate, format_table


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian around each joint's mean rotation: the baseline."""

    covariance: Literal["diagonal", "full"] = "diagonal"
    """diagonal, or full over all joints."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        return GaussianPrior(joints, covariance=self.covariance)


@dataclass(frozen=True)
class Mixture:
    """A mixture of full-covariance Gaussians (the SMPLify family)."""

    num_components: int = 8
    """Number of Gaussians."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        return GaussianMixturePrior(joints, num_components=self.num_components)


Model = Annotated[Gaussian, tyro.conf.subcommand("gaussian")] | Annotated[Mixture, tyro.conf.subcommand("mixture")]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a prior: poses in, RUN/prior.safetensors and RUN/metrics.json out. Run again to resume."""

    model: Model
    """Which prior."""
    data: Path
    """Folder with train_poses.npz, val_poses.npz, test_poses.npz (or any .npz files), or one file."""
    out: Path
    """Run folder: prior.safetensors, metrics.json, checkpoint/, tb/."""
    joints: str = "body"
    """body, hands, left_hand, right_hand, whole_body (all but root and eyes), all, or joint names with commas."""
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

    def run(self) -> None:
        main_rank = _start_distributed()
        try:
            self._train(main_rank)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def _train(self, main_rank: bool) -> None:
        splits = _splits(self.data)
        prior = self.model.build(skeleton.resolve_joints(self.joints))
        config = self._fit_config(prior)
        recipe = {
            "model": type(self.model).__name__, "options": asdict(self.model), "joints": self.joints,
            "data_digest": splits["train"].digest(),
        }  # fmt: skip
        self._refuse_foreign_run(recipe)
        _say(main_rank, "training on " + _describe(splits["train"]))
        if "val" in splits:
            _say(main_rank, "selecting on " + _describe(splits["val"]))
        result = prior.fit(splits["train"], val=splits.get("val"), config=config)
        if not main_rank:
            return
        prior.metadata["recipe"] = recipe
        prior.metadata["licence"] = self.licence
        held_out = "test" if "test" in splits else "val" if "val" in splits else "train"
        metrics = {"split": held_out, **evaluate(prior, splits[held_out], jitter=config.jitter, seed=self.seed)}
        prior.metadata["metrics"] = {k: metrics[k] for k in ("split", "nll", "nll_rotvec", "bpd", "jitter")}
        prior.save(self.out / "prior.safetensors")
        _write_json(self.out / "metrics.json", metrics)
        missing = set(skeleton.resolve_joints(self.joints)) - set(prior.joints)
        if missing:
            names = ", ".join(skeleton.JOINT_NAMES[j] for j in sorted(missing))
            print(f"not modelled, since no training pose observes them: {names}")
        print(f"stopped: {result.stopped} after {result.steps} steps, {result.seconds:.0f} s; kept step {result.best_step}")
        if held_out == "train":
            print("the numbers below are on the TRAINING poses: there is no val or test split, nothing is held out")
        print(f"on {held_out}:\n{format_table(metrics)}")
        print(f"results: {self.out / 'prior.safetensors'}, {self.out / 'metrics.json'}")
        if result.stopped == "interrupted":
            print("interrupted: the same command goes on from the last checkpoint")

    def _fit_config(self, prior: PosePrior) -> FitConfig:
        names = (
            "minutes max_steps batch_size learning_rate weight_decay patience jitter mirror subject_balance eval_every "
            "checkpoint_every"
        ).split()
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
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


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score held-out poses and compare the prior's samples with them."""

    prior: tyro.conf.Positional[Path]
    """A .safetensors file or a run folder."""
    data: Path
    """An .npz file, or a folder (its test split is taken when it has one)."""
    json: Path | None = None
    """Write the numbers here."""
    jitter: float = 0.02
    """Tangent noise added to the poses, radians; every NLL depends on it."""
    num_samples: int = 3000
    """Poses to sample for the sample metrics; 0 leaves them out."""
    num_completed: int = 1000
    """Poses to complete for each hidden part; 0 leaves that out."""
    max_poses: int | None = None
    """Score a random subset of at most this many."""
    seed: int = 0
    """Of jitter, samples and subsets."""
    device: str = "cpu"
    """Where to compute."""

    def run(self) -> None:
        prior = load(self.prior, device=self.device)
        data = _held_out(self.data)
        result = evaluate(
            prior, data, jitter=self.jitter, seed=self.seed, num_samples=self.num_samples,
            num_completed=self.num_completed, max_poses=self.max_poses,
        )  # fmt: skip
        print(format_table(result))
        if self.json is not None:
            _write_json(self.json, result)
            print(f"results: {self.json}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw poses into an .npz file that AMASS and SMPL-X readers take, and optionally a picture."""

    prior: tyro.conf.Positional[Path]
    """A .safetensors file or a run folder."""
    num: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 24
    """How many."""
    out: Path
    """The .npz to write: poses (n, 55, 3) rotvecs, observed (n, 55)."""
    png: Path | None = None
    """Draw them here."""
    seed: int = 0
    """Of the draws."""
    device: str = "cpu"
    """Where to compute."""

    def run(self) -> None:
        if self.num < 1:
            raise ValueError(f"--num: expected 1 or more, got {self.num}.")
        prior = load(self.prior, device=self.device)
        generator = torch.Generator(device=prior.device).manual_seed(self.seed)
        poses = prior.sample(self.num, generator=generator).cpu()
        observed = torch.zeros(poses.shape[:-1], dtype=torch.bool)
        observed[:, list(prior.joints)] = True
        write_poses(self.out, poses, observed=observed)
        print(f"results: {self.out}")
        if self.png is not None:
            from .viz import plot_poses

            plot_poses(poses, joints=prior.joints, path=self.png)
            print(f"picture: {self.png}")


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a prior's file holds: class, joints, options, training, metrics, licence."""

    prior: tyro.conf.Positional[Path]
    """A .safetensors file or a run folder."""

    def run(self) -> None:
        prior = load(self.prior)
        left_out = [name for j, name in enumerate(skeleton.JOINT_NAMES) if j not in prior.joints]
        print(f"{type(prior).__name__}, {prior.num_parameters:,} parameters, log_prob is {prior.log_prob_kind}")
        print(f"models {len(prior.joints)} joints: {', '.join(skeleton.JOINT_NAMES[j] for j in prior.joints)}")
        print(f"does not model: {', '.join(left_out) or 'nothing is left out'}")
        for name, value in {"config": prior.get_config(), **prior.metadata}.items():
            print(f"{name}: {json.dumps(value)}")


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Info, tyro.conf.subcommand("info")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (0 done, 2 bad input, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"poseprior {__version__}")
        return 0
    command: Any = tyro.cli(
        Command,
        args=arguments,
        prog="poseprior",
        description="Pose priors for SMPL-X bodies and hands.",
        config=(tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    try:
        command.run()
    except ValueError as error:
        print(f"poseprior: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("poseprior: interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    return 0


def _start_distributed() -> bool:
    """Join the process group when torchrun started us; whether this process is the one that speaks and writes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _splits(path: Path) -> dict[str, PoseDataset]:
    """Train and, where the files have them, val and test; a lone file or an unsplit folder is all train."""
    splits = read_split(path) if path.is_dir() else {"train": read_poses(path)}
    if "train" not in splits:
        raise ValueError(f"--data: {path} has no train split (found: {', '.join(splits)}); name a file train_poses.npz.")
    return splits


def _held_out(path: Path) -> PoseDataset:
    if path.is_dir():
        splits = read_split(path)
        return splits.get("test") or splits.get("val") or read_poses(path)
    return read_poses(path)


def _describe(data: PoseDataset) -> str:
    return f"{len(data):,} poses of {data.num_subjects or 'unknown'} subjects"


def _say(main_rank: bool, text: str) -> None:
    if main_rank:
        print(text, flush=True)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
