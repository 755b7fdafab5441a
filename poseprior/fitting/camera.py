"""`Camera`: a pinhole, pixels from metres."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from .._checks import check_number, quoted

#: Points nearer than this, metres, are projected as if they stood there, so that pixels and gradients stay finite.
NEAR = 0.1
#: Pixels and metres beyond which squares of what is projected overflow.
_LARGEST = 1e8


@final
class Camera:
    """A pinhole camera, or one for each frame: x right, y down, z forward (OpenCV).

        camera point = rotation @ world point + translation,      pixel = focal * (x, y) / z + center

    Args:
        focal: focal length, pixels: a number, (2,) for x and y, (B,), (B, 1) or (B, 2). Two numbers are always x and y: for
            two frames give (2, 1) or (2, 2).
        center: principal point, pixels: (2,) or (B, 2).
        rotation: (3, 3) or (B, 3, 3), world to camera; None is the identity: bodies are fitted in camera coordinates,
            in which an upright person has y pointing down.
        translation: (3,) or (B, 3), metres.

    Raises:
        ValueError: a focal length that is not above 0, values that are no numbers or beyond 1e8, other shapes.

    >>> camera = Camera(1000.0, (640.0, 360.0))
    >>> camera.project(torch.tensor([[[0.1, 0.0, 2.0]]])).tolist()
    [[[690.0, 360.0]]]
    """

    def __repr__(self) -> str:
        focal, center = (t.reshape(-1, 2)[0].tolist() for t in (self.focal, self.center))
        frames = max(t.shape[0] if t.dim() == 2 else 1 for t in (self.focal, self.center))
        return (
            f"Camera(focal {focal[0]:g}, {focal[1]:g} px, center {center[0]:g}, {center[1]:g} px"
            f"{f', the first of {frames} frames' if frames > 1 else ''})"
        )

    def __init__(
        self,
        focal: float | Tensor,
        center: tuple[float, float] | Tensor,
        *,
        rotation: Tensor | None = None,
        translation: Tensor | None = None,
    ) -> None:
        focal = _values("focal", focal)
        if bool((focal <= 0).any()):
            raise ValueError(
                f"focal: expected focal lengths above 0 pixels, got {float(focal.min())}; if it is unknown, the length "
                "of the image's diagonal is a fair guess (Camera.of_image)."
            )
        if focal.dim() == 0 or (focal.dim() == 1 and focal.shape != (2,)):
            focal = focal[..., None]
        if focal.shape[-1:] == (1,):
            focal = focal.expand(*focal.shape[:-1], 2)
        center = _values("center", center)
        if focal.shape[-1:] != (2,) or focal.dim() > 2 or center.shape[-1:] != (2,) or center.dim() > 2:
            raise ValueError(
                f"focal, center: expected (2,) or (B, 2), got {tuple(focal.shape)} and {tuple(center.shape)}."
            )
        self.focal, self.center = focal, center
        self.rotation = None if rotation is None else _values("rotation", rotation)
        self.translation = None if translation is None else _values("translation", translation)
        if self.rotation is not None:
            if self.rotation.shape[-2:] != (3, 3) or self.rotation.dim() > 3:
                raise ValueError(f"rotation: expected (3, 3) or (B, 3, 3), got {tuple(self.rotation.shape)}.")
            off = (self.rotation @ self.rotation.mT - torch.eye(3, dtype=self.rotation.dtype)).abs().max()
            if float(off) > 1e-3 or bool((torch.linalg.det(self.rotation) < 0).any()):
                raise ValueError(
                    "rotation: expected rotation matrices, got one that is not orthogonal or that mirrors."
                )
        if self.translation is not None and (self.translation.shape[-1:] != (3,) or self.translation.dim() > 2):
            raise ValueError(f"translation: expected (3,) or (B, 3), got {tuple(self.translation.shape)}.")

    @classmethod
    def of_image(cls, width: float, height: float) -> Camera:
        """A guess for an uncalibrated image: focal length its diagonal (a 53 degree view), centre its middle."""
        for name, side in (("width", width), ("height", height)):
            check_number(name, side, above=0.0, most=_LARGEST)
        return cls(math.hypot(width, height), (0.5 * width, 0.5 * height))

    def to_camera(self, points: Tensor) -> Tensor:
        """Camera coordinates (*lead, B, K, 3) of world points (*lead, B, K, 3), metres."""
        if self.rotation is not None:
            points = points @ self.rotation.to(points).mT
        if self.translation is not None:
            points = points + self.translation.to(points)[..., None, :]
        return points

    def to_world_axes(self, steps: Tensor) -> Tensor:
        """Steps or directions (*lead, B, K, 3) along the axes of the world, of those along the axes of the camera."""
        return steps if self.rotation is None else steps @ self.rotation.to(steps)

    def project(self, points: Tensor) -> Tensor:
        """Pixels (*lead, B, K, 2) of world points (*lead, B, K, 3); finite for points behind the camera too."""
        return self.pixels(self.to_camera(points))

    def pixels(self, local: Tensor) -> Tensor:
        """Pixels (*lead, B, K, 2) of points in camera coordinates."""
        depth = local[..., 2:].clamp_min(NEAR)
        return self.focal.to(local)[..., None, :] * local[..., :2] / depth + self.center.to(local)[..., None, :]

    def select(self, rows: Tensor) -> Camera:
        """The cameras of some frames (a camera without batch stays as it is)."""

        def of(value: Tensor | None, rank: int) -> Tensor | None:
            return value if value is None or value.dim() == rank or len(value) == 1 else value[rows]

        focal, center = of(self.focal, 1), of(self.center, 1)
        assert focal is not None and center is not None
        return Camera(focal, center, rotation=of(self.rotation, 2), translation=of(self.translation, 1))


def _values(name: str, value: float | tuple[float, ...] | Tensor) -> Tensor:
    try:
        plain = isinstance(value, float | int | tuple | list) and not isinstance(value, bool)
        tensor = torch.as_tensor(value, dtype=torch.float64 if plain else None).detach().cpu()
        tensor = tensor if tensor.is_complex() or tensor.dtype == torch.bool else tensor.double()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        tensor = torch.tensor(False)
    if tensor.dtype != torch.float64:
        raise ValueError(f"{name}: expected a number or a tensor of numbers, got {quoted(value)}.")
    if not bool((tensor.abs() <= _LARGEST).all()):  # a NaN fails the comparison
        raise ValueError(
            f"{name}: expected finite numbers of at most {_LARGEST:g}, got {quoted(value)}; focal lengths and centres are in "
            "pixels, translations in metres."
        )
    return tensor
