"""A posed skeleton as solid parts, each the outline of a few balls.

A part is the convex hull of balls that ride on joints, so its orthographic outline is the hull of circles: a limb is
two balls, a chest seven. Nothing here knows matplotlib; the result is polygons in image metres with a depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..kinematics import END_OFFSETS, END_PARENTS, KEYPOINT_NAMES, forward_kinematics
from ..skeleton import JOINT_NAMES, NUM_JOINTS

_GROUNDED = {0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11}  # pelvis, legs, trunk
_FINGERS = ("index", "middle", "pinky", "ring", "thumb")


class Ball(NamedTuple):
    """A ball that rides on a joint: offset in the joint's frame and radius, metres."""

    joint: int
    offset: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Part:
    """A solid piece of the figure: `side` is "left", "right" or "middle"; `kind` is "body", "head", "eye" or "hand"."""

    side: str
    kind: str
    balls: tuple[Ball, ...]


@dataclass(frozen=True)
class Outline:
    """A part as seen by a camera: polygon (K, 2) in metres, image up = y; depth grows towards the viewer."""

    part: Part
    polygon: np.ndarray
    depth: float


def _ball(keypoint: str, radius: float, offset: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Ball:
    index = KEYPOINT_NAMES.index(keypoint)
    if index < NUM_JOINTS:
        return Ball(index, offset, radius)
    x, y, z = END_OFFSETS[index - NUM_JOINTS].tolist()
    return Ball(END_PARENTS[index - NUM_JOINTS], (x, y, z), radius)


def _mirrored(part: Part) -> Part:
    balls = []
    for ball in part.balls:
        x, y, z = ball.offset
        balls.append(_ball(JOINT_NAMES[ball.joint].replace("left_", "right_"), ball.radius, (-x, y, z)))
    return Part("right", part.kind, tuple(balls))


def _hand() -> list[Part]:
    """The left hand: a palm, and three bones a finger."""
    knuckles = [_ball("left_index1", 0.012), _ball("left_middle1", 0.012), _ball("left_ring1", 0.011)]
    wrist = [_ball("left_wrist", 0.019, (0.012, -0.002, z)) for z in (0.011, -0.011)]
    parts = [Part("left", "hand", (*wrist, *knuckles, _ball("left_pinky1", 0.010)))]
    parts.append(Part("left", "hand", (wrist[0], _ball("left_thumb1", 0.013), _ball("left_index1", 0.010))))
    for finger in _FINGERS:
        thick = {"thumb": 1.15, "pinky": 0.85}.get(finger, 1.0)
        chain = [f"left_{finger}1", f"left_{finger}2", f"left_{finger}3", f"left_{finger}_tip"]
        radii = [r * thick for r in (0.0098, 0.0088, 0.0080, 0.0068)]
        for (a, b), (r, s) in zip(pairwise(chain), pairwise(radii), strict=True):
            parts.append(Part("left", "hand", (_ball(a, r), _ball(b, s))))
    return parts


def _left_side() -> list[Part]:
    def limb(*balls: Ball) -> Part:
        return Part("left", "body", balls)

    return [
        limb(_ball("left_hip", 0.078), _ball("left_knee", 0.052)),
        limb(_ball("left_knee", 0.052), _ball("left_knee", 0.055, (-0.010, -0.11, -0.022)), _ball("left_ankle", 0.034)),
        limb(
            _ball("left_ankle", 0.034),
            _ball("left_ankle", 0.029, (0.0, -0.048, -0.038)),
            _ball("left_foot", 0.026, (0.012, 0.0, 0.0)),
            _ball("left_foot", 0.024, (-0.022, 0.0, 0.008)),
        ),
        limb(
            _ball("left_foot", 0.025, (0.012, 0.0, 0.0)),
            _ball("left_foot", 0.024, (-0.022, 0.0, 0.008)),
            _ball("left_toe_tip", 0.017),
            _ball("left_foot", 0.018, (-0.018, -0.010, 0.070)),
        ),
        limb(_ball("left_shoulder", 0.052), _ball("left_elbow", 0.038)),
        limb(_ball("left_elbow", 0.038), _ball("left_elbow", 0.040, (0.06, 0.0, 0.0)), _ball("left_wrist", 0.025)),
        *_hand(),
    ]


def _middle() -> list[Part]:
    def pair(joint: str, radius: float, x: float, y: float, z: float) -> list[Ball]:
        return [_ball(joint, radius, (side * x, y, z)) for side in (1.0, -1.0)]

    hips = pair("pelvis", 0.086, 0.068, -0.058, -0.012)
    belly = pair("pelvis", 0.078, 0.056, 0.040, -0.002)
    waist = pair("spine1", 0.074, 0.046, 0.050, 0.008)
    ribs = pair("spine3", 0.080, 0.064, 0.000, 0.016)
    chest = pair("spine3", 0.072, 0.080, 0.080, 0.010)
    shoulders = [_ball(f"{side}_shoulder", 0.046, (x, -0.006, 0.0)) for side, x in (("left", -0.018), ("right", 0.018))]
    nape = _ball("neck", 0.054, (0.0, -0.008, 0.002))
    return [
        Part("middle", "body", (*hips, *belly)),
        Part("middle", "body", (*belly, *waist)),
        Part("middle", "body", (*waist, *ribs)),
        Part("middle", "body", (*ribs, *chest, *shoulders, nape)),
        Part("middle", "body", (nape, _ball("neck", 0.048), _ball("head", 0.048, (0.0, 0.01, 0.005)))),
        Part(
            "middle",
            "head",
            (
                _ball("head", 0.079, (0.0, 0.096, 0.024)),
                _ball("head", 0.077, (0.0, 0.088, -0.014)),
                *(_ball("head", 0.042, (x, 0.030, 0.042)) for x in (0.027, -0.027)),
                *(_ball("jaw", 0.030, (x, -0.016, 0.046)) for x in (0.016, -0.016)),
            ),
        ),
        *(Part("middle", "eye", (_ball("head", 0.0095, (x, 0.066, 0.090)),)) for x in (0.033, -0.033)),
    ]


_LEFT = _left_side()
PARTS: tuple[Part, ...] = (*_middle(), *_LEFT, *(_mirrored(part) for part in _LEFT))


def camera(yaw: float, elevation: float) -> np.ndarray:
    """Rotation (3, 3) from world axes to (image right, image up, towards the viewer).

    Args:
        yaw: degrees; 0 sees the figure from the front, 90 from its left.
        elevation: degrees above the horizon.
    """
    a, e = np.radians(yaw), np.radians(elevation)
    turn = np.array([[np.cos(a), 0.0, -np.sin(a)], [0.0, 1.0, 0.0], [np.sin(a), 0.0, np.cos(a)]])
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(e), -np.sin(e)], [0.0, np.sin(e), np.cos(e)]])
    return tilt @ turn


def hand_camera(side: str, yaw: float) -> np.ndarray:
    """As `camera`, for a hand at rest: fingers up, from the palm at yaw 0 and from the thumb's side at 90 degrees."""
    a = np.radians(yaw)
    up = np.array([1.0 if side == "left" else -1.0, 0.0, 0.0])
    viewer = np.array([0.0, -np.cos(a), np.sin(a)])
    return np.stack([np.cross(up, viewer), up, viewer])


def place(pose: Tensor, parts: tuple[Part, ...] = PARTS) -> list[np.ndarray]:
    """World centres of every part's balls, (K, 3) metres each, for one pose (55, 3); the pelvis at the origin."""
    with torch.no_grad():
        position, rotation = (t.numpy() for t in forward_kinematics(pose.detach().cpu().double()))
    return [
        np.stack([position[ball.joint] + rotation[ball.joint] @ np.asarray(ball.offset) for ball in part.balls])
        for part in parts
    ]


def outlines(centres: list[np.ndarray], view: np.ndarray, parts: tuple[Part, ...] = PARTS) -> list[Outline]:
    """What a camera sees of placed parts, farthest first."""
    seen = []
    heads = [float((c @ view[2]).mean()) for part, c in zip(parts, centres, strict=True) if part.kind == "head"]
    for part, centre in zip(parts, centres, strict=True):
        image = centre @ view.T
        depth = float(image[:, 2].mean())
        if part.kind == "eye":  # drawn on the head, or hidden behind it
            if depth < heads[0] + 0.02:
                continue
            depth = heads[0] + 1e-6
        polygon = hull_of_circles(image[:, :2], np.array([ball.radius for ball in part.balls]))
        seen.append(Outline(part, polygon, depth))
    return sorted(seen, key=lambda outline: outline.depth)


def lowest(centres: list[np.ndarray]) -> float:
    """Height of the lowest point of a placed figure, metres."""
    return min(
        float(centre[k, 1]) - ball.radius
        for part, centre in zip(PARTS, centres, strict=True)
        for k, ball in enumerate(part.balls)
    )


def shadow(centres: list[np.ndarray], ground: float, view: np.ndarray) -> list[np.ndarray]:
    """Polygons, as the camera sees them, of the shadows of trunk and legs straight down on the plane y = ground."""
    polygons = []
    for part, centre in zip(PARTS, centres, strict=True):
        if not {ball.joint for ball in part.balls} <= _GROUNDED:
            continue
        flat = hull_of_circles(centre[:, [0, 2]], np.array([ball.radius for ball in part.balls]))
        points = np.stack([flat[:, 0], np.full(len(flat), ground), flat[:, 1]], axis=1)
        polygons.append((points @ view.T)[:, :2])
    return polygons


def hull_of_circles(centre: np.ndarray, radius: np.ndarray, resolution: int = 40) -> np.ndarray:
    """Convex hull, counter-clockwise (K, 2), of circles with (N, 2) centres."""
    angle = np.linspace(0.0, 2.0 * np.pi, resolution, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = (centre[:, None] + radius[:, None, None] * ring).reshape(-1, 2)
    # In each direction the hull touches the circle that reaches farthest.
    best = (centre @ ring.T + radius[:, None]).argmax(0)
    return np.asarray(points.reshape(len(centre), resolution, 2)[best, np.arange(resolution)])
