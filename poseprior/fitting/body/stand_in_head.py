"""The stand-in body's head: skull, nose, ears and eyes, its expressions, and the 68 face landmarks.

Everything is in the head's frame: metres from the head joint, y up, facing +z, times the head's scale.
"""

from __future__ import annotations

import numpy as np

from ...skeleton import JOINT_NAMES, NUM_JOINTS
from .stand_in_shape import Figure
from .stand_in_tubes import Array, Indices, Part, angles, loft, smoothstep
from .stand_in_tubes import curve as _curve

# Height; half-width, front, back of the skull; from under the chin to the crown.
_SKULL = (
    (-0.058, 0.004, 0.062, 0.040), (-0.056, 0.018, 0.077, 0.018), (-0.050, 0.028, 0.086, 0.000),
    (-0.040, 0.038, 0.090, -0.020), (-0.020, 0.049, 0.089, -0.045), (0.000, 0.056, 0.088, -0.068),
    (0.025, 0.063, 0.088, -0.088), (0.055, 0.069, 0.089, -0.100), (0.085, 0.073, 0.092, -0.105),
    (0.115, 0.072, 0.087, -0.102), (0.140, 0.062, 0.071, -0.086), (0.158, 0.045, 0.047, -0.060),
    (0.168, 0.026, 0.027, -0.030), (0.171, 0.012, 0.015, -0.012),
)  # fmt: skip
# Relief, forwards: centre (x, y), spread (x, y), height; mirrored.
_RELIEF = (
    (0.0, 0.044, 0.0075, 0.016, 0.010), (0.0, 0.024, 0.0085, 0.009, 0.019), (0.011, 0.019, 0.006, 0.006, 0.007),
    (0.032, 0.060, 0.013, 0.008, -0.005), (0.030, 0.080, 0.018, 0.007, 0.003), (0.0, -0.002, 0.017, 0.005, 0.005),
    (0.0, -0.014, 0.014, 0.005, 0.006), (0.0, -0.038, 0.015, 0.010, 0.004), (0.042, 0.030, 0.015, 0.014, 0.004),
)  # fmt: skip
_EAR = np.array([0.070, 0.040, -0.012])

#: What the ten expression coefficients do, and the displacements (metres) that do it: centre, spread, direction.
#: Mirrored, unless the name ends in `_left` or `_right`.
EXPRESSIONS: dict[str, tuple[tuple[tuple[float, float], float, tuple[float, float, float]], ...]] = {
    "mouth_open": (((0.0, -0.020), 0.014, (0.0, -0.006, 0.0)), ((0.0, 0.000), 0.009, (0.0, 0.002, 0.0)),
                   ((0.0, -0.048), 0.016, (0.0, -0.004, -0.001))),
    "smile": (((0.024, -0.008), 0.010, (0.005, 0.005, -0.002)), ((0.042, 0.020), 0.013, (0.001, 0.002, 0.002))),
    "brows_up": (((0.030, 0.084), 0.014, (0.0, 0.005, 0.0)),),
    "pucker": (((0.022, -0.008), 0.010, (-0.005, 0.0, 0.002)), ((0.0, -0.008), 0.011, (0.0, 0.0, 0.004))),
    "frown": (((0.014, 0.082), 0.010, (-0.002, -0.004, 0.001)), ((0.024, -0.010), 0.010, (0.0, -0.004, 0.0))),
    "cheeks_out": (((0.042, 0.000), 0.016, (0.005, 0.0, 0.002)),),
    "lids_down": (((0.032, 0.069), 0.007, (0.0, -0.004, 0.002)),),
    "nose_wrinkle": (((0.012, 0.022), 0.009, (0.0, 0.003, 0.001)), ((0.0, 0.000), 0.010, (0.0, 0.002, 0.0))),
    "mouth_left": (((0.0, -0.012), 0.020, (0.005, 0.0, 0.0)),),
    "brow_left": (((0.030, 0.084), 0.014, (0.0, 0.005, 0.0)),),
}  # fmt: skip


def _joint_weights(n: int, joint: str) -> Array:
    weights = np.zeros((n, NUM_JOINTS))
    weights[:, JOINT_NAMES.index(joint)] = 1.0
    return weights


