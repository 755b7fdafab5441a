"""`poseprior export-mesh`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ._busy import busy
from ._common import all_of, check_suffix, require_package

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ExportMesh:
    """Write a pose of a file as a mesh, OBJ, PLY or glTF: a figure, or a body of SMPL-X."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POSES")]
    """An .npz file, such as one of poseprior sample."""
    out: Path
    """The file to write; .obj, .ply or .glb (binary glTF)."""
    index: int = 0
    """Which pose of the file, from 0."""
    body: Literal["figure", "stand-in", "model"] = "figure"
    """figure: the drawn skeleton. stand-in: the licence-free body. model: your own, with --model."""
    model: Path | None = None
    """Folder for smplx.create (models/smplx/SMPLX_NEUTRAL.npz: models), for --body model."""

    def run(self) -> None:
        from ..viz.mesh import SUFFIXES, skeleton_mesh, write_mesh

        check_suffix("--out", self.out, *SUFFIXES)
        if (self.model is None) == (self.body == "model"):
            raise ValueError(
                f"--model: expected a folder with --body model, and with it alone, got --body {self.body}."
            )
        if self.body == "figure":
            require_package("--body figure", "scipy", "viz")
        else:
            require_package(f"--body {self.body}", "smplx", "fitting")
        poses = all_of(self.data, flag="POSES").poses
        if not 0 <= self.index < len(poses):
            raise ValueError(f"--index: expected 0 to {len(poses) - 1}, got {self.index}.")
        pose = poses[self.index]
        if self.body == "figure":
            vertices, faces, colours = skeleton_mesh(pose)
            write_mesh(self.out, vertices, faces, colours=colours)
        else:
            with busy(f"writing {self.out}"):
                self._write_body(pose[None])
        print(f"mesh of pose {self.index}: {self.out}")

    def _write_body(self, pose: Tensor) -> None:
        import torch

        from ..fitting.body.smplx_model import load_smplx
        from ..params import pose_to_smplx
        from ..viz.mesh import write_mesh

        model: Any = load_smplx(self.model, argument="--model")
        with torch.no_grad():
            vertices = model(**pose_to_smplx(pose)).vertices[0]
        write_mesh(self.out, vertices, model.faces.astype(int))
