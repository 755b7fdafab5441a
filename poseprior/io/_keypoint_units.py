"""Units of keypoints: pixels and metres are what a fit takes; what is clearly neither is refused or rescaled on request."""

from __future__ import annotations

import torch
from torch import Tensor

#: `units` of read_keypoints, by number of coordinates.
UNITS = {2: ("pixels", "normalised", "normalised_centred"), 3: ("m", "cm", "mm")}
#: Pixels within which no detector finds a person; metres that no person spans, and that no hand is within.
_FEW_PIXELS, _MANY_METRES, _FEW_METRES = 2.0, 4.0, 0.01
#: Points that show how large a person is.
_ENOUGH = 4


def in_units(points: Tensor, confidence: Tensor, units: str | None, size: tuple[float, float] | None) -> Tensor:
    """(F, K, d) in pixels or metres.

    Args:
        points: (F, K, 2 or 3).
        confidence: (F, K).
        units: of `points`; None for pixels and metres, which the values must then look like.
        size: (width, height) of the image, pixels.

    Raises:
        ValueError: units of the other kind, values that these units cannot have, or normalised ones without a size.
    """
    dimensions = points.shape[-1]
    known = UNITS[dimensions]
    if units is not None and units not in known:
        raise ValueError(f"units: expected one of {', '.join(known)} for {dimensions}D keypoints, got {units!r}.")
    if dimensions == 3:
        return _metres(points, confidence, units)
    seen = points[(confidence > 0) & torch.isfinite(points).all(-1)]
    least, most = (float(seen.min()), float(seen.max())) if seen.numel() else (0.0, 1e3)
    normalised = least != most and most <= _FEW_PIXELS and least >= -_FEW_PIXELS
    if units in (None, "pixels"):
        if normalised:
            guess = "normalised_centred" if least < -0.5 else "normalised"
            raise ValueError(
                f"units: expected pixels, got coordinates from {least:.2g} to {most:.2g}: the whole person within a pixel or "
                f"two, so these are normalised to [{-1 if least < -0.5 else 0}, 1]; pass units={guess!r} with image_size=(width, "
                f"height) (on the command line --units {guess} --image-size W H), or save pixels."
            )
        _require_same_units(points, confidence)
        if 0 < _span(points, confidence) < 1.0:
            raise ValueError(
                f"units: expected pixels, got whole persons of {_span(points, confidence):.2g} pixels; multiply by the scale "
                "that the detector divided by, and save pixels."
            )
        return points
    if not normalised:
        raise ValueError(
            f"units: expected coordinates around [0, 1] for {units}, got {least:.4g} to {most:.4g}; leave it out."
        )
    if size is None:
        raise ValueError(
            f"image_size: expected (width, height) in pixels with units={units!r}, got None; pass image_size=."
        )
    scale = points.new_tensor(size)
    return points * scale if units == "normalised" else (points + 1) * 0.5 * scale


def _require_same_units(points: Tensor, confidence: Tensor) -> None:
    """Refuse normalised frames among frames of pixels (F, K, 2)."""
    seen = (confidence > 0) & torch.isfinite(points).all(-1)
    inside = (points.abs() <= _FEW_PIXELS).all(-1) | ~seen
    small = inside.all(1) & (seen.sum(1) >= _ENOUGH)
    if bool(small.any()):
        frames = small.nonzero().flatten().tolist()
        raise ValueError(
            f"units: expected pixels in every frame, got {len(frames)} of {len(points)} frames (the first is number {frames[0]}) "
            "with the whole person within a pixel or two; if these are normalised, rescale them, or put them in a file or "
            "folder of their own."
        )


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
    seen = (confidence > 0) & torch.isfinite(points).all(-1)
    many = seen.sum(1) >= _ENOUGH
    if not bool(many.any()):
        return 0.0
    high = torch.where(seen[..., None], points, -torch.inf)[many].amax(1)
    low = torch.where(seen[..., None], points, torch.inf)[many].amin(1)
    return float((high - low).amax(-1).median())
