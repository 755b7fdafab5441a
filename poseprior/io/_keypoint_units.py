"""Units of keypoints: pixels and metres are what a fit takes; what is clearly neither is refused or rescaled on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._checks import quoted
from ..keypoint_layouts import SMPLX_144, KeypointLayout
from ._open import printable

#: `units` of read_keypoints, by number of coordinates.
UNITS = {2: ("pixels", "normalised", "normalised_centred", "normalised_centred_by_width"), 3: ("m", "cm", "mm")}
#: The same in other words, in files.
_ALSO = {
    "px": "pixels", "pixel": "pixels", "normalized": "normalised", "normalized_centered": "normalised_centred",
    "metre": "m", "metres": "m", "meter": "m", "meters": "m", "centimetres": "cm", "centimeters": "cm", "centimetre": "cm",
    "centimeter": "cm", "millimetres": "mm", "millimeters": "mm", "millimetre": "mm", "millimeter": "mm",
}  # fmt: skip
#: Half the points of a normalised person are within the first, whatever reaches out of the image; half those of a person in
#: pixels are beyond the second. Between them nothing is guessed.
_NORMALISED, _PIXELS = 2.0, 10.0
#: Of the coordinates that are centred on an image, so many are negative.
_SHARE_NEGATIVE = 0.2
_IN_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
#: Metres that no person spans, that no hand and no face spans, and that none of them is within.
_MANY_METRES, _MANY_METRES_OF_PART, _FEW_METRES = 4.0, 0.6, 0.01
#: Metres that half a person or more, and a hand or a face, usually spans.
_USUAL_METRES = {"person": (0.2, 3.0), "part": (0.05, 0.3)}
#: How many times larger than in another frame the same points of a person never are; the units are ten times so or more.
_UNLIKE = 8.0
_OF_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
#: Points that show how large a person is.
_ENOUGH = 4


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
        return _metres(points, confidence, units, layout)
    if units in (None, "pixels"):
        return _pixels(points, confidence, units, known)
    return _from_normalised(points, confidence, str(units), size)


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
            f"units: expected one of {', '.join(UNITS[dimensions])} in {path.name}, got {printable(stored)!r}; {multiply}, or leave "
            "it out of the file."
        )
    if units is not None and units != said:
        raise ValueError(f"units: expected {said!r}, which {path.name} says, got {quoted(units)}; leave it out.")
    return said


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
    guess = (
        "normalised_centred"
        if not known and float((points[seen] < 0).float().mean()) > _SHARE_NEGATIVE
        else "normalised"
    )
    if bulk <= _NORMALISED or (units is None and known and bulk < _PIXELS):
        raise ValueError(
            f"units: expected pixels, got {'landmarks of MediaPipe' if known else 'coordinates'} of which half are within "
            f"{bulk:.2g} of 0, so these are normalised to [{0 if guess == 'normalised' else -1}, 1]; pass units={guess!r} with "
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
            f"far as {bulk:.4g} from 0, as pixels are; leave units= out."
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


def _metres(points: Tensor, confidence: Tensor, units: str | None, layout: KeypointLayout) -> Tensor:
    """Metres of points (F, K, 3), which must then be of the size of what the layout has, in each frame."""
    told = units or "m"
    scaled, seen = points * _IN_METRES[told], _seen(points, confidence)
    what = _who(layout, seen.any(0))
    most = _MANY_METRES if what == "person" else _MANY_METRES_OF_PART
    spans, count = _spans(scaled, seen), seen.sum(1)
    enough = min(int(count.max()), _ENOUGH)
    span = float(spans[count >= enough].median())
    if enough > 1 and (span > most or (enough == _ENOUGH and 0 < span < _FEW_METRES)):
        raise ValueError(_other_unit(span / _IN_METRES[told], what, most, units))
    # By the bulk of a frame: a point that a triangulation threw far away is no other unit.
    centre = torch.stack([_median(scaled[..., k], seen) for k in range(3)], -1)
    size = 2 * _median((scaled - centre[:, None]).norm(dim=-1), seen)
    whole = (seen | ~seen.any(0)).all(1) & (count >= _ENOUGH)  # the same points: no pose changes their size so much
    usual = size[whole].median() if bool(whole.any()) else size.new_tensor(torch.nan)
    for odd, how in (
        ((size > most) & (count > 1), f"more than {most:g} m"),
        ((spans < _FEW_METRES) & (count >= _ENOUGH), f"less than {_FEW_METRES:g} m"),
        (whole & ((size > _UNLIKE * usual) | (size * _UNLIKE < usual)), "another size than in the others"),
    ):
        if bool(odd.any()):
            raise ValueError(
                f"units: expected {told} in every frame, got {_frames(odd)} with a {what} of {how}; write them in one unit, or "
                "give the points of those a confidence of 0."
            )
    return scaled


def _who(layout: KeypointLayout, shown: Tensor) -> str:
    """What the points (K,) that were found are of: "person", or "hand" or "face" where they are of nothing else."""
    points = [
        (layout.parts[k], layout.names[k] if layout.joints[k] is None else SMPLX_144[layout.joints[k] or 0])
        for k in shown.nonzero().flatten().tolist()
    ]
    for side in ("left", "right"):
        if all(part == f"{side}_hand" or name == f"{side}_wrist" for part, name in points):
            return "hand"
    return "face" if all(part == "face" or name in _OF_FACE for part, name in points) else "person"


def _other_unit(span: float, what: str, most: float, units: str | None) -> str:
    """The error for a median span that the units do not have, with those that it may be in."""
    usual = _USUAL_METRES["person" if what == "person" else "part"]
    sizes = {
        unit: span * scale
        for unit, scale in _IN_METRES.items()
        if unit != (units or "m") and _FEW_METRES <= span * scale <= most
    }
    likely = {unit: size for unit, size in sizes.items() if usual[0] <= size <= usual[1]} or sizes
    number = f"{span:,.0f}" if span >= 10 else f"{span:.2g}"
    got = f"units: expected {'metres' if units is None else units}, got a {what} of {number} units"
    if not likely:
        return f"{got}, which no {what} has in m, cm or mm; rescale them, and save metres."
    passed = " or ".join(f"units={unit!r}" for unit in likely)
    looks = (
        f"looks like {next(iter(likely))}"
        if len(likely) == 1
        else "is " + " or ".join(f"{size:.2g} m in {unit}" for unit, size in likely.items())
    )
    return f"{got}, which {looks}; pass {passed} (on the command line --units), or save metres."


def _span(points: Tensor, confidence: Tensor) -> float:
    """Median span of the frames; 0 where too few points were found."""
    seen = _seen(points, confidence)
    many = seen.sum(1) >= _ENOUGH
    return float(_spans(points, seen)[many].median()) if bool(many.any()) else 0.0


def _spans(points: Tensor, seen: Tensor) -> Tensor:
    """(F,) longest side of the box round the points of each frame; negative where none was found."""
    high = torch.where(seen[..., None], points, -torch.inf).amax(1)
    low = torch.where(seen[..., None], points, torch.inf).amin(1)
    return (high - low).amax(-1)
