"""Pictures of poses: a grid of posed figures, front and three-quarter view, the two sides in two colours.

The figure is the neutral skeleton of `poseprior.kinematics`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._checks import check_whole
from ..rotations import quat_conjugate, quat_multiply, rotvec_to_unitquat, unitquat_to_rotvec
from ..skeleton import JOINT_SETS, NUM_JOINTS, resolve_joints
from . import solid_figure
from .canvas import new_figure, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours of the sides (Okabe-Ito, distinct to colour-blind eyes) and of the midline.
COLOURS = {"left": "#0072B2", "right": "#D55E00", "middle": "#8A94A0"}
_INK, _PAPER, _SHADOW, _GROUND = "#2F3640", "#FFFFFF", "#E8EBEF", "#C9CFD6"
#: Yaw and elevation, degrees, of the two views of a body and of the two views of a hand (from the palm).
_BODY_VIEWS = ((0.0, 8.0), (45.0, 8.0))
_HAND_YAWS = (0.0, 55.0)
_BODY_SCALE, _HAND_SCALE = 1.35, 5.6  # inches a metre
_MARGIN = 0.14  # inches
#: Points of titles and legends in a picture so many inches wide. Text grows with the width: wide pictures are shown smaller.
_TEXT, _TEXT_WIDTH = 8.0, 8.0


def plot_poses(
    poses: Tensor | np.ndarray,
    *,
    joints: str | int | Iterable[str | int] | None = None,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    keep_heading: bool = False,
    legend: bool = True,
    dpi: int | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw a grid of poses, each from the front and from its three-quarter left.

    Args:
        poses: (N, 55, 3) or (55, 3) rotvecs, radians.
        joints: what the poses model, as in `poseprior.skeleton.resolve_joints`: with fingers, each modelled hand gets a
            close-up (palm, then seen past the thumb); with nothing but fingers, only the hands are drawn. None draws
            the body, and close-ups of hands whose fingers are not all at rest.
        titles: one for each pose.
        columns: poses in a row; None makes the picture about as wide as high.
        keep_heading: False turns every figure about the vertical to face the viewer (tilt is kept); True draws
            `global_orient` as it is.
        legend: explain the colours and views at the foot of the picture.
        dpi: of the saved file; None is 150. Only with `path`.
        path: where to save the picture (.png, .pdf, .svg by suffix); an existing file is replaced atomically.

    Returns:
        The matplotlib Figure, on an Agg canvas; all bodies, and all hands, are drawn at one scale.

    Raises:
        ValueError: poses of another shape, not finite or none at all; titles that do not match; numbers out of range.
        ModuleNotFoundError: matplotlib is not installed.

    >>> figure = plot_poses(torch.zeros(2, 55, 3), titles=["T", "pose"])
    >>> len(figure.axes)
    2
    """
    pose = _check(poses)
    if titles is not None and len(titles) != len(pose):
        raise ValueError(f"titles: expected {len(pose)}, one for each pose, got {len(titles)}.")
    if columns is not None:
        check_whole("columns", columns, least=1)
    body, hands = choose_panels(pose, joints)
    cells = [_cell(p if keep_heading else face_the_viewer(p), body, hands) for p in pose]
    # One size for every cell: the widest of each panel, the highest of each row.
    widths = [max(cell[k].width for cell in cells) for k in range(len(cells[0]))]
    rows = [[k for k, panel in enumerate(cells[0]) if panel.row == r] for r in sorted({p.row for p in cells[0]})]
    heights = [max(cell[k].height for cell in cells for k in row) for row in rows]
    cell_width = max(sum(widths[k] for k in row) for row in rows) + _MARGIN
    title_height = 0.24 if titles is not None else 0.06
    cell_height = sum(heights) + _MARGIN * len(rows) + title_height
    columns = min(columns or max(1, round((len(pose) * cell_height / cell_width) ** 0.5 * 1.15)), len(pose))
    lines = -(-len(pose) // columns)
    width = max(columns * cell_width, 3.4 if legend else 0.0)
    grown = max(1.0, width / _TEXT_WIDTH)
    if titles is not None:
        title_size = _title_size(titles, cell_width, _TEXT * grown)
        cell_height += title_height * (grown - 1.0)
        title_height *= grown
    height = lines * cell_height + (0.42 * grown if legend else 0.0)
    figure = new_figure(figsize=(width, height), facecolor=_PAPER)
    left = (width - columns * cell_width) / 2.0
    for index, cell in enumerate(cells):
        x, y = left + index % columns * cell_width, height - (index // columns + 1) * cell_height
        axes = figure.add_axes((x / width, y / height, cell_width / width, cell_height / height))
        axes.set(xlim=(0.0, cell_width), ylim=(0.0, cell_height), aspect="equal")
        axes.axis("off")
        bottom = cell_height
        for row, row_height in zip(rows, heights, strict=True):
            bottom -= row_height + _MARGIN / 2.0
            start = (cell_width - sum(widths[k] for k in row)) / 2.0
            for k in row:
                cell[k].draw(axes, start + widths[k] / 2.0, bottom)
                start += widths[k]
            bottom -= _MARGIN / 2.0
        if titles is not None:
            axes.text(
                cell_width / 2.0, title_height - 0.04, titles[index], ha="center", va="top", size=title_size, color=_INK
            )
    if legend:
        _legend(figure, hands, body, grown)
    save_picture(figure, path, dpi, usual_dpi=150)
    return figure


def face_the_viewer(pose: Tensor) -> Tensor:
    """The pose (*batch, 55, 3) without its heading: the root's turn about the vertical (swing-twist) is undone."""
    quat = rotvec_to_unitquat(pose[..., 0, :])
    twist = quat * quat.new_tensor([0.0, 1.0, 0.0, 1.0])
    norm = twist.norm(dim=-1, keepdim=True)
    # Upside down about a horizontal axis there is no heading to undo.
    still = quat.new_tensor([0.0, 0.0, 0.0, 1.0])
    twist = torch.where(norm > 1e-6, twist / norm.clamp_min(1e-6), still)
    upright = unitquat_to_rotvec(quat_multiply(quat_conjugate(twist), quat))
    return torch.cat([upright[..., None, :], pose[..., 1:, :]], dim=-2)


class _Panel:
    """One view of one figure or hand, framed in inches; row 0 holds bodies, row 1 hands under them."""

    def __init__(self, row: int, outlines: list[solid_figure.Outline], shadows: list[np.ndarray], scale: float) -> None:
        self.row, self.outlines, self.shadows, self.scale = row, outlines, shadows, scale
        points = np.concatenate([outline.polygon for outline in outlines] + shadows)
        self.low, self.high = points.min(0), points.max(0)
        self.width, self.height = ((self.high - self.low) * scale + _MARGIN).tolist()

    def draw(self, axes: Axes, centre: float, bottom: float) -> None:
        from matplotlib.collections import LineCollection, PolyCollection

        origin = np.array([(self.low[0] + self.high[0]) / 2.0, self.low[1]])
        shift = np.array([centre, bottom + _MARGIN / 2.0])

        def on_page(polygon: np.ndarray) -> np.ndarray:
            return (polygon - origin) * self.scale + shift

        if self.shadows:
            ground = [on_page(polygon) for polygon in self.shadows]
            level = float(np.mean([polygon[:, 1].mean() for polygon in ground]))
            half = self.width / 2.0 - 0.02
            line = [[(centre - half, level), (centre + half, level)]]
            axes.add_collection(LineCollection(line, colors=_GROUND, linewidths=0.8, zorder=0.5))
            axes.add_collection(PolyCollection(ground, facecolors=_SHADOW, edgecolors=_SHADOW, linewidths=0.5))
        nearness = np.linspace(0.0, 1.0, len(self.outlines))
        paint = [_paint(o, near, self.row == 1) for o, near in zip(self.outlines, nearness, strict=True)]
        faces, edges, lines = zip(*paint, strict=True)
        polygons = [on_page(outline.polygon) for outline in self.outlines]
        axes.add_collection(PolyCollection(polygons, facecolors=faces, edgecolors=edges, linewidths=lines, zorder=2))


def _paint(outline: solid_figure.Outline, nearness: float, close_up: bool) -> tuple[Any, Any, float]:
    """Face colour, edge colour and line width of a part: far parts are paler, the head is an outline."""
    if outline.part.kind == "head":
        return _PAPER, _INK, 1.1
    if outline.part.kind == "eye":
        return _INK, _INK, 0.0
    colour = np.array([int(COLOURS[outline.part.side][k : k + 2], 16) / 255.0 for k in (1, 3, 5)])
    face = tuple(1.0 - (1.0 - colour) * (0.62 + 0.38 * nearness))
    # On a whole body fingers are thinner than the white edge that separates other parts.
    return (face, face, 0.3) if outline.part.kind == "hand" and not close_up else (face, _PAPER, 0.5)


def _cell(pose: Tensor, body: bool, hands: tuple[str, ...]) -> list[_Panel]:
    """The panels of one pose: two views of the body, two of each hand."""
    panels = []
    if body:
        centres = solid_figure.place(pose)
        ground = solid_figure.lowest(centres)
        for yaw, elevation in _BODY_VIEWS:
            view = solid_figure.camera(yaw, elevation)
            shadows = solid_figure.shadow(centres, ground, view)
            panels.append(_Panel(0, solid_figure.outlines(centres, view), shadows, _BODY_SCALE))
    for side in hands:
        parts = tuple(part for part in solid_figure.PARTS if part.kind == "hand" and part.side == side)
        flat = torch.zeros_like(pose)
        fingers = list(JOINT_SETS[f"{side}_hand"])
        flat[fingers] = pose[fingers]
        centres = solid_figure.place(flat, parts)
        for yaw in _HAND_YAWS:
            view = solid_figure.hand_camera(side, yaw)
            panels.append(_Panel(1, solid_figure.outlines(centres, view, parts), [], _HAND_SCALE))
    return panels


def choose_panels(pose: Tensor, joints: str | int | Iterable[str | int] | None) -> tuple[bool, tuple[str, ...]]:
    """Whether to draw the body, and which hands."""
    if joints is None:
        moved = pose.abs().amax((0, 2)) > 1e-6
        return True, tuple(s for s in ("right", "left") if bool(moved[list(JOINT_SETS[f"{s}_hand"])].any()))
    chosen = set(resolve_joints(joints))
    hands = tuple(s for s in ("right", "left") if not chosen.isdisjoint(JOINT_SETS[f"{s}_hand"]))
    return not chosen <= set(JOINT_SETS["hands"]), hands


def _title_size(titles: Sequence[str], width: float, size: float) -> float:
    """Points, `size` or as many fewer as the longest title needs to fit into `width` inches; no less than 5."""
    longest = max(1, *map(len, titles))
    return max(5.0, min(size, 72.0 * width / (0.56 * longest)))  # a letter is about 0.56 of its height wide


def _legend(figure: Figure, hands: tuple[str, ...], body: bool, grown: float) -> None:
    from matplotlib.patches import Patch

    views = ["front and three-quarter view"] * body + ["each hand: palm, then past the thumb"] * bool(hands)
    handles = [
        Patch(facecolor=COLOURS[side], label=f"{side} side") for side in ("left", "right") if body or side in hands
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=_TEXT * grown, labelcolor=_INK, handlelength=1.0,
        bbox_to_anchor=(0.5, 0.16 * grown / figure.get_figheight()), borderpad=0.0, columnspacing=1.2,
    )  # fmt: skip
    y, grey = 0.05 * grown / figure.get_figheight(), COLOURS["middle"]
    figure.text(0.5, y, "; ".join(views), ha="center", va="bottom", size=6.5 * grown, color=grey)


def _check(poses: Tensor | np.ndarray) -> Tensor:
    pose = torch.as_tensor(poses).detach().cpu().double()
    pose = pose[None] if pose.ndim == 2 else pose
    if pose.ndim != 3 or pose.shape[1:] != (NUM_JOINTS, 3) or len(pose) == 0:
        raise ValueError(
            f"poses: expected shape (N, {NUM_JOINTS}, 3) with N of 1 or more, got {tuple(np.shape(poses))}; convert "
            "other layouts with poseprior.params."
        )
    if not bool(pose.isfinite().all()):
        bad = int((~pose.isfinite()).nonzero()[0, 0])
        raise ValueError(f"poses: expected finite rotvecs, got a NaN or infinity in pose {bad}; leave it out.")
    return pose
