"""Units of keypoints: pixels and metres are what a fit takes; what is clearly neither is refused or rescaled on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..._checks import quoted
from ..._text import printable, shown
from ...keypoint_layouts import KeypointLayout
from .metres import in_metres
from .sizes import ENOUGH, median_of, median_span, odd_frames, seen_points

#: `units` of read_keypoints, by number of coordinates.
UNITS = {2: ("pixels", "normalised", "normalised_centred", "normalised_centred_by_width"), 3: ("m", "cm", "mm")}
#: The same in other words, in files.
_ALSO = {
    "px": "pixels", "pixel": "pixels", "normalized": "normalised", "normalized_centered": "normalised_centred",
    "metre": "m", "metres": "m", "meter": "m", "meters": "m", "centimetres": "cm", "centimeters": "cm", "centimetre": "cm",
    "centimeter": "cm", "millimetres": "mm", "millimeters": "mm", "millimetre": "mm", "millimeter": "mm",
}  # fmt: skip
#: Half the points of a normalised person are within this distance of 0, even where some reach out of the image.
_NORMALISED = 2.0
#: Half the points of a person in pixels are beyond this distance. Between the two distances nothing is guessed.
_PIXELS = 10.0
#: A larger share of negative coordinates than this shows that they are centred on the image.
_SHARE_NEGATIVE = 0.2


def in_units(
    points: Tensor, confidence: Tensor, layout: KeypointLayout, units: str | None, size: tuple[float, float] | None,
    known: bool = False,
) -> Tensor:  # fmt: skip
    """(F, K, d) in pixels or metres.

    Args:
        points: (F, K, 2 or 3).
        confidence: (F, K).
        layout: of the K points.
        units: of `points`; None for pixels and metres, which the values must then look like.
        size: (width, height) of the image, pixels.
        known: whether the program that wrote them writes normalised ones.

    Raises:
        ValueError: units of the other kind, values that these units cannot have, or normalised ones without a size.
    """
    dimensions = points.shape[-1]
    allowed = UNITS[dimensions]
    if units is not None and units not in allowed:
        raise ValueError(f"units: expected one of {', '.join(allowed)} for {dimensions}D keypoints, got {units!r}.")
    if dimensions == 3:
        return in_metres(points, confidence, units, layout)
    if units in (None, "pixels"):
        return _pixels(points, confidence, units, known)
    return _from_normalised(points, confidence, str(units), size, known)


def stored_units(stored: str | None, units: str | None, dimensions: int, path: Path) -> str | None:
    """The units that the caller passes, which must agree with those that the file says.

    Raises:
        ValueError: others in the file, or none that are known.
    """
    if stored is None:
        return units
    said = _ALSO.get(stored.lower().strip(), stored.lower().strip())
    if said not in UNITS[dimensions]:
        multiply = "rescale the points, and save metres" if dimensions == 3 else "save pixels"
        raise ValueError(
            f"units: expected one of {', '.join(UNITS[dimensions])} in {shown(path.name)}, got {printable(stored)!r}; "
            f"{multiply}, or leave it out of the file."
        )
    if units is not None and units != said:
        raise ValueError(f"units: expected {said!r}, which {shown(path.name)} says, got {quoted(units)}; leave it out.")
    return said


def refuse_two_units(frames: Sequence[tuple[str, NDArray[np.float32]]], path: Path) -> None:
    """Refuse people (P, K, 3) in pixels beside normalised ones, of whom nobody could be followed into the next frame."""
    small, large = "", ""
    for name, people in frames:
        for person in people:
            reach = np.abs(person[(person[:, 2] > 0) & np.isfinite(person).all(1), :2]).max(1)
            if len(reach) >= ENOUGH:
                bulk = float(np.median(reach))
                small, large = name if bulk <= _NORMALISED else small, name if bulk >= _PIXELS else large
    if small and large:
        raise ValueError(
            f"units: expected one unit in every frame of {shown(path.name)}, got normalised coordinates in frame "
            f"{printable(small)} and pixels in frame {printable(large)}; rescale one of them, or put it in a file or folder of "
            "its own."
        )


def why_no_pixels(
    points: Tensor, confidence: Tensor, *, told: bool = True, known: bool = False
) -> tuple[str, str] | None:
    """What shows that points (F, K, 2) are no pixels, and the remedy for a file of them; None where they may be pixels.

    Args:
        points: (F, K, 2).
        confidence: (F, K).
        told: whether somebody says that they are pixels; else they must clearly be.
        known: whether the program that wrote them writes normalised ones.
    """
    seen = seen_points(points, confidence)
    bulk = _bulk(points, seen)
    centred = not known and _share_negative(points, seen) > _SHARE_NEGATIVE
    named = (
        "units='normalised_centred' (y up to 1) or units='normalised_centred_by_width' (both over half the width, y up to height "
        "/ width)"
        if centred
        else "units='normalised'"
    )
    flag = "normalised_centred or normalised_centred_by_width" if centred else "normalised"
    if bulk <= _NORMALISED or (not told and known and bulk < _PIXELS):
        return (
            f"expected pixels, got {'landmarks of MediaPipe' if known else 'coordinates'} of which half are within {bulk:.2g} "
            f"of 0, so these are normalised to [{-1 if centred else 0}, 1]",
            f"pass {named} with image_size=(width, height) (on the command line --units {flag}, --image-size W H), or save "
            "pixels",
        )
    if not told and bulk < _PIXELS:
        return (
            f"expected pixels, got coordinates of which half are within {bulk:.2g} of 0, which may be pixels or normalised to "
            "the image",
            f"pass units='pixels', or {named} with image_size=(width, height) (on the command line --units)",
        )
    small = (median_of(points.abs().amax(-1), seen) <= _NORMALISED) & (seen.sum(1) >= ENOUGH)
    if bool(small.any()):
        return (
            f"expected pixels in every frame, got {odd_frames(small)} with the whole person within a pixel or two",
            "if these are normalised, rescale them, or put them in a file or folder of their own",
        )
    span = median_span(points, confidence)
    if 0 < span < 1.0:
        return (
            f"expected pixels, got whole persons of {span:.2g} pixels",
            "multiply by the scale that the detector divided by, and save pixels",
        )
    return None


def _pixels(points: Tensor, confidence: Tensor, units: str | None, known: bool) -> Tensor:
    """Points (F, K, 2) that are pixels; others are refused."""
    seen = seen_points(points, confidence)
    if known and _bulk(points, seen) <= _NORMALISED:
        _refuse_world(points, seen)
    wrong = why_no_pixels(points, confidence, told=units is not None, known=known)
    if wrong is not None:
        raise ValueError(f"units: {wrong[0]}; {wrong[1]}.")
    return points


def _bulk(points: Tensor, seen: Tensor) -> float:
    """How far from 0 half of the points (F, K, 2) that were found are, by their larger coordinate."""
    return float(median_of(points.abs().amax(-1).reshape(1, -1), seen.reshape(1, -1)))


def _share_negative(points: Tensor, seen: Tensor) -> float:
    return float((points[seen] < 0).float().mean())


def _refuse_world(points: Tensor, seen: Tensor) -> None:
    """Refuse MediaPipe's world landmarks (F, K, 2), of which many are negative, as landmarks over an image."""
    if _share_negative(points, seen) > _SHARE_NEGATIVE:
        raise ValueError(
            "units: expected landmarks over the image, got many below 0, as MediaPipe's world landmarks are, metres about the "
            "hips; save x, y, z of those in an .npz, keypoints3d (F, K, 3) with confidence and layout, or write pose_landmarks."
        )


