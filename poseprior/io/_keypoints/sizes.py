"""Which points were seen, and how large the people are that they make."""

from __future__ import annotations

import torch
from torch import Tensor

#: Points that show how large a person is.
ENOUGH = 4


def seen_points(points: Tensor, confidence: Tensor) -> Tensor:
    """(F, K) which points were found."""
    return (confidence > 0) & torch.isfinite(points).all(-1)


def odd_frames(odd: Tensor) -> str:
    """Which frames (F,) to name in an error."""
    return f"{int(odd.sum())} of {len(odd)} frames (the first is number {int(odd.nonzero()[0, 0])})"


def median_of(values: Tensor, seen: Tensor) -> Tensor:
    """(F,) of the values (F, K) of the points that were found; NaN where none was."""
    count = seen.sum(1, keepdim=True)
    ordered = torch.where(seen, values, torch.inf).sort(1).values
    lower, upper = ordered.gather(1, (count - 1).clamp_min(0) // 2), ordered.gather(1, count // 2)
    return torch.where(count > 0, (lower + upper) / 2, torch.nan)[:, 0]


def median_span(points: Tensor, confidence: Tensor) -> float:
    """Median span of the frames; 0 where too few points were found."""
    seen = seen_points(points, confidence)
    many = seen.sum(1) >= ENOUGH
    return float(spans(points, seen)[many].median()) if bool(many.any()) else 0.0


def spans(points: Tensor, seen: Tensor) -> Tensor:
    """(F,) longest side of the box round the points of each frame; negative where none was found."""
    high = torch.where(seen[..., None], points, -torch.inf).amax(1)
    low = torch.where(seen[..., None], points, torch.inf).amin(1)
    return (high - low).amax(-1)
