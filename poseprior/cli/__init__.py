"""The `poseprior` command. Thin: every command is one call into the library."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from .._checks import nearest
from .._version import __version__
from ._arguments import flag_of, option_names
from ._common import escaped
from ._data import ACTIONS, DataCommand
from ._export import Export
from ._fit import Fit
from ._mesh import ExportMesh
from ._parse import listed, parse
from ._rigs import Adapt, Check
from ._score import Score
from ._train import Train
from ._train_parse import parse_train
from ._use import Complete, Evaluate, Info, List, Sample

#: By name, in the order of the help.
COMMANDS: dict[str, type[Any]] = {
    "list": List,
    "info": Info,
    "sample": Sample,
    "score": Score,
    "complete": Complete,
    "check": Check,
    "adapt": Adapt,
    "fit": Fit,
    "export-mesh": ExportMesh,
    "export": Export,
    "train": Train,
    "evaluate": Evaluate,
    "data": DataCommand,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (0 done, 2 bad input, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        print(f"poseprior {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        known = f"the commands are {', '.join(COMMANDS)}."
        print(f"poseprior: error: no command {name!r}; {known}{nearest(name, list(COMMANDS))}", file=sys.stderr)
        return 2
    command: Any = None
    try:
        command = _parsed(name, rest)
        return command.run() or 0
    except ValueError as error:
        print(f"poseprior: error: {escaped(_in_flags(str(error), command))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `poseprior ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be read
        what = escaped(f"{error.filename or 'file'}: {error.strerror or error}")
        print(f"poseprior: error: {what}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("poseprior: interrupted; nothing half-written was left", file=sys.stderr)
        return 130


def _help() -> str:
    """The commands, a line or two each."""
    commands = listed({name: str(command.__doc__).splitlines()[0] for name, command in COMMANDS.items()}, 11)
    return (
        f"usage: poseprior COMMAND ...\n\nPose priors for SMPL-X bodies and hands.\n\n{commands}\n\n"
        "poseprior COMMAND --help has the options; poseprior --version the version."
    )


def _parsed(name: str, rest: list[str]) -> Any:
    """The command of that name with its options."""
    prog = f"poseprior {name}"
    if name == "train":
        return parse_train(rest, prog)
    if name != "data" or rest[:1] in (["-h"], ["--help"]):
        return parse(COMMANDS[name], rest, prog=prog)
    word = rest[0] if rest else "nothing"
    if word not in ACTIONS:
        raise ValueError(f"data: expected {' or '.join(ACTIONS)}, got {word}.{nearest(word, list(ACTIONS))}")
    return parse(ACTIONS[word], rest[1:], prog=f"{prog} {word}")


def _in_flags(message: str, command: Any) -> str:
    """A message of the library, which names arguments, in the words of the command line: `max_poses: ...` is a flag.

    Further on in the message, too, arguments with a value (`split='none'`) and names of several words are flags.
    """
    names = set() if command is None else option_names(command)
    if not names:
        return message
    message = re.sub(rf"FitConfig\.({'|'.join(names)})\b", lambda found: flag_of(found[1]), message)
    first, colon, rest = message.removeprefix("FitConfig.").partition(":")
    if colon and first in names:
        message = f"{flag_of(first)}:{rest}"
    before, after = r"(?<![\w./\\'-])", r"(?![\w./\\'(-])"  # not in a path or a longer name
    # In Python code, f(name=1), it stays as it is.
    with_value = rf"{before}(?<!\()({'|'.join(names)})=('[^']*'|[\d.]+\b)"
    message = re.sub(with_value, lambda found: flag_of(found[1]) + " " + found[2].strip("'"), message)
    long = [name for name in names if "_" in name]
    return re.sub(f"{before}({'|'.join(long)}){after}", lambda found: flag_of(found[0]), message) if long else message
