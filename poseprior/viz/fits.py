"""Pictures of fits: the mesh under the measured points, and a scene to turn."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._checks import check_ending
from ..drawing.canvas import new_figure, save_picture
from ..fitting import BodyFit, BodyPoints, Keypoints2D, Target
from ..io.atomic import replacing
from ..keypoint_layouts import NUM_WITHOUT_CONTOUR
from ..rotations import rotvec_to_rotmat
from ._trimesh import import_trimesh

_COLUMNS = 4
_CELL = 3.2  # inches
_LEGEND = "dots: measured points, yellow (on the body) to red (4.5 sigma off or more); lines: to the body's own point"
_LETTERS, _LINE = 16, 0.18  # letters of the legend in an inch, and inches between its lines
_SKIN = np.array([0.62, 0.72, 0.90])
_MARGIN = 0.15
_SPACING, _DEPTH = 1.2, 1.4  # metres between the bodies of a scene, side by side and one behind the other
_GROUND = np.array([0.55, 0.57, 0.60])


class Bodies(Protocol):
    """What is drawn: a `BodyFit`, or bodies that are known.

    Attributes:
        pose: (B, 55, 3) rotvecs.
        params: keyword arguments of the model, `transl`, `betas` and `expression` among them.
    """

    @property
    def pose(self) -> Tensor: ...

    @property
    def params(self) -> dict[str, Tensor]: ...


def plot_fit(
    model: nn.Module,
    fit: BodyFit,
    target: Target,
    *,
    frames: Sequence[int] | None = None,
    titles: Sequence[str] | None = None,
    dpi: int | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw fitted bodies under what they were fitted to.

    2D keypoints are drawn over the body as their camera sees it; 3D points over a view from the front. Measured points are
    dots, coloured by how far off the fit is (yellow to red, in sigmas); a line leads to the body's own point.

    Args:
        model: the model of the fit.
        fit: what `fit_body` returned.
        target: what it was fitted to.
        frames: which frames to draw; None takes 12 spread over all.
        titles: one for each.
        dpi: of the saved file; None is 110. Only with `path`.
        path: where to save the picture (.png, .pdf, .svg by suffix); None saves none.

    Returns:
        The matplotlib Figure.
    """
    total = len(fit.pose)
    chosen = list(range(total)) if total <= 12 else np.linspace(0, total - 1, 12).round().astype(int).tolist()
    chosen = chosen if frames is None else list(frames)
    view = FitView(model, fit, target)
    columns = min(_COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    legend = textwrap.fill(_LEGEND, int(_LETTERS * _CELL * columns))
    below = _LINE * (legend.count("\n") + 1) + 0.05
    height = _CELL * rows + 0.2 + below
    figure = new_figure(figsize=(_CELL * columns, height))
    for number, frame in enumerate(chosen):
        axes = figure.add_subplot(rows, columns, number + 1)
        view.draw(axes, frame)
        axes.set_title(titles[number] if titles else f"frame {frame}", fontsize=9)
    figure.text(0.01, 0.05 / height, legend, fontsize=8, color="0.3")
    figure.tight_layout(rect=(0, below / height, 1, 1))
    save_picture(figure, path, dpi, usual_dpi=110)
    return figure


def fit_scene(model: nn.Module, fit: BodyFit, path: str | os.PathLike[str], *, most: int = 24) -> Path:
    """Write a page with the fitted bodies side by side, to turn with the mouse; it needs no network.

    Args:
        model: the model of the fit.
        fit: what `fit_body` returned.
        path: ends in `.html`.
        most: draw at most so many bodies, spread over the frames.

    Raises:
        ModuleNotFoundError: without trimesh (`pip install "poseprior[viz]"`).
    """
    target = Path(path)
    check_ending("path", target, ".html")
    total = len(fit.pose)
    frames = np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(int))
    bodies = _vertices(model, fit)[frames] - fit.params["transl"].detach().cpu().numpy()[frames, None]
    page = bodies_scene(bodies @ upright(fit).T, _faces(model))
    with replacing(target) as temporary:
        temporary.write_text(page)
    return target


