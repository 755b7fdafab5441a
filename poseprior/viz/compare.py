"""Several fits of the same keypoints side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ..drawing.canvas import new_figure
from ..fitting import BodyFit, Target
from ..io.atomic import replacing
from .fits import FitView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 2.9  # inches


def plot_fits(
    model: nn.Module,
    fits: Mapping[str, BodyFit],
    target: Target,
    *,
    frames: Sequence[int] | None = None,
    captions: Mapping[str, Sequence[str]] | None = None,
    dpi: int = 110,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw a row for each frame and a column for each fit, as `plot_fit` draws one.

    Args:
        model: the model of the fits.
        fits: what `fit_body` returned, by the name that heads its column.
        target: what all of them were fitted to.
        frames: which frames to draw; None takes the first four.
        captions: by the fit's name, a line under each drawn frame.
        dpi: of the saved file.
        path: where to write a PNG; None writes nothing.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: no fit, a frame that is not there, or captions that do not match.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if not fits:
        raise ValueError("fits: expected at least one fit by its name, got none.")
    total = len(next(iter(fits.values())).pose)
    chosen = list(range(min(4, total))) if frames is None else list(frames)
    if not chosen or not all(0 <= frame < total for frame in chosen):
        raise ValueError(f"frames: expected some of 0 to {total - 1}, got {chosen}.")
    for name, lines in (captions or {}).items():
        if name not in fits or len(lines) != len(chosen):
            raise ValueError(
                f"captions: expected {len(chosen)} for each of {', '.join(fits)}, got {len(lines)} for {name}."
            )
    figure = new_figure(figsize=(_CELL * len(fits), (_CELL + 0.35) * len(chosen)))
    grid = figure.subplots(len(chosen), len(fits), squeeze=False)
    for column, (name, fit) in enumerate(fits.items()):
        view = FitView(model, fit, target)
        for row, frame in enumerate(chosen):
            axes = grid[row, column]
            view.draw(axes, frame)
            if row == 0:
                axes.set_title(name, fontsize=12)
            if captions is not None and name in captions:
                axes.set_xlabel(captions[name][row], fontsize=11)
    figure.tight_layout()
    if path is not None:
        with replacing(Path(path)) as temporary:
            figure.savefig(temporary, dpi=dpi, format="png")
    return figure
