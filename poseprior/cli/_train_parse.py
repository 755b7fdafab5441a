"""The arguments of `poseprior train`: a model's name, a configuration file, and options."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import tyro

from .._checks import nearest
from . import _train_options as train_options
from ._models import MODELS
from ._parse import listed, parse
from ._run_config import read_config
from ._train import Train
from ._train_options import TrainOptions

_DESCRIPTION = "\n".join(
    (
        str(TrainOptions.__doc__), "", "poseprior train MODEL --data DIR --out RUN [OPTIONS], where MODEL is one of",
        listed({name: str(kind.__doc__) for name, kind in MODELS.items()}, 15), "",
        "poseprior train MODEL --help has the model's options and defaults.",
    )
)  # fmt: skip


def parse_train(arguments: Sequence[str], prog: str) -> Train:
    """`poseprior train MODEL ...`: the model's name comes first; `--config` and `--recipe` do without."""
    word = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if word is not None and word not in MODELS:
        raise ValueError(f"train: no model {word!r}; the models are {', '.join(MODELS)}.{nearest(word, list(MODELS))}")
    later = [a for before, a in pairwise(arguments) if a in MODELS and not before.startswith("-") and before != word]
    if word is None and later:
        raise ValueError(f"train: expected the model first: {prog} {later[0]} --data ... --out ...")
    rest = arguments if word is None else arguments[1:]
    model: str | None = word
    values: dict[str, Any] = {}
    options: dict[str, Any] = {}
    config = _option(rest, "--config")
    if config is not None:
        named, values, options = read_config(Path(config))
        if word is not None and named != word:
            raise ValueError(f"--config: {config} is for {named or values.get('recipe')}, the command for {word}.")
        if _option(rest, "--recipe") is not None:
            named, options = None, {}
        model = named
    command = train_options.for_model(Train, model, options)
    start = None if config is None else command(**{"data": tyro.MISSING, "out": tyro.MISSING, **values})
    prog = prog if word is None else f"{prog} {word}"
    return parse(
        command, rest, prog=prog, default=start, hints=train_options.hints(model),
        description=_DESCRIPTION if model is None else MODELS[model].__doc__,
    )  # fmt: skip


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option, `--name VALUE` or `--name=VALUE`."""
    for argument, following in pairwise([*arguments, ""]):
        if argument == name or argument.startswith(f"{name}="):
            return argument.partition("=")[2] or following
    return None
