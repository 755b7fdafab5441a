"""Meshes of posed figures and bodies, written as OBJ, PLY or glTF by trimesh: `pip install "poseprior[viz]"`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._checks import check_ending
from ..drawing import solid_figure
from ..io.atomic import replacing
from ..skeleton import NUM_JOINTS
from ._trimesh import import_trimesh

#: Kinds of files that are written.
SUFFIXES = (".obj", ".ply", ".glb")


def write_mesh(
    path: str | os.PathLike[str],
    vertices: Tensor | NDArray[Any],
    faces: Tensor | NDArray[Any],
    *,
    colours: NDArray[Any] | None = None,
) -> Path:
    """Write a mesh.

    Args:
        path: ends in .obj, .ply or .glb (binary glTF); an existing file is replaced at once.
        vertices: (V, 3) metres, y up.
        faces: (F, 3) indices.
        colours: (V, 3) in 0 to 1; None writes none.

    Returns:
        The path.

    Raises:
        ValueError: another suffix, other shapes, values that are not finite, or faces of vertices that are not there.
        ModuleNotFoundError: trimesh is not installed.

    >>> import tempfile
    >>> vertices, faces, colours = skeleton_mesh(torch.zeros(55, 3))
    >>> write_mesh(f"{tempfile.mkdtemp()}/t_pose.glb", vertices, faces, colours=colours).name
    't_pose.glb'
    """
    target = Path(path)
    check_ending("path", target, *SUFFIXES)
    points, corners = (torch.as_tensor(t).detach().cpu().numpy() for t in (vertices, faces))
    for name, value in (("vertices", points), ("faces", corners)):
        if value.ndim != 2 or value.shape[1] != 3 or len(value) == 0:
            raise ValueError(f"{name}: expected shape (N, 3) for one body, got {value.shape}; take one of the batch.")
    if not np.isfinite(points).all():
        raise ValueError("vertices: expected finite metres, got a NaN or infinity; leave that body out.")
    if corners.min() < 0 or corners.max() >= len(points):
        raise ValueError(f"faces: expected indices 0 to {len(points) - 1}, got {corners.min()} to {corners.max()}.")
    if colours is not None and np.shape(colours) != points.shape:
        raise ValueError(f"colours: expected shape {points.shape}, one for each vertex, got {np.shape(colours)}.")
    trimesh = import_trimesh("meshes")
    tint = None if colours is None else (255 * np.asarray(colours)).round().astype(np.uint8)
    mesh = trimesh.Trimesh(points, corners, vertex_colors=tint, process=False)
    content: Any = mesh.export(file_type=target.suffix.lower()[1:])
    with replacing(target) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return target


def skeleton_mesh(pose: Tensor) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """The neutral figure of `poseprior.viz` in a pose, as a closed surface for each part.

    Args:
        pose: (55, 3) rotvecs, radians.

    Returns:
        (V, 3) metres with the pelvis at the origin and y up, (F, 3), and (V, 3) colours in 0 to 1 by side.

    Raises:
        ValueError: another shape, or not finite.
        ModuleNotFoundError: trimesh is not installed.
    """
    if pose.shape != (NUM_JOINTS, 3) or not bool(pose.isfinite().all()):
        raise ValueError(
            f"pose: expected one finite pose ({NUM_JOINTS}, 3), got {tuple(pose.shape)}; take one of the batch."
        )
    trimesh = import_trimesh("meshes")
    sphere = trimesh.creation.icosphere(subdivisions=2).vertices
    vertices, faces, colours, count = [], [], [], 0
    for part, centres in zip(solid_figure.PARTS, solid_figure.place(pose), strict=True):
        radii = np.array([ball.radius for ball in part.balls])
        hull = trimesh.convex.convex_hull((centres[:, None] + radii[:, None, None] * sphere).reshape(-1, 3))
        vertices.append(np.asarray(hull.vertices))
        faces.append(np.asarray(hull.faces) + count)
        colours.append(np.tile(_COLOURS["eye" if part.kind == "eye" else part.side], (len(hull.vertices), 1)))
        count += len(hull.vertices)
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(colours)


_COLOURS = {
    "left": (0.0, 0.45, 0.70), "right": (0.84, 0.37, 0.0), "middle": (0.54, 0.58, 0.63), "eye": (0.18, 0.21, 0.25),
}  # fmt: skip
