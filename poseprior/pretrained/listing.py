"""What ships with the package, from the heads of the files: no torch is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._checkpoint_format import read_metadata

#: Where the weights that ship with the package lie.
FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class PretrainedPrior:
    """What ships under a name.

    Attributes:
        name: for `poseprior.load`.
        description: one line.
        class_name: of the prior.
        joints: names of the joints it models.
        num_parameters: trained numbers.
        num_bytes: size of the file.
        metrics: held-out numbers by part ("body", "hands"); every NLL at `metrics["jitter"]` radians.
        licence: of the weights.
    """

    name: str
    description: str
    class_name: str
    joints: tuple[str, ...]
    num_parameters: int
    num_bytes: int
    metrics: Mapping[str, Any]
    licence: str


def pretrained_files() -> dict[str, Path]:
    """Files of the shipped priors by name."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"), key=lambda file: file.stem)}


def list_pretrained() -> tuple[PretrainedPrior, ...]:
    """The priors that ship with the package, by name; reads the heads of the files alone, no tensors."""
    return tuple(_describe(name, file) for name, file in pretrained_files().items())


def _describe(name: str, file: Path) -> PretrainedPrior:
    meta = read_metadata(file)
    return PretrainedPrior(
        name=name, description=meta["description"], class_name=meta["class"], joints=tuple(meta["joints"]),
        num_parameters=meta["num_parameters"], num_bytes=file.stat().st_size, metrics=meta["metrics"],
        licence=meta["licence"],
    )  # fmt: skip
