"""The training checkpoint: everything a killed run needs to end as if it had not been killed.

One safetensors file holds weights, averaged weights, best weights and AdamW's moments; its metadata holds the step, the
elapsed time, the history and a fingerprint of the run. There is no random state to keep: every random number of a step
derives from (seed, step), and the data position is the step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .._checkpoint_format import content_digest
from .._checks import quoted
from ..io.atomic import finite, replacing

FILE_NAME = "state.safetensors"


class CheckpointError(ValueError):
    """The checkpoint in the folder belongs to another run, or is damaged."""


@dataclass(kw_only=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    best_nll: float | None = None
    best_step: int = 0
    stale: int = 0
    train_nll: float | None = None
    stopped: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    folder: Path,
    progress: Progress,
    fingerprint: dict[str, Any],
    model: nn.Module,
    average: dict[str, Tensor],
    best: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write the checkpoint atomically."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors.update({f"average.{k}": v for k, v in average.items()})
    tensors.update({f"best.{k}": v for k, v in best.items()})
    for index, slots in optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in slots.items()})
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    meta = {"progress": json.dumps(finite(asdict(progress))), "fingerprint": json.dumps(fingerprint)}
    meta["digest"] = content_digest(tensors, meta)
    with replacing(folder / FILE_NAME) as temporary:
        save_file(tensors, temporary, metadata=meta)


def load_state(
    folder: Path, fingerprint: dict[str, Any], model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]] | None:
    """Restore a checkpoint into `model` and `optimiser`.

    Returns:
        (progress, averaged weights, best weights), or None when the folder has no checkpoint.

    Raises:
        ValueError: an unreadable file, or one of another run (other data, model or options); all differences listed.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as handle:
            meta = dict(handle.metadata() or {})
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}
        if meta["digest"] != content_digest(tensors, meta):
            raise ValueError("its content does not match the digest that was written with it")
        stored = json.loads(meta["fingerprint"])
        progress = Progress(**json.loads(meta["progress"]))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _unreadable(path, f"it cannot be read: {quoted(str(error))}") from error
    differing = [k for k in sorted({*stored, *fingerprint}) if stored.get(k) != fingerprint.get(k)]
    if differing:
        listed = "; ".join(f"{k} was {quoted(stored.get(k))}, is {quoted(fingerprint.get(k))}" for k in differing)
        data = [name for name in ("train", "val") if name in differing]
        changed = f" The poses of {' and '.join(data)} are not those that the run began with." if data else ""
        raise CheckpointError(
            f"checkpoint_dir: {path} belongs to another run: {listed}.{changed} Repeat that run's options to resume it, or "
            "give another folder (or start over: resume=False, on the command line --overwrite)."
        )
    try:
        return progress, *_restore(tensors, model, optimiser)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _unreadable(path, f"its tensors do not fit: {quoted(str(error))}") from error


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint_dir: {path} is not a training checkpoint of this version, or is damaged ({reason}); remove it, or give "
        "another folder (or start over: resume=False, on the command line --overwrite)."
    )


def _restore(
    tensors: dict[str, Tensor], model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Load a checkpoint's tensors; averaged and best weights."""
    device = next(model.parameters()).device
    part = {
        name: {k[len(name) + 1 :]: v.to(device) for k, v in tensors.items() if k.startswith(f"{name}.")}
        for name in ("model", "average", "best", "optimiser")
    }
    model.load_state_dict(part["model"])
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in part["optimiser"].items():
        index, slot = key.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value.cpu() if slot == "step" else value
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    return part["average"], part["best"]
