"""`poseprior train`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._models import Global, HandVae, OptionalModel
from ._training import describe, read_rig_noise, read_splits, reproducible, say, start_distributed, weighty

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..io import PoseDataset
    from ..prior import PosePrior
    from ..recipes import Recipe
    from ..training import FitConfig, FitResult
    from ..training.config import FitOptions

#: Flags that, when given, replace the model's or the recipe's own options.
_FIT_OPTIONS = (
    "minutes", "max_steps", "batch_size", "learning_rate", "weight_decay", "patience", "jitter", "mirror",
    "subject_balance", "rig_balance", "eval_every", "checkpoint_every", "seed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a prior: poses in, RUN/prior.safetensors and RUN/metrics.json out. Run again to resume."""

    model: OptionalModel = None
    """Which prior; or none, with --recipe."""
    recipe: str | None = None
    """Make a prior as the shipped one of this name was made (poseprior list); flags below replace what it says."""
    data: Path
    """Folder with train_poses.npz, val_poses.npz, test_poses.npz (or any .npz files), or one file. With --recipe also a
    folder that holds such folders, named body and hands."""
    out: Path
    """Run folder: prior.safetensors, metrics.json, checkpoint/, tb/."""
    joints: str | None = None
    """body, hands, left_hand, right_hand, whole_body (all but root and eyes), all, or joint names with commas. Default:
    hands for hand-vae, body for the others."""
    context: str | None = None
    """Name of an array in the files that the prior is to be given with each pose: (N, C) floats, or (C,) for a whole file
    (betas, say). For global-flow."""
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
    rig_noise: str | None = None
    """Random conventions of capture rigs on every pose, so that the prior holds on other rigs: body, hands or whole_body
    for the sizes of the shipped priors, a .json file of sizes, or none. Default: the recipe's, else none."""
    subject_balance: float | None = None
    """0 draws frames evenly, 1 draws subjects evenly."""
    rig_balance: float | None = None
    """0 draws frames evenly, 1 draws rigs evenly."""
    eval_every: int | None = None
    """Steps between validations."""
    checkpoint_every: int | None = None
    """Steps between checkpoints."""
    seed: int | None = None
    """Of everything random. Default: 0, or the recipe's."""
    device: str | None = None
    """cpu, cuda, ...; default: the GPU when there is one."""
    evaluate: bool = True
    """Measure the prior on held-out poses when it is trained; --no-evaluate leaves that out."""
    licence: str | None = None
    """Licence of the weights, kept in the file. Default: the recipe's if these are its data, else unspecified."""
    overwrite: bool = False
    """Replace a different prior, or the checkpoint of a different run, that already stands in the run folder."""

    def run(self) -> int:
        import torch

        main_rank = start_distributed()
        try:
            return self._train(main_rank)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def _train(self, main_rank: bool) -> int:
        from .. import skeleton
        from ..evaluation.report import format_table
        from ..recipes import read_parts, together
        from ..training.fit import fit_defaults

        recipe = self._find_recipe()
        if recipe is None:
            parts = {name: {"all": data} for name, data in read_splits(self.data, self.context).items()}
        else:
            parts = read_parts(self.data, recipe.parts)
        splits = {name: together(some) for name, some in parts.items()}
        asked, prior, origin = self._plan(recipe, splits["train"].context_dim)
        config = self._fit_config(recipe)
        options = config.resolve(fit_defaults(prior))
        origin["data_digest"] = splits["train"].digest()
        self._refuse_foreign_run(origin, options)
        say(main_rank, "training on " + describe(splits["train"]))
        if "val" in splits:
            say(main_rank, "selecting on " + describe(splits["val"]))
        for name in ("checkpoint", "tb"):  # a run folder always has the same rooms, also when a closed form needs none
            (self.out / name).mkdir(parents=True, exist_ok=True)
        result = self._fit(prior, splits, config)
        if not main_rank:
            return 0
        prior.metadata["recipe"] = origin
        prior.metadata["licence"] = self.licence or "unspecified"
        prior.metadata["training"]["config"] = reproducible(options)
        prior.save(self.out / "prior.safetensors")  # once more below, with its numbers: they take a while, and can fail
        print(f"stopped: {result.stopped} after {result.steps} steps, {result.seconds:.0f} s")
        if result.loading_share is not None:
            print(f"making batches took {100 * result.loading_share:.0f} % of the steps' time")
        print(f"kept the weights of step {result.best_step}")
        if result.stopped == "interrupted":
            print(
                f"interrupted: the best weights so far are in {self.out / 'prior.safetensors'}, without numbers; the same "
                f"command goes on from {self.out / 'checkpoint'}"
            )
            return 130
        if not self.evaluate:
            print(f"results: {self.out / 'prior.safetensors'}")
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
        print(f"results: {self.out / 'prior.safetensors'}, {self.out / 'metrics.json'}")
        return 0

    def _measure(
        self,
        prior: PosePrior,
        recipe: Recipe | None,
        parts: dict[str, dict[str, PoseDataset]],
        splits: dict[str, PoseDataset],
        options: FitOptions,
    ) -> tuple[dict[str, Any], str]:
        """Calibrate and evaluate the prior, and save it with its numbers; these, and the split they are of."""
        from ..evaluation.calibration import calibrate
        from ..evaluation.report import evaluate
        from ..io.atomic import write_json
        from ..recipes import record

        progress = options.progress
        if "val" in splits:
            prior.metadata["calibration"] = calibrate(
                prior,
                splits["val"],
                rig_noise=options.rig_noise,
                jitter=options.jitter,
                seed=options.seed,
                progress=progress,
            ).to_dict()
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
        joints = self.joints or ("hands" if isinstance(self.model, HandVae) else "body")
        asked = skeleton.resolve_joints(joints)
        made = {"model": type(self.model).__name__, "options": asdict(self.model), "joints": joints}
        if isinstance(self.model, Global) and self.context is not None:
            return asked, self.model.build(asked, context_dim=context_dim), {**made, "context": self.context}
        return asked, self.model.build(asked), made

    def _fit_config(self, recipe: Recipe | None) -> FitConfig:
        from ..training import FitConfig

        start = FitConfig() if recipe is None else recipe.fit_config()
        given = {name: getattr(self, name) for name in _FIT_OPTIONS if getattr(self, name) is not None}
        if self.rig_noise is not None:
            given["rig_noise"] = read_rig_noise(self.rig_noise)
        return replace(
            start, **given, device=self.device, checkpoint_dir=str(self.out / "checkpoint"),
            tensorboard_dir=str(self.out / "tb"),
        )  # fmt: skip

    def _refuse_foreign_run(self, origin: dict[str, Any], options: FitOptions) -> None:
        from ..pretrained.loading import load

        path = self.out / "prior.safetensors"
        if not path.exists() or self.overwrite:
            return
        metadata = load(path).metadata
        found = {**(metadata.get("recipe") or {}), **weighty(metadata.get("training", {}).get("config", {}))}
        asked = json.loads(json.dumps({**origin, **weighty(reproducible(options))}))
        differing = [name for name in sorted({*found, *asked}) if found.get(name) != asked.get(name)]
        if differing:
            listed = "; ".join(f"{name} was {found.get(name)!r}, is {asked.get(name)!r}" for name in differing)
            raise ValueError(
                f"--out: {path} already holds another prior: {listed}. Give another folder, or --overwrite to replace it."
            )
