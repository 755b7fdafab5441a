"""`fit_body` of a batch of rows: what a worker of `poseprior.scale.fit` does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..keypoint_layouts import LayoutInput
from ..prior import PosePrior

if TYPE_CHECKING:
    from ..fitting import FitBodyConfig, Target


@dataclass(frozen=True, kw_only=True)
class FitBatch:
    """Fits frames; see `poseprior.scale.fit` for the attributes. The model is made once in a process."""

    layout: LayoutInput
    model: str | None
    gender: str
    focal: float | None
    center: tuple[float, float] | None
    sigma: float | None
    config: FitBodyConfig | None

    def __post_init__(self) -> None:
        if (self.focal is None) != (self.center is None):
            raise ValueError("focal, center: expected both or none, got one; a camera has both.")
        if self.config is not None and self.config.smooth_sigma is not None:
            raise ValueError(
                "config: expected smooth_sigma=None, got a sequence's; rows are single frames here. poseprior fit --workers "
                "fits sequences, a file each."
            )

    def __call__(self, prior: PosePrior | None, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        from ..fitting import fit_body

        points = torch.from_numpy(np.array(batch["keypoints"], np.float32))
        confidence = batch.get("confidence")
        seen = None if confidence is None else torch.from_numpy(np.array(confidence, np.float32))
        found = fit_body(self._model, self._target(points, seen), prior=prior, config=self.config)
        values: dict[str, Tensor] = {
            **found.params, "pose": found.pose, "energy": found.energy, "converged": found.converged,
            "num_outliers": found.num_outliers,
        }  # fmt: skip
        return batch | {name: value.detach().cpu().numpy() for name, value in values.items()}

    def _target(self, points: Tensor, confidence: Tensor | None) -> Target:
        from ..fitting import Camera, Joints3D, Keypoints2D

        more: dict[str, Any] = {"layout": self.layout, "confidence": confidence}
        if self.sigma is not None:
            more["sigma"] = self.sigma
        if points.shape[-1] == 3:
            if self.focal is not None:
                raise ValueError("focal, center: expected none for 3D keypoints, which no camera sees; leave them out.")
            return Joints3D(points, **more)
        if self.focal is None or self.center is None:
            raise ValueError("focal, center: expected a camera for 2D keypoints, got none.")
        return Keypoints2D(points, camera=Camera(self.focal, self.center), **more)

    @cached_property
    def _model(self) -> nn.Module:
        from ..fitting.body.smplx_model import load_smplx

        return load_smplx(self.model, gender=self.gender)