def bodies_scene(
    vertices: NDArray[Any],
    faces: NDArray[Any],
    *,
    colours: Sequence[Sequence[float]] | None = None,
    columns: int | None = None,
) -> str:
    """HTML of bodies on a ground, y up, to turn with the mouse or a finger; all that it needs is in it.

    Args:
        vertices: (N, V, 3) metres.
        faces: (F, 3).
        colours: (N, 3) in 0 to 1; None for one skin.
        columns: bodies side by side, further ones stand behind; None puts all in one row.

    Raises:
        ModuleNotFoundError: without trimesh (`pip install "poseprior[viz]"`).
    """
    trimesh = import_trimesh("scenes")
    from trimesh.viewer.notebook import scene_to_html
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    columns = len(vertices) if columns is None else min(columns, len(vertices))
    rows = -(-len(vertices) // columns)
    scene = trimesh.Scene()

    def add(points: NDArray[Any], corners: NDArray[Any], colour: Any, glow: Any = (0.0, 0.0, 0.0)) -> None:
        # A material that is no metal, which is what viewers take where nothing is said: metal without a room is black.
        material = PBRMaterial(
            baseColorFactor=(*colour, 1.0), metallicFactor=0.0, roughnessFactor=0.8, emissiveFactor=glow
        )  # fmt: skip
        mesh = trimesh.Trimesh(points, corners, visual=TextureVisuals(material=material), process=False)
        mesh.vertex_normals  # noqa: B018 (computed here, they are written, and the surface is smooth)
        scene.add_geometry(mesh)

    floor = min(float(body[:, 1].min()) for body in vertices)
    for number, body in enumerate(vertices):
        row = number // columns
        x, z = number % columns - 0.5 * (columns - 1) + 0.5 * (row % 2), row - 0.5 * (rows - 1)
        # Each stands on the ground, in the row of its number.
        shift = np.array([_SPACING * x, floor - body[:, 1].min(), -_DEPTH * z])
        add(body + shift, faces, 0.6 * _SKIN if colours is None else np.asarray(colours[number]))
    half = np.array([0.5 * _SPACING * (columns + (1.2 if rows > 1 else 0.4)), 0.5 * _DEPTH * (rows + 0.2)])
    ground = trimesh.creation.box((2 * half[0], 0.02, 2 * half[1]))
    ground.unmerge_vertices()  # or its corners would share one normal, and its faces one shade
    add(ground.vertices + np.array([0.0, floor - 0.01, 0.0]), ground.faces, _GROUND, _GROUND)  # light grazes it
    scene.set_camera(
        angles=(-0.18, 0.0, 0.0), distance=max(0.8 * 2 * half[0], 2.2) + half[1], center=(0.0, floor + 0.8, 0.0)
    )
    page: str = scene_to_html(scene)
    return page


class FitView:
    """Bodies and points as they are seen: by the target's camera, or from the front."""

    def __init__(self, model: nn.Module, fit: Bodies, target: Target) -> None:
        self.faces = _faces(model)
        vertices = torch.as_tensor(_vertices(model, fit))
        limit = NUM_WITHOUT_CONTOUR if not getattr(model, "use_face_contour", False) else 144
        joints = [j if j < limit else 0 for j in target.joints]
        usable = torch.tensor([j < limit for j in target.joints] + [True] * len(target.vertices))
        with torch.no_grad():
            own = BodyPoints(model, joints=joints, vertices=target.vertices)(
                fit.pose, betas=fit.params["betas"], expression=fit.params["expression"], transl=fit.params["transl"]
            ).cpu()
            measured, sigma = target.points.cpu(), target.sigma.cpu()
            off = (target.residuals(own.to(target.points)).cpu().norm(dim=-1) / sigma).clamp_max(4.5) / 4.5
        if isinstance(target, Keypoints2D):
            self.depth = target.camera.to_camera(vertices)[..., 2].numpy()
            self.mesh, self.own = (target.camera.project(t).numpy() for t in (vertices, own))
            self.measured = measured.numpy()
        else:
            turn = upright(fit)
            turned = [t.numpy() @ turn.T for t in (vertices, own, measured)]
            self.depth = -turned[0][..., 2]
            self.mesh, self.own, self.measured = (t[..., :2] * np.array([1.0, -1.0]) for t in turned)
        self.off, self.seen = off.numpy(), ((target.confidence.cpu() > 0) & usable).numpy()

    def draw(self, axes: Any, frame: int) -> None:
        from matplotlib.collections import LineCollection, PolyCollection

        flat, depth = self.mesh[frame], self.depth[frame]
        faces = self.faces[np.argsort(-depth[self.faces].mean(1))]
        corners = flat[faces]
        scale = np.ptp(flat[:, 1]) / max(np.ptp(depth), 0.3)
        solid = np.concatenate((corners, scale * depth[faces][..., None]), -1)
        normal = np.cross(solid[:, 1] - solid[:, 0], solid[:, 2] - solid[:, 0])
        lit = np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
        colour = (0.35 + 0.65 * lit)[:, None] * _SKIN
        axes.add_collection(PolyCollection(corners, facecolors=colour, edgecolors=colour, linewidths=0.2))
        seen = self.seen[frame]
        measured, own = self.measured[frame][seen], self.own[frame][seen]
        axes.add_collection(LineCollection(list(np.stack((measured, own), 1)), colors="0.25", linewidths=0.8))
        colours = np.stack((np.ones(seen.sum()), 0.85 * (1.0 - self.off[frame][seen]), np.zeros(seen.sum())), -1)
        axes.scatter(measured[:, 0], measured[:, 1], c=colours, s=14, edgecolors="0.2", linewidths=0.4, zorder=3)
        shown = np.concatenate((flat, measured)) if len(measured) else flat
        low, high = np.percentile(shown, 0.0, 0), np.percentile(shown, 100.0, 0)
        if len(measured):  # a wild outlier must not shrink the body to a dot
            low = np.maximum(low, flat.min(0) - np.ptp(flat, 0))
            high = np.minimum(high, flat.max(0) + np.ptp(flat, 0))
        middle, half = 0.5 * (low + high), 0.5 * float((high - low).max()) * (1.0 + _MARGIN)
        axes.set_xlim(middle[0] - half, middle[0] + half)
        axes.set_ylim(middle[1] + half, middle[1] - half)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])


