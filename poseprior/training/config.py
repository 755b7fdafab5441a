"""Options of training, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .._checks import check_number, check_path, check_switch, check_text, check_whole, quoted
from .rig_noise import RigNoise

#: Beyond it single precision soon has no weights left. Beyond the other, radians, noise is that of any rotation.
_LARGEST_RATE, _LARGEST_JITTER = 1e3, 100.0


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How `PosePrior.fit` trains.

    A field that is left out, None, has the model's own default (`type(prior).default_fit`), or else the general default
    that is given below.

    Attributes:
        max_steps: optimiser steps (5000); 0 keeps the closed-form start, which is the default of models that have one.
            `fit` then refuses the fields that only steps read: those of the optimiser, of early stopping and of checkpoints.
        minutes: wall-clock budget of everything that training does, over all resumed runs together; the learning rate's
            cosine ends with whichever of `max_steps` and `minutes` ends first. Without it there is no limit.
        batch_size: poses a step, over all ranks together (512).
        learning_rate: peak of AdamW's schedule (1e-3).
        weight_decay: AdamW's, of the parameters whose own name begins with `weight`, the matrices of networks (1e-2); biases,
            scales, means and factors of covariances are not decayed.
        warmup_steps: linear warm-up (200).
        final_lr_fraction: the cosine ends at this share of `learning_rate` (0.01).
        clip_grad_norm: bound of the gradient's norm over all parameters (1.0); 0 switches it off.
        ema_decay: exponential moving average of the weights, which is what is validated and kept (0.999); 0 switches it
            off.
        jitter: standard deviation of the tangent noise on every training and validation pose, radians (0.02).
        mirror: reflect half of the training poses, at random (True; False for conditional priors, see `fit`).
        rig_noise: random conventions of capture rigs on every training and validation pose, see `RigNoise`; without it
            none.
        subject_balance: frames of a subject with n frames are drawn with weight n^-subject_balance; 0 draws frames
            evenly, 1 draws subjects evenly (0). Subjects of one name in two rigs are two subjects; frames of nobody in
            particular are one subject's.
        rig_balance: a rig with n frames is drawn with weight n^(1 - rig_balance); 0 draws frames evenly, 1 draws rigs
            evenly (0). Frames of no rig in particular are one rig's.
        seed: of everything random in the run (0).
        eval_every: steps between validations (250).
        patience: stop after this many validations without a new best; 0 never stops early (0).
        max_val_poses: validate on a fixed random subset of at most this many poses (4096).
        checkpoint_dir: where to write `state.safetensors`; without it none is written.
        checkpoint_every: steps between checkpoints (500).
        resume: continue from the checkpoint in `checkpoint_dir` when there is one (True).
        tensorboard_dir: where to write TensorBoard events, which needs tensorboard; without it none are written.
        device: "cpu", "cuda", ...; without it the GPU when there is one.
        progress: show a tqdm bar (True).

    Raises:
        ValueError: a value of another type or out of range.
    """

    max_steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup_steps: int | None = None
    final_lr_fraction: float | None = None
    clip_grad_norm: float | None = None
    ema_decay: float | None = None
    jitter: float | None = None
    mirror: bool | None = None
    rig_noise: RigNoise | None = None
    subject_balance: float | None = None
    rig_balance: float | None = None
    seed: int | None = None
    eval_every: int | None = None
    patience: int | None = None
    max_val_poses: int | None = None
    checkpoint_dir: str | None = None
    checkpoint_every: int | None = None
    resume: bool | None = None
    tensorboard_dir: str | None = None
    device: str | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        self.resolve({})

    def __repr__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return f"FitConfig({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def resolve(self, model_defaults: Mapping[str, Any]) -> FitOptions:
        """Every option settled: what is given here, else the model's default, else the general one.

        Args:
            model_defaults: `default_fit` of a prior.
        """
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return FitOptions(**{**model_defaults, **given})


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """A `FitConfig` with every option settled; see there."""

    max_steps: int = 5000
    minutes: float | None = None
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 200
    final_lr_fraction: float = 0.01
    clip_grad_norm: float = 1.0
    ema_decay: float = 0.999
    jitter: float = 0.02
    mirror: bool = True
    rig_noise: RigNoise | None = None
    subject_balance: float = 0.0
    rig_balance: float = 0.0
    seed: int = 0
    eval_every: int = 250
    patience: int = 0
    max_val_poses: int = 4096
    checkpoint_dir: str | None = None
    checkpoint_every: int = 500
    resume: bool = True
    tensorboard_dir: str | None = None
    device: str | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_every", "checkpoint_every", "max_val_poses"):
            check_whole(f"FitConfig.{name}", getattr(self, name), least=1)
        for name in ("max_steps", "warmup_steps", "patience", "seed"):
            check_whole(f"FitConfig.{name}", getattr(self, name))
        check_number("FitConfig.learning_rate", self.learning_rate, above=0.0, most=_LARGEST_RATE)
        check_number("FitConfig.jitter", self.jitter, least=0.0, most=_LARGEST_JITTER)
        for name in ("clip_grad_norm", "weight_decay", "subject_balance", "rig_balance"):
            check_number(f"FitConfig.{name}", getattr(self, name), least=0.0)
        for name in ("ema_decay", "final_lr_fraction"):
            check_number(f"FitConfig.{name}", getattr(self, name), least=0.0, below=1.0)
        if self.minutes is not None:
            check_number("FitConfig.minutes", self.minutes, above=0.0)
        if self.rig_noise is not None and not isinstance(self.rig_noise, RigNoise):
            raise ValueError(
                f"FitConfig.rig_noise: expected a RigNoise, got {quoted(self.rig_noise)}; RigNoise.estimated() has the sizes of "
                "the shipped priors."
            )
        for name in ("mirror", "resume", "progress"):
            check_switch(f"FitConfig.{name}", getattr(self, name))
        for name in ("checkpoint_dir", "tensorboard_dir"):
            if getattr(self, name) is not None:
                check_path(f"FitConfig.{name}", getattr(self, name))
        if self.device is not None:
            check_text("FitConfig.device", self.device)


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a fit did.

    Attributes:
        steps: optimiser steps taken, over all resumed runs.
        seconds: wall-clock training time, over all resumed runs.
        train_nll: training objective at the end, nats a pose (mean of the last steps; the NLL for exact priors).
        val_nll: validation NLL of the weights that were kept (the best one, unless the model's `selection_penalty`
            chose), nats a pose against Haar at the config's jitter; None without `val`.
        best_step: the step whose weights were kept.
        stopped: "max_steps", "minutes", "early", "interrupted" or "closed_form".
        history: one dict for each validation (step, train_nll, val_nll, ...).
        joints: joints the prior models after the fit.
        loading_share: the part of the time of this run's steps that making batches (reading rows, mirroring, noise)
            took; None without steps.
    """

    steps: int
    seconds: float
    train_nll: float | None
    val_nll: float | None
    best_step: int
    stopped: str
    joints: tuple[int, ...] = field(repr=False)
    loading_share: float | None = None
    history: tuple[dict[str, Any], ...] = field(default=(), repr=False)
