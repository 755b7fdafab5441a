"""Checks of values that users pass: one error that names the argument, what was expected and what arrived."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands that need no torch do not wait for it
    import torch
    from torch import Tensor

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120
_short.maxlist = _short.maxtuple = _short.maxset = 60
_short.maxlevel = 4


def quoted(value: object) -> str:
    """A value for a message: `repr`, cut short where it is long, with control characters escaped."""
    try:
        return _short.repr(value)
    except ValueError:  # Python does not print whole numbers of more than 4,300 digits
        return f"a {type(value).__name__} of very many digits"


def check_number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """The value as a float, or an error for what is not a finite number in the range.

    Raises:
        ValueError: naming the argument, the range and the value.
    """
    bounds = [f"of {least:g} or more" if least is not None else "", f"above {above:g}" if above is not None else "",
              f"below {below:g}" if below is not None else "", f"at most {most:g}" if most is not None else ""]  # fmt: skip
    wanted = " and ".join(bound for bound in bounds if bound)
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    inside = (least is None or number >= least) and (above is None or number > above)
    inside = inside and (below is None or number < below) and (most is None or number <= most)
    if not (math.isfinite(number) and inside):
        raise ValueError(f"{name}: expected a finite number{f' {wanted}' if wanted else ''}, got {quoted(value)}.")
    return number


def check_whole(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """The value as an int, or an error for what is not a whole number in the range (and below 2^63, as sizes are).

    Raises:
        ValueError: naming the argument, the range and the value.
    """
    upper = 2**63 - 1 if most is None else most
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= upper:
        end = ""
        if most is not None:
            end = f" and at most {most}"
        elif isinstance(value, Integral) and int(value) > upper:
            end = " and below 2^63"
        raise ValueError(f"{name}: expected a whole number of {least} or more{end}, got {quoted(value)}.")
    return int(value)


def check_share(name: str, value: object) -> float:
    """The value as a float, or an error for what is not a probability below 1.

    Raises:
        ValueError: naming the argument and the value.
    """
    return check_number(name, value, least=0.0, below=1.0)


def check_floating(name: str, value: object, shape: str = "") -> None:
    """Refuse what is not a dense floating-point tensor with values.

    Raises:
        ValueError: naming the argument, the shape that is expected, and what arrived.
    """
    from torch import Tensor  # here, so that commands that need no torch do not wait for it

    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"{name}: expected a floating-point tensor{shape and ' ' + shape}, got {kind}; use torch.as_tensor."
        )
    if value.dtype.itemsize < 2:  # PyTorch stores it, and computes nothing in it
        raise ValueError(
            f"{name}: expected floating-point numbers of 16 bits or more, got {value.dtype}; use {name}.float()."
        )
    require_dense(name, value)


def as_tensor(name: str, value: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """The value as a dense tensor, or an error for what is none.

    Raises:
        ValueError: naming the argument and the value.
    """
    import torch

    try:
        tensor = torch.as_tensor(value, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}: expected a tensor or numbers, got {quoted(value)}.") from None
    require_dense(name, tensor)
    return tensor


def as_real_tensor(name: str, value: Any, *, dtype: torch.dtype, device: Any = None) -> Tensor:
    """As `as_tensor`; True is no size, and of a complex number half would be lost.

    Raises:
        ValueError: naming the argument and the value.
    """
    given = as_tensor(name, value)
    if given.dtype.is_complex or "bool" in str(given.dtype):
        raise ValueError(f"{name}: expected real numbers, got {quoted(value)} ({given.dtype}).")
    return as_tensor(name, value, dtype=dtype, device=device)


def require_dense(name: str, value: Tensor) -> None:
    """Refuse sparse and nested tensors, and tensors without values."""
    if value.is_nested:
        raise ValueError(f"{name}: expected a dense tensor, got a nested one; use torch.stack({name}.unbind()).")
    if "strided" not in str(value.layout):
        raise ValueError(f"{name}: expected a dense tensor, got {value.layout}; use {name}.to_dense().")
    if value.device.type == "meta":
        raise ValueError(f"{name}: expected a tensor with values, got one on the meta device, which has none.")


def check_switch(name: str, value: object) -> bool:
    """The value, or an error for what is neither True nor False.

    Raises:
        ValueError: naming the argument and the value.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {quoted(value)}.")
    return value