def _vertices(model: nn.Module, fit: Bodies) -> NDArray[np.float64]:
    """(B, V, 3) of the best hypothesis."""
    with torch.no_grad():
        params = {name: value.detach() for name, value in fit.params.items()}
        return np.asarray(model(**_sized(model, params)).vertices.cpu())


def _sized(model: nn.Module, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """smplx repeats landmark weights by its own batch_size, 1 or that of the call."""
    size = len(params["transl"])
    if getattr(model, "batch_size", 1) not in (1, size):
        raise ValueError(f"model: expected batch_size 1 or {size} to draw {size} bodies, got {model.batch_size}.")
    return params


def _faces(model: nn.Module) -> NDArray[np.int64]:
    faces = np.asarray(model.faces, dtype=np.int64)
    return faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2])]


def upright(fit: Bodies) -> NDArray[np.float64]:
    """(3, 3) turn that stands the bodies up along y: their frame may have y down (a camera's) or z up (motion capture's)."""
    up = rotvec_to_rotmat(fit.pose[:, 0].detach())[:, :, 1].median(0).values.cpu().numpy()
    axis = int(np.abs(up).argmax())
    high = np.sign(up[axis]) * np.eye(3)[axis]
    side = np.eye(3)[1 if axis == 0 else 0]
    return np.stack((side, high, np.cross(side, high)))
