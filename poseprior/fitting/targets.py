"""What a body is fitted to: 3D joints, 2D keypoints seen by a camera, markers on the skin. Each is an energy in nats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import final

import torch
from torch import Tensor

from .._checks import as_tensor, check_number, check_whole
from ..keypoint_layouts import LayoutInput
from .camera import NEAR, Camera
from .camera_checks import check_camera, check_units
from .handedness import refuse_mirrored
from .layout_points import in_layout

#: Residuals beyond this many sigmas are outliers: the most that one point costs is half its square, 10 nats.
ROBUST = 4.5
#: Width, metres, of the wall that keeps bodies in front of a camera.
_WALL_SIGMA = 0.05
#: Some tools mark missing points by coordinates beyond the first, pixels or metres. A sigma below the second is in a wrong
#: unit.
_FARTHEST, _LEAST_SIGMA = 1e6, 1e-6
#: The largest outlier threshold, sigmas. A larger one would cut nothing off, which is what None is for.
_LARGEST_ROBUST = 1e6
#: Detectors' confidences exceed 1 by a little, which counts as 1. Larger ones than this are per cent.
_LARGEST_CONFIDENCE = 10.0


class Target(ABC):
    """Measured points of a batch of B bodies, and how far they are from a body's own.

    A point measured with noise N(0, sigma^2 I) at a distance of r costs the Geman-McClure energy

        rho = 1/2 q c^2 / (c^2 + q),   q = |r|^2 / sigma^2,

    nats: the Gaussian's for small r, and at most c^2 / 2, so that an outlier pulls on nothing (Geman and McClure 1987). `c`
    is `robust`; None is the Gaussian itself. A confidence in [0, 1] multiplies the energy of its point; one from 1 to 10
    counts as 1.

    Attributes:
        points: (B, K, 2 or 3); values of missing points are zero.
        confidence: (B, K), 0 where a point is missing: not measured, NaN, or of confidence 0.
        joints, vertices: the body's own points, joints first: indices into the joints and the vertices of `smplx`.
        parts: of each point: "body", "feet", "face", "left_hand", "right_hand" (or "marker").
        sigma: (B, K) standard deviation of a coordinate, metres or pixels.
        robust: c, in sigmas.
        name: key of the term in tables of energies.
    """

    dimensions: int
    unit: str

    def __repr__(self) -> str:
        bodies, seen = len(self.points), int((self.confidence > 0).sum())
        return (
            f"{type(self).__name__}({bodies} bodies, {seen:,} of {self.confidence.numel():,} points measured, "
            f"sigma {float(self.sigma.mean()):g} {self.unit})"
        )

    def __init__(
        self,
        name: str,
        points: Tensor,
        confidence: Tensor | None,
        *,
        joints: Sequence[int],
        vertices: Sequence[int],
        parts: Sequence[str],
        sigma: float | Tensor,
        robust: float | None,
    ) -> None:
        self.name, self.joints, self.vertices, self.parts = name, tuple(joints), tuple(vertices), tuple(parts)
        for vertex in self.vertices:
            check_whole("vertices", vertex)
        count = len(self.joints) + len(self.vertices)
        points = as_tensor("points", points)
        if points.dim() == 2:
            points = points[None]
        if points.dim() != 3 or points.shape[1:] != (count, self.dimensions) or not points.is_floating_point():
            raise ValueError(
                f"points: expected floats (B, {count}, {self.dimensions}) for {name}, got {points.dtype} "
                f"{tuple(points.shape)}; check the layout."
            )
        if len(points) == 0:
            raise ValueError("points: expected one frame or more, got none.")
        if confidence is None:
            weight = torch.ones_like(points[..., 0])
        else:
            weight = as_tensor("confidence", confidence).to(points)
            if weight.dim() == 1:
                weight = weight[None].expand(len(points), -1)
            if weight.shape != points.shape[:2]:
                raise ValueError(
                    f"confidence: expected {tuple(points.shape[:2])} to match points, got {tuple(weight.shape)}."
                )
            if not bool(torch.isfinite(weight).all()) or bool((weight < 0).any()):
                raise ValueError(
                    "confidence: expected finite numbers of 0 or more, got NaN, infinity or a negative one; use 0 for "
                    "points that are missing (torch.nan_to_num)."
                )
            if bool((weight > _LARGEST_CONFIDENCE).any()):
                raise ValueError(
                    f"confidence: expected numbers around 0 to 1, got up to {float(weight.max()):g}; divide per cent by 100."
                )
        present = torch.isfinite(points).all(-1) & (weight > 0)
        self.points = torch.where(present[..., None], points, torch.zeros_like(points)).detach()
        if bool((self.points.abs() > _FARTHEST).any()):
            raise ValueError(
                f"points: expected {self.unit} within {_FARTHEST:g} for {name}, got {float(self.points.abs().max()):g}; mark "
                "missing points with NaN or a confidence of 0."
            )
        self.confidence = torch.where(present, weight, torch.zeros_like(weight)).clamp_max(1.0).detach()
        width = as_tensor("sigma", sigma, dtype=points.dtype, device=points.device)
        if not bool((torch.isfinite(width) & (width >= _LEAST_SIGMA)).all()):
            raise ValueError(f"sigma: expected finite {self.unit} of {_LEAST_SIGMA:g} or more, got {sigma}.")
        try:
            self.sigma = width.expand(points.shape[:2])
        except RuntimeError:
            raise ValueError(
                f"sigma: expected a number, ({count},) or {tuple(points.shape[:2])}, got {tuple(width.shape)}."
            ) from None
        if robust is not None:
            check_number("robust", robust, above=0.0, most=_LARGEST_ROBUST)
        self.robust = robust
        self.num_frames = len(points)

    @abstractmethod
    def residuals(self, body: Tensor) -> Tensor:
        """(*lead, B, K, d) differences in units of the points, for the body's own points (*lead, B, K, 3), metres."""

    def energy(self, body: Tensor, *, chosen: Tensor | None = None, outlier_scale: float | Tensor = 1.0) -> Tensor:
        """(*lead, B) nats for the body's own points (*lead, B, K, 3), metres.

        Args:
            body: in the order of `joints`, then `vertices`.
            chosen: (K,) or (B, K) bool, the points that count; None for all.
            outlier_scale: factor on `robust`, above 1 early in a fit: a number, or one for each body, (*lead, B, 1).
        """
        weight = self.confidence if chosen is None else self.confidence * chosen.to(self.confidence)
        squared = self.residuals(body).square().sum(-1) / self.sigma.square()
        if self.robust is not None:
            cap = (self.robust * outlier_scale) ** 2
            squared = squared * (cap / (cap + squared))
        return 0.5 * (weight * squared).sum(-1)

    def distances(self, body: Tensor) -> Tensor:
        """(*lead, B, K) how far off points are in units of the outlier threshold (`robust` sigmas); 0 where missing."""
        threshold = self.sigma * (ROBUST if self.robust is None else self.robust)
        far = self.residuals(body).norm(dim=-1) / threshold
        return torch.where(self.confidence > 0, far, torch.zeros_like(far))

    def spread(self, body: Tensor, chosen: Tensor) -> Tensor:
        """(*lead, B, 1) median of the `distances` of the chosen points (B, K); 1 where there is none, or no threshold."""
        if self.robust is None:
            return torch.ones_like(body[..., :1, 0])
        missing = (self.confidence == 0) | ~chosen
        far = self.distances(body).masked_fill(missing, torch.nan)
        return torch.nan_to_num(far.nanmedian(-1, keepdim=True).values, nan=1.0)

    def select(self, rows: Tensor) -> Target:
        """The target of some frames, (B',) row numbers."""
        part = copy(self)
        part.points, part.confidence, part.sigma = (t[rows] for t in (self.points, self.confidence, self.sigma))
        part.num_frames = len(rows)
        return part

    def without_joints_from(self, limit: int) -> None:
        """Drop points on joints that the model does not have, as the face contour without `use_face_contour`."""
        missing = torch.tensor([j >= limit for j in self.joints] + [False] * len(self.vertices))
        if bool(missing.any()):
            self.confidence = self.confidence * ~missing.to(self.confidence.device)
            self.joints = tuple(0 if j >= limit else j for j in self.joints)

    def to(self, reference: Tensor) -> None:
        """Move to the device and type of a tensor."""
        self.points, self.confidence, self.sigma = (t.to(reference) for t in (self.points, self.confidence, self.sigma))


