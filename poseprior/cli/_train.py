"""`poseprior train`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import tyro

from .. import skeleton
from ..evaluation.calibration import calibrate
from ..evaluation.report import evaluate, format_table
from ..io import PoseDataset, read_poses, read_split
from ..io.atomic import write_json
from ..pretrained.loading import load
from ..prior import PosePrior
from ..recipes import Recipe, find_recipe, read_parts, record, together
from ..training import FitConfig, FitResult
from ..training.config import FitOptions
from ..training.state import ForeignCheckpointError
from ..training.tensorboard import tensorboard_installed
from . import _train_options as train_options
from ._busy import busy
from ._models import MODELS, HandVae
from ._parse import listed, nearest, parse
from ._run_config import read_config, rig_noise_of, write_config
from ._train_options import LOOP, TrainOptions

_DESCRIPTION = "\n".join(
    (
        str(TrainOptions.__doc__), "", "poseprior train MODEL --data DIR --out RUN [OPTIONS], where MODEL is one of",
        listed({name: str(kind.__doc__) for name, kind in MODELS.items()}, 15), "",
        "poseprior train MODEL --help has the model's options and defaults.",
    )
)  # fmt: skip


def parse_train(arguments: Sequence[str], prog: str) -> Train:
    """`poseprior train MODEL ...`: the model's name comes first; `--config` and `--recipe` do without."""
    word = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if word is not None and word not in MODELS:
        raise ValueError(f"train: no model {word!r}; the models are {', '.join(MODELS)}.{nearest(word, list(MODELS))}")
    later = [a for before, a in pairwise(arguments) if a in MODELS and not before.startswith("-") and before != word]
    if word is None and later:
        raise ValueError(f"train: expected the model first: {prog} {later[0]} --data ... --out ...")
    rest = arguments if word is None else arguments[1:]
    model: str | None = word
    values: dict[str, Any] = {}
    options: dict[str, Any] = {}
    config = _option(rest, "--config")
    if config is not None:
        named, values, options = read_config(Path(config))
        if word is not None and named != word:
            raise ValueError(f"--config: {config} is for {named or values.get('recipe')}, the command for {word}.")
        if _option(rest, "--recipe") is not None:
            named, options = None, {}
        model = named
    command = train_options.for_model(Train, model, options)
    start = None if config is None else command(**{"data": tyro.MISSING, "out": tyro.MISSING, **values})
    prog = prog if word is None else f"{prog} {word}"
    return parse(
        command, rest, prog=prog, default=start, hints=train_options.hints(model),
        description=_DESCRIPTION if model is None else MODELS[model].__doc__,
    )  # fmt: skip


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option, `--name VALUE` or `--name=VALUE`."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == name or argument.startswith(f"{name}="):
            return argument.partition("=")[2] or following
    return None


