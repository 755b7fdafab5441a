"""A picture of `poseprior.tasks.check`: where the poses stand, and what each joint does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..drawing.canvas import new_figure, save_picture
from ..tasks import CheckResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POSES, _PRIOR, _OFF = "#0072B2", "#8A94A0", "#D55E00"
_BINS = 20


def plot_check(result: CheckResult, *, dpi: int | None = None, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw percentiles of the poses, and for each joint the mean's offset and the spreads of poses and prior.

    Args:
        result: what `poseprior.tasks.check` returned.
        dpi: of the saved file; None is 130. Only with `path`.
        path: where to save the picture (.png, .pdf, .svg by suffix); None saves none.

    Returns:
        The matplotlib Figure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    joints = result.joints
    figure = new_figure(figsize=(11.0, max(4.2, 0.26 * len(joints) + 1.4)))
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.3))
    values = result.percentile.tolist()
    left.hist(values, bins=_BINS, range=(0, 100), weights=[100.0 / len(values)] * len(values), color=_POSES)
    left.axhline(100.0 / _BINS, color=_PRIOR, linestyle="--", label="a prior that holds exactly")
    left.set(xlabel=f"percentile among {result.percentile_kind}", ylabel="per cent of the poses", xlim=(0, 100))
    left.set_title(f"{result.num_poses:,} poses; {result.prior}", fontsize=10)
    left.legend(fontsize=8)
    rows = list(range(len(joints)))
    right.barh([r - 0.2 for r in rows], [j.spread for j in joints], 0.36, color=_POSES, label="spread of the poses")
    right.barh(
        [r + 0.2 for r in rows], [j.prior_spread for j in joints], 0.36, color=_PRIOR, label="spread of the prior"
    )
    right.plot([j.offset for j in joints], rows, "o", color=_OFF, markersize=5, label="angle between their means")
    right.set_yticks(rows, [f"{j.name}  ({j.disagrees})" if j.disagrees else j.name for j in joints], fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="degrees")
    right.legend(fontsize=8)
    right.set_title(f"advice: {result.advice}", fontsize=10)
    figure.tight_layout()
    save_picture(figure, path, dpi, usual_dpi=130)
    return figure
