"""JSON from files of others: bounded in size and depth, numbers as floats, one error for every way to be broken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..._text import short, shown
from .array_file import require_file

_MOST_BYTES = 512 * 2**20
_LONGEST_INTEGER = 18


def read_json(path: Path) -> Any:
    """The content of a file in UTF-8, -16 or -32, with or without a byte order mark.

    Raises:
        ValueError: not JSON, cut off, nested too deeply, or larger than half a gigabyte.
    """
    require_file(path, ".json")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{shown(path)}: expected JSON of at most {_MOST_BYTES >> 20} MiB, got more; give a file for each frame."
        )
    try:
        return json.loads(path.read_bytes(), parse_int=_integer)
    except (ValueError, RecursionError, OSError, MemoryError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else short(error)
        raise ValueError(f"{shown(path)}: expected JSON, got a file that is broken or cut off ({why}).") from None


def _integer(text: str) -> int | float:
    """Integers of thousands of digits are infinite, as other parsers have them."""
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number; NaN counts, which Python writes."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def numbers(value: Any, what: str, path: Path) -> list[float]:
    """A list, or a list of lists, of numbers, flat; what is missing (null) is NaN.

    Raises:
        ValueError: anything else in it.
    """
    if not isinstance(value, list):
        raise ValueError(f"{what}: expected a list of numbers in {shown(path.name)}, got {type(value).__name__}.")
    flat: list[float] = []
    for entry in value:
        if isinstance(entry, list):
            flat += numbers(entry, what, path)
        elif entry is None:
            flat.append(math.nan)
        elif is_number(entry):
            flat.append(float(entry))
        else:
            raise ValueError(
                f"{what}: expected a list of numbers in {shown(path.name)}, got one that holds {type(entry).__name__}."
            )
    return flat
