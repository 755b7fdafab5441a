"""Whether 2D points, a camera and an image can belong together: units that are mixed up place people metres aside."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..io._keypoints.units import in_units
from ..keypoint_layouts import LayoutInput
from ..keypoint_layouts import layout as find_layout
from .camera import Camera

#: Focal lengths below this are not in pixels: coordinates in which the image is about one unit wide, or metres.
_PIXELS = 10.0
#: Points further off the axis, in focal lengths (68 degrees), are seen by no pinhole camera; nearly all are nearer.
_OFF_AXIS, _NEARLY_ALL = 2.5, 0.9
#: Focal lengths, in spans of a person, from which that person would be a kilometre away or more.
_FAR = 1000.0
#: Focal lengths of usual cameras, in diagonals of the image.
_SHORTEST, _LONGEST = 0.2, 20.0
#: Shares of the points outside of the image that are doubtful where the other way round holds them, doubtful at all, and
#: that no image has; and how far outside, in sides of the image, detectors guess.
_FEW, _SOME, _MOST, _MARGIN = 0.01, 0.05, 0.5, 0.02
#: Points that show how large a person is.
_ENOUGH = 4
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


def check_units(points: Tensor, confidence: Tensor, sigma: Tensor, camera: Camera, layout: LayoutInput) -> None:
    """Refuse points (B, K, 2) and a camera in different units.

    Args:
        points, confidence, sigma: of a target, (B, K) but for the coordinates.
        camera: that sees them.
        layout: of the points.

    Raises:
        ValueError: normalised points or centres beside a camera in pixels, focal lengths in millimetres, and the like.
    """
    seen = confidence > 0
    if not bool(seen.any()):
        return
    focal, center = camera.focal.to(points), camera.center.to(points)
    length = float(focal.median())
    spans = _spans(points, seen)
    span = float(spans.median()) if len(spans) else math.nan
    if length >= _PIXELS:
        try:
            in_units(points, confidence, find_layout(layout), "pixels", None)
        except ValueError as error:
            what = str(error).partition(": ")[2].partition("; ")[0]
            raise ValueError(
                f"points: {what}; multiply points that are normalised to [0, 1] by the image's (width, height) in pixels, or "
                "give a Camera and a sigma in the units of the points."
            ) from None
    elif span <= float(sigma.median()):
        raise ValueError(
            f"sigma: expected less than a person spans, got {float(sigma.median()):g} for persons of {span:.2g}; give sigma in "
            "the units of the points and the camera, or all of them in pixels."
        )
    middle = center.reshape(-1, 2).median(0).values
    bulk = float(points[seen].abs().amax(-1).median())
    if bool(((middle > 0) & (middle <= 1)).all()) and bulk >= _PIXELS:
        raise ValueError(
            f"center: expected the principal point in pixels, as the points are, got ({middle[0]:g}, {middle[1]:g}); multiply a "
            "normalised one by the image's (width, height)."
        )
    off = ((points - center.reshape(-1, 1, 2)) / focal.reshape(-1, 1, 2)).norm(dim=-1)[seen]
    off_axis = float(off.sort().values[int(_NEARLY_ALL * (len(off) - 1))])
    if off_axis > _OFF_AXIS:
        raise ValueError(
            f"focal: expected a focal length in pixels, got {length:g}, with which points are "
            f"{math.degrees(math.atan(off_axis)):.0f} degrees off the axis of the camera, which passes through "
            f"({middle[0]:g}, {middle[1]:g}); {_GUESS}."
        )
    if length > _FAR * span > 0:
        raise ValueError(
            f"focal: expected a focal length in pixels, got {length:g} for persons of {span:.3g} pixels, who would then be "
            f"a kilometre away; {_GUESS}."
        )


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
    points, notes = torch.nan_to_num(points), []
    width, height = size
    diagonal, length = math.hypot(width, height), float(camera.focal.median())
    if length < _SHORTEST * diagonal:
        view = 2 * math.degrees(math.atan(0.5 * diagonal / length))
        raise ValueError(
            f"focal: expected a focal length in pixels, got {length:g}, with which an image of {width:g} x {height:g} pixels "
            f"would show {view:.0f} degrees; {_GUESS}."
        )
    if length > _LONGEST * diagonal:
        notes.append(
            f"the focal length, {length:g}, is more than {_LONGEST:g} diagonals of the image of {width:g} x {height:g} pixels; "
            "check that it is in pixels of this image"
        )
    center = camera.center.reshape(-1, 2).median(0).values
    if not bool(((center >= 0) & (center <= center.new_tensor(size))).all()):
        notes.append(
            f"the principal point, ({center[0]:g}, {center[1]:g}), is outside of the image of {width:g} x {height:g} pixels; "
            "check that it is in pixels from the image's upper left corner"
        )
    outside = _outside(points, weight, size)
    swapped = outside > _FEW and _outside(points, weight, (height, width)) <= 0.2 * outside
    if outside > _SOME or swapped:
        far = points[weight > 0].amax(0).tolist()
        text = (
            f"{100 * outside:.0f} % of the points are outside of an image of {width:g} x {height:g} pixels (width x height): "
            f"they reach to ({far[0]:.0f}, {far[1]:.0f})"
        )
        why = (
            f"; with width and height swapped, {height:g} x {width:g}, they fit"
            if swapped
            else "; give the size of the picture in which the points were found"
        )
        if outside > _MOST:
            raise ValueError(f"image_size: expected an image that holds most points, got one where {text}{why}: {fix}.")
        notes.append(f"{text}{why}: {fix}")
    elif bool((points[weight > 0].amax(0) < 0.5 * points.new_tensor(size)).all()):
        notes.append(
            f"all points are in the upper left quarter of an image of {width:g} x {height:g} pixels; if they were found in a "
            f"smaller copy of it, give the size of that: {fix}"
        )
    return notes


def _outside(points: Tensor, weight: Tensor, size: tuple[float, float]) -> float:
    """Share of the points, by confidence, that are clearly outside of an image."""
    room = points.new_tensor(size)
    out = ((points < -_MARGIN * room) | (points > (1 + _MARGIN) * room)).any(-1)
    return float((weight * out).sum() / weight.sum())


def _spans(points: Tensor, seen: Tensor) -> Tensor:
    """(F,) longest sides of the boxes round the points of the frames that have enough of them."""
    many = seen.sum(1) >= _ENOUGH
    high = torch.where(seen[..., None], points, -torch.inf).amax(1)[many]
    low = torch.where(seen[..., None], points, torch.inf).amin(1)[many]
    return (high - low).amax(-1)
