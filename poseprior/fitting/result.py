"""`BodyFit`: what `fit_body` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .._shown import html_page
from ..io.fitted import write_fitted
from .body.hand_convention import HandConvention
from .coordinates import PointsUp, Up, check_up, turned
from .solver.state import BodyState, smplx_params


@dataclass(frozen=True)
class BodyFit:
    """Fitted bodies, the best hypothesis first.

    Attributes:
        energies: (B,) nats by term, of the best hypothesis; their sum is what was minimised.
        converged: (B,) bool: the last minimisation of the best hypothesis gained no more, no other attempt ended with a
            clearly lower energy (0.5 nats), and at most half of the points ended as outliers. False where no point was
            measured, unless a smoothed sequence bridges the frame.
        steps: iterations of all stages.
        weights: (H, B) posterior weight of each hypothesis, summing to 1 for each body; 0 for what repeats a better one.
        num_observed: (B,) points that were measured.
        num_outliers: (B,) measured points that the best hypothesis leaves beyond the outlier threshold (`robust` sigmas).
        pelvis: (B, 3) where the pelvis of the best hypothesis is, metres.
        coordinates: in words, those of the camera or of the points.
        measured: (B, 55) bool: joints whose rotation moves some measured point. The prior, or the frames beside, filled in
            the others.
    """

    energies: dict[str, Tensor]
    converged: Tensor
    steps: int
    weights: Tensor
    num_observed: Tensor
    num_outliers: Tensor
    pelvis: Tensor
    coordinates: str
    state: BodyState
    convention: HandConvention
    measured: Tensor

    @property
    def params(self) -> dict[str, Tensor]:
        """Keyword arguments for the model, `model(**fit.params)`, of the best hypothesis; hands as the model stores them."""
        return self.hypothesis(0)

    @property
    def pose(self) -> Tensor:
        """(B, 55, 3) rotvecs, hands on the flat hand, of the best hypothesis."""
        return self.state.pose[0]

    @property
    def energy(self) -> Tensor:
        """(B,) nats: the sum of `energies`."""
        return sum(self.energies.values(), self.energies[next(iter(self.energies))].new_zeros(()))

    @property
    def num_hypotheses(self) -> int:
        """H, the hypotheses that were kept."""
        return len(self.state.pose)

    def __repr__(self) -> str:
        kept = f", {self.num_hypotheses} hypotheses" if self.num_hypotheses > 1 else ""
        return f"BodyFit({self.summary().removesuffix('.')}{kept}, {self.steps} steps)"

    def _repr_html_(self) -> str:
        return html_page(repr(self), self.pose.detach())

    def summary(self) -> str:
        """One line: how many bodies converged, and what to check where most points ended as outliers.

        >>> import smplx, tempfile, torch
        >>> from poseprior.fitting import Joints3D, fit_body, stand_in_body
        >>> model = smplx.create(stand_in_body(tempfile.mkdtemp()), "smplx", use_pca=False, flat_hand_mean=True)
        >>> fit_body(model, Joints3D(model().joints[:, :55].detach())).summary()
        '1 of 1 bodies converged, 0 of 55 points are outliers.'
        """
        bodies = len(self.converged)
        outliers, points = int(self.num_outliers.sum()), int(self.num_observed.sum())
        text = f"{int(self.converged.sum())} of {bodies} bodies converged, {outliers} of {points} points are outliers."
        lost = 2 * self.num_outliers > self.num_observed
        if bool(lost.any()):
            text += (
                f" Of {int(lost.sum())} bodies (first: {int(lost.nonzero()[0])}) most points are outliers: the fit does not "
                "explain them; check the layout, the unit, the camera and sigma."
            )
        return text

    def save(
        self,
        path: str | Path,
        *,
        up: Up | None = None,
        points_up: PointsUp | None = None,
        gender: str = "neutral",
        fps: float = 30.0,
        frame_names: Sequence[str] | None = None,
    ) -> Path:
        """Write the best hypothesis as an `.npz` for smplx and for readers of AMASS; see `poseprior.io.fitted`.

        `converged`, `num_observed`, `num_outliers` and `measured` are written beside it, and `observed` (B, 55), which
        `read_poses` takes: False in frames without any point, and for joints that nothing moved.

        Args:
            path: ends in `.npz`.
            up: turn the bodies so that this axis points up: "z" as in AMASS, "y" as in SMPL-X at rest. A camera is taken
                to be level. None leaves them in the coordinates of the fit. The file says which it is.
            points_up: the axis that points up in the coordinates of 3D points (of cameras with a rotation, in the world's).
            gender, fps, frame_names: as in `write_fitted`.
        """
        axis = check_up(up, points_up, self.coordinates)
        params, pose, text = self.params, self.pose, self.coordinates
        if up is not None and axis is not None and axis != up:
            params, pose = turned(params, pose, self.pelvis, source=axis, up=up)
            axis, text = up, f"{up} up, turned about x from {text}"
        moved = self.measured.any(0) | self.pose.ne(0).any(-1).any(0)
        return write_fitted(
            path, params, pose, coordinates=text, up_axis=axis, gender=gender, fps=fps, frame_names=frame_names,
            observed=moved & (self.num_observed > 0)[:, None], measured=self.measured, converged=self.converged,
            num_observed=self.num_observed, num_outliers=self.num_outliers,
        )  # fmt: skip

    def hypothesis(self, number: int) -> dict[str, Tensor]:
        """Keyword arguments for the model of a hypothesis; 0 is the best."""
        if not 0 <= number < self.num_hypotheses:
            raise ValueError(f"number: expected 0 to {self.num_hypotheses - 1}, got {number}; ask fit_body for more.")
        return smplx_params(self.state, number, self.convention)