@final
class Joints3D(Target):
    """3D joints or keypoints, metres. Frames of people who are mirrored are refused.

    Args:
        points: (B, K, 3) or (K, 3); NaN marks missing points.
        layout: name of the order of the points (`poseprior.keypoint_layouts`), or a table of your own; "smplx_55" are the
            joints themselves.
        confidence: (B, K) or (K,); None is 1 for all.
        sigma: standard deviation of a coordinate, metres; a number, (K,) or (B, K).
        robust: as in `Target`; None for a Gaussian.
    """

    dimensions, unit = 3, "metres"

    def __init__(
        self,
        points: Tensor,
        *,
        layout: LayoutInput = "smplx_55",
        confidence: Tensor | None = None,
        sigma: float | Tensor = 0.02,
        robust: float | None = ROBUST,
        name: str = "joints",
    ) -> None:
        points, confidence, sigma, joints, vertices, parts = in_layout(points, confidence, sigma, layout)
        super().__init__(
            name, points, confidence, joints=joints, vertices=vertices, parts=parts, sigma=sigma, robust=robust
        )  # fmt: skip
        refuse_mirrored(self.points, self.confidence, self.joints)

    def residuals(self, body: Tensor) -> Tensor:
        return body - self.points


@final
class Markers(Target):
    """Points on the skin, metres: markers or scan vertices that belong to known vertices of the model.

    Args:
        points: (B, K, 3) or (K, 3); NaN marks missing points.
        vertices: K vertices of the model.
        confidence, sigma, robust: as in `Joints3D`.
    """

    dimensions, unit = 3, "metres"

    def __init__(
        self,
        points: Tensor,
        *,
        vertices: Sequence[int],
        confidence: Tensor | None = None,
        sigma: float | Tensor = 0.01,
        robust: float | None = ROBUST,
        name: str = "markers",
    ) -> None:
        parts = ["marker"] * len(vertices)
        super().__init__(
            name, points, confidence, joints=(), vertices=vertices, parts=parts, sigma=sigma, robust=robust
        )  # fmt: skip

    def residuals(self, body: Tensor) -> Tensor:
        return body - self.points


