"""`list_pretrained`: the priors that ship, by name, which print as a table. Their files are read without torch."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from .._checkpoint_format import read_metadata

#: Where the weights that ship with the package lie.
FOLDER = Path(__file__).resolve().parent
_HEAD = ("name", "class", "joints", "parameters", "body", "hands")
_WIDTH = 79


@dataclass(frozen=True, kw_only=True)
class PretrainedPrior:
    """What ships under a name.

    Attributes:
        name: for `poseprior.load`.
        description: one line.
        class_name: of the prior.
        joints: names of the joints it models.
        num_parameters: trained numbers.
        path: of the file.
        num_bytes: size of the file.
        metrics: held-out numbers by part ("body", "hands"); every NLL at `metrics["jitter"]` radians.
        licence: of the weights.
    """

    name: str
    description: str
    class_name: str
    joints: tuple[str, ...]
    num_parameters: int
    path: Path
    num_bytes: int
    metrics: Mapping[str, Any]
    licence: str

    def __repr__(self) -> str:
        nll = ", ".join(f"{part} {value}" for part, value in self._nll().items())
        return (
            f"PretrainedPrior({self.name!r}: {self.class_name}, {len(self.joints)} joints, "
            f"{self.num_parameters:,} parameters, held-out NLL {nll})"
        )

    def _nll(self) -> dict[str, str]:
        parts = {part: numbers for part, numbers in self.metrics.items() if isinstance(numbers, Mapping)}
        return {part: f"{numbers['test']['nll']:.1f}" for part, numbers in parts.items() if "test" in numbers}

    def _row(self) -> tuple[str, ...]:
        nll = self._nll()
        facts = (self.name, self.class_name, str(len(self.joints)), f"{self.num_parameters:,}")
        return (*facts, nll.get("body", "-"), nll.get("hands", "-"))


@final
class PretrainedPriors(Mapping[str, PretrainedPrior]):
    """The priors that ship with the package by name; prints as a table, also in a notebook."""

    def __init__(self, priors: Mapping[str, PretrainedPrior]) -> None:
        self._priors = dict(priors)

    def __getitem__(self, name: str) -> PretrainedPrior:
        return self._priors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._priors)

    def __len__(self) -> int:
        return len(self._priors)

    def __repr__(self) -> str:
        rows = [prior._row() for prior in self.values()]
        widths = [max(len(row[k]) for row in (_HEAD, *rows)) for k in range(len(_HEAD))]
        lines = [_line(_HEAD, widths)]
        for prior, row in zip(self.values(), rows, strict=True):
            lines.append(_line(row, widths))
            indent = " " * (widths[0] + 2)
            lines += textwrap.wrap(prior.description, _WIDTH, initial_indent=indent, subsequent_indent=indent)
        return "\n".join([*lines, *self._foot()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in (*_HEAD, "description"))
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in (*p._row(), p.description)) + "</tr>"
            for p in self.values()
        )
        foot = "".join(f"<p>{html.escape(line)}</p>" for line in self._foot())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{foot}"

    def _foot(self) -> list[str]:
        if not self:
            return ["(none: the package data is missing, reinstall poseprior)"]
        facts = sorted({f"jitter {p.metrics['jitter']} rad; licence {p.licence}" for p in self.values()})
        return textwrap.wrap(
            f"body, hands: NLL of held-out people, nats a pose against uniform rotations, {' or '.join(facts)}", _WIDTH
        )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    text = [f"{cell:<{width}}" for cell, width in zip(cells[:2], widths[:2], strict=True)]
    numbers = [f"{cell:>{width}}" for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join((*text, *numbers))


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
    meta = read_metadata(file)
    return PretrainedPrior(
        name=name, description=meta["description"], class_name=meta["class"], joints=tuple(meta["joints"]),
        num_parameters=meta["num_parameters"], path=file, num_bytes=file.stat().st_size, metrics=meta["metrics"],
        licence=meta["licence"],
    )  # fmt: skip
