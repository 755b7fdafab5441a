"""`poseprior data`: poses on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ._common import reading, said_of


@dataclass(frozen=True, kw_only=True)
class DataImport:
    """A tree of pose files (AMASS and larger) into shards that train, evaluate, score, ... take as --data. Resumable."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """The unpacked tree: SRC/CMU/01/01_01_poses.npz, ..."""
    out: Path
    """A new folder; or that of an import that was stopped, which goes on."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes."""
    fps: float = 30.0
    """Keep at most so many frames a second; 0 keeps all."""
    source_fps: float | None = None
    """Frame rate of recordings that do not say."""
    trim: float = 0.1
    """Share of each recording to leave out at its start, and at its end."""
    thin: float = 1.5
    """Leave out frames in which no joint turned by so many degrees since the last one kept; 0 keeps all."""
    split: Literal["amass", "person", "none"] = "amass"
    """amass: the sub-datasets that VPoser's authors hold out. person: by a hash of the person. none: all is train."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Expected shares of the people in train, val and test, for --split person."""
    cap: int | None = None
    """Most training poses of one sub-dataset: a random subset of them counts."""
    context: str | None = None
    """Name of an array to keep for conditional priors (betas, say)."""
    model_type: str | None = None
    """smplx, smplh or smpl, for files that do not say."""
    constant_parts_unobserved: bool = True
    """Constant jaws, eyes and hands, and joints that are zero throughout, were not measured."""
    seed: int = 0
    """Of the frames kept, the people of --split person and the subsets of --cap."""

    def run(self) -> None:
        from ..importer import ImportOptions, import_poses
        from ..io.atomic import require_writable

        names = ImportOptions.__dataclass_fields__
        given = {name: getattr(self, name) for name in names}
        options = ImportOptions(**{**given, "fps": self.fps or None})
        with said_of("--out"):
            require_writable(self.out / "plan.json")
        with said_of("SOURCE", "source"):
            report = import_poses(self.source, self.out, options=options, workers=self.workers)
        print(report)
        print(f"results: {self.out} (report.json names every file that was left out)")


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What a file, a folder or shards hold: poses, joints, people, and what was decided in reading them."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POSES")]
    """An .npz file, a folder of them, or shards."""

    def run(self) -> None:
        from ..io import read_poses, read_split

        with reading(self.data, "POSES"):
            parts = read_split(self.data) if self.data.is_dir() else {"all": read_poses(self.data)}
        for name, data in parts.items():
            print(f"{name}: {data}")


#: By name, in the order of the help.
ACTIONS: dict[str, type[Any]] = {"import": DataImport, "info": DataInfo}
Action = Annotated[DataImport, tyro.conf.subcommand("import")] | Annotated[DataInfo, tyro.conf.subcommand("info")]


@dataclass(frozen=True, kw_only=True)
class DataCommand:
    """Poses on disk: import a large tree, or say what a folder holds."""

    action: Action

    def run(self) -> None:
        self.action.run()
