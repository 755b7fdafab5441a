"""One command's arguments, read by tyro: short names of values, real defaults, suggestions from the right command."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import Field, field, fields, make_dataclass
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import tyro

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
        SystemExit: after the help (0) or a message (2).
    """
    shown: Any = with_hints(command, hints or {})
    start = None if default is None else shown(**vars(default))
    found: _Command = tyro.cli(
        shown, args=list(arguments), prog=prog, default=start, description=description or inspect.getdoc(command),
        config=_CONFIG,
    )  # fmt: skip
    return found


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
