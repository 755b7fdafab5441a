"""Units of keypoints: pixels and metres are what a fit takes; what is clearly neither is refused or rescaled on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._open import printable

#: `units` of read_keypoints, by number of coordinates.
UNITS = {2: ("pixels", "normalised", "normalised_centred"), 3: ("m", "cm", "mm")}
#: Half the points of a normalised person are within the first, whatever reaches out of the image; half those of a person in
#: pixels are beyond the second. Between them nothing is guessed.
_NORMALISED, _PIXELS = 2.0, 10.0
#: Of the coordinates that are centred on an image, so many are negative.
_SHARE_NEGATIVE = 0.2
#: Metres that no person spans, and that no hand is within.
_MANY_METRES, _FEW_METRES = 4.0, 0.01
#: Points that show how large a person is.
_ENOUGH = 4


def in_units(
    points: Tensor, confidence: Tensor, units: str | None, size: tuple[float, float] | None, known: bool = False
) -> Tensor:
    """(F, K, d) in pixels or metres.

    Args:
        points: (F, K, 2 or 3).
        confidence: (F, K).
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
        return _metres(points, confidence, units)
    if units in (None, "pixels"):
        return _pixels(points, confidence, units, known)
    return _from_normalised(points, confidence, str(units), size)


def refuse_two_units(frames: Sequence[tuple[str, NDArray[np.float32]]], path: Path) -> None:
    """Refuse people (P, K, 3) in pixels beside normalised ones, of whom nobody could be followed into the next frame."""
    small, large = "", ""
    for name, people in frames:
        for person in people:
            reach = np.abs(person[(person[:, 2] > 0) & np.isfinite(person).all(1), :2]).max(1)
            if len(reach) >= _ENOUGH:
                bulk = float(np.median(reach))
                small, large = name if bulk <= _NORMALISED else small, name if bulk >= _PIXELS else large
    if small and large:
        raise ValueError(
            f"units: expected one unit in every frame of {path.name}, got normalised coordinates in frame {printable(small)} and "
            f"pixels in frame {printable(large)}; rescale one of them, or put it in a file or folder of its own."
        )


def _pixels(points: Tensor, confidence: Tensor, units: str | None, known: bool) -> Tensor:
    """Points (F, K, 2) that are pixels; others are refused."""
    reach, seen = points.abs().amax(-1), _seen(points, confidence)
    bulk = float(_median(reach.reshape(1, -1), seen.reshape(1, -1)))
    guess = "normalised_centred" if float((points[seen] < 0).float().mean()) > _SHARE_NEGATIVE else "normalised"
    if bulk <= _NORMALISED or (units is None and known and bulk < _PIXELS):
        raise ValueError(
            f"units: expected pixels, got coordinates most of which are within {bulk:.2g} of 0: the whole person within a pixel "
            f"or two, so these are normalised to [{-1 if guess.endswith('centred') else 0}, 1]; pass units={guess!r} with "
            f"image_size=(width, height) (on the command line --units {guess} --image-size W H), or save pixels."
        )
    if units is None and bulk < _PIXELS:
        raise ValueError(
            f"units: expected pixels, got coordinates of which half are within {bulk:.2g} of 0, which may be pixels or "
            f"normalised to the image; pass units='pixels', or units={guess!r} with image_size=(width, height) (on the command "
            "line --units)."
        )
    small = (_median(reach, seen) <= _NORMALISED) & (seen.sum(1) >= _ENOUGH)
    if bool(small.any()):
        raise ValueError(
            f"units: expected pixels in every frame, got {_frames(small)} with the whole person within a pixel or two; if these "
            "are normalised, rescale them, or put them in a file or folder of their own."
        )
    if 0 < _span(points, confidence) < 1.0:
        raise ValueError(
            f"units: expected pixels, got whole persons of {_span(points, confidence):.2g} pixels; multiply by the scale "
            "that the detector divided by, and save pixels."
        )
    return points


def _from_normalised(points: Tensor, confidence: Tensor, units: str, size: tuple[float, float] | None) -> Tensor:
    """Pixels of normalised points (F, K, 2). Single ones may be far outside: legs below the image of a webcam, say."""
    reach, seen = points.abs().amax(-1), _seen(points, confidence)
    bulk = float(_median(reach.reshape(1, -1), seen.reshape(1, -1)))
    if bulk >= _PIXELS:
        raise ValueError(
            f"units: expected coordinates around [{-1 if units.endswith('centred') else 0}, 1] for {units}, got most of them as "
            f"far as {bulk:.4g} from 0, as pixels are; leave it out."
        )
    large = _median(reach, seen) >= _PIXELS
    if bool(large.any()):
        raise ValueError(
            f"units: expected {units} coordinates in every frame, got {_frames(large)} in pixels; divide those by the size of "
            "the image, or put them in a file or folder of their own."
        )
    if size is None:
        raise ValueError(
            f"image_size: expected (width, height) in pixels with units={units!r}, got None; pass image_size=."
        )
    scale = points.new_tensor(size)
    return points * scale if units == "normalised" else (points + 1) * 0.5 * scale


def _seen(points: Tensor, confidence: Tensor) -> Tensor:
    """(F, K) which points were found."""
    return (confidence > 0) & torch.isfinite(points).all(-1)


def _frames(odd: Tensor) -> str:
    """Which frames (F,) to name in an error."""
    return f"{int(odd.sum())} of {len(odd)} frames (the first is number {int(odd.nonzero()[0, 0])})"


def _median(values: Tensor, seen: Tensor) -> Tensor:
    """(F,) of the values (F, K) of the points that were found; NaN where none was."""
    count = seen.sum(1, keepdim=True)
    ordered = torch.where(seen, values, torch.inf).sort(1).values
    lower, upper = ordered.gather(1, (count - 1).clamp_min(0) // 2), ordered.gather(1, count // 2)
    return torch.where(count > 0, (lower + upper) / 2, torch.nan)[:, 0]


def _metres(points: Tensor, confidence: Tensor, units: str | None) -> Tensor:
    scaled = points * {"m": 1.0, "cm": 0.01, "mm": 0.001, None: 1.0}[units]
    span = _span(scaled, confidence)
    if span > _MANY_METRES:
        if units is None:
            guess = "mm" if span > 100 * _MANY_METRES else "cm"
            raise ValueError(
                f"units: expected metres, got a person of {span:,.0f} units, which looks like {guess}; pass units={guess!r} (on "
                f"the command line --units {guess}), or save metres."
            )
        raise ValueError(
            f"units: expected a person of less than {_MANY_METRES:g} m in {units}, got {span:,.1f} m; pass others."
        )
    if 0 < span < _FEW_METRES:
        raise ValueError(f"units: expected metres, got a person of {span:.2g} m; save metres.")
    return scaled


def _span(points: Tensor, confidence: Tensor) -> float:
    """Median over the frames of the longest side of the box round the points; 0 where too few were found."""
    seen = _seen(points, confidence)
    many = seen.sum(1) >= _ENOUGH
    if not bool(many.any()):
        return 0.0
    high = torch.where(seen[..., None], points, -torch.inf)[many].amax(1)
    low = torch.where(seen[..., None], points, torch.inf)[many].amin(1)
    return float((high - low).amax(-1).median())
