"""A folder that one run makes and a second run of the same kind goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._text import shown


def require_new(out: Path, name: str, what: str) -> None:
    """Refuse a folder that holds something, but for what a run leaves that was killed while it wrote its first file `name`.

    Raises:
        ValueError: such a folder, or no folder; `what` says what else may be given.
    """
    if out.exists() and (not out.is_dir() or any(not p.name.startswith(f".{name}.") for p in out.iterdir())):
        raise ValueError(f"out: expected a new folder, an empty one or that of {what}, got {shown(out)}.")


def require_same(out: Path, found: Mapping[str, Any], asked: Mapping[str, Any], what: str) -> None:
    """Refuse to go on in a folder where something else was asked for.

    Raises:
        ValueError: naming each option that differs; `what` says what the folder holds then.
    """
    differing = [name for name in sorted({*found, *asked}) if found.get(name) != asked.get(name)]
    if differing:
        listed = "; ".join(f"{name} was {found.get(name)!r}, is {asked.get(name)!r}" for name in differing)
        raise ValueError(f"out: {shown(out)} holds {what}: {listed}. Give another folder, or the same options.")
