"""Whether 2D points, a camera and an image can belong together: units that are mixed up place people metres aside."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..io._keypoints.sizes import ENOUGH, spans
from ..io._keypoints.units import why_no_pixels
from .camera import Camera

#: A focal length below this is not in pixels: it is in widths of the image, or in metres.
_LEAST_PIXELS = 10.0
#: Nearly all points are less than so many focal lengths (68 degrees) off the axis: no pinhole camera sees further.
_OFF_AXIS, _NEARLY_ALL = 2.5, 0.9
#: A person would be a kilometre away or more where the focal length is so many times their span.
_FAR = 1000.0
#: Focal lengths of usual cameras, in diagonals of the image.
_SHORTEST, _LONGEST = 0.2, 20.0
#: Detectors guess points so far outside of the image, in its sides; these count as inside.
_MARGIN = 0.02
#: Shares of the points that are outside of the image: more than the first are doubtful where swapping width and height brings
#: them inside, more than the second are doubtful always, and more than the third are refused.
_FEW, _SOME, _MOST = 0.01, 0.05, 0.5
#: Swapping brings them inside where it leaves at most this share of them outside.
_LEFT = 0.2
_GUESS = (
    "millimetres become pixels by focal * image width / sensor width (36 mm in full frame), shares of the image's width by "
    "focal * image width; if it is unknown, take the image's diagonal in pixels, as Camera.of_image(width, height) does"
)


def check_camera(camera: object, frames: int) -> None:
    """Refuse what is no camera of so many frames."""
    if not isinstance(camera, Camera):
        raise ValueError(f"camera: expected a Camera, got {type(camera).__name__}; Camera(focal, center).")
    for what in ("focal", "center", "rotation", "translation"):
        value = getattr(camera, what)
        rank = 2 if what == "rotation" else 1
        if value is not None and value.dim() > rank and len(value) not in (1, frames):
            raise ValueError(f"camera: expected {what} for {frames} frames or one, got {len(value)}.")


def check_units(points: Tensor, confidence: Tensor, sigma: Tensor, camera: Camera) -> None:
    """Refuse points (B, K, 2) and a camera in different units.

    Args:
        points, confidence, sigma: of a target, (B, K) but for the coordinates.
        camera: that sees them.

    Raises:
        ValueError: normalised points or centres beside a camera in pixels, focal lengths in millimetres, and the like.
    """
    seen = confidence > 0
    if not bool(seen.any()):
        return
    many = seen.sum(1) >= ENOUGH
    span = float(spans(points, seen)[many].median()) if bool(many.any()) else math.nan  # no check refuses a NaN
    if float(camera.focal.median()) >= _LEAST_PIXELS:
        _check_pixels(points, confidence)
    else:
        _check_sigma(sigma, span)
    _check_center(points[seen], camera)
    _check_focal(points, seen, span, camera)


def _check_pixels(points: Tensor, confidence: Tensor) -> None:
    """Refuse points (B, K, 2) that are no pixels beside a camera in pixels."""
    wrong = why_no_pixels(points, confidence)
    if wrong is not None:
        raise ValueError(
            f"points: {wrong[0]}; multiply points that are normalised to [0, 1] by the image's (width, height) in pixels, or "
            "give a Camera and a sigma in the units of the points."
        )


def _check_sigma(sigma: Tensor, span: float) -> None:
    """Refuse a sigma in pixels beside points and a camera in other units: it would allow the points to be anywhere."""
    usual = float(sigma.median())
    if span <= usual:
        raise ValueError(
            f"sigma: expected less than a person spans, got {usual:g} for persons of {span:.2g}; give sigma in the units of the "
            "points and the camera, or all of them in pixels."
        )


def _check_center(seen_points: Tensor, camera: Camera) -> None:
    """Refuse a normalised principal point beside points (N, 2) in pixels."""
    x, y = _middle(camera)
    if 0 < x <= 1 and 0 < y <= 1 and float(seen_points.abs().amax(-1).median()) >= _LEAST_PIXELS:
        raise ValueError(
            f"center: expected the principal point in pixels, as the points are, got ({x:g}, {y:g}); multiply a normalised one "
            "by the image's (width, height)."
        )


def _check_focal(points: Tensor, seen: Tensor, span: float, camera: Camera) -> None:
    """Refuse focal lengths with which points (B, K, 2) are far off the axis, or persons a kilometre away."""
    length, (x, y) = float(camera.focal.median()), _middle(camera)
    focal, center = (value.to(points).reshape(-1, 1, 2) for value in (camera.focal, camera.center))
    off = ((points - center) / focal).norm(dim=-1)[seen]
    off_axis = float(off.sort().values[int(_NEARLY_ALL * (len(off) - 1))])
    if off_axis > _OFF_AXIS:
        raise ValueError(
            f"focal: expected a focal length in pixels, got {length:g}, with which points are "
            f"{math.degrees(math.atan(off_axis)):.0f} degrees off the axis of the camera, which passes through "
            f"({x:g}, {y:g}); {_GUESS}."
        )
    if length > _FAR * span > 0:
        raise ValueError(
            f"focal: expected a focal length in pixels, got {length:g} for persons of {span:.3g} pixels, who would then be "
            f"a kilometre away; {_GUESS}."
        )


def _middle(camera: Camera) -> tuple[float, float]:
    """The median principal point."""
    x, y = camera.center.reshape(-1, 2).median(0).values.tolist()
    return x, y


def image_notes(
    points: Tensor, confidence: Tensor, camera: Camera, size: tuple[float, float], fix: str = "pass another image_size"
) -> list[str]:
    """What is doubtful about points (B, K, 2) that a camera sees in an image of `size` (width, height), all in pixels.

    Args:
        points, confidence: (B, K, 2) and (B, K).
        camera: that sees them.
        size: width and height.
        fix: how a user mends a wrong size.

    Raises:
        ValueError: most points outside of the image, or a focal length far below its diagonal.
    """
    weight = torch.where(torch.isfinite(points).all(-1), confidence, torch.zeros_like(confidence))
    return [
        *_focal_notes(camera, size),
        *_center_notes(camera, size),
        *_outside_notes(torch.nan_to_num(points), weight, size, fix),
    ]


def _focal_notes(camera: Camera, size: tuple[float, float]) -> list[str]:
    length, diagonal = float(camera.focal.median()), math.hypot(*size)
    image = f"an image of {size[0]:g} x {size[1]:g} pixels"
    if length < _SHORTEST * diagonal:
        view = 2 * math.degrees(math.atan(0.5 * diagonal / length))
        raise ValueError(
            f"focal: expected a focal length in pixels, got {length:g}, with which {image} would show {view:.0f} degrees; "
            f"{_GUESS}."
        )
    if length <= _LONGEST * diagonal:
        return []
    return [
        f"the focal length, {length:g}, is more than {_LONGEST:g} diagonals of the image of {size[0]:g} x {size[1]:g} pixels; "
        "check that it is in pixels of this image"
    ]


def _center_notes(camera: Camera, size: tuple[float, float]) -> list[str]:
    x, y = _middle(camera)
    if 0 <= x <= size[0] and 0 <= y <= size[1]:
        return []
    return [
        f"the principal point, ({x:g}, {y:g}), is outside of the image of {size[0]:g} x {size[1]:g} pixels; "
        "check that it is in pixels from the image's upper left corner"
    ]


def _outside_notes(points: Tensor, weight: Tensor, size: tuple[float, float], fix: str) -> list[str]:
    """About points (B, K, 2) outside of the image, or in a small part of it; `weight` (B, K) is 0 for missing ones."""
    width, height = size
    outside = _outside(points, weight, size)
    swapped = outside > _FEW and _outside(points, weight, (height, width)) <= _LEFT * outside
    far = points[weight > 0].amax(0)
    if outside <= _SOME and not swapped:
        if bool((far >= 0.5 * points.new_tensor(size)).any()):
            return []
        return [
            f"all points are in the upper left quarter of an image of {width:g} x {height:g} pixels; if they were found in a "
            f"smaller copy of it, give the size of that: {fix}"
        ]
    why = (
        f"with width and height swapped, {height:g} x {width:g}, they fit"
        if swapped
        else "give the size of the picture in which the points were found"
    )
    text = (
        f"{100 * outside:.0f} % of the points are outside of an image of {width:g} x {height:g} pixels (width x height): "
        f"they reach to ({far[0]:.0f}, {far[1]:.0f}); {why}: {fix}"
    )
    if outside > _MOST:
        raise ValueError(f"image_size: expected an image that holds most points, got one where {text}.")
    return [text]


def _outside(points: Tensor, weight: Tensor, size: tuple[float, float]) -> float:
    """Share of the points (B, K, 2), by their weights (B, K), that are clearly outside of an image."""
    room = points.new_tensor(size)
    out = ((points < -_MARGIN * room) | (points > (1 + _MARGIN) * room)).any(-1)
    return float((weight * out).sum() / weight.sum())
