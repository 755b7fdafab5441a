"""`load`: a prior by name, from a file or from a hub, whichever class it is; `list_pretrained`: what ships."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

import torch

from .. import (
    checkpoint,
    models,  # noqa: F401  (importing models and rigs registers every class that a file may name)
    rigs,  # noqa: F401
)
from ..prior import PosePrior
from . import hub
from .listing import PretrainedPrior, PretrainedPriors

#: Where the weights that ship with the package lie.
FOLDER = Path(__file__).resolve().parent
#: Names of weights that shipped once, by what takes their place.
SUCCESSORS = {
    f"{name}-smooth": name
    for name in ("body-mixture", "body-joint-flow", "body-global-flow", "body-order-agnostic", "hand-mixture")
}


def load(path: str | os.PathLike[str] | PretrainedPrior, *, device: str | torch.device = "cpu") -> PosePrior:
    """Any prior: one that ships with the package, or one that `PosePrior.save` wrote. Nothing in a file is executed.

    Args:
        path: a name or an entry of `list_pretrained()` (works offline); a `.safetensors` file; a run folder of `poseprior train`;
            or `hf://owner/repo/file[@revision][#sha256=...]`, which needs the `hub` extra, is cached, and is checked
            against the given hash or the hub's own. A string that is a shipped name means that prior, whatever lies in the
            working folder: write `./name` or pass a `Path` for a folder of the same name.
        device: where to put the weights.

    Returns:
        The prior, in eval mode with frozen weights.

    Raises:
        ValueError: an unknown name, no such file, not a poseprior file, damaged, of a newer format, or a hub that cannot
            be reached.

    >>> import poseprior
    >>> poseprior.load("body-gaussian").num_parameters
    2079
    """
    return PosePrior.load(resolve(path), device=device)


def resolve(path: str | os.PathLike[str] | PretrainedPrior) -> Path:
    """The file that `load` reads for its argument."""
    if isinstance(path, PretrainedPrior):
        path = path.name
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path: expected a name, a file or a run folder, got {type(path).__name__}.")
    if isinstance(path, str):
        if path.startswith(hub.PREFIX):
            return hub.fetch(path)
        known = pretrained_files()
        if path in known:
            return known[path]
        if path in SUCCESSORS and not os.path.exists(path):
            raise ValueError(f"path: {path!r} no longer ships; load {SUCCESSORS[path]!r}, which takes its place.")
        bare = os.sep not in path and "/" not in path and not path.endswith(".safetensors")
        if bare and not os.path.exists(path):
            raise ValueError(
                f"path: no file or folder {path!r}, and no prior of that name ships with poseprior; the names are "
                f"{', '.join(known) or '(none: the package data is missing, reinstall poseprior)'}.{_nearest(path, known)}"
            )
    inside = Path(path) / "prior.safetensors"
    return inside if inside.is_file() else Path(path)


def pretrained_files() -> dict[str, Path]:
    """Files of the shipped priors by name."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"), key=lambda file: file.stem)}


def list_pretrained() -> PretrainedPriors:
    """The priors that ship with the package, by name; prints as a table. Reads the heads of the files alone, no tensors.

    >>> import poseprior
    >>> poseprior.list_pretrained()["body-gaussian"].class_name
    'GaussianPrior'
    """
    return PretrainedPriors({name: _describe(name, file) for name, file in pretrained_files().items()})


def _describe(name: str, file: Path) -> PretrainedPrior:
    meta = checkpoint.read_metadata(file)
    return PretrainedPrior(
        name=name, description=meta["description"], class_name=meta["class"], joints=tuple(meta["joints"]),
        num_parameters=meta["num_parameters"], num_bytes=file.stat().st_size, metrics=meta["metrics"],
        licence=meta["licence"],
    )  # fmt: skip


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""
