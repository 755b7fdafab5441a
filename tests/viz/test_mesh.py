"""Meshes that are written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poseprior.cli import main
from poseprior.io import synthetic_poses, write_poses
from poseprior.kinematics import keypoint_positions
from poseprior.viz import skeleton_mesh, write_mesh

trimesh = pytest.importorskip("trimesh")


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb"])
def test_a_posed_figure_comes_back(suffix: str, tmp_path: Path) -> None:
    pose = synthetic_poses(3, seed=1, num_subjects=1).poses[2]
    vertices, faces, colours = skeleton_mesh(pose)
    path = write_mesh(tmp_path / f"figure{suffix}", vertices, faces, colours=colours)
    again = trimesh.load(path, force="mesh", process=False)
    np.testing.assert_allclose(np.asarray(again.bounds), [vertices.min(0), vertices.max(0)], atol=1e-5)
    assert len(again.faces) == len(faces)
    # Every part is a closed surface around its bones: elbow and knee lie inside the figure.
    points = keypoint_positions(pose[None].double())[0, [4, 5, 18, 19]].numpy()
    pieces = trimesh.Trimesh(vertices, faces, process=False).split()
    assert all(piece.is_watertight for piece in pieces)
    for point in points:
        assert min(float(np.linalg.norm(piece.centroid - point)) for piece in pieces) < 0.35
        nearest = np.linalg.norm(vertices - point, axis=1).min()
        assert nearest < 0.08


@pytest.mark.parametrize(
    ("vertices", "faces", "name", "text"),
    [
        (np.zeros((3, 3)), [[0, 1, 2]], "a.stl", "path: expected a name that ends in .obj"),
        (np.zeros((2, 3, 3)), [[0, 1, 2]], "a.obj", "vertices: expected shape"),
        (np.full((3, 3), np.nan), [[0, 1, 2]], "a.obj", "vertices: expected finite"),
        (np.zeros((3, 3)), [[0, 1, 3]], "a.obj", "faces: expected indices 0 to 2"),
    ],
)
def test_bad_meshes_are_refused(
    vertices: np.ndarray, faces: list[list[int]], name: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        write_mesh(tmp_path / name, vertices, np.array(faces))
    assert not list(tmp_path.iterdir())


def test_the_command_exports_a_figure_and_a_body(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("smplx")
    poses = tmp_path / "p.npz"
    write_poses(poses, synthetic_poses(3, seed=0, num_subjects=1))
    assert main(["export-mesh", str(poses), "--out", str(tmp_path / "f.obj"), "--index", "1"]) == 0
    assert main(["export-mesh", str(poses), "--out", str(tmp_path / "b.ply"), "--body", "stand-in"]) == 0
    assert len(trimesh.load(tmp_path / "b.ply", process=False).vertices) > 9000
    assert str(tmp_path / "b.ply") in capsys.readouterr().out
    assert main(["export-mesh", str(poses), "--out", str(tmp_path / "x.obj"), "--index", "3"]) == 2
    assert "--index: expected 0 to 2, got 3" in capsys.readouterr().err
    assert main(["export-mesh", str(poses), "--out", str(tmp_path / "x.obj"), "--body", "model"]) == 2
    assert "--model: expected a folder" in capsys.readouterr().err