def check_effect(
    name: str, value: object, usual: object, cause: str, remedy: str, *, zero_is_off: bool = False
) -> None:
    """Refuse an option that nothing reads beside the others, unless it has its usual value.

    Args:
        name: of the option.
        value: what was given.
        usual: what holds where the option is left out.
        cause: why nothing reads it, such as `couplings=0`.
        remedy: what to give so that it is read.
        zero_is_off: whether 0 switches off what the option is of, so that it passes where that is not there.

    Raises:
        ValueError: naming the option, the value, the cause and the remedy.
    """
    off = zero_is_off and isinstance(value, Real) and value == 0
    if value is usual or (usual is not None and value == usual) or off:
        return
    got = quoted(value)
    if "\n" in got or got.startswith("<"):  # tensors, generators
        got = f"a {type(value).__name__}"
    raise ValueError(f"{name}: has no effect with {cause}, got {got}; leave it out, or give {remedy}.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is not one of a few words.

    Raises:
        ValueError: naming the argument, the words and the value.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {quoted(value)}.")


def check_text(name: str, value: object) -> None:
    """Refuse what is not a string.

    Raises:
        ValueError: naming the argument and the value.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a string, got {quoted(value)}.")


def check_path(name: str, value: object) -> None:
    """Refuse what is no path.

    Raises:
        ValueError: naming the argument and the value.
    """
    try:  # a file's name has no null characters and no lone surrogates
        possible = isinstance(value, str | os.PathLike) and value != "" and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise ValueError(f"{name}: expected a path, got {quoted(value)}.")


def check_ending(name: str, path: os.PathLike[str], *endings: str) -> None:
    """Refuse a file of a kind that is not written; capitals are taken.

    Raises:
        ValueError: naming the argument, the endings and the path.
    """
    shown = os.path.basename(path)
    if os.path.splitext(shown)[1].lower() not in endings:
        wanted = ", ".join(endings[:-1]) + " or " * (len(endings) > 1) + endings[-1]
        fix = f"use {shown + endings[0]!r}" if shown.strip(".") else f"name a file, as 'NAME{endings[0]}'"
        raise ValueError(f"{name}: expected a name that ends in {wanted}, got {shown!r}; {fix}.")


def check_mapping(name: str, value: object) -> Mapping[str, Any]:
    """The value, or an error for what is not a mapping with names as keys.

    Raises:
        ValueError: naming the argument and the value.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name}: expected a mapping of names to values, got {quoted(value)}.")
    return value


def check_wholes(name: str, value: object) -> list[int]:
    """A list of ints, or an error for what is not a list or tuple of whole numbers of 0 or more.

    Raises:
        ValueError: naming the argument and the value.
    """
    if not isinstance(value, list | tuple) or not all(
        isinstance(item, Integral) and not isinstance(item, bool) and 0 <= int(item) < 2**63 for item in value
    ):
        raise ValueError(f"{name}: expected a list of whole numbers of 0 or more, got {quoted(value)}.")
    return [int(item) for item in value]


def check_groups(name: str, value: object) -> list[list[int]] | None:
    """A list of lists of joints, None for None, or an error for anything else.

    Raises:
        ValueError: naming the argument and the value.
    """
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(group, list | tuple) for group in value):
        raise ValueError(f"{name}: expected a list of lists of joint indices, or None, got {quoted(value)}.")
    return [check_wholes(name, group) for group in value]


def check_joint_names(value: object) -> str | list[str | int]:
    """The value as a string or a list, or an error for what names no joints: a string, an index, several of them.

    Raises:
        ValueError: naming the argument and the value.
    """
    if isinstance(value, str):
        return value
    several = isinstance(value, Iterable) and not isinstance(value, Mapping | bytes)
    items: list[Any] = list(value) if several and isinstance(value, Iterable) else [value]
    if not all(isinstance(item, str | Integral) and not isinstance(item, bool) for item in items):
        raise ValueError(
            f"joints: expected names or indices of joints or joint sets, or a list of them, got {quoted(value)}; try "
            "'body' or 'whole_body'."
        )
    return [item if isinstance(item, str) else int(item) for item in items]


def check_option_names(make: Callable[..., object], options: Iterable[str], owner: str) -> None:
    """Refuse names that a constructor does not take.

    Raises:
        ValueError: listing the unknown names and those that are taken.
    """
    parameters = inspect.signature(make).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    unknown = [quoted(name) for name in options if name not in known]
    if unknown:
        raise ValueError(f"{', '.join(unknown[:8])}: {owner} takes no such option; its options are {', '.join(known)}.")


def nearest(word: str, known: Iterable[str], *, shown: Callable[[str], str] = str) -> str:
    """` Did you mean ...?`, where a known word is like this one; else nothing."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {shown(found[0])}?" if found else ""
