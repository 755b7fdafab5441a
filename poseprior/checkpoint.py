"""Saving and loading priors, and the registry of the classes that a file may name.

A prior is one `.safetensors` file: tensors, and JSON metadata under the key `poseprior`. Nothing is ever unpickled.
Reading is strict: one error lists all missing, unexpected and misshapen tensors.
"""

from __future__ import annotations

import inspect
import json
import os
import struct
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from . import skeleton
from .devices import usable_device
from .io.atomic import replacing
from .trainable import Trainable

#: Format of the metadata. Files of this and every older format load.
FORMAT_VERSION = 1

_KEY = "poseprior"
#: What every file says of itself, whatever other metadata a prior carries.
RESERVED = ("format_version", "class", "config", "joints")
#: Weights trained by the library's users are theirs; this is only what an untold file says.
DEFAULT_LICENCE = "unspecified"


_Prior = TypeVar("_Prior", bound=Trainable)
_registered: dict[str, type[Trainable]] = {}


def register(cls: type[Trainable]) -> None:
    """Let files name a class; called when the class is defined.

    Defining a class again (a notebook cell that runs twice, a module that is reloaded) replaces the earlier one.

    Raises:
        ValueError: another class has the name.
    """
    known = _registered.get(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"class {cls.__name__}: {known.__module__}.{known.__qualname__} has this name, by which weights files tell "
            "classes apart; choose another name."
        )
    _registered[cls.__name__] = cls


def registered() -> dict[str, type[Trainable]]:
    """The classes that a file may name, by name: every prior that has been imported and can be built."""
    return {name: cls for name, cls in _registered.items() if not inspect.isabstract(cls)}


def build(class_name: str, config: dict[str, Any], source: str) -> Trainable:
    """An unfitted prior from the class and options that a file names.

    Args:
        class_name: of a registered class.
        config: what its `get_config` gave, now or in an older version.
        source: what names them, for messages.

    Raises:
        ValueError: an unknown class or option.
    """
    known = registered()
    if class_name not in known:
        raise ValueError(
            f"path: {source} holds a {class_name!r}, which this version does not know (it knows "
            f"{', '.join(sorted(known))}); import the module that defines it, or update poseprior."
        )
    try:
        return known[class_name].from_config(config)
    except TypeError as error:
        raise ValueError(
            f"path: {source} has options that {class_name} does not take ({error}); update poseprior."
        ) from error


def save(prior: Trainable, path: str | os.PathLike[str]) -> None:
    """Write a prior's tensors and metadata; see `PosePrior.save`."""
    write(
        Path(path),
        {name: tensor.detach().cpu() for name, tensor in prior.state_dict().items()},
        {
            **prior._stored_metadata(),
            "class": type(prior).__name__,
            "config": prior.get_config(),
            "joints": [skeleton.JOINT_NAMES[j] for j in prior.joints],
        },
    )


