"""`fit`: train a prior on poses, in place; `start_from`: what it does before the first step."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from torch import Tensor

from .._inference_mode import leaves_inference_mode
from ..io.dataset import PoseDataset, as_dataset
from ..prior import PosePrior
from ..trainable import Trainable
from .config import FitConfig, FitOptions, FitResult
from .generators import borrowed_generators
from .initial_poses import InitialPoses
from .loop import run_loop
from .tensorboard import tensorboard_installed
from .unread import refuse_unread, unread_fields

__all__ = ["FitConfig", "FitResult", "fit", "start_from"]


@leaves_inference_mode
def fit(
    prior: PosePrior,
    train: PoseDataset | Tensor,
    *,
    val: PoseDataset | Tensor | None = None,
    config: FitConfig | None = None,
) -> FitResult:
    """Train `prior` on poses, in place.

    An unfitted prior is first rebuilt for the data: joints that no pose observes are dropped, charts and closed forms
    are set, weights are drawn from `config.seed`. A fitted prior is trained further from its weights, or, in closed form,
    fitted anew. Afterwards the weights are frozen (`requires_grad_(False)`), which keeps gradients to the pose
    cheap.

    Args:
        prior: what to train.
        train: a `PoseDataset`, or a (N, 55, 3) tensor of fully observed poses. A conditional prior takes a data set
            with a `context` of its `context_dim`.
        val: poses of subjects that `train` does not hold; they select the weights that are kept, and stop early.
        config: options of the training; fields left out have the model's own defaults. For conditional priors `mirror`
            is False unless it is set: nobody says what the context of a reflection is. With `mirror=True` it is that of
            the pose, which is right for body shapes, say, and wrong for images.

    Returns:
        `FitResult`. The NLLs of a conditional prior are of poses given their contexts.

    Raises:
        ValueError: poses that show none of the prior's joints, a context that the prior does not take or the lack of one
            that it does, options that do not go together, or a field of `config` that this training does not read (with
            another value than holds without it).
    """
    options = _settled(prior, config)
    train = as_dataset(train, "train")
    val = None if val is None else as_dataset(val, "val")
    _check_contexts(prior, train, "train")
    if val is not None:
        _check_contexts(prior, val, "val")
    refuse_unread(config or FitConfig(), unread_fields(prior, val, options), fit_defaults(prior))
    if options.tensorboard_dir is not None and not tensorboard_installed():
        raise ValueError(
            "FitConfig.tensorboard_dir: needs tensorboard, which is not installed; leave it out, or run: pip install "
            '"poseprior[train]"'
        )
    if prior.fitted and options.max_steps == 0 and not prior.closed_form:
        raise ValueError(
            f"config: expected max_steps above 0 to train a fitted {type(prior).__name__} further, got 0; or fit a new one."
        )
    start_seconds = 0.0
    anew = not prior.fitted or options.max_steps == 0
    if anew:
        started = time.monotonic()
        start_from(prior, train, config=config)
        start_seconds = time.monotonic() - started
    prior._thaw()
    result = run_loop(prior, train, val, options, start_seconds=start_seconds)
    prior.requires_grad_(False)
    prior.fitted = True
    if anew or result.steps:  # else interrupted before the first step: the weights are those of the earlier fit
        prior.metadata["training"] = _summary(train, options, result)
    return result


@leaves_inference_mode
def start_from(prior: Trainable, train: PoseDataset | Tensor, *, config: FitConfig | None = None) -> None:
    """Rebuild a prior for the data, in place: what `fit` does before its first step, for loops of your own.

    Joints that no pose observes are dropped, charts and closed-form starts are set, and all weights are drawn anew from
    `config.seed`: make your optimiser afterwards. The dtype stays.

    Args:
        prior: what to rebuild.
        train: a `PoseDataset`, or a (N, 55, 3) tensor of fully observed poses.
        config: its noise, mirroring, balance, `seed`, `batch_size`, `minutes` and `progress` matter here, and whether
            `max_steps` is 0; fields left out have the model's own defaults.

    Raises:
        ValueError: poses that show none of the prior's joints, or a `config` that is none.
    """
    options = _settled(prior, config)
    poses = InitialPoses(as_dataset(train, "train"), options)
    dtype = prior.dtype
    with borrowed_generators(prior.device) as seed:
        seed(options.seed)
        rebuilt = type(prior).from_config(prior._fitted_config(poses))
        if rebuilt.dtype != dtype:
            rebuilt.to(dtype)
        rebuilt._initialise(poses)
    prior.__dict__ = rebuilt.__dict__  # last: poses that are refused leave the prior as it was


def _check_contexts(prior: PosePrior, data: PoseDataset, argument: str) -> None:
    """Refuse a data set whose context is not what the prior takes."""
    if data.context_dim == prior.context_dim:
        return
    has = f"a context of {data.context_dim} numbers a pose" if data.context_dim else "no context"
    if not prior.context_dim:
        raise ValueError(
            f"{argument}: expected a data set without a context for a {type(prior).__name__} without context_dim, got "
            f"{has}; make the prior with context_dim={data.context_dim} if its class has that, or the data without."
        )
    raise ValueError(
        f"{argument}: expected a context of {prior.context_dim} numbers a pose (the prior's context_dim), got {has}; pass "
        f"PoseDataset(poses, context=...) with an (N, {prior.context_dim}) array, or on the command line --context KEY."
    )


def _settled(prior: Trainable, config: FitConfig | None) -> FitOptions:
    if config is not None and not isinstance(config, FitConfig):
        raise ValueError(f"config: expected a FitConfig, got {type(config).__name__}; poseprior.FitConfig(...).")
    return (config or FitConfig()).resolve(fit_defaults(prior))


def fit_defaults(prior: Trainable) -> dict[str, Any]:
    """The defaults of `FitConfig` fields for a prior, where they are not the general ones."""
    return {**prior.default_fit, **({"mirror": False} if prior.context_dim else {})}


def _summary(train: PoseDataset, options: FitOptions, result: FitResult) -> dict[str, object]:
    """What the weights say about their training."""
    return {
        "data_digest": train.digest(),
        "num_poses": len(train),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "best_step": result.best_step,
        "train_nll": result.train_nll,
        "val_nll": result.val_nll,
        "stopped": result.stopped,
        "jitter": options.jitter,
        "rig_noise": None if options.rig_noise is None else asdict(options.rig_noise),
        "mirror": options.mirror,
        "seed": options.seed,
    }