@dataclass(frozen=True, kw_only=True)
class Train(TrainOptions):
    """Train a prior: poses in, OUT/prior.safetensors and OUT/metrics.json out. Run again to resume."""

    def run(self) -> int:
        main_rank = _start_distributed()
        try:
            return self._train(main_rank)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def _train(self, main_rank: bool) -> int:
        recipe = self._find_recipe()
        if recipe is None:
            parts = {name: {"all": data} for name, data in _splits(self.data).items()}
        else:
            parts = read_parts(self.data, recipe.parts)
        splits = {name: together(some) for name, some in parts.items()}
        asked, prior, origin = self._plan(recipe)
        config = self._fit_config(recipe)
        options = config.resolve(prior.default_fit)
        origin["data_digest"] = splits["train"].digest()
        self._refuse_foreign_run(origin, options)
        _say(main_rank, "training on " + _describe(splits["train"]))
        if "val" in splits:
            _say(main_rank, "selecting on " + _describe(splits["val"]))
        for name in ("checkpoint", "tb"):  # a run folder always has the same rooms, also when a closed form needs none
            (self.out / name).mkdir(parents=True, exist_ok=True)
        if main_rank:
            self._write_config(options)
            if not tensorboard_installed():
                print('no curves in tb/: TensorBoard is not installed; pip install "poseprior[train]"')
        result = self._fit(prior, splits, config)
        if not main_rank:
            return 0
        prior.metadata["recipe"] = origin
        prior.metadata["licence"] = self.licence or "unspecified"
        prior.metadata["training"]["config"] = _reproducible(options)
        prior.save(self.out / "prior.safetensors")  # once more below, with its numbers: they take a while, and can fail
        if result.stopped == "closed_form":
            print(f"fitted in closed form, {result.seconds:.0f} s")
        else:
            print(f"stopped: {result.stopped} after {result.steps} steps, {result.seconds:.0f} s")
            print(f"kept the weights of step {result.best_step}")
        if result.stopped == "interrupted":
            print(
                f"interrupted: the best weights so far are in {self.out / 'prior.safetensors'}, without numbers; the same"
            )
            print("command goes on from the last checkpoint")
            return 130
        if not self.evaluate:
            self._summary()
            return 0
        if "val" in splits:
            with busy("calibrating percentiles on val"):
                prior.metadata["calibration"] = calibrate(
                    prior, splits["val"], rig_noise=options.rig_noise, jitter=options.jitter, seed=options.seed
                ).to_dict()
        if recipe is not None:
            record(prior, recipe, parts, licence=self.licence)
        held_out = "test" if "test" in splits else "val" if "val" in splits else "train"
        metrics = {
            part: {"split": held_out, **evaluate(prior, data, jitter=options.jitter, seed=options.seed, progress=True)}
            for part, data in parts[held_out].items()
        }
        if recipe is None:
            metrics = metrics["all"]
            prior.metadata["metrics"] = {k: metrics[k] for k in ("split", "nll", "nll_rotvec", "bpd", "jitter")}
        prior.save(self.out / "prior.safetensors")
        write_json(self.out / "metrics.json", metrics)
        missing = set(asked) - set(prior.joints)
        if missing:
            names = ", ".join(skeleton.JOINT_NAMES[j] for j in sorted(missing))
            print(f"not modelled, since no training pose observes them: {names}")
        if held_out == "train":
            print("the numbers below are on the TRAINING poses: there is no val or test split, nothing is held out")
        for part, table in (metrics if recipe is not None else {"": metrics}).items():
            print(f"on {held_out}{f' ({part})' if part else ''}:\n{format_table(table)}")
        self._summary()
        return 0

    def _summary(self) -> None:
        print(f"prior: {self.out / 'prior.safetensors'}")
        if self.evaluate:
            print(f"numbers: {self.out / 'metrics.json'}")
        print(
            f"options: {self.out / 'config.toml'} (poseprior train --config {self.out / 'config.toml'} repeats the run)"
        )
        if any((self.out / "tb").iterdir()):
            print(f"curves: tensorboard --logdir {self.out / 'tb'}")

    def _write_config(self, options: FitOptions) -> None:
        """Everything that decided the run, whoever decided it."""
        values = {name: getattr(self, name) for name in train_options.names()}
        values |= {name: getattr(options, name) for name in LOOP}
        if options.rig_noise is not None and (self.rig_noise or "").endswith(".json"):
            values["rig_noise"] = asdict(options.rig_noise)
        if self.model is not None:
            values["joints"] = self._joints()
        write_config(self.out / "config.toml", values, model=self.model)

    def _joints(self) -> str:
        return self.joints or ("hands" if isinstance(self.model, HandVae) else "body")

    def _fit(self, prior: PosePrior, splits: dict[str, PoseDataset], config: FitConfig) -> FitResult:
        try:
            return prior.fit(splits["train"], val=splits.get("val"), config=config)
        except ForeignCheckpointError:
            if not self.overwrite:
                raise
            return prior.fit(splits["train"], val=splits.get("val"), config=replace(config, resume=False))

    def _find_recipe(self) -> Recipe | None:
        if (self.model is None) == (self.recipe is None):
            raise ValueError(
                "train: expected a model (gaussian, joint-flow, ...; see --help) or --recipe NAME, one of them."
            )
        if self.recipe is None:
            return None
        if self.joints is not None:
            raise ValueError(
                "--joints: a recipe says which joints; leave it out, or name a model in place of --recipe."
            )
        return find_recipe(self.recipe)

    def _plan(self, recipe: Recipe | None) -> tuple[tuple[int, ...], PosePrior, dict[str, Any]]:
        """The joints asked for, the unfitted prior, and how it is made, in words that go into the file."""
        if recipe is not None:
            asked = skeleton.resolve_joints(recipe.joints)
            made = {"name": recipe.name, "model": recipe.prior.__name__, "options": dict(recipe.options)}
            return asked, recipe.build(), {**made, "joints": recipe.joints}
        assert self.model is not None
        joints = self._joints()
        asked = skeleton.resolve_joints(joints)
        prior = self.model.build(asked)
        made = {"model": self.model.name(), "options": self.model.settled(), "joints": joints}
        return asked, prior, made

    def _fit_config(self, recipe: Recipe | None) -> FitConfig:
        start = FitConfig() if recipe is None else recipe.fit_config()
        given = {name: getattr(self, name) for name in LOOP if getattr(self, name) is not None}
        if self.rig_noise is not None:
            given["rig_noise"] = rig_noise_of(self.rig_noise)
        return replace(
            start, **given, device=self.device, checkpoint_dir=str(self.out / "checkpoint"),
            tensorboard_dir=str(self.out / "tb"),
        )  # fmt: skip

    def _refuse_foreign_run(self, origin: dict[str, Any], options: FitOptions) -> None:
        path = self.out / "prior.safetensors"
        if not path.exists() or self.overwrite:
            return
        metadata = load(path).metadata
        found = {**(metadata.get("recipe") or {}), **_weighty(metadata.get("training", {}).get("config", {}))}
        asked = json.loads(json.dumps({**origin, **_weighty(_reproducible(options))}))
        differing = [name for name in sorted({*found, *asked}) if found.get(name) != asked.get(name)]
        if differing:
            listed = "; ".join(f"{name} was {found.get(name)!r}, is {asked.get(name)!r}" for name in differing)
            raise ValueError(
                f"--out: {path} already holds another prior: {listed}. Give another folder, or --overwrite to replace it."
            )


def _reproducible(options: FitOptions) -> dict[str, Any]:
    """The options that decide the weights."""
    places = ("checkpoint_dir", "checkpoint_every", "resume", "tensorboard_dir", "device", "progress")
    return {name: value for name, value in asdict(options).items() if name not in places}


def _weighty(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the loop that a run must share with the one it goes on from: all but how long it is."""
    kept = {name: value for name, value in options.items() if name not in ("max_steps", "minutes", "patience")}
    return {**kept, "closed form": options.get("max_steps") == 0}


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
