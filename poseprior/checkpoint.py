"""Saving and loading priors, and the registry of the classes that a file may name.

A prior is one `.safetensors` file: tensors, and JSON metadata. Nothing is ever unpickled. Reading is strict: the options in
the metadata may not ask for much larger tensors than the file holds, and one error lists all missing, unexpected and
misshapen tensors.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from . import skeleton
from ._checkpoint_format import FORMAT_VERSION, RESERVED, read, read_metadata, write
from ._checks import check_path, quoted
from ._text import shown
from .devices import usable_device
from .trainable import Trainable

__all__ = ["FORMAT_VERSION", "build", "load", "read", "read_metadata", "register", "registered", "save", "write"]

_Prior = TypeVar("_Prior", bound=Trainable)
_registered: dict[str, type[Trainable]] = {}

#: Functions that make tensors of given sizes.
_TENSOR_MAKERS = (
    torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.arange, torch.linspace,
    torch.randperm, torch.tril_indices, torch.triu_indices,
)  # fmt: skip
#: Building a prior makes temporary tensors too. It may make this many numbers for each number in the file, and this many
#: more whatever the file holds.
_NUMBERS_PER_STORED, _MORE_NUMBERS = 4, 4_000_000
#: Priors in a prior, all together, and how deep they nest.
_MOST_PARTS, _DEEPEST = 64, 8
#: No training comes near it.
_MOST_WEIGHT = 1e12
#: An error lists at most this many names.
_MOST_NAMES = 20


def register(cls: type[Trainable]) -> None:
    """Let files name a class; called when the class is defined.

    Defining a class again (a notebook cell that runs twice, a module that is reloaded) replaces the earlier one.

    Raises:
        ValueError: another class has the name.
    """
    if any(base.__module__.startswith("torch.fx.") for base in cls.__mro__):
        return  # a proxy that torch.export derives from a prior
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


def build(class_name: object, config: object, source: str) -> Trainable:
    """An unfitted prior from the class and options that a file names.

    Args:
        class_name: of a registered class.
        config: what its `get_config` gave, now or in an older version.
        source: what names them, for messages.

    Raises:
        ValueError: an unknown class, an option that it does not take, or a value that cannot be.
    """
    known = registered()
    if not isinstance(class_name, str) or class_name not in known:
        raise ValueError(
            f"path: {shown(source)} holds a {quoted(class_name)}, which this version does not know (it knows "
            f"{', '.join(sorted(known))}); import the module that defines it, or update poseprior."
        )
    if not isinstance(config, Mapping):
        raise ValueError(
            f"path: {shown(source)} has the options {quoted(config)}, expected a mapping; the file is damaged."
        )
    try:
        return known[class_name].from_config(config)
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError, MemoryError) as error:
        reason = "they are nested too deeply" if isinstance(error, RecursionError) else str(error).removesuffix(".")
        raise ValueError(
            f"path: {shown(source)} has options that {class_name} does not take ({reason[:1000]}); the file is damaged, or of a "
            "newer poseprior."
        ) from error


def save(prior: Trainable, path: str | os.PathLike[str]) -> None:
    """Write a prior's tensors and metadata; see `PosePrior.save`."""
    check_path("path", path)
    if not isinstance(prior.metadata, Mapping):
        raise ValueError(f"metadata: expected a mapping, got {quoted(prior.metadata)}; set prior.metadata = {{}}.")
    if taken := [key for key in RESERVED if key in prior.metadata]:
        raise ValueError(
            f"metadata: expected no entries named {', '.join(RESERVED)}, which describe the file itself, got "
            f"{', '.join(taken)}; rename them."
        )
    state = prior.state_dict()
    if any(tensor.is_meta for tensor in state.values()):
        raise ValueError(
            "prior: its weights are on the meta device, which holds no values; build or load it on the CPU."
        )
    if unusable := _not_finite(state) or _huge(state):
        raise ValueError(
            f"prior: expected finite weights within {_MOST_WEIGHT:g}, which loading asks for, got others in "
            f"{_listed(unusable)}; fit it again, or load an earlier file."
        )
    write(
        Path(path),
        {name: tensor.detach().cpu() for name, tensor in state.items()},
        {
            **prior._stored_metadata(),
            "class": type(prior).__name__,
            "config": prior.get_config(),
            "joints": [skeleton.JOINT_NAMES[j] for j in prior.joints],
        },
    )


@torch.inference_mode(False)  # weights made in inference mode could never pass gradients to a pose
def load(path: str | os.PathLike[str], kind: type[_Prior], *, device: str | torch.device = "cpu") -> _Prior:
    """The prior in a file, of the class `kind` or derived from it; see `PosePrior.load`."""
    device = usable_device(device)
    tensors, meta = read(Path(path))
    _refuse_many_parts(meta["config"], path)
    with _LimitedSizes(tensors.values()):
        prior = build(meta["class"], meta["config"], str(path))
    if not isinstance(prior, kind):
        raise ValueError(
            f"path: {shown(path)} holds a {type(prior).__name__}, not a {kind.__name__}; use poseprior.load(path)."
        )
    if meta["joints"] != [skeleton.JOINT_NAMES[j] for j in prior.joints]:
        raise ValueError(
            f"path: the metadata of {shown(path)} say that it models {quoted(meta['joints'])}, its options say "
            f"{quoted([skeleton.JOINT_NAMES[j] for j in prior.joints])}; the file is damaged."
        )
    load_strict(prior, tensors, Path(path))
    for part in prior.modules():  # itself, and the parts of a product
        if isinstance(part, Trainable):
            part.fitted = True
    prior.to(device).eval().requires_grad_(False)
    try:
        if huge := _huge(tensors):
            raise ValueError(f"numbers beyond {_MOST_WEIGHT:g} in {_listed(huge)}")
        prior._check_weights()  # this also fills the caches of what depends on the weights alone
        prior._restore_metadata({key: value for key, value in meta.items() if key not in RESERVED})
    except (ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        raise ValueError(
            f"path: {shown(path)} holds weights that {type(prior).__name__} cannot use "
            f"({str(error)[:1000].removesuffix('.')}); the file is damaged."
        ) from error
    return prior


def _huge(tensors: Mapping[str, Tensor]) -> list[str]:
    """Weights whose products leave the range of single precision for some poses, if not for those that are tried."""
    return [n for n, t in tensors.items() if t.is_floating_point() and bool((t.abs() > _MOST_WEIGHT).any())]


def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all()))