def skull(f: Figure, *, rings: int, n: int) -> Part:
    """Skull and face in one tube of horizontal rings; the lower face hangs from the jaw."""
    turn = np.cos(np.pi * (np.arange(rings) + 1.0) / (rings + 1.0))
    y = 0.0565 - 0.1145 * (0.55 * turn + 0.45 * np.linspace(1.0, -1.0, rings + 2)[1:-1])
    half, forward, backward = _curve(y, _SKULL).T
    middle = 0.35 * forward + 0.65 * backward
    zero = np.zeros(rings)
    centre = np.stack([zero, y, middle], -1)
    side, front, back = (np.zeros((rings, 3)) for _ in range(3))
    side[:, 0], front[:, 2], back[:, 2] = half, forward - middle, middle - backward
    angle = angles(n, 0.45)
    tips = np.array([[0.0, -0.0580, 0.052], [0.0, 0.172, 0.0]])
    v, faces = loft(centre, side, front, back, tips, angle)
    cos = np.clip(np.cos(np.tile(angle, rings)), 0.0, 1.0)  # a face is flatter than an ellipse
    v[:-2, 2] += np.repeat(forward - middle, n) * (cos**0.65 - cos)
    facing = smoothstep((v[:, 2] - 0.01) / 0.05)
    for x0, y0, sx, sy, height in _RELIEF:
        for x in (x0, -x0) if x0 else (x0,):
            v[:, 2] += facing * height * np.exp(-(((v[:, 0] - x) / sx) ** 2 + ((v[:, 1] - y0) / sy) ** 2) / 2)
    jaw = smoothstep((-0.004 - v[:, 1]) / 0.014) * smoothstep((v[:, 2] + 0.005) / 0.05)
    weights = _joint_weights(len(v), "head") * (1.0 - jaw)[:, None] + _joint_weights(len(v), "jaw") * jaw[:, None]
    mirror = np.arange(len(v))
    mirror[:-2] = (np.arange(rings)[:, None] * n + (-np.arange(n)) % n).ravel()
    return Part("head", v * f.head + f.at("head"), faces, weights, mirror)


def _ball(centre: Array, radii: Array, rings: int, n: int) -> tuple[Array, Indices]:
    a = np.pi * (np.arange(rings) + 1.0) / (rings + 1.0)
    along = np.zeros((rings, 3))
    along[:, 2] = -np.cos(a) * radii[2]
    side, up = np.zeros((rings, 3)), np.zeros((rings, 3))
    side[:, 0], up[:, 1] = np.sin(a) * radii[0], np.sin(a) * radii[1]
    tips = centre + np.array([[0.0, 0.0, -radii[2]], [0.0, 0.0, radii[2]]])
    return loft(centre + along, side, up, up, tips, angles(n))


def eye(f: Figure) -> Part:
    """The left eyeball, centred on its joint; its last vertex is the front."""
    v, faces = _ball(f.at("left_eye_smplhf"), np.full(3, 0.012) * f.head, 7, 12)
    return Part("left_eye", v, faces, _joint_weights(len(v), "left_eye_smplhf"))


def ear(f: Figure) -> Part:
    """The left ear: a flat shell that leans backwards."""
    v, faces = _ball(np.zeros(3), np.array([0.007, 0.031, 0.018]), 7, 12)
    lean = np.array([[1.0, 0.0, 0.0], [0.0, 0.97, 0.24], [0.0, -0.24, 0.97]])
    v = v @ lean
    v[:, 0] += 0.008 * smoothstep(-v[:, 2] / 0.02)
    return Part("left_ear", (v + _EAR) * f.head + f.at("head"), faces, _joint_weights(len(v), "head"))


def expression_directions(points: Array, on_face: Array) -> Array:
    """Displacement (V, 3, 10) per expression coefficient.

    Args:
        points: (V, 3) in the head's frame.
        on_face: (V,) 1 where skin moves, 0 elsewhere.
    """
    directions = np.zeros((len(points), 3, len(EXPRESSIONS)))
    front = smoothstep((points[:, 2] - 0.01) / 0.04) * on_face
    for k, (name, bumps) in enumerate(EXPRESSIONS.items()):
        for (x, y), spread, move in bumps:
            for sign in (1.0,) if name.endswith(("_left", "_right")) or x == 0.0 else (1.0, -1.0):
                away = (points[:, 0] - sign * x) ** 2 + (points[:, 1] - y) ** 2
                amount = front * np.exp(-away / (2.0 * spread**2))
                directions[:, :, k] += amount[:, None] * (np.array(move) * [sign, 1.0, 1.0])
    return directions


