"""Matplotlib figures on their own Agg canvas: the backend, pyplot and its figures are left alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._checks import check_effect, check_number
from ..io.atomic import replacing

if TYPE_CHECKING:
    from .notebook_figure import NotebookFigure


def new_figure(**options: Any) -> NotebookFigure:
    """A matplotlib Figure that draws without a display, whatever backend the user has chosen, and shows in notebooks."""
    try:
        from .notebook_figure import NotebookFigure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'pictures need matplotlib, which is not installed; run: pip install "poseprior[viz]"', name=error.name
        ) from error
    return NotebookFigure(**options)


def save_picture(
    figure: NotebookFigure, path: str | os.PathLike[str] | None, dpi: float | None, *, usual_dpi: float
) -> None:
    """Write a figure in the format of the path's suffix (.png without one), a whole file or none; nothing for None.

    Raises:
        ValueError: `dpi` that is no number above 0, or given without a path.
    """
    if dpi is not None:
        check_number("dpi", dpi, above=0.0)
    if path is None:
        check_effect("dpi", dpi, None, "path=None", "path")
        return
    with replacing(path) as temporary:
        # The format is given, since matplotlib adds a suffix of its own to a path without one.
        figure.savefig(temporary, dpi=usual_dpi if dpi is None else dpi, format=Path(path).suffix[1:] or "png")