def _from_normalised(
    points: Tensor, confidence: Tensor, units: str, size: tuple[float, float] | None, known: bool
) -> Tensor:
    """Pixels of normalised points (F, K, 2). Single ones may be far outside: legs below the image of a webcam, say."""
    seen = seen_points(points, confidence)
    bulk = _bulk(points, seen)
    if bulk >= _PIXELS:
        raise ValueError(
            f"units: expected coordinates around [{-1 if 'centred' in units else 0}, 1] for {units}, got most of them as "
            f"far as {bulk:.4g} from 0, as pixels are; leave units= out."
        )
    large = median_of(points.abs().amax(-1), seen) >= _PIXELS
    if bool(large.any()):
        raise ValueError(
            f"units: expected {units} coordinates in every frame, got {odd_frames(large)} in pixels; divide those by the size of "
            "the image, or put them in a file or folder of their own."
        )
    if known:
        _refuse_world(points, seen)
    if size is None:
        raise ValueError(
            f"image_size: expected (width, height) in pixels with units={units!r}, got None; pass image_size=."
        )
    scale = points.new_tensor(size)
    if units == "normalised_centred_by_width":
        most = size[1] / size[0]
        past = float((points[seen][:, 1].abs() > most).float().mean())
        if past > _SHARE_NEGATIVE:
            raise ValueError(
                f"units: expected y within {most:.3g} of 0, which is height / width, for {units}, got {past:.0%} of them beyond; "
                "pass units='normalised_centred', or another image_size."
            )
        return (points + points.new_tensor((1.0, most))) * 0.5 * size[0]
    return points * scale if units == "normalised" else (points + 1) * 0.5 * scale
