"""`Stage`: one minimisation of a fit: what moves, which points count, and how tolerant of outliers it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from .state import Variables


@dataclass(frozen=True)
class Stage:
    """One minimisation.

    Attributes:
        variables: what moves.
        iterations: upper limit on the steps.
        chosen: for each target, (B, K) bool, the points that count.
        progress: in [0, 1], for schedules of terms.
        outlier_scale: least factor on the outlier threshold of the targets.
        median_factor: the threshold is raised to this times a body's median residual at the start of the stage, so that few
            points begin as outliers; 0 leaves it at `outlier_scale`.
        outlier_scales: for each target (S, B, 1), the factors that this gives; see `FitProblem.with_outlier_scales`.
        data_weight: factor on the energies of targets, below 1 where everything else should settle first.
        regularised: whether terms and regularisers count; the first stage places the root without them.
        coarse: whether Gaussian surrogates stand in for the priors.
        smooth: standard deviation of second differences over the frames of a problem, radians and metres; None for frames
            that are independent.
    """

    variables: Variables
    iterations: int
    chosen: list[Tensor]
    progress: float = 1.0
    outlier_scale: float = 1.0
    median_factor: float = 0.0
    outlier_scales: tuple[Tensor, ...] | None = None
    data_weight: float = 1.0
    regularised: bool = True
    coarse: bool = False
    smooth: float | None = None

    @property
    def final(self) -> bool:
        """Whether it minimises the energies themselves, and no surrogates."""
        return self.regularised and not self.coarse

    def scale_of(self, number: int) -> float | Tensor:
        """Factor on the outlier threshold of a target."""
        return self.outlier_scale if self.outlier_scales is None else self.outlier_scales[number]

    def rows(self, rows: Tensor, bodies: int) -> Stage:
        """The stage of some of its S B bodies, as one start of R bodies; row s B + b is start s of body b."""
        chosen = [points[rows % bodies] for points in self.chosen]
        if self.outlier_scales is None:
            return replace(self, chosen=chosen)
        scales = tuple(factor.flatten(0, 1)[rows][None] for factor in self.outlier_scales)
        return replace(self, chosen=chosen, outlier_scales=scales)
