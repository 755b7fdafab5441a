"""Fields of `FitConfig` that a training does not read: values given for them are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from ..io.dataset import PoseDataset
from ..prior import PosePrior
from .config import FitConfig, FitOptions

#: What only steps of the optimiser read.
_OF_STEPS = (
    "learning_rate", "weight_decay", "warmup_steps", "final_lr_fraction", "clip_grad_norm", "ema_decay", "eval_every",
    "patience", "checkpoint_dir", "checkpoint_every",
)  # fmt: skip
#: What 0 switches off; where nothing reads it, it is off anyway, whatever the model's own default is.
_OFF_AT_0 = ("weight_decay", "warmup_steps", "clip_grad_norm", "ema_decay", "patience")


def unread_fields(prior: PosePrior, val: PoseDataset | None, options: FitOptions) -> dict[str, tuple[str, str]]:
    """The fields that training `prior` does not read.

    Args:
        prior: what is trained.
        val: as of `fit`.
        options: of the training.

    Returns:
        For each field why it is not read, and what to give so that it is.
    """
    unread: dict[str, tuple[str, str]] = {}
    # The start of models without a closed form may draw its poses in batches.
    of_steps = (*_OF_STEPS, "batch_size") if prior.closed_form else _OF_STEPS
    if prior.num_parameters == 0:
        why = (f"{type(prior).__name__} has no parameters that steps could train", "take another prior")
        unread |= dict.fromkeys(("max_steps", *of_steps), why)
    elif options.max_steps == 0:
        usual = f", the default of {type(prior).__name__}" if prior.default_fit.get("max_steps") == 0 else ""
        why = (f"training takes no steps (max_steps is 0{usual})", "give max_steps above 0 too")
        unread |= dict.fromkeys(of_steps, why)
    if val is None and "patience" not in unread:
        unread |= dict.fromkeys(("patience", "max_val_poses"), ("there are no validation poses", "give some"))
    if options.rig_noise is not None and not set(options.rig_noise.joints) & set(prior.joints):
        unread["rig_noise"] = ("it moves none of the prior's joints", "take sizes for them")
    return unread


def refuse_unread(config: FitConfig, unread: Mapping[str, tuple[str, str]], defaults: Mapping[str, Any]) -> None:
    """Raise for fields that are given but not read.

    Values that hold when the field is left out pass, as does a 0 that switches off what is not there, and fields of steps
    beside a `max_steps` of 0 that is given.

    Args:
        config: what was given.
        unread: see `unread_fields`.
        defaults: `fit_defaults` of the prior.

    Raises:
        ValueError: naming all such fields.
    """
    usual = FitConfig().resolve(defaults)
    found: dict[tuple[str, str], list[str]] = {}
    for name, reason in unread.items():
        value = getattr(config, name)
        # One configuration may serve several families: max_steps=0 says for all of them that there are no steps.
        if config.max_steps == 0 and name in (*_OF_STEPS, "batch_size"):
            continue
        if value not in (None, getattr(usual, name)) and not (name in _OFF_AT_0 and value == 0):
            found.setdefault(reason, []).append(name)
    if found:
        raise ValueError(" ".join(_refusal(config, *reason, names) for reason, names in found.items()))


def _refusal(config: FitConfig, why: str, remedy: str, names: Sequence[str]) -> str:
    """One sentence about the fields that are not read for the same reason."""
    values = [getattr(config, name) for name in names]
    got = "it" if any(is_dataclass(value) for value in values) else ", ".join(map(repr, values))
    fields = ", ".join(f"FitConfig.{name}" for name in names)
    return (
        f"{fields}: {why}, so {got} would have no effect; leave {'it' if len(names) == 1 else 'them'} out, or {remedy}."
    )
