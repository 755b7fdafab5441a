"""Checks of values that users pass: one error that names the argument, what was expected and what arrived."""

from __future__ import annotations

import math
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