@torch.inference_mode(False)  # weights made in inference mode could never pass gradients to a pose
def load(path: str | os.PathLike[str], kind: type[_Prior], *, device: str | torch.device = "cpu") -> _Prior:
    """The prior of a file, which is to be a `kind`; see `PosePrior.load`."""
    device = usable_device(device)
    tensors, meta = read(Path(path))
    prior = build(meta["class"], meta["config"], str(path))
    if not isinstance(prior, kind):
        raise ValueError(
            f"path: {path} holds a {type(prior).__name__}, not a {kind.__name__}; use poseprior.load(path)."
        )
    load_strict(prior, tensors, Path(path))
    for part in prior.modules():  # itself, and the parts of a product
        if isinstance(part, Trainable):
            part.fitted = True
    prior._restore_metadata({key: value for key, value in meta.items() if key not in RESERVED})
    return prior.to(device).eval().requires_grad_(False)


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and metadata atomically.

    Args:
        path: the target, ending in `.safetensors`.
        tensors: state by name.
        metadata: JSON-able; `format_version` and, unless it is there, `licence` are added.

    Raises:
        ValueError: another suffix, or metadata that JSON cannot hold.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a name ending in .safetensors, got {path.name!r}.")
    meta = {"licence": DEFAULT_LICENCE, **metadata, "format_version": FORMAT_VERSION}
    try:
        text = json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metadata: expected JSON-able values without NaN, got an entry that is not: {error}."
        ) from error
    with replacing(path) as temporary:
        save_file({name: t.contiguous().clone() for name, t in tensors.items()}, temporary, metadata={_KEY: text})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a prior's file.

    Raises:
        ValueError: no such file, not safetensors (a pickle is refused without being executed), cut short, not of
            poseprior, or of a newer format.
    """
    return _open(path, with_tensors=True)


def read_metadata(path: Path) -> dict[str, Any]:
    """Metadata alone, from the head of the file; refusals as `read`."""
    return _open(path, with_tensors=False)[1]


def _open(path: Path, *, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if path.is_dir():
        raise ValueError(
            f"path: expected a .safetensors file, {path} is a folder without prior.safetensors; if it is an unfinished run, "
            "repeat its command."
            if not (path / "prior.safetensors").exists()
            else f"path: expected a .safetensors file, {path} is a folder; did you mean {path}/prior.safetensors?"
        )
    if not path.exists():
        raise ValueError(
            f"path: no file at {path}; give the path of a .safetensors file that prior.save wrote (poseprior.load "
            "takes names of shipped priors, too)."
        )
    _refuse_foreign(path)
    try:
        with safe_open(path, framework="pt") as handle:
            raw = (handle.metadata() or {}).get(_KEY)
            tensors = {name: handle.get_tensor(name) for name in handle.keys()} if with_tensors else {}
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"path: {path} is not a whole safetensors file ({error}); it may be cut short, copy it again."
        ) from error
    if raw is None:
        raise ValueError(
            f"path: {path} is a safetensors file of something else: it has no 'poseprior' metadata; expected one that "
            "prior.save wrote."
        )
    return tensors, _check_metadata(raw, path)


def _check_metadata(raw: str, path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(raw)
    except json.JSONDecodeError as error:
        raise ValueError(f"path: the metadata of {path} is not JSON ({error}); the file is damaged.") from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"path: {path} names no format_version; the file is damaged.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"path: {path} has format_version {version}, this poseprior reads up to {FORMAT_VERSION}; update poseprior."
        )
    missing = [key for key in RESERVED if key not in meta]
    if missing:
        raise ValueError(f"path: the metadata of {path} lacks {', '.join(missing)}; the file is damaged.")
    return meta


def _refuse_foreign(path: Path) -> None:
    """Tell pickles, zips and other files by their first bytes, before any parser sees them."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        head = handle.read(9)
    header = struct.unpack("<Q", head[:8])[0] if len(head) == 9 else size
    if head[8:] == b"{" and header <= size - 8:
        return
    if head[:2] == b"PK" or head[:1] == b"\x80":
        raise ValueError(
            f"path: {path} looks like a pickle or a PyTorch .pt file, which can run code when read; poseprior loads only "
            ".safetensors written by prior.save."
        )
    raise ValueError(
        f"path: {path} ({size} bytes) is not a safetensors file, or is cut short; expected one that prior.save wrote."
    )


def load_strict(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy `tensors` into a module; one error lists everything that does not fit, and then nothing is copied.

    A module of another floating-point type takes that of the tensors, where these agree on single or double precision.
    """
    expected = module.state_dict()
    problems = []
    missing = sorted(set(expected) - set(tensors))
    unexpected = sorted(set(tensors) - set(expected))
    misshapen = [
        f"{name} (expected {tuple(expected[name].shape)}, got {tuple(tensors[name].shape)})"
        for name in sorted(set(expected) & set(tensors))
        if expected[name].shape != tensors[name].shape
    ]
    for label, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)):
        if names:
            problems.append(f"{label}: {', '.join(names)}")
    not_finite = [n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if not_finite:
        problems.append(f"not finite: {', '.join(sorted(not_finite))}")
    if problems:
        raise ValueError(f"path: the tensors of {path} do not fit {type(module).__name__}; {'; '.join(problems)}.")
    stored = _floating_types(tensors)  # half precision is only a smaller file: no prior computes in it
    if stored in ({torch.float32}, {torch.float64}) and stored != _floating_types(expected):
        module.to(next(iter(stored)))
    module.load_state_dict(tensors)


def _floating_types(tensors: dict[str, Tensor]) -> set[torch.dtype]:
    return {t.dtype for t in tensors.values() if t.is_floating_point()}