@final
class Keypoints2D(Target):
    """2D keypoints seen by a camera, pixels. What is clearly in another unit than the camera is refused.

    Args:
        points: (B, K, 2) or (K, 2); NaN marks missing points.
        camera: a `Camera`.
        layout: name of the order of the points ("coco_wholebody", "openpose_25", "openpose_135", "smplx", ...), or a table of
            your own.
        confidence: (B, K) or (K,), the detector's; None is 1 for all.
        sigma: standard deviation of a coordinate, pixels.
        robust: as in `Target`.
    """

    dimensions, unit = 2, "pixels"

    def __init__(
        self,
        points: Tensor,
        *,
        camera: Camera,
        layout: LayoutInput,
        confidence: Tensor | None = None,
        sigma: float | Tensor = 5.0,
        robust: float | None = ROBUST,
        name: str = "keypoints",
    ) -> None:
        points, confidence, sigma, joints, vertices, parts = in_layout(points, confidence, sigma, layout)
        super().__init__(
            name, points, confidence, joints=joints, vertices=vertices, parts=parts, sigma=sigma, robust=robust
        )  # fmt: skip
        check_camera(camera, self.num_frames)
        check_units(self.points, self.confidence, self.sigma, camera)
        self.camera = camera

    def residuals(self, body: Tensor) -> Tensor:
        return self.camera.project(body) - self.points

    def select(self, rows: Tensor) -> Keypoints2D:
        part = super().select(rows)
        assert isinstance(part, Keypoints2D)
        part.camera = self.camera.select(rows)
        return part

    def energy(self, body: Tensor, *, chosen: Tensor | None = None, outlier_scale: float | Tensor = 1.0) -> Tensor:
        """As `Target.energy`, plus a quadratic penalty on points nearer than 0.1 m, which keeps bodies in front of the camera."""
        too_near = torch.relu(NEAR - self.camera.to_camera(body)[..., 2]) / _WALL_SIGMA
        return super().energy(body, chosen=chosen, outlier_scale=outlier_scale) + 0.5 * too_near.square().mean(-1)
