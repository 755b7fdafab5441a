"""`--config FILE.toml`: the options of a run from a file, and the file that a run folder gets."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from .._checks import nearest
from ._models import MODELS, Model
from ._train_options import TrainOptions, names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib
import tomli_w

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..training.rig_noise import RigNoise

_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_PATHS = ("data", "out")
_HEAD = "# The options of this run: poseprior train --config {path} repeats it, and flags replace single options.\n"


def read_config(path: Path) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
    """A file's model (None with a recipe), its options of `train`, and its options of the model.

    Raises:
        ValueError: no TOML, an option or a model that is not there, or a value of another type.
    """
    known = names()
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else reason
        raise ValueError(f"--config: {path} is not a readable TOML file ({reason}).") from None
    model, options = values.pop("model", None), values.pop("options", {})
    if model is not None and model not in MODELS:
        raise ValueError(
            f"--config: {path} names the model {model!r}; expected one of {', '.join(MODELS)}."
            f"{nearest(str(model), list(MODELS))}"
        )
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ValueError(
            f"--config: {path} has no use for {', '.join(unknown)}; expected model, [options] of the model, or options of "
            f"poseprior train ({', '.join(known)}).{nearest(unknown[0], known) or _under_options(unknown[0], model)}"
        )
    if not isinstance(options, Mapping) or (options and model is None):
        raise ValueError(f"--config: {path}: expected [options] to be a table beside a model, got {options!r}.")
    if model is not None:
        taken = [field.name for field in fields(MODELS[model])]
        foreign = [name for name in options if name not in taken]
        if foreign:
            raise ValueError(
                f"--config: {path}: {model} has no option {', '.join(foreign)}; its [options] are {', '.join(taken)}."
                f"{nearest(foreign[0], taken)}"
            )
    if isinstance(values.get("rig_noise"), Mapping):
        values["rig_noise"] = str(path)
    _check_kinds(path, TrainOptions, values)
    if model is not None:
        _check_kinds(path, MODELS[model], options)
    values |= {name: Path(values[name]) for name in _PATHS if name in values}
    return model, values, dict(options)


def _under_options(name: str, model: str | None) -> str:
    """A hint where an option of the model stands outside of `[options]`."""
    taken = [field.name for field in fields(MODELS[model])] if model is not None else []
    return nearest(name, taken, shown=lambda option: f"{option} under [options]")


def _check_kinds(path: Path, command: type, values: Mapping[str, Any]) -> None:
    """Refuse values of another kind than the options of `command` have."""
    kinds = get_type_hints(command)
    for name, value in values.items():
        taken = {Path: str}.get(kinds[name], kinds[name])
        allowed = get_args(taken) or (taken,)
        literals = [choice for one in allowed for choice in get_args(one)]
        fits = value in literals if literals else type(value) in allowed or (type(value) is int and float in allowed)
        if not fits:
            expected = " or ".join(map(repr, literals)) or " or ".join(_KINDS[one] for one in allowed if one in _KINDS)
            raise ValueError(f"--config: {path}: {name}: expected {expected}, got {value!r}.")


def write_config(path: Path, values: Mapping[str, Any], *, model: Model | None) -> None:
    """Write what `read_config` reads.

    Args:
        path: the file.
        values: options of `train`; those that are None are left out.
        model: the model's options, written with the library's defaults for what is left out; None with a recipe.
    """
    from ..io.atomic import replacing

    entries = _toml_value(values)
    if model is not None:
        entries = {"model": model.name(), **entries, "options": _toml_value(model.settled())}
    tables = [name for name, value in entries.items() if isinstance(value, dict)]  # TOML has them last
    ordered = {name: value for name, value in entries.items() if name not in tables} | {t: entries[t] for t in tables}
    with replacing(path) as temporary:
        temporary.write_text(_HEAD.format(path=path) + tomli_w.dumps(ordered))


def rig_noise_of(text: str) -> RigNoise | None:
    """What `--rig-noise` says: none, a part, or a file of sizes: a .json, or a .toml of a run with that table."""
    from ..training.rig_noise import RigNoise

    if text == "none":
        return None
    if not text.endswith((".json", ".toml")):
        try:
            return RigNoise.estimated(text)
        except ValueError:
            raise ValueError(
                f"--rig-noise: expected body, hands, whole_body, none or a .json file of sizes, got {text!r}."
            ) from None
    try:
        content = Path(text).read_text()
        values = tomllib.loads(content).get("rig_noise") if text.endswith(".toml") else json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        kind = "TOML" if text.endswith(".toml") else "JSON"
        raise ValueError(f"--rig-noise: {text} is not a readable {kind} file ({error}).") from None
    if not isinstance(values, dict):
        raise ValueError(
            f"--rig-noise: expected an object of sizes in {text}, in TOML a table of that name, got {type(values).__name__}."
        )
    try:
        return RigNoise.from_dict(values)
    except ValueError as error:
        raise ValueError(f"--rig-noise: {text}: {error}") from None


def _toml_value(value: Any) -> Any:
    """A value as TOML has them: no None, tuples and mappings as lists and dicts, paths as text."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _toml_value(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_toml_value(one) for one in value]
    return value
