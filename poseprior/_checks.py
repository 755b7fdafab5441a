"""Checks of values that users pass: one error that names the argument, what was expected and what arrived."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real

from torch import Tensor


def check_number(
    name: str, value: object, *, least: float | None = None, above: float | None = None, below: float | None = None
) -> None:
    """Refuse what is not a finite number in the range.

    Raises:
        ValueError: naming the argument, the range and the value.
    """
    bounds = [f"of {least:g} or more" if least is not None else "", f"above {above:g}" if above is not None else "",
              f"below {below:g}" if below is not None else ""]  # fmt: skip
    wanted = " and ".join(bound for bound in bounds if bound)
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    inside = (least is None or number >= least) and (above is None or number > above)
    if not (math.isfinite(number) and inside and (below is None or number < below)):
        raise ValueError(f"{name}: expected a finite number{f' {wanted}' if wanted else ''}, got {value!r}.")


def check_whole(name: str, value: object, *, least: int = 0) -> None:
    """Refuse what is not a whole number of `least` or more (and below 2^63, as seeds and sizes of tensors are).

    Raises:
        ValueError: naming the argument, the range and the value.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) < 2**63:
        most = " and below 2^63" if isinstance(value, Integral) and int(value) >= 2**63 else ""
        raise ValueError(f"{name}: expected a whole number of {least} or more{most}, got {value!r}.")


def check_floating(name: str, value: object, shape: str = "") -> None:
    """Refuse what is not a floating-point tensor.

    Raises:
        ValueError: naming the argument, the shape that is expected, and what arrived.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"{name}: expected a floating-point tensor{shape and ' ' + shape}, got {kind}; use torch.as_tensor."
        )


def check_switch(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        ValueError: naming the argument and the value.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {value!r}.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is not one of a few words.

    Raises:
        ValueError: naming the argument, the words and the value.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_text(name: str, value: object) -> None:
    """Refuse what is not a string.

    Raises:
        ValueError: naming the argument and the value.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a string, got {value!r}.")


def check_path(name: str, value: object) -> None:
    """Refuse what is no path.

    Raises:
        ValueError: naming the argument and the value.
    """
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{name}: expected a path, got {value!r}.")
