"""`load`: a prior by name, from a file or from a hub, whichever class it is."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from .. import models, rigs  # noqa: F401  (they define every class that a file may name)
from .._checks import nearest
from ..prior import PosePrior
from . import hub
from .listing import PretrainedPrior, pretrained_files

#: Names of weights that shipped once, by what takes their place.
SUCCESSORS = {
    f"{name}-smooth": name
    for name in ("body-mixture", "body-joint-flow", "body-global-flow", "body-order-agnostic", "hand-mixture")
}
#: A file's page, or its download, on the Hugging Face hub.
_OF_THE_HUB = re.compile(
    r"https?://(www\.)?huggingface\.co/(?P<repo>[^/]+/[^/]+)/(blob|resolve)/(?P<revision>[^/]+)/(?P<file>[^?#]+)([?#].*)?",
    re.I,
)


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
        if "://" in path and not os.path.exists(path):
            raise ValueError(
                f"path: expected a name, a file, a run folder or hf://owner/repo/file, got the address {hub.shown(path)}; "
                f"{_instead_of(path)}."
            )
        known = pretrained_files()
        if path in known:
            return known[path]
        if path in SUCCESSORS and not os.path.exists(path):
            raise ValueError(f"path: {path!r} no longer ships; load {SUCCESSORS[path]!r}, which takes its place.")
        bare = os.sep not in path and "/" not in path and not path.endswith(".safetensors")
        if bare and not os.path.exists(path):
            raise ValueError(
                f"path: no file or folder {hub.shown(path)}, and no prior of that name ships with poseprior; the names are "
                f"{', '.join(known) or '(none: the package data is missing, reinstall poseprior)'}."
                f"{nearest(path, known, shown=repr)}"
            )
    inside = Path(path) / "prior.safetensors"
    return inside if inside.is_file() else Path(path)


def _instead_of(address: str) -> str:
    """What to pass in place of an address that is not one of a hub."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() == "file":
        return f"pass {('/' + rest.lstrip('/'))!r}"
    found = _OF_THE_HUB.fullmatch(address)
    revision = "" if found is None or found["revision"] == "main" else f"@{found['revision']}"
    better = "" if found is None else f"{hub.PREFIX}{found['repo']}/{found['file']}{revision}"
    if found is None or ".." in better or hub.masked(better) != better:
        return "download the file and pass its path, or pass hf://owner/repo/file for one on the Hugging Face hub"
    return f"pass {better!r}, or download the file and pass its path"
