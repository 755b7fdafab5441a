"""`new_figure`: a matplotlib figure on its own Agg canvas; the backend, pyplot and its figures are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**options: Any) -> Figure:
    """A matplotlib Figure that draws without a display, whatever backend the user has chosen."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pictures need matplotlib, which is not installed; run: pip install poseprior[viz]", name=error.name
        ) from error
    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure
