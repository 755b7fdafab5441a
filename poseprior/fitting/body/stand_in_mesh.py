"""The stand-in body's parts: torso, arms, hands, legs and feet about a figure's keypoints; and the whole mesh.

Sizes are ours, rounded from anthropometric tables. The left side is built and mirrored, so the body is symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...skeleton import JOINT_NAMES, MIRROR, NUM_JOINTS
from .stand_in_head import ear, eye, skull
from .stand_in_shape import Figure, figure
from .stand_in_tubes import Array, Indices, Part, angles, chain_weights, curve, dome, limb, loft, smoothstep, spacing

NUM_VERTICES = 10475  # of SMPL-X; `smplx` reads keypoints at ids up to 9929
_NEUTRAL = figure(np.zeros(10))
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_MIDLINE = ("left_hip", "pelvis", "spine1", "spine2", "spine3", "neck", "head")

# Height; half-width, middle z, front and back depth of the torso and neck, neutral figure, metres.
_TORSO = (
    (-0.165, 0.045, -0.012, 0.050, 0.060), (-0.140, 0.105, -0.016, 0.066, 0.090), (-0.100, 0.152, -0.018, 0.082, 0.106),
    (-0.050, 0.164, -0.020, 0.090, 0.108), (0.000, 0.157, -0.020, 0.094, 0.096), (0.060, 0.139, -0.018, 0.092, 0.080),
    (0.115, 0.128, -0.014, 0.090, 0.074), (0.180, 0.133, -0.010, 0.094, 0.084), (0.250, 0.146, -0.008, 0.104, 0.096),
    (0.310, 0.156, -0.010, 0.106, 0.104), (0.355, 0.158, -0.014, 0.096, 0.102), (0.395, 0.148, -0.020, 0.078, 0.090),
    (0.430, 0.120, -0.026, 0.063, 0.076), (0.452, 0.088, -0.030, 0.055, 0.064), (0.475, 0.064, -0.030, 0.050, 0.056),
    (0.500, 0.054, -0.027, 0.048, 0.052), (0.550, 0.050, -0.018, 0.046, 0.052), (0.600, 0.050, -0.012, 0.048, 0.056),
    (0.630, 0.046, -0.010, 0.040, 0.050),
)  # fmt: skip
# Distance ahead of the ankle; half-width, top, bottom of the foot relative to the ankle.
_FOOT = (
    (-0.062, 0.018, -0.040, -0.072), (-0.050, 0.027, -0.012, -0.080), (-0.020, 0.032, 0.020, -0.083),
    (0.020, 0.034, 0.022, -0.083), (0.055, 0.036, -0.008, -0.080), (0.095, 0.041, -0.034, -0.080),
    (0.135, 0.045, -0.046, -0.082), (0.170, 0.043, -0.054, -0.083), (0.196, 0.033, -0.060, -0.082),
    (0.208, 0.016, -0.066, -0.079),
)  # fmt: skip
_FINGER_RADIUS = {"thumb": 0.0115, "index": 0.0088, "middle": 0.0090, "ring": 0.0085, "pinky": 0.0074}


def _joint(name: str) -> int:
    return JOINT_NAMES.index(name)


def torso(f: Figure, *, rings: int, n: int) -> Part:
    """Hips to neck in horizontal rings; heights follow the figure's spine."""
    u = spacing(rings, 0.03, 0.02)
    y = -0.172 + u * (0.632 + 0.172)
    half, middle, forward, backward = curve(y, _TORSO).T
    round_off = dome(u, 0.03, 0.02)
    reference, now = (np.array([g.at(name)[1] for name in _MIDLINE]) for g in (_NEUTRAL, f))
    height, shift = _follow(np.concatenate([y, [-0.172, 0.632]]), reference, now), f.scale
    upper = smoothstep((y - 0.10) / 0.15)
    chest, neck = smoothstep((y - 0.16) / 0.10), smoothstep((y - 0.43) / 0.05)
    wide = (f.hips * (1.0 - upper) + f.shoulders * upper) * (1.0 - neck) + neck * (0.5 + 0.5 * f.limbs)
    deep = (f.belly * (1.0 - chest) + f.chest * chest) * (1.0 - neck) + neck * (0.5 + 0.5 * f.limbs)
    zero = np.zeros(rings)
    centre = np.stack([zero, height[:-2], middle * shift], -1)
    side, front, back = (np.zeros((rings, 3)) for _ in range(3))
    side[:, 0] = half * wide * shift * round_off
    front[:, 2], back[:, 2] = forward * deep * shift * round_off, backward * deep * shift * round_off
    tips = np.array([[0.0, height[-2], -0.012 * shift], [0.0, height[-1], -0.010 * shift]])
    angle = angles(n)
    v, faces = loft(centre, side, front, back, tips, angle)
    # A squarer cross-section than an ellipse, and a groove along the spine.
    box = np.repeat(1.0 - neck, n)[:, None] * 0.10
    a = np.tile(angle, rings)
    corner = np.sin(2 * a)[:, None] ** 2 * box
    middle_line = np.repeat(centre, n, axis=0)
    v[:-2] += (v[:-2] - middle_line) * corner
    groove = np.exp(-((np.sin(a) / 0.18) ** 2)) * (np.cos(a) < 0) * np.repeat(chest * (1 - neck) + 0.3, n)
    v[:-2, 2] += 0.008 * shift * groove
    mirror = np.arange(len(v))
    mirror[:-2] = (np.arange(rings)[:, None] * n + (-np.arange(n)) % n).ravel()
    return Part("torso", v, faces, _torso_weights(f, v), mirror)


