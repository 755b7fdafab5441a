"""The points of a keypoint layout that a body model has."""

from __future__ import annotations

from torch import Tensor

from .._checks import as_tensor
from ..keypoint_layouts import LayoutInput
from ..keypoint_layouts import layout as find_layout


def in_layout(
    points: Tensor, confidence: Tensor | None, sigma: float | Tensor, name: LayoutInput
) -> tuple[Tensor, Tensor | None, float | Tensor, list[int], list[int], list[str]]:
    """The points that the body model has, joints in the order of the layout, then vertices."""
    order = find_layout(name)
    points = as_tensor("points", points)
    if points.dim() < 2 or points.shape[-2] != len(order.names):
        raise ValueError(
            f"points: expected (B, {len(order.names)}, d) in layout {order.name!r}, got {tuple(points.shape)}; pass another "
            "layout, or add the missing points as NaN."
        )
    kept = [k for k, joint in enumerate(order.joints) if joint is not None]
    kept += [k for k, vertex in enumerate(order.vertices) if vertex is not None]

    def pick(values: Tensor) -> Tensor:
        return values[..., kept] if values.dim() and values.shape[-1] == len(order.names) else values

    confidence = None if confidence is None else pick(as_tensor("confidence", confidence))
    if isinstance(sigma, Tensor):
        sigma = pick(sigma)
    joints = [int(j) for j in order.joints if j is not None]
    vertices = [int(v) for v in order.vertices if v is not None]
    return points[..., kept, :], confidence, sigma, joints, vertices, [order.parts[k] for k in kept]
