"""`new_figure`: a matplotlib figure on its own Agg canvas; the backend, pyplot and its figures are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