def _follow(y: Array, reference: Array, now: Array) -> Array:
    """Heights that move with the spine: piecewise linear through the joints, straight on beyond them."""
    inside = np.interp(y, reference, now)
    below = now[0] + (y - reference[0]) * (now[1] - now[0]) / (reference[1] - reference[0])
    above = now[-1] + (y - reference[-1]) * (now[-1] - now[-2]) / (reference[-1] - reference[-2])
    return np.where(y < reference[0], below, np.where(y > reference[-1], above, inside))


def _torso_weights(f: Figure, v: Array) -> Array:
    """Up the spine by height; collars and shoulders take over outwards, hips a little at the bottom."""
    heights = [f.at(name)[1] + 0.01 for name in ("spine1", "spine2", "spine3", "neck", "head")]
    heights[2] += 0.03
    chain = tuple(_joint(name) for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head"))
    weights = chain_weights(v[:, 1], chain, heights, (0.055, 0.055, 0.05, 0.045, 0.04))
    shoulder, collar, hip = f.at("left_shoulder"), f.at("left_collar"), f.at("left_hip")
    for sign, name in ((1.0, "left"), (-1.0, "right")):
        x = sign * v[:, 0]
        out = smoothstep((x - 0.2 * collar[0]) / (0.6 * shoulder[0])) * smoothstep((v[:, 1] - collar[1] + 0.09) / 0.08)
        out *= 1.0 - smoothstep((v[:, 1] - shoulder[1] - 0.02) / 0.05) * smoothstep((0.08 - x) / 0.03)
        thigh = 0.65 * smoothstep((x - 0.01) / 0.06) * smoothstep((hip[1] + 0.045 - v[:, 1]) / 0.09)
        arm = 0.35 * smoothstep((x - 0.10) / 0.06) * smoothstep((v[:, 1] - shoulder[1] + 0.12) / 0.08)
        for joint, share in (("collar", 0.9 * out), ("shoulder", arm), ("hip", thigh)):
            weights *= (1.0 - share)[:, None]
            weights[:, _joint(f"{name}_{joint}")] += share
    return weights


def arm(f: Figure, *, rings: int, n: int) -> Part:
    """From inside the chest over the shoulder and elbow into the palm."""
    collar, shoulder, elbow, wrist = (f.at(f"left_{name}") for name in ("collar", "shoulder", "elbow", "wrist"))
    start = shoulder + (collar - shoulder) * 0.75 + np.array([0.0, 0.012, 0.0])
    path = np.stack([start, shoulder, elbow, wrist, wrist + (wrist - elbow) * 0.08])
    # u; half-depth (front-back), up, down
    radii = (
        (0.0, 0.040, 0.030, 0.044), (0.55, 0.056, 0.044, 0.058), (1.0, 0.057, 0.051, 0.060), (1.3, 0.051, 0.047, 0.048),
        (1.6, 0.047, 0.043, 0.044), (1.9, 0.040, 0.037, 0.039), (2.0, 0.040, 0.036, 0.039), (2.25, 0.043, 0.036, 0.038),
        (2.55, 0.038, 0.031, 0.033), (2.9, 0.029, 0.022, 0.023), (3.0, 0.028, 0.020, 0.021), (4.0, 0.026, 0.017, 0.018),
    )  # fmt: skip
    joints = tuple(_joint(f"left_{name}") for name in ("collar", "shoulder", "elbow", "wrist"))
    return limb("left_arm", path, radii, joints, width=(0.055, 0.042, 0.024), rings=rings, n=n,
                forward=(0.0, 1.0, 0.0), caps=(0.05, 0.02), scale=f.scale * f.limbs)  # fmt: skip


def leg(f: Figure, *, rings: int, n: int) -> Part:
    """From inside the hips over the knee into the foot."""
    hip, knee, ankle = (f.at(f"left_{name}") for name in ("hip", "knee", "ankle"))
    start = hip + np.array([0.006, 0.085, -0.004]) * f.scale
    end = ankle + np.array([0.0, -0.040, 0.006]) * f.ends
    radii = (
        (0.0, 0.070, 0.070, 0.080), (0.6, 0.078, 0.080, 0.096), (1.0, 0.079, 0.082, 0.096), (1.3, 0.076, 0.080, 0.086),
        (1.6, 0.066, 0.071, 0.072), (1.88, 0.054, 0.057, 0.054), (2.0, 0.051, 0.055, 0.050), (2.1, 0.050, 0.049, 0.054),
        (2.3, 0.054, 0.044, 0.068), (2.55, 0.047, 0.041, 0.058), (2.8, 0.035, 0.034, 0.040), (3.0, 0.033, 0.035, 0.036),
        (4.0, 0.030, 0.034, 0.032),
    )  # fmt: skip
    joints = tuple(_joint(name) for name in ("pelvis", "left_hip", "left_knee", "left_ankle"))
    path = np.stack([start, hip, knee, ankle, end])
    return limb("left_leg", path, radii, joints, width=(0.075, 0.055, 0.035), rings=rings, n=n,
                forward=(0.0, 0.0, 1.0), caps=(0.04, 0.025), scale=f.scale * f.limbs)  # fmt: skip


def foot(f: Figure, *, rings: int, n: int) -> Part:
    """Heel to toes; the front bends at the ball of the foot."""
    ankle, ball, toe = f.at("left_ankle"), f.at("left_foot"), f.at("left_toe_tip")
    u = spacing(rings, 0.10, 0.08)
    ahead = -0.066 + u * 0.278
    half, top, bottom = (curve(ahead, _FOOT) * f.ends).T
    ahead = np.concatenate([ahead, [-0.066, 0.212]]) * f.ends
    x = ankle[0] + ahead * (toe[0] - ankle[0]) / (toe[2] - ankle[2])
    zero = np.zeros(rings)
    middle = bottom + 0.35 * (top - bottom)
    centre = np.stack([x[:-2], ankle[1] + middle, ankle[2] + ahead[:-2]], -1)
    round_off = dome(u, 0.05, 0.06)
    side, up, down = (np.stack([zero, zero, zero], -1) for _ in range(3))
    side[:, 0], up[:, 1], down[:, 1] = half * round_off, (top - middle) * round_off, (middle - bottom) * round_off
    tip_y = ankle[1] + np.array([-0.056, -0.072]) * f.ends
    tips = np.stack([x[-2:], tip_y, ankle[2] + ahead[-2:]], -1)
    v, faces = loft(centre, side, up, down, tips, angles(n))
    weights = chain_weights(v[:, 2], (_joint("left_ankle"), _joint("left_foot")), (ball[2],), (0.028,))
    return Part("left_foot", v, faces, weights)


def palm(f: Figure, *, rings: int, n: int) -> Part:
    """Flat, from the wrist to the knuckles."""
    wrist, index, pinky = f.at("left_wrist"), f.at("left_index1"), f.at("left_pinky1")
    knuckles = np.mean([f.at(f"left_{name}1") for name in _FINGERS[1:]], axis=0)
    path = np.stack([wrist + (wrist - knuckles) * 0.12, knuckles + (knuckles - wrist) * 0.06])
    across = 0.5 * float(np.linalg.norm(index - pinky)) / f.ends + 0.0095
    radii = (
        (0.0, 0.022, 0.014, 0.015), (0.15, 0.027, 0.015, 0.017), (0.45, 0.037, 0.014, 0.019), (0.75, across, 0.012, 0.016),
        (1.0, across, 0.009, 0.010),
    )  # fmt: skip
    part = limb("left_palm", path, radii, (_joint("left_wrist"),), width=(), rings=rings, n=n,
                forward=(0.0, 1.0, 0.0), caps=(0.10, 0.12), scale=f.ends)  # fmt: skip
    # The knuckles do not stand square to the hand: the little finger's is nearer to the wrist.
    v = part.vertices.copy()
    share = smoothstep((v[:, 0] - wrist[0]) / (knuckles[0] - wrist[0]))
    v[:, 0] += share * (v[:, 2] - knuckles[2]) * (index[0] - pinky[0]) / (index[2] - pinky[2]) * 0.9
    v[:, 1] += share * (v[:, 2] - knuckles[2]) * (index[1] - pinky[1]) / (index[2] - pinky[2])
    return Part(part.name, v, part.faces, part.weights)


def finger(f: Figure, name: str, *, rings: int, n: int) -> Part:
    """From inside the palm through the three joints to the tip."""
    wrist, tip = f.at("left_wrist"), f.at(f"left_{name}_tip")
    knots = [f.at(f"left_{name}{k}") for k in (1, 2, 3)]
    start = knots[0] + (wrist - knots[0]) * (0.55 if name == "thumb" else 0.2)
    r = _FINGER_RADIUS[name]
    base = (1.5, 1.35) if name == "thumb" else (0.95, 1.08)
    radii = ((0.0, base[0] * r, base[0] * r, base[0] * r), (1.0, base[1] * r, base[1] * r, base[1] * r),
             (2.0, r, r, r), (3.0, 0.92 * r, 0.88 * r, 0.88 * r), (3.6, 0.88 * r, 0.78 * r, 0.85 * r),
             (4.0, 0.85 * r, 0.70 * r, 0.80 * r))  # fmt: skip
    joints = (_joint("left_wrist"), *(_joint(f"left_{name}{k}") for k in (1, 2, 3)))
    path = np.stack([start, *knots, tip])
    return limb(f"left_{name}", path, radii, joints, width=(0.011, 0.008, 0.007), rings=rings, n=n,
                forward=(0.0, 1.0, 0.0), caps=(0.06, 0.085), scale=f.ends)  # fmt: skip


@dataclass(frozen=True)
class BodyMesh:
    """The parts as one mesh of 10,475 vertices.

    Attributes:
        vertices: (10475, 3) metres; the last few, inside the head, pad the number and belong to no face.
        faces: (F, 3); weights: (10475, 55); mirror: (10475,) the vertex on the other side.
        parts: name -> slice of the vertices; face_parts: name -> slice of the faces.
    """

    vertices: Array
    faces: Indices
    weights: Array
    mirror: Indices
    parts: dict[str, slice]
    face_parts: dict[str, slice]


def _sided(f: Figure) -> list[Part]:
    parts = [arm(f, rings=34, n=24), leg(f, rings=36, n=28), foot(f, rings=14, n=20), palm(f, rings=12, n=24)]
    parts += [finger(f, name, rings=12, n=12) for name in _FINGERS]
    return [*parts, eye(f), ear(f)]


def body_mesh(shape: Array) -> BodyMesh:
    """The mesh of a figure with shape coefficients (10,); the same vertices mean the same places for every shape."""
    f = figure(shape)
    left = _sided(f)
    parts = [torso(f, rings=36, n=44), skull(f, rings=42, n=54), *left, *(part.reflected() for part in left)]
    offsets = np.concatenate([[0], np.cumsum([len(part.vertices) for part in parts])])
    face_ends = np.concatenate([[0], np.cumsum([len(part.faces) for part in parts])])
    spare = NUM_VERTICES - int(offsets[-1])
    assert spare >= 0, spare
    vertices = np.concatenate([*(part.vertices for part in parts), np.tile(f.at("head"), (spare, 1))])
    weights = np.concatenate([*(part.weights for part in parts), np.zeros((spare, NUM_JOINTS))])
    weights[NUM_VERTICES - spare :, _joint("head")] = 1.0
    mirror = np.arange(NUM_VERTICES)
    for k, part in enumerate(parts):
        if part.mirror is not None:
            mirror[offsets[k] : offsets[k + 1]] = offsets[k] + part.mirror
        else:
            other = k + len(left) if k < 2 + len(left) else k - len(left)
            mirror[offsets[k] : offsets[k + 1]] = np.arange(offsets[other], offsets[other + 1])
    vertices = 0.5 * (vertices + vertices[mirror] * np.array([-1.0, 1.0, 1.0]))
    weights = 0.5 * (weights + weights[mirror][:, list(MIRROR)])
    return BodyMesh(
        vertices=vertices,
        faces=np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=False)]),
        weights=weights,
        mirror=mirror,
        parts={part.name: slice(int(offsets[k]), int(offsets[k + 1])) for k, part in enumerate(parts)},
        face_parts={part.name: slice(int(face_ends[k]), int(face_ends[k + 1])) for k, part in enumerate(parts)},
    )
