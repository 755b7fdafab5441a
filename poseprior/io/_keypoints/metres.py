"""Metres of keypoints in 3D; what has another size than people, hands or faces is refused with the unit that it may be in."""

from __future__ import annotations

import torch
from torch import Tensor

from ...keypoint_layouts import SMPLX_144, KeypointLayout
from .sizes import ENOUGH, median_of, odd_frames, seen_points, spans

_IN_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
#: Metres that no person spans, that no hand and no face spans, and that none of them is within.
_MANY_METRES, _MANY_METRES_OF_PART, _FEW_METRES = 4.0, 0.6, 0.01
#: Metres that half a person or more, one from head to foot, and a hand or a face, usually spans.
_USUAL_METRES = {"person": (0.2, 3.0), "whole": (0.8, 3.0), "part": (0.05, 0.3)}
#: How many times larger than in another frame the same points of a person never are; the units are ten times so or more.
_UNLIKE = 8.0
_OF_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_HEAD = {SMPLX_144.index(name) for name in ("head", *_OF_FACE)}
_FEET = {
    SMPLX_144.index(f"{side}_{name}") for side in ("left", "right") for name in ("ankle", "foot", "heel", "big_toe")
}


def in_metres(points: Tensor, confidence: Tensor, units: str | None, layout: KeypointLayout) -> Tensor:
    """Metres of points (F, K, 3), which must then be of the size of what the layout has, in each frame."""
    told = units or "m"
    scaled, seen = points * _IN_METRES[told], seen_points(points, confidence)
    what = _who(layout, seen.any(0))
    most = _MANY_METRES if what == "person" else _MANY_METRES_OF_PART
    sizes, count = spans(scaled, seen), seen.sum(1)
    enough = min(int(count.max()), ENOUGH)
    span = float(sizes[count >= enough].median())
    if enough > 1 and (span > most or (enough == ENOUGH and 0 < span < _FEW_METRES)):
        kind = "part" if what != "person" else "whole" if _is_whole(layout, seen.any(0)) else "person"
        raise ValueError(_other_unit(span / _IN_METRES[told], what, kind, most, units))
    # By the bulk of a frame: a point that a triangulation threw far away is no other unit.
    centre = torch.stack([median_of(scaled[..., k], seen) for k in range(3)], -1)
    size = 2 * median_of((scaled - centre[:, None]).norm(dim=-1), seen)
    whole = (seen | ~seen.any(0)).all(1) & (count >= ENOUGH)  # the same points: no pose changes their size so much
    usual = size[whole].median() if bool(whole.any()) else size.new_tensor(torch.nan)
    for odd, how in (
        ((size > most) & (count > 1), f"more than {most:g} m"),
        ((sizes < _FEW_METRES) & (count >= ENOUGH), f"less than {_FEW_METRES:g} m"),
        (whole & ((size > _UNLIKE * usual) | (size * _UNLIKE < usual)), "another size than in the others"),
    ):
        if bool(odd.any()):
            raise ValueError(
                f"units: expected {told} in every frame, got {odd_frames(odd)} with a {what} of {how}; write them in one unit, "
                "or give the points of those a confidence of 0."
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


def _is_whole(layout: KeypointLayout, shown: Tensor) -> bool:
    """Whether the points (K,) that were found reach from the head to the feet."""
    joints = {layout.joints[k] for k in shown.nonzero().flatten().tolist()}
    return bool(joints & _HEAD) and bool(joints & _FEET)


def _other_unit(span: float, what: str, kind: str, most: float, units: str | None) -> str:
    """The error for a median span that the units do not have, with those that it may be in."""
    usual = _USUAL_METRES[kind]
    sizes = {
        unit: span * scale
        for unit, scale in _IN_METRES.items()
        if unit != (units or "m") and _FEW_METRES <= span * scale <= most
    }
    likely = {unit: size for unit, size in sizes.items() if usual[0] <= size <= usual[1]}
    number = f"{span:,.0f}" if span >= 10 else f"{span:.2g}"
    got = f"units: expected {'metres' if units is None else units}, got a {what} of {number} units"
    if not likely:
        return (
            f"{got}, which no {what} has in m, cm or mm; multiply the points by the metres in a unit (an inch has 0.0254, "
            "a foot 0.3048), and save metres."
        )
    passed = " or ".join(f"units={unit!r}" for unit in likely)
    looks = (
        f"looks like {next(iter(likely))}"
        if len(likely) == 1
        else "is " + " or ".join(f"{size:.2g} m in {unit}" for unit, size in likely.items())
    )
    return f"{got}, which {looks}; pass {passed} (on the command line --units), or save metres."
