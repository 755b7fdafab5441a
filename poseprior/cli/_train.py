"""`poseprior train`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _train_options as train_options
from ._busy import busy
from ._calibrate import add_percentiles, how_to_calibrate
from ._common import reading, say_notes
from ._models import Global, HandVae
from ._other_run import refuse_another_run, reproducible
from ._run_config import rig_noise_of, write_config
from ._train_options import LOOP, TrainOptions

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..io import PoseDataset
    from ..prior import PosePrior
    from ..recipes import Recipe
    from ..training import FitConfig, FitResult
    from ..training.config import FitOptions


@dataclass(frozen=True, kw_only=True)
class Train(TrainOptions):
    """Train a prior: poses in, OUT/prior.safetensors and OUT/metrics.json out. Run again to resume."""

    def run(self) -> int:
        import torch

        main_rank = _start_distributed()
        try:
            return self._train(main_rank)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def _train(self, main_rank: bool) -> int:
        from .. import skeleton
        from ..evaluation.report import format_table
        from ..recipes import read_parts, together
        from ..training.tensorboard import tensorboard_installed

        if self.out.exists() and not self.out.is_dir():
            raise ValueError(
                f"--out: expected a folder for the run, got {self.out}, which is a file; choose another name."
            )
        recipe = self._find_recipe()
        with reading(self.data, "--data"), busy(f"reading {self.data}"):
            if recipe is None:
                parts = {name: {"all": data} for name, data in _splits(self.data, self.context).items()}
            else:
                parts = read_parts(self.data, recipe.parts)
        splits = {name: together(some) for name, some in parts.items()}
        if main_rank:
            say_notes(*(data for some in parts.values() for data in some.values()))
        asked, prior, origin = self._plan(recipe, splits["train"].context_dim)
        config, options, unread = self._fit_config(recipe, prior, splits)
        origin["data_digest"] = splits["train"].digest()
        if not self.overwrite:
            refuse_another_run(self.out / "prior.safetensors", origin, options)
        _say(main_rank, "training on " + _describe(splits["train"]))
        if "val" in splits:
            _say(main_rank, "selecting on " + _describe(splits["val"]))
        for name in ("checkpoint", "tb"):  # a run folder always has the same rooms, also when a closed form needs none
            (self.out / name).mkdir(parents=True, exist_ok=True)
        if main_rank:
            self._write_config(options, unread)
            if not tensorboard_installed():
                print('no curves in tb/: TensorBoard is not installed; pip install "poseprior[train]"')
        # Steps have a bar of their own. So has EM, but not what is done before and after it.
        with busy("fitting in closed form") if _is_closed_form(options) else contextlib.nullcontext():
            result = self._fit(prior, splits, config)
        if not main_rank:
            return 0
        prior.metadata["recipe"] = origin
        prior.metadata["licence"] = self.licence or "unspecified"
        prior.metadata["training"]["config"] = reproducible(options)
        prior.save(self.out / "prior.safetensors")  # once more below, with its numbers: they take a while, and can fail
        if result.stopped == "closed_form":
            print(f"fitted in closed form, {result.seconds:.0f} s")
        else:
            print(f"stopped: {result.stopped} after {result.steps} steps, {result.seconds:.0f} s")
            print(f"kept the weights of step {result.best_step}")
        if result.loading_share is not None:
            print(f"making batches took {100 * result.loading_share:.0f} % of the steps' time")
        if result.stopped == "interrupted":
            print(
                f"interrupted: the best weights so far are in {self.out / 'prior.safetensors'}, without numbers; the same "
                f"command goes on from {self.out / 'checkpoint'}"
            )
            return 130
        if not self.evaluate:
            self._summary()
            if "val" in splits:
                print(
                    f"percentiles: the prior holds none among held-out people yet; {self._how_to_calibrate()} adds them"
                )
            return 0
        try:
            metrics, held_out = self._measure(prior, recipe, parts, splits, options)
        except KeyboardInterrupt:
            print(
                f"interrupted in the evaluation: the prior is in {self.out / 'prior.safetensors'}, without numbers; the same "
                "command measures it again, poseprior evaluate too"
            )
            return 130
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
        print(f"options: {self.out / 'config.toml'}, which train --config takes")
        if any((self.out / "tb").iterdir()):
            print(f"curves: tensorboard --logdir {self.out / 'tb'}")

    def _how_to_calibrate(self) -> str:
        """What adds the percentiles that a training without an evaluation leaves out."""
        if self.recipe is not None or self.context is not None:  # evaluate reads neither parts nor contexts
            return "the same command without --no-evaluate"
        return how_to_calibrate(self.out, self.data)

    def _write_config(self, options: FitOptions, unread: Collection[str]) -> None:
        """Everything that decided the run, whoever decided it, without the options that it did not read."""
        values = {name: getattr(self, name) for name in train_options.names() if name not in unread}
        values |= {name: getattr(options, name) for name in LOOP if name not in unread}
        if options.rig_noise is not None and (self.rig_noise or "").endswith((".json", ".toml")):
            values["rig_noise"] = asdict(options.rig_noise)
        if self.model is not None:
            values["joints"] = self._joints()
        write_config(self.out / "config.toml", values, model=self.model)

    def _joints(self) -> str:
        return self.joints or ("hands" if isinstance(self.model, HandVae) else "body")

    def _measure(
        self,
        prior: PosePrior,
        recipe: Recipe | None,
        parts: dict[str, dict[str, PoseDataset]],
        splits: dict[str, PoseDataset],
        options: FitOptions,
    ) -> tuple[dict[str, Any], str]:
        """Calibrate and evaluate the prior, and save it with its numbers; these, and the split they are of."""
        from ..evaluation.report import evaluate
        from ..io.atomic import write_json
        from ..recipes import record

        progress = options.progress
        if "val" in splits:
            add_percentiles(prior, splits["val"], progress=progress)
        if recipe is not None:
            record(prior, recipe, parts, licence=self.licence)
        held_out = "test" if "test" in splits else "val" if "val" in splits else "train"
        metrics = {
            part: {
                "split": held_out,
                **evaluate(prior, data, jitter=options.jitter, seed=options.seed, progress=progress),
            }
            for part, data in parts[held_out].items()
        }
        if recipe is None:
            metrics = metrics["all"]
            prior.metadata["metrics"] = {k: metrics[k] for k in ("split", "nll", "nll_rotvec", "bpd", "jitter")}
        prior.save(self.out / "prior.safetensors")
        write_json(self.out / "metrics.json", metrics)
        return metrics, held_out

    def _fit(self, prior: PosePrior, splits: dict[str, PoseDataset], config: FitConfig) -> FitResult:
        from ..training.state import CheckpointError

        try:
            return prior.fit(splits["train"], val=splits.get("val"), config=config)
        except CheckpointError:
            if not self.overwrite:
                raise
            return prior.fit(splits["train"], val=splits.get("val"), config=replace(config, resume=False))

    def _find_recipe(self) -> Recipe | None:
        from ..recipes import find_recipe

        if (self.model is None) == (self.recipe is None):
            raise ValueError(
                "train: expected a model (gaussian, joint-flow, ...; see --help) or --recipe NAME, one of them."
            )
        if self.context is not None and not isinstance(self.model, Global):
            what = f"--recipe {self.recipe}" if self.model is None else type(self.model).__name__
            raise ValueError(f"--context: only global-flow takes a context, got {what}; leave it out.")
        if self.recipe is None:
            return None
        if self.joints is not None:
            raise ValueError(
                "--joints: a recipe says which joints; leave it out, or name a model in place of --recipe."
            )
        return find_recipe(self.recipe)

    def _plan(self, recipe: Recipe | None, context_dim: int) -> tuple[tuple[int, ...], PosePrior, dict[str, Any]]:
        """The joints asked for, the unfitted prior, and how it is made, in words that go into the file."""
        from .. import skeleton

        if recipe is not None:
            asked = skeleton.resolve_joints(recipe.joints)
            made = {"name": recipe.name, "model": recipe.prior.__name__, "options": dict(recipe.options)}
            return asked, recipe.build(), {**made, "joints": recipe.joints}
        assert self.model is not None
        joints = self._joints()
        asked = skeleton.resolve_joints(joints)
        made = {"model": self.model.name(), "options": self.model.settled(), "joints": joints}
        if isinstance(self.model, Global) and self.context is not None:
            return asked, self.model.build(asked, context_dim=context_dim), {**made, "context": self.context}
        return asked, self.model.build(asked), made

    def _fit_config(
        self, recipe: Recipe | None, prior: PosePrior, splits: dict[str, PoseDataset]
    ) -> tuple[FitConfig, FitOptions, Collection[str]]:
        """How to train, with every option settled, and the names of the options that this training does not read."""
        from ..training import FitConfig
        from ..training.fit import fit_defaults
        from ..training.tensorboard import tensorboard_installed
        from ..training.unread import refuse_unread, unread_fields

        given = {name: getattr(self, name) for name in LOOP if getattr(self, name) is not None}
        if self.rig_noise is not None:
            given["rig_noise"] = rig_noise_of(self.rig_noise)
        places: dict[str, Any] = {"checkpoint_dir": str(self.out / "checkpoint")}
        if tensorboard_installed():
            places["tensorboard_dir"] = str(self.out / "tb")
        start = FitConfig() if recipe is None else recipe.fit_config()
        config = replace(start, **given, **places, device=self.device)
        defaults = fit_defaults(prior)
        unread = unread_fields(prior, splits.get("val"), config.resolve(defaults))
        refuse_unread(FitConfig(**given), unread, defaults)
        # A recipe, and the folder of a run, serve trainings that read them and others.
        config = replace(config, **dict.fromkeys(unread))
        return config, config.resolve(defaults), unread


def _is_closed_form(options: FitOptions) -> bool:
    return options.max_steps == 0 and options.progress


def _start_distributed() -> bool:
    """Join the process group when torchrun started us; whether this process is the one that speaks and writes."""
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _splits(path: Path, context: str | None) -> dict[str, PoseDataset]:
    """Train and, where the files have them, val and test; a lone file or an unsplit folder is all train."""
    from ..io import read_poses, read_split

    splits = read_split(path, context=context) if path.is_dir() else {"train": read_poses(path, context=context)}
    if "train" not in splits:
        found = ", ".join(splits)
        raise ValueError(f"--data: {path} has no train split (found: {found}); name a file train_poses.npz.")
    return splits


def _describe(data: PoseDataset) -> str:
    return f"{len(data):,} poses of {data.num_subjects or 'unknown'} subjects"


def _say(main_rank: bool, text: str) -> None:
    if main_rank:
        print(text, flush=True)
