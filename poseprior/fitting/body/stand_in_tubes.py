"""Closed tubes around a path, with smoothly blended skinning weights: what the stand-in body is made of.

A tube is a stack of rings, each an ellipse whose front and back may differ, closed by a point at either end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...skeleton import MIRROR, NUM_JOINTS

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One closed surface: vertices (V, 3) in metres, outward faces (F, 3), skinning weights (V, 55).

    `mirror` (V,) is the vertex on the other side of a surface that is its own mirror image; None for a one-sided part.
    """

    name: str
    vertices: Array
    faces: Indices
    weights: Array
    mirror: Indices | None = None

    def reflected(self) -> Part:
        """The same part on the right side, vertex for vertex."""
        name = self.name.replace("left_", "right_")
        vertices = self.vertices * np.array([-1.0, 1.0, 1.0])
        return Part(name, vertices, self.faces[:, ::-1], self.weights[:, list(MIRROR)])


def smoothstep(x: ArrayLike) -> Array:
    """0 below 0, 1 above 1, 3 x^2 - 2 x^3 between."""
    t: Array = np.clip(np.asarray(x, dtype=np.float64), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def curve(x: Array, table: ArrayLike) -> Array:
    """A smooth curve (cubic Hermite, slopes of the neighbours' chord, flat where the table turns) through a table.

    Args:
        x: (R,) where.
        table: (K, 1 + C) rows: position (ascending), then C values.

    Returns:
        (R, C); constant beyond the ends.
    """
    rows = np.asarray(table, dtype=np.float64)
    at, value = rows[:, 0], rows[:, 1:]
    chord = np.diff(value, axis=0) / np.diff(at)[:, None]
    slope = np.zeros_like(value)
    same_way = chord[1:] * chord[:-1] > 0
    middle = (value[2:] - value[:-2]) / (at[2:] - at[:-2])[:, None]
    slope[1:-1] = np.where(same_way, middle, 0.0)
    slope[0], slope[-1] = chord[0], chord[-1]
    x = np.clip(x, at[0], at[-1])
    k = np.clip(np.searchsorted(at, x, side="right") - 1, 0, len(at) - 2)
    width = (at[k + 1] - at[k])[:, None]
    t = (x - at[k])[:, None] / width
    result: Array = (
        (1 + 2 * t) * (1 - t) ** 2 * value[k]
        + t * (1 - t) ** 2 * width * slope[k]
        + t * t * (3 - 2 * t) * value[k + 1]
        + t * t * (t - 1) * width * slope[k + 1]
    )
    return result


def dome(u: Array, start: float, end: float) -> Array:
    """Radius factor (R,) in [0, 1] that rounds a tube off: a quarter circle over `start` and `end` of its length."""
    toward_start = np.clip(1.0 - u / start, 0.0, 1.0)
    toward_end = np.clip(1.0 - (1.0 - u) / end, 0.0, 1.0)
    return np.asarray(np.sqrt(1.0 - toward_start**2) * np.sqrt(1.0 - toward_end**2))


def spacing(rings: int, start: float, end: float) -> Array:
    """(rings,) positions in (0, 1), dense near both ends where `dome` is steep."""
    t: Array = np.arange(1, rings + 1, dtype=np.float64) / (rings + 1.0)
    k = max(2, rings // 6)
    t[:k] = start * (1.0 - np.cos(np.pi / 2 * (np.arange(k) + 1.0) / k))
    t[-k:] = 1.0 - end * (1.0 - np.cos(np.pi / 2 * (np.arange(k, 0, -1)) / k))
    t[k:-k] = np.linspace(t[k - 1], t[-k], rings - 2 * k + 2)[1:-1]
    return t


def angles(n: int, crowd: float = 0.0) -> Array:
    """(n,) angles from the front; `crowd` in [0, 1) draws them together there."""
    t: Array = np.arange(n, dtype=np.float64) * (2.0 * np.pi / n)
    return np.asarray(t - crowd * np.sin(t), dtype=np.float64)


def loft(centre: Array, side: Array, front: Array, back: Array, tips: Array, angle: Array) -> tuple[Array, Indices]:
    """Rings centre + sin(a) side + cos(a) (front or back), closed by the two tips.

    Args:
        centre, side, front, back: (R, 3); `front` and `back` both point to the front.
        tips: (2, 3) the points before the first ring and after the last.
        angle: (n,) from the front towards `side`.

    Returns:
        vertices (R n + 2, 3), ring by ring, then the tips; outward faces (2 R n, 3), mirror-symmetric in the angle.
    """
    rings, n = len(centre), len(angle)
    cos = np.cos(angle)[None, :, None]
    ring = centre[:, None] + np.sin(angle)[None, :, None] * side[:, None]
    ring = ring + np.where(cos > 0, cos * front[:, None], cos * back[:, None])
    vertices = np.concatenate([ring.reshape(-1, 3), tips])
    k = np.arange(n)
    here, following = np.arange(rings - 1)[:, None] * n + k, np.arange(rings - 1)[:, None] * n + (k + 1) % n
    a, b, c, d = here, following, following + n, here + n
    halves = np.where(
        (k < n // 2)[:, None, None],
        np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], -2),
        np.stack([np.stack([a, b, d], -1), np.stack([b, c, d], -1)], -2),
    )
    first, last, far = np.full(n, rings * n), np.full(n, rings * n + 1), (rings - 1) * n
    caps = [np.stack([first, (k + 1) % n, k], -1), np.stack([last, far + k, far + (k + 1) % n], -1)]
    faces = np.concatenate([halves.reshape(-1, 3), *caps])
    return vertices, faces if signed_volume(vertices, faces) > 0 else faces[:, ::-1]


def signed_volume(vertices: Array, faces: Indices) -> float:
    """Volume in cubic metres, positive when the faces look outwards."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6.0)


def chain_weights(along: Array, joints: tuple[int, ...], at: ArrayLike, width: ArrayLike) -> Array:
    """Weights (R, 55) of a chain of joints: joint k hands over to k + 1 within +-width[k] of at[k] metres."""
    reached = [np.ones_like(along)]
    for s, w in zip(np.asarray(at, dtype=np.float64), np.asarray(width, dtype=np.float64), strict=True):
        reached.append(np.minimum(reached[-1], smoothstep((along - s + w) / (2 * w))))
    reached.append(np.zeros_like(along))
    weights = np.zeros((len(along), NUM_JOINTS))
    for k, joint in enumerate(joints):
        weights[:, joint] += reached[k] - reached[k + 1]
    return weights


def limb(
    name: str, path: Array, radii: ArrayLike, joints: tuple[int, ...], *, width: ArrayLike, rings: int, n: int,
    forward: tuple[float, float, float], caps: tuple[float, float], scale: float = 1.0,
) -> Part:  # fmt: skip
    """A tube along a polyline that bends at the joints of a chain.

    Args:
        path: (K, 3) points; the joints of `joints[1:]` sit at path[1:-1].
        radii: rows (u, side, front, back): u is the position as a path index, 0 to K - 1; metres.
        joints: the K - 1 joints that carry the K - 1 pieces.
        width: (K - 2,) half-width of the handover at each inner point, metres.
        forward: direction of the front, made perpendicular to the path.
        caps: rounded share of the length at either end.
        scale: factor on the radii.
    """
    step = np.linalg.norm(np.diff(path, axis=0), axis=1)
    reach = np.concatenate([[0.0], np.cumsum(step)])
    u = spacing(rings, *caps)
    along = np.concatenate([u, [0.0, 1.0]]) * reach[-1]
    index = np.interp(along, reach, np.arange(len(path), dtype=np.float64))
    points = np.stack([np.interp(index, np.arange(len(path)), path[:, i]) for i in range(3)], -1)
    reach_out = 0.02 * reach[-1]  # the direction is averaged over this distance so that rings turn gently at a joint
    ends = [np.clip(along[:-2] + sign * reach_out, 0.0, reach[-1]) for sign in (1, -1)]
    ahead, behind = (np.stack([np.interp(e, reach, path[:, i]) for i in range(3)], -1) for e in ends)
    tangent = (ahead - behind) / np.linalg.norm(ahead - behind, axis=1, keepdims=True)
    front = np.asarray(forward) - (tangent @ np.asarray(forward))[:, None] * tangent
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    side = np.cross(front, tangent)
    size = curve(index[:-2], radii) * scale * dome(u, *caps)[:, None]
    vertices, faces = loft(
        points[:-2], side * size[:, :1], front * size[:, 1:2], front * size[:, 2:3], points[-2:], angles(n)
    )
    weights = chain_weights(along, joints, reach[1:-1], width)
    return Part(name, vertices, faces, np.concatenate([np.repeat(weights[:-2], n, axis=0), weights[-2:]]))
