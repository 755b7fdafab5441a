"""`--workers`: a command over a folder of files, with a result file for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..scale.many_files import FileTask

#: In the summary of a fit, of frames that it does not explain, and in what is said of frames without anybody.
_DOUBTFUL, _EMPTY = "most points are outliers", "had no keypoint"


def over_files(
    task: FileTask, data: Path, out: Path | None, workers: int, *, suffixes: tuple[str, ...] = (".npz",), **unused: object
) -> None:  # fmt: skip
    """Run a task over the files of a folder and say what was done; `unused` are options that do not apply."""
    from ..scale.many_files import ASKED, run_files

    given = [f"--{name.replace('_', '-')}" for name, value in unused.items() if value is not None]
    if given:
        raise ValueError(
            f"{', '.join(given)}: expected none with --workers, which writes a result for each file to --out."
        )
    if out is None:
        raise ValueError("--out: expected a folder for the results with --workers, got none.")
    report = run_files(task, data, out, workers=workers, suffixes=suffixes)
    print(report)
    doubtful = [name for name, lines in report.said.items() if any(_DOUBTFUL in line for line in lines)]
    if doubtful:
        print(
            f"{len(doubtful):,} of {report.made + report.before:,} results (first: {doubtful[0]}) do not explain most points of "
            f"some frames; check the layout, the unit, the camera and sigma. {out / ASKED} says which."
        )
    print(f"results: {out}")


@dataclass(frozen=True)
class FitFile:
    """`poseprior fit` of one file of keypoints, or of a folder of the frames of one recording.

    Attributes:
        command: the `Fit` command, which is run for each input.
    """

    command: Any
    suffix: ClassVar[str] = ".fit.npz"

    def facts(self) -> Mapping[str, Any]:
        """Everything that decides the results."""
        own = ("keypoints", "out", "workers", "device", "png", "html")
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self.command).items() if k not in own}

    def prepare(self) -> Callable[[Path, Path], list[str]]:
        """What fits one file."""

        def work(path: Path, target: Path) -> list[str]:
            with redirect_stdout(StringIO()) as said:
                replace(self.command, keypoints=path, out=target, workers=None).run()
            lines = [line.strip() for line in said.getvalue().splitlines()]
            return [line for line in lines if line.startswith("note: ") or "bodies converged" in line or _EMPTY in line]

        return work
