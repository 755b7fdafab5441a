"""The `poseprior` command. Thin: every command is one call into the library."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from .._version import __version__
from ._data import DataCommand
from ._export import Export
from ._fit import Fit
from ._rigs import Adapt, Check
from ._train import Train
from ._use import Complete, Evaluate, Info, List, Sample, Score

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Complete, tyro.conf.subcommand("complete")]
    | Annotated[Score, tyro.conf.subcommand("score")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Adapt, tyro.conf.subcommand("adapt")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[DataCommand, tyro.conf.subcommand("data")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[List, tyro.conf.subcommand("list")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (0 done, 2 bad input, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"poseprior {__version__}")
        return 0
    command: Any = tyro.cli(
        Command,
        args=arguments,
        prog="poseprior",
        description="Pose priors for SMPL-X bodies and hands.",
        config=(tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    try:
        return command.run() or 0
    except ValueError as error:
        print(f"poseprior: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `poseprior ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be read
        print(f"poseprior: error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("poseprior: interrupted; nothing half-written was left", file=sys.stderr)
        return 130
