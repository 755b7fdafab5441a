"""The training checkpoint: everything a killed run needs to end as if it had not been killed.

One safetensors file holds weights, averaged weights, best weights and AdamW's moments; its metadata holds the step, the
elapsed time, the history and a fingerprint of the run. There is no random state to keep: every random number of a step
derives from (seed, step), and the data position is the step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .._checkpoint_format import MOST_HEADER, check_tensor_types, content_digest, parse_json, read_header
from .._checks import check_mapping, check_number, check_text, check_whole, quoted
from .._text import shown
from ..checkpoint import refuse_misfits
from ..io.atomic import finite, replacing, require_writable

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

    def check(self) -> None:
        """Refuse fields that no run has.

        Raises:
            ValueError: naming the first of them.
        """
        check_whole("step", self.step)
        check_whole("best_step", self.best_step, most=self.step)
        check_whole("stale", self.stale)
        check_number("seconds", self.seconds, least=0.0)
        for name in ("best_score", "best_nll", "train_nll"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name))
        if (self.best_score is None) != (self.best_nll is None):
            raise ValueError("best_score: expected it beside best_nll")
        check_text("stopped", self.stopped)
        if not isinstance(self.history, list):
            raise ValueError(f"history: expected a list, got {quoted(self.history)}")
        for record in self.history:
            check_whole("history", check_mapping("history", record).get("step"), most=self.step)
            for value in record.values():
                if value is not None:
                    check_number("history", value)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no checkpoint could be written, before the first step.

    Raises:
        ValueError: naming it.
    """
    try:
        require_writable(folder / FILE_NAME)
    except ValueError as error:
        reason = str(error).removeprefix("path: ").removesuffix("; give another place.")
        raise ValueError(f"checkpoint_dir: {reason}; remove what is there, or give another folder.") from error


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
    if not os.path.lexists(path):
        return None
    try:
        header = read_header(path)
        check_tensor_types(header, path)
        meta = header.get("__metadata__", {})
        stored = check_mapping("fingerprint", parse_json(meta["fingerprint"], "the fingerprint"))
        progress = Progress(**check_mapping("progress", parse_json(meta["progress"], "the progress")))
        progress.check()
    except (LookupError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error
    differing = [k for k in sorted({*stored, *fingerprint}) if stored.get(k) != fingerprint.get(k)]
    if differing:
        listed = "; ".join(f"{k} was {quoted(stored.get(k))}, is {quoted(fingerprint.get(k))}" for k in differing)
        data = [name for name in ("train", "val") if name in differing]
        changed = f" The poses of {' and '.join(data)} are not those that the run began with." if data else ""
        raise CheckpointError(
            f"checkpoint_dir: {shown(path)} belongs to another run: {listed}.{changed} Repeat that run's options to resume it, "
            "or give another folder (or start over: resume=False, on the command line --overwrite)."
        )
    expected = _expected(model, optimiser, header, progress)
    try:
        if path.stat().st_size > MOST_HEADER + 8 * sum(t.numel() for t in expected.values()):
            raise ValueError("it is much larger than the model")
        with safe_open(path, framework="pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}
        if meta.get("digest") != content_digest(tensors, meta):
            raise ValueError("its content does not match the digest that was written with it")
        refuse_misfits(expected, tensors, path, "the model", same_types=True)
        if any(bool((t < 0).any()) for name, t in tensors.items() if name.endswith((".exp_avg_sq", ".step"))):
            raise ValueError("the optimiser has squares below zero")
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    return progress, *_restore(tensors, model, optimiser)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = f"it lacks {error}" if isinstance(error, LookupError) else str(error).removeprefix("path: ")
    reason = reason[:1000].removesuffix(".").removesuffix("; expected one that prior.save wrote")
    return CheckpointError(
        f"checkpoint_dir: {shown(path)} is not a training checkpoint of this version, or is damaged (it cannot be read: "
        f"{reason}); remove it, or give another folder (or start over: resume=False, on the command line --overwrite)."
    )


def _expected(
    model: nn.Module, optimiser: torch.optim.Optimizer, header: Collection[str], progress: Progress
) -> dict[str, Tensor]:
    """Tensors of the names, shapes and types that the checkpoint of a run has."""
    state = model.state_dict()
    kinds = ("model", "average", "best") if progress.best_score is not None else ("model", "average")
    expected = {f"{kind}.{name}": tensor for kind in kinds for name, tensor in state.items()}
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    starts = [f"optimiser.{index}." for index in range(len(parameters))]
    # A parameter that never had a gradient has no moments; all have none only before the first step.
    reached = [any(name.startswith(start) for name in header) for start in starts]
    for start, parameter, found in zip(starts, parameters, reached, strict=True):
        if found or (progress.train_nll is not None and not any(reached)):
            moments = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
            expected |= {start + slot: tensor.detach() for slot, tensor in moments.items()}
    return expected


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
