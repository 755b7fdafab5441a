"""Whether the prior that stands in a run folder was made as the one that `poseprior train` is to make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..training.config import FitOptions


def refuse_another_run(path: Path, origin: dict[str, Any], options: FitOptions) -> None:
    """Refuse to write over a prior that was made in another way.

    Args:
        path: the prior's file, if there is one.
        origin: how the new prior is made.
        options: of its training.

    Raises:
        ValueError: what differs.
    """
    from .._shown import training_facts
    from ..pretrained.loading import load

    if not path.exists():
        return
    try:
        metadata = load(path).metadata
    except ValueError as error:
        raise ValueError(
            f"--out: {path} already holds a prior that cannot be read ({str(error).removesuffix('.')}). Give another folder, "
            "or --overwrite to replace it."
        ) from error
    recipe, config = metadata.get("recipe"), training_facts(metadata).get("config")
    found = dict(recipe) if isinstance(recipe, Mapping) else {"recipe": recipe}
    found |= _of_one_run(config if isinstance(config, Mapping) else {})
    wanted = json.loads(json.dumps({**origin, **_of_one_run(reproducible(options))}))
    differing = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if differing:
        listed = "; ".join(f"{name} was {found.get(name)!r}, is {wanted.get(name)!r}" for name in differing)
        data = " The poses are not those that it was trained on." if "data_digest" in differing else ""
        raise ValueError(
            f"--out: {path} already holds another prior: {listed}.{data} Give another folder, or --overwrite to replace it."
        )


def reproducible(options: FitOptions) -> dict[str, Any]:
    """The options that decide the weights."""
    places = ("checkpoint_dir", "checkpoint_every", "resume", "tensorboard_dir", "device", "progress")
    return {name: value for name, value in asdict(options).items() if name not in places}


def _of_one_run(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the loop that a run must share with the one it goes on from: all but how long it is."""
    kept = {name: value for name, value in options.items() if name not in ("max_steps", "minutes", "patience")}
    return {**kept, "closed form": options.get("max_steps") == 0}
