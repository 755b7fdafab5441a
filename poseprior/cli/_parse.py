"""One command's arguments, read by tyro: short names of values, real defaults, suggestions from the right command."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import Field, field, fields, make_dataclass
from typing import Annotated, Any, TextIO, TypeVar, cast, get_type_hints

import tyro

from ._arguments import check_arguments

_Command = TypeVar("_Command")

#: A prior as commands take it.
Prior = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="PRIOR",
        help="A shipped prior's name (poseprior list), a .safetensors file, a run folder, or hf://owner/repo/file.",
    ),
]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONFIG = (tyro.conf.DisallowNone, tyro.conf.OmitArgPrefixes)


def parse(
    command: type[_Command],
    arguments: Sequence[str],
    *,
    prog: str,
    hints: Mapping[str, str] | None = None,
    default: _Command | None = None,
    description: str | None = None,
) -> _Command:
    """The command with the options of a command line.

    Args:
        command: a dataclass; its docstrings are the help.
        arguments: what follows `prog`.
        prog: what the user typed so far, for messages.
        hints: what the help says about an option that is not given, by name; else its default, or nothing for None.
        default: values that hold where no option is given.
        description: at the top of the help; None is the docstring.

    Raises:
        ValueError: arguments that the command does not take.
        SystemExit: after the help (0).
    """
    check_arguments(command, arguments, prog, default)
    shown: Any = with_hints(command, hints or {})
    start = None if default is None else shown(**vars(default))
    printed = _Printed(sys.stdout)
    try:
        with contextlib.redirect_stdout(printed):
            found: _Command = tyro.cli(
                shown, args=list(arguments), prog=prog, default=start, config=_CONFIG,
                description=description or inspect.getdoc(command),
            )  # fmt: skip
    finally:
        for line in printed.getvalue().splitlines():
            print(_wrapped(line))
    return found


class _Printed(io.StringIO):
    """What would go to `stream`, in the letters and colours that it takes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()


def _wrapped(line: str) -> str:
    """A line of the help, in pieces of the terminal's width: tyro leaves usage and description as they are."""
    plain, width = _COLOUR.sub("", line), shutil.get_terminal_size().columns
    if len(plain) <= width:
        return line
    indent = "    " if plain.startswith("usage:") else ""
    return textwrap.fill(plain, width - 1, subsequent_indent=indent, break_on_hyphens=False)


def with_hints(command: type[_Command], hints: Mapping[str, str]) -> type[_Command]:
    """The same dataclass, whose help says `hints` in place of `(default: None)`."""
    types, annotated = get_type_hints(command, include_extras=True), cast(Any, Annotated)
    changed: list[tuple[str, Any, Field[Any]]] = []
    for option in fields(command):  # type: ignore[arg-type]
        hint = hints.get(option.name)
        if hint is None and option.default is None:
            hint = ""
        if hint is None and isinstance(option.default, bool):
            hint = f"(default: {'yes' if option.default else 'no'})"
        if hint is not None:
            kind = annotated[types[option.name], tyro.conf.arg(help_behavior_hint=_unless_set(option, hint))]
            changed.append((option.name, kind, field(default=option.default)))
    return make_dataclass(command.__name__, changed, bases=(command,), frozen=True, kw_only=True)


def _unless_set(option: Field[Any], hint: str) -> Any:
    """The hint, or the value that a configuration file set in place of the default."""
    return lambda value: hint if value in (str(option.default), "MISSING") else f"(default: {value})"


def listed(lines: Mapping[str, str], width: int) -> str:
    """Names and what each is, wrapped to 79 columns."""
    indent = " " * (width + 3)
    return "\n".join(
        textwrap.fill(text, 79, initial_indent=f"  {name:<{width}} ", subsequent_indent=indent, break_on_hyphens=False)
        for name, text in lines.items()
    )
