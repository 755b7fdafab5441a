"""Several fits of the same keypoints side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..drawing.canvas import new_figure, save_picture
from ..fitting import BodyFit, Target
from ..fitting.body.hand_convention import HandConvention
from ..params import pose_from_smplx
from .fits import FitView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 2.9  # inches


@dataclass(frozen=True)
class _Known:
    """Bodies that are known, as `FitView` takes them."""

    pose: Tensor
    params: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, given: Mapping[str, Tensor]) -> _Known:
        """From keyword arguments of the model."""
        pose, _ = pose_from_smplx(given, **HandConvention.of(model).options())
        sizes: dict[str, Any] = {"transl": 3, "betas": model.num_betas, "expression": model.num_expression_coeffs}
        zeros = {name: pose.new_zeros(len(pose), int(size)) for name, size in sizes.items()}
        return cls(pose, {**zeros, **given})


def plot_fits(
    model: nn.Module,
    fits: Mapping[str, BodyFit | Mapping[str, Tensor]],
    target: Target,
    *,
    frames: Sequence[int] | None = None,
    captions: Mapping[str, Sequence[str]] | None = None,
    dpi: int | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw a row for each frame and a column for each fit, as `plot_fit` draws one.

    Args:
        model: the model of the fits.
        fits: what `fit_body` returned, by the name that heads its column; or known bodies, as keyword arguments of the
            model: a pose, and where they are known `transl`, `betas` and `expression`, which are zero otherwise.
        target: what all of them were fitted to.
        frames: which frames to draw; None takes the first four.
        captions: by the fit's name, a line under each drawn frame.
        dpi: of the saved file; None is 110. Only with `path`.
        path: where to save the picture (.png, .pdf, .svg by suffix); None saves none.

    Returns:
        The matplotlib Figure.

    Raises:
        ValueError: no fit, a frame that is not there, or captions that do not match.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if not fits:
        raise ValueError("fits: expected at least one fit by its name, got none.")
    bodies = {name: fit if isinstance(fit, BodyFit) else _Known.of(model, fit) for name, fit in fits.items()}
    total = len(next(iter(bodies.values())).pose)
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
    for column, (name, body) in enumerate(bodies.items()):
        view = FitView(model, body, target)
        for row, frame in enumerate(chosen):
            axes = grid[row, column]
            view.draw(axes, frame)
            if row == 0:
                axes.set_title(name, fontsize=12)
            if captions is not None and name in captions:
                axes.set_xlabel(captions[name][row], fontsize=11)
    figure.tight_layout()
    save_picture(figure, path, dpi, usual_dpi=110)
    return figure
