"""The options of `poseprior train`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ._models import MODELS, HandVae, Model
from ._parse import with_hints

_Options = TypeVar("_Options", bound="TrainOptions")

#: Options of the loop, which a model or a recipe has defaults of its own for.
LOOP = (
    "minutes", "max_steps", "batch_size", "learning_rate", "weight_decay", "warmup_steps", "final_lr_fraction",
    "clip_grad_norm", "ema_decay", "jitter", "mirror", "subject_balance", "rig_balance", "eval_every", "patience",
    "max_val_poses", "checkpoint_every", "seed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train a prior: poses in, OUT/prior.safetensors and OUT/metrics.json out. Run again to resume."""

    model: tyro.conf.Suppress[Model | None] = None
    recipe: Annotated[str | None, tyro.conf.arg(metavar="PRIOR")] = None
    """Make a prior as the shipped one of this name was made (poseprior list); options below replace what it says."""
    config: Path | None = None
    """Take model and options from this TOML file, such as the config.toml of a run folder; options here replace them."""
    data: Path
    """Folder with train_poses.npz, val_poses.npz, test_poses.npz (or any .npz files; --recipe: or body/, hands/), or one file."""
    out: Path
    """Run folder: prior.safetensors, metrics.json, config.toml, checkpoint/, tb/."""
    joints: str | None = None
    """body, hands, left_hand, right_hand, whole_body (all but root and eyes), all, or joint names with commas."""
    context: Annotated[str | None, tyro.conf.arg(metavar="ARRAY")] = None
    """Array of the files, (N, C) or (C,), that the prior is given with each pose (betas, say); for global-flow."""
    minutes: float | None = None
    """Wall-clock budget over all resumed runs."""
    max_steps: int | None = None
    """Optimiser steps; 0 is the closed form, where the model has one."""
    batch_size: int | None = None
    """Poses a step, over all processes."""
    learning_rate: float | None = None
    """Peak learning rate."""
    weight_decay: float | None = None
    """AdamW's weight decay of matrices."""
    warmup_steps: int | None = None
    """Steps over which the learning rate rises."""
    final_lr_fraction: float | None = None
    """The cosine ends at this share of the learning rate."""
    clip_grad_norm: float | None = None
    """Bound of the gradient's norm; 0 for none."""
    ema_decay: float | None = None
    """Moving average of the weights, which is what is kept; 0 for none."""
    patience: int | None = None
    """Stop after this many validations without a new best; 0 never."""
    jitter: float | None = None
    """Tangent noise on every pose, radians."""
    mirror: bool | None = None
    """Reflect half of the training poses."""
    rig_noise: str | None = None
    """Random conventions of capture rigs on every pose: body, hands or whole_body (as shipped priors), none, or a file of
    sizes (.json, or the config.toml of a run)."""
    subject_balance: float | None = None
    """0 draws frames evenly, 1 draws subjects evenly."""
    rig_balance: float | None = None
    """0 draws frames evenly, 1 draws rigs evenly."""
    eval_every: int | None = None
    """Steps between validations."""
    max_val_poses: int | None = None
    """Validate on a fixed random subset of at most this many poses."""
    checkpoint_every: int | None = None
    """Steps between checkpoints."""
    seed: int | None = None
    """Of everything random."""
    device: str | None = None
    """cpu, cuda, ..."""
    evaluate: bool = True
    """Measure the prior on held-out poses when it is trained."""
    licence: str | None = None
    """Licence of the weights, kept in the file."""
    overwrite: bool = False
    """Replace a different prior, or the checkpoint of a different run, that already stands in the run folder."""


def hints(model: str | None) -> dict[str, str]:
    """What the help says about an option that is not given, for a model or in general."""
    from ..training.config import FitConfig

    own = {} if model is None else MODELS[model].kind.default_fit
    known = {**vars(FitConfig().resolve(own)), "minutes": "no limit"}
    found = {name: _said(known[name]) for name in LOOP}
    if model is None:
        found = {name: f"the model's own, or {value}" for name, value in found.items()}
    hands = model is not None and MODELS[model] is HandVae
    found |= {
        "joints": "hands" if hands else "body", "rig_noise": "none", "licence": "unspecified",
        "device": "the GPU where there is one, else cpu",
    }  # fmt: skip
    return {name: f"(default: {value})" for name, value in found.items()}


def for_model(command: type[_Options], model: str | None, options: dict[str, Any]) -> type[_Options]:
    """`command` with the options of a model, which default to `options`; without any for None."""
    if model is None:
        return command
    defaults = {name: f"(default: {_said(value)})" for name, value in MODELS[model].defaults().items()}
    kind = with_hints(MODELS[model], {name: hint for name, hint in defaults.items() if hint != "(default: None)"})
    made = field(default=kind(**options))
    return make_dataclass(command.__name__, [("model", kind, made)], bases=(command,), frozen=True, kw_only=True)


def names() -> list[str]:
    """The options that a command line or a file may give, beside those of the model."""
    return [option.name for option in fields(TrainOptions) if option.name not in ("model", "config")]


def _said(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"
