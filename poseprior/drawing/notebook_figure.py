"""A matplotlib figure that pyplot does not own, and that shows itself in a notebook. Imports matplotlib."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Resolution of pictures in notebooks: legible, and small enough to be stored with them.
_DPI = 90


class NotebookFigure(Figure):
    """A Figure on an Agg canvas. Notebooks show other figures that pyplot does not own as `<Figure size ...>`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        """The picture as PNG, which is what a notebook asks an object for."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()