def _fan(points: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """Points of the left half, midline last, as the whole row from the right to the left."""
    mirrored = [(-x, y) for x, y in points]
    return mirrored + [(x, y) for x, y in reversed(points) if x > 0.0]


def _inner_landmarks() -> Array:
    """(51, 2) x and y of landmarks 17 to 67 in the head's frame, in the order of the 68-point scheme."""
    brows = _fan(((0.055, 0.080), (0.047, 0.088), (0.037, 0.090), (0.026, 0.087), (0.016, 0.081)))
    bridge = [(0.0, 0.062), (0.0, 0.050), (0.0, 0.038), (0.0, 0.026)]
    base = _fan(((0.015, 0.014), (0.008, 0.011), (0.0, 0.009)))
    right = [(-0.046, 0.059), (-0.037, 0.065), (-0.027, 0.065), (-0.018, 0.059), (-0.027, 0.054), (-0.037, 0.054)]
    left = [(-x, y) for x, y in (right[i] for i in (3, 2, 1, 0, 5, 4))]
    lip = _fan(((0.025, -0.008), (0.016, -0.001), (0.007, 0.002), (0.0, 0.001)))
    under = [(x, y) for x, y in reversed(_fan(((0.016, -0.017), (0.008, -0.020), (0.0, -0.021))))]
    inner = _fan(((0.021, -0.008), (0.009, -0.006), (0.0, -0.0055)))
    below = [(x, y) for x, y in reversed(_fan(((0.009, -0.010), (0.0, -0.0105))))]
    return np.array([*brows, *bridge, *base, *right, *left, *lip, *under, *inner, *below])


def _cast(origin: Array, direction: Array, corner: Array) -> tuple[Indices, Array]:
    """The farthest face that each ray hits, (N,), and the barycentric coordinates (N, 3) of the hit."""
    a, e1, e2 = corner[:, 0], corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    faces, coordinates = np.zeros(len(origin), dtype=np.int64), np.zeros((len(origin), 3))
    for i, (o, d) in enumerate(zip(origin, direction, strict=True)):
        p = np.cross(d, e2)
        scale = np.einsum("fi,fi->f", e1, p)
        scale = np.where(np.abs(scale) < 1e-15, np.inf, scale)
        t = o - a
        u = np.einsum("fi,fi->f", t, p) / scale
        q = np.cross(t, e1)
        v = q @ d / scale
        inside = (u > -1e-9) & (v > -1e-9) & (u + v < 1 + 1e-9)
        far = np.where(inside, np.einsum("fi,fi->f", e2, q) / scale, -np.inf)
        faces[i] = int(np.argmax(far))
        hit = np.clip([u[faces[i]], v[faces[i]]], 0.0, 1.0)
        coordinates[i] = [1.0 - hit.sum(), *hit]
    return faces, coordinates


def landmarks(vertices: Array, faces: Indices) -> dict[str, Array | Indices]:
    """Faces and barycentric coordinates of the face landmarks: 51 inner ones, and 17 of the contour by yaw.

    The contour is where the head ends as a camera in front sees it: as the head turns, the far side's points move
    towards the nose. The table has a row per degree: 0 to 39 for a head turned to its right, 40 to 78 (1 to 39 degrees)
    to its left; `smplx.lbs.find_dynamic_lmk_idx_and_bcoords` reads it.

    Args:
        vertices: (V, 3) in the head's frame.
        faces: (F, 3) of the skull alone.
    """
    corner = vertices[faces]
    inner = _inner_landmarks()
    start = np.column_stack([inner, np.zeros(len(inner))])
    lmk_faces, lmk_bary = _cast(start, np.tile([0.0, 0.0, 1.0], (len(inner), 1)), corner)
    k = np.arange(17)
    side = np.abs(k - 8) / 8.0
    height = np.interp(side, [0.0, 0.25, 0.5, 0.75, 1.0], [-0.050, -0.046, -0.034, -0.008, 0.038])
    azimuth = np.radians(np.interp(side, [0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 26.0, 52.0, 72.0, 84.0])) * np.sign(k - 8)
    degrees = np.concatenate([np.arange(40), -np.arange(1, 40)])[:, None]
    hidden = np.sign(k - 8) * degrees < 0  # turned to the left (-), the left side (k > 8) is the far one
    turned = azimuth * np.where(hidden, 1.0 - 0.6 * np.abs(degrees) / 39.0, 1.0)
    direction = np.stack([np.sin(turned), np.zeros_like(turned), np.cos(turned)], -1)
    origin = np.zeros_like(direction)
    origin[..., 1], origin[..., 2] = height, 0.02
    rays = [x.reshape(-1, 3) for x in (origin, direction)]
    unique, back = np.unique(np.concatenate(rays, axis=1).round(9), axis=0, return_inverse=True)
    dyn_faces, dyn_bary = _cast(unique[:, :3], unique[:, 3:], corner)
    return {
        "lmk_faces_idx": lmk_faces,
        "lmk_bary_coords": lmk_bary,
        "dynamic_lmk_faces_idx": dyn_faces[back.ravel()].reshape(79, 17),
        "dynamic_lmk_bary_coords": dyn_bary[back.ravel()].reshape(79, 17, 3),
    }
