"""What is wrong with the arguments of a command, in one line, before tyro reads them."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from .._checks import nearest

_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a value", Path: "a path"}


@dataclass(frozen=True)
class _Option:
    """One field of a command.

    Attributes:
        flags: `--max-poses`, or `-n` and `--num`; none of a positional argument.
        shown: how messages name it.
        kind: of its values; bool is a switch, which has none.
        count: how many values follow; None for one or more.
        choices: what a value may be, if these are few.
        required: whether the command line has to give it.
    """

    flags: tuple[str, ...]
    shown: str
    kind: Any
    count: int | None
    choices: tuple[str, ...]
    required: bool


def check_arguments(command: type, arguments: Sequence[str], prog: str, default: Any = None) -> None:
    """Refuse arguments that the command does not take.

    Args:
        command: a dataclass.
        arguments: what follows `prog`.
        prog: what the user typed so far.
        default: values that hold where no option is given.

    Raises:
        ValueError: an unknown option, a value that is missing or of another kind, or a required argument that is missing.
    """
    if "-h" in arguments or "--help" in arguments:
        return
    options = _options(command, default)
    by_flag = {flag: option for option in options for flag in option.flags}
    positional = [option for option in options if not option.flags]
    given: set[str] = set()
    loose: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not _is_flag(word):
            loose.append(word)
            continue
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-") if flag.startswith("--") else flag
        if flag not in by_flag:
            known = [name.lstrip("-") for name in by_flag]
            meant = nearest(flag.lstrip("-"), known, shown=lambda name: f"--{name}")
            raise ValueError(f"{flag}: {prog} has no such option; {prog} --help lists them.{meant}")
        option = by_flag[flag]
        given.add(option.shown)
        values = [value] if equals else []
        while (option.count is None or len(values) < option.count) and words:
            if _is_flag(words[0]) and words[0] not in option.choices:
                break
            values.append(words.pop(0))
        if option.kind is not bool:
            _check_values(flag, option, values)
    if len(loose) > len(positional):
        raise ValueError(f"unexpected {loose[len(positional)]!r}; {prog} --help says what it takes.")
    lacking = [option.shown for option in positional[len(loose) :] if option.required]
    lacking += [option.shown for option in options if option.flags and option.required and option.shown not in given]
    if lacking:
        raise ValueError(f"missing {', '.join(lacking)}; {prog} --help says what it takes.")


def option_names(command: Any) -> set[str]:
    """The names of a command's fields that are options on the command line, those of a model's too."""
    return {flag[2:].replace("-", "_") for option in _options(type(command), None) for flag in option.flags}


def flag_of(name: str) -> str:
    """What the command line calls a field: `--max-poses` of `max_poses`."""
    return f"--{name.replace('_', '-')}"


def _is_flag(word: str) -> bool:
    """`--out` and `-n`, but not `-3` or `-`."""
    return len(word) > 1 and word[0] == "-" and not _is(float, word)


def _is(kind: Callable[[str], Any], word: str) -> bool:
    try:
        kind(word)
    except ValueError:
        return False
    return True


def _check_values(flag: str, option: _Option, values: list[str]) -> None:
    """Refuse too few values, and values of another kind."""
    expected = f"one of {', '.join(option.choices)}" if option.choices else _WORDS[option.kind]
    if option.count not in (None, 1):
        expected = f"{option.count} numbers"
    if len(values) < (option.count or 1):
        raise ValueError(f"{flag}: expected {expected}, got {' '.join(values) or 'nothing'}.")
    for value in values:
        if option.kind in (int, float) and not _is(option.kind, value):
            raise ValueError(f"{flag}: expected {expected}, got {value!r}.")
        if option.choices and value not in option.choices:
            raise ValueError(f"{flag}: expected {expected}, got {value!r}.{nearest(value, option.choices)}")


def _options(command: type, default: Any) -> list[_Option]:
    """The fields of a command, those of a model's options among them."""
    found: list[_Option] = []
    hints = get_type_hints(command, include_extras=True)
    for field in fields(command):
        kind, marks = _bare(hints[field.name])
        if tyro.conf.Suppress in marks:
            continue
        if is_dataclass(kind) and isinstance(kind, type):
            found += _options(kind, None)
            continue
        flag = flag_of(field.name)
        metavar = next((mark.metavar for mark in marks if getattr(mark, "metavar", None)), field.name.upper())
        aliases = next((mark.aliases for mark in marks if getattr(mark, "aliases", None)), ())
        count: int | None = 1
        if get_origin(kind) is tuple:
            kinds = get_args(kind)
            count, (kind, _) = None if kinds[-1] is Ellipsis else len(kinds), _bare(kinds[0])
        choices = tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
        is_positional = tyro.conf.Positional in marks
        flags = () if is_positional else (*aliases, flag)
        if kind is bool:
            flags, count = (*flags, f"--no-{flag[2:]}"), 0
        required = field.default is MISSING and field.default_factory is MISSING
        if default is not None:
            required = getattr(default, field.name) is tyro.MISSING
        found.append(_Option(flags, metavar if is_positional else flag, kind, count, choices, required))
    return found


def _bare(hint: Any) -> tuple[Any, list[Any]]:
    """A type without `Annotated` and `| None`, and what it was annotated with."""
    marks: list[Any] = []
    while True:
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            marks += more
        elif get_origin(hint) in (Union, types.UnionType):
            some = [one for one in get_args(hint) if one is not type(None)]
            if len(some) != 1:
                return hint, marks
            hint = some[0]
        else:
            return hint, marks