def _listed(names: list[str]) -> str:
    """Names of tensors for a message, the first of many."""
    return ", ".join(map(_printable, names[:_MOST_NAMES])) + ", ..." * (len(names) > _MOST_NAMES)


def _refuse_many_parts(config: object, path: str | os.PathLike[str]) -> None:
    """Refuse options with so many priors in them that building these takes long."""
    parts, left = 0, [(config, 0)]
    while left:
        value, depth = left.pop()
        if isinstance(value, Mapping):
            nested = {"class", "config"} <= set(value)
            parts, depth = parts + nested, depth + nested
            if parts > _MOST_PARTS or depth > _DEEPEST:
                raise ValueError(
                    f"path: {shown(path)} holds a prior of more than {_MOST_PARTS} priors, or nested more than {_DEEPEST} deep; "
                    "save its parts as priors of their own."
                )
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        left += [(one, depth) for one in inside if isinstance(one, Mapping | list)]


class _LimitedSizes(TorchFunctionMode):
    """A context that refuses to make many more numbers, over all tensors together, than the tensors of a file hold.

    Args:
        tensors: those of the file.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self._left = _NUMBERS_PER_STORED * sum(tensor.numel() for tensor in tensors) + _MORE_NUMBERS

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _TENSOR_MAKERS:
            sizes = {name: value for name, value in kwargs.items() if name not in ("generator", "out", "pin_memory")}
            self._left -= func(*args, **{**sizes, "device": "meta"}).numel()
            if self._left < 0:
                raise ValueError("they ask for more numbers than the tensors of the file have")
        return func(*args, **kwargs)


def load_strict(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy `tensors` into a module. If any does not fit, nothing is copied, and one error lists all that do not.

    A module of another floating-point type takes that of the tensors, where these agree on single or double precision.

    Raises:
        ValueError: tensors that are missing, unexpected, of other shapes or types, not finite, or, for whole numbers
            (permutations), not the module's own in some order.
    """
    refuse_misfits(module.state_dict(), tensors, path, type(module).__name__)
    stored = _floating_types(tensors)  # half precision only makes the file smaller: no prior computes in it
    if stored in ({torch.float32}, {torch.float64}) and stored != _floating_types(module.state_dict()):
        module.to(next(iter(stored)))
    module.load_state_dict(tensors)


def refuse_misfits(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path, owner: str, *, same_types: bool = False
) -> None:
    """Refuse tensors that do not take the places of those that are expected; one error lists all.

    Args:
        expected: tensors by name.
        tensors: what a file holds.
        path: of the file.
        owner: of the expected tensors, for messages.
        same_types: whether another floating-point type is refused, too.

    Raises:
        ValueError: as `load_strict`.
    """
    both = sorted(set(expected) & set(tensors))
    misshapen = [
        f"{name} (expected {tuple(expected[name].shape)}, got {tuple(tensors[name].shape)})"
        for name in both
        if expected[name].shape != tensors[name].shape
    ]
    mistyped = [
        f"{name} (expected {expected[name].dtype}, got {tensors[name].dtype})"
        for name in both
        if not _same_kind(expected[name], tensors[name], same_types)
    ]
    odd = [] if misshapen or mistyped else [name for name in both if not _same_values(expected[name], tensors[name])]
    problems = (
        ("missing", sorted(set(expected) - set(tensors))),
        ("unexpected", [_printable(name) for name in sorted(set(tensors) - set(expected))]),
        ("misshapen", misshapen), ("of another type", mistyped),
        ("not finite", [_printable(name) for name in _not_finite(tensors)]), ("not a permutation", odd),
    )  # fmt: skip
    listed = "; ".join(
        f"{label}: {', '.join(names[:_MOST_NAMES])}{', ...' if len(names) > _MOST_NAMES else ''}"
        for label, names in problems
        if names
    )
    if listed:
        raise ValueError(f"path: the tensors of {shown(path)} do not fit {owner}; {listed}.")


def _same_kind(expected: Tensor, found: Tensor, same_types: bool) -> bool:
    floating = expected.is_floating_point() and found.is_floating_point() and not same_types
    return expected.dtype == found.dtype or floating


def _same_values(expected: Tensor, found: Tensor) -> bool:
    """Whether whole numbers are those of a fresh module, in whatever order; True for other tensors."""
    if expected.is_floating_point():
        return True
    return torch.equal(expected.cpu().flatten().sort().values, found.flatten().sort().values)


def _printable(name: str) -> str:
    return name if name.isascii() and name.isprintable() and len(name) <= 120 else quoted(name)


def _floating_types(tensors: dict[str, Tensor]) -> set[torch.dtype]:
    return {t.dtype for t in tensors.values() if t.is_floating_point()}
