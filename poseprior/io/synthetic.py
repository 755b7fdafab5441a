"""SYNTHETIC poses: a small kinematic sampler with anatomical limits, for trying the library without any recording.

Made-up people stand, walk, sit and reach. Limbs move together, knees and elbows are hinges that bend the right way,
fingers curl, every subject has habits, and some rows miss what real recordings miss. It is no substitute for data: a
prior trained on it knows this file and nothing about people.

Signs (SMPL-X, T-pose, y up, facing +z): legs swing forward with hip x < 0 and knees bend with x > 0; on the left, arms
hang with shoulder z < 0, elbows bend with y < 0, fingers curl with z < 0; right sides mirror (x, -y, -z).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ..rotations import quat_multiply, rotvec_to_unitquat, unitquat_to_rotvec
from ..skeleton import JOINT_NAMES, JOINT_SETS, MIRROR, NUM_JOINTS, REFLECTION
from .dataset import PoseDataset

MODES = ("stand", "walk", "sit", "reach")
FPS = 30.0

#: Joint -> ((low, high) of x, y and z), radians; the right side is the mirror image. Applied to every row.
LIMITS: dict[str, tuple[tuple[float, float], ...]] = {
    "left_hip": ((-2.0, 0.5), (-0.6, 0.6), (-0.3, 0.7)),
    "left_knee": ((0.0, 2.3), (-0.05, 0.05), (-0.05, 0.05)),
    "left_ankle": ((-0.5, 0.6), (-0.4, 0.4), (-0.3, 0.3)),
    "left_foot": ((-0.3, 0.7), (-0.1, 0.1), (-0.1, 0.1)),
    "spine1": ((-0.2, 0.6), (-0.3, 0.3), (-0.25, 0.25)),
    "spine2": ((-0.2, 0.5), (-0.3, 0.3), (-0.25, 0.25)),
    "spine3": ((-0.2, 0.4), (-0.3, 0.3), (-0.2, 0.2)),
    "neck": ((-0.5, 0.5), (-0.7, 0.7), (-0.3, 0.3)),
    "head": ((-0.4, 0.4), (-0.6, 0.6), (-0.3, 0.3)),
    "left_collar": ((-0.15, 0.15), (-0.25, 0.25), (-0.1, 0.5)),
    "left_elbow": ((-0.1, 0.1), (-2.4, 0.0), (-0.1, 0.1)),
    "left_wrist": ((-0.8, 0.8), (-0.5, 0.5), (-1.0, 1.0)),
    "jaw": ((0.0, 0.4), (-0.05, 0.05), (-0.02, 0.02)),
    "left_eye_smplhf": ((-0.3, 0.3), (-0.4, 0.4), (0.0, 0.0)),
}
# Rotation of finger joints 1, 2, 3 of the left hand when fully curled (a fist), radians.
_CURL = {
    "index": ((0.0, 0.1, -1.3), (0.0, 0.0, -1.6), (0.0, 0.0, -0.9)),
    "middle": ((-0.2, -0.1, -1.4), (-0.1, 0.0, -1.6), (0.0, 0.0, -0.9)),
    "pinky": ((-0.7, -0.3, -1.1), (-0.5, 0.0, -1.3), (-0.2, 0.0, -0.9)),
    "ring": ((-0.4, -0.1, -1.4), (-0.2, 0.0, -1.5), (-0.1, 0.0, -0.9)),
    "thumb": ((0.4, 0.6, -0.3), (0.0, 0.2, 0.0), (0.2, 0.6, -0.3)),
}
_LEFT, _RIGHT = 1.0, -1.0
_Array = NDArray[np.float64]


def synthetic_poses(n: int, *, seed: int = 0, num_subjects: int = 10) -> PoseDataset:
    """`n` made-up poses in short sequences of 30 frames per second, of subjects 'synthetic0', 'synthetic1', ...

    Args:
        n: number of rows, at least `num_subjects`.
        seed: the same seed gives the same poses.
        num_subjects: how many people, with about equally many rows.

    Returns:
        Data set with `subject`, `sequence` ('walk003'), `frame` and `fps`. About a third of the sequences observe all
        55 joints, a third no jaw, eyes and fingers, and a third neither these nor wrists and toes.

    >>> synthetic_poses(100, num_subjects=4).subjects
    ('synthetic0', 'synthetic1', 'synthetic2', 'synthetic3')
    """
    if num_subjects < 1 or n < num_subjects:
        raise ValueError(f"n: expected at least one pose for each of {num_subjects} subjects, got {n}; raise n.")
    rng = np.random.default_rng(seed)
    length = max(1, min(40, n // (3 * num_subjects)))
    sequence = np.arange(n) // length
    frame = np.arange(n) % length
    count = int(sequence[-1]) + 1
    person = np.arange(count) % num_subjects
    # each person goes through the modes and, three sequences at a time, through what is observed
    mode = (np.arange(count) // num_subjects + person) % len(MODES)
    pose = _motion(rng, mode[sequence], sequence, frame / FPS)
    habit = rng.normal(0.0, 0.05, (num_subjects, NUM_JOINTS, 3))[person][sequence]
    mood = rng.normal(0.0, 0.05, (count, NUM_JOINTS, 3))[sequence]
    pose += (habit + mood + rng.normal(0.0, 0.01, pose.shape)) * _free_axes()
    _apply_limits(pose)
    pose[:, 0] = _heading(rng, count)[sequence] + habit[:, 0] * np.array([1.0, 0.0, 1.0])
    names = np.array([f"{MODES[m]}{k:03d}" for k, m in enumerate(mode)])
    return PoseDataset(
        pose.astype(np.float32),
        _observed(rng, count)[sequence],
        subject=np.array([f"synthetic{p}" for p in person])[sequence],
        sequence=names[sequence],
        fps=FPS,
        frame=frame,
    )


def _motion(rng: np.random.Generator, mode: NDArray[np.int64], sequence: NDArray[np.int64], time: _Array) -> _Array:
    """(N, 55, 3) without the differences between people; `mode`, `sequence` and `time` (seconds) are (N,)."""
    count = int(sequence[-1]) + 1

    def draw(low: float, high: float) -> _Array:
        return rng.uniform(low, high, count)[sequence]

    def sway(low: float, high: float) -> _Array:
        """A slow wave between values drawn for the sequence."""
        a, b, rate, phase = draw(low, high), draw(low, high), draw(0.2, 0.8), draw(0, 2 * math.pi)
        return a + (b - a) * 0.5 * (1 + np.sin(2 * math.pi * rate * time + phase))

    stand, walk, sit, reach = (mode == k for k in range(4))
    pose = np.zeros((len(time), NUM_JOINTS, 3))
    step = 2 * math.pi * draw(0.7, 1.1) * time + draw(0, 2 * math.pi)
    stride = draw(0.3, 0.5) * walk
    crouch = sway(0.0, 0.5) * (stand | reach)
    seat = draw(1.3, 1.6) * sit
    lean = sway(0.0, 0.25) * (sit | stand) + sway(0.1, 0.6) * reach + 0.08 * walk
    arm_of_reach = np.where(draw(0, 1) < 0.5, _LEFT, _RIGHT)
    turn = sway(-0.25, 0.25) * (stand | sit) - 0.35 * reach * arm_of_reach + 0.12 * np.sin(step) * walk
    for k, name in enumerate(("spine1", "spine2", "spine3")):
        pose[:, _index(name)] = np.stack([lean * (0.45, 0.35, 0.2)[k], turn / 3, sway(-0.05, 0.05)], -1)
    look, nod = sway(-0.5, 0.5), sway(-0.3, 0.3)
    pose[:, _index("neck")] = np.stack([nod * 0.6, look * 0.5 - turn * 0.3, sway(-0.1, 0.1)], -1)
    pose[:, _index("head")] = np.stack([nod * 0.4, look * 0.5, sway(-0.1, 0.1)], -1)
    pose[:, _index("jaw"), 0] = sway(0.0, 0.2)
    for eye in ("left_eye_smplhf", "right_eye_smplhf"):
        pose[:, _index(eye), 0], pose[:, _index(eye), 1] = nod * 0.4, look * 0.3
    for side, prefix in ((_LEFT, "left_"), (_RIGHT, "right_")):
        swing = np.sin(step + (0.0 if side == _LEFT else math.pi))  # > 0: this leg is in front
        lift = np.maximum(0.0, np.cos(step + (0.0 if side == _LEFT else math.pi)))  # this leg is moving forward
        spread = draw(0.0, 0.15) + draw(0.0, 0.25) * sit
        hip = -0.1 * walk - stride * swing - crouch - seat
        knee = 0.1 + walk * (0.1 + 1.6 * stride * lift**2) + 1.9 * crouch + seat * draw(0.8, 1.15)
        pose[:, _index(prefix + "hip")] = np.stack([hip, side * sway(-0.1, 0.15), side * spread], -1)
        pose[:, _index(prefix + "knee"), 0] = knee
        # the sole follows the floor, more or less
        flat = np.where(sit, 0.05, -(hip + knee) * 0.8)
        pose[:, _index(prefix + "ankle"), 0] = flat + 0.3 * stride * np.maximum(0, -swing)
        pose[:, _index(prefix + "foot"), 0] = walk * np.maximum(0.0, -swing) * 0.4 + sway(0.0, 0.1)
        active = reach * (arm_of_reach == side)
        forward = sway(-0.15, 0.4) * stand + 0.9 * stride * -swing + sway(0.3, 0.7) * sit + sway(1.0, 2.2) * active
        forward = forward + sway(-0.1, 0.3) * reach * (arm_of_reach != side)
        hang = np.clip(sway(1.1, 1.45) - 0.3 * active, 0.6, 1.5)
        pose[:, _index(prefix + "shoulder")] = _arm(side, hang, forward, sway(-0.2, 0.2))
        bend = 0.25 + 0.8 * stride * np.maximum(0, -swing) + sway(0.0, 0.6) * stand + sway(0.5, 1.2) * sit
        pose[:, _index(prefix + "elbow"), 1] = -side * (bend + sway(0.0, 0.7) * reach)
        pose[:, _index(prefix + "collar"), 2] = side * 0.2 * np.maximum(0.0, forward - 0.6)
        pose[:, _index(prefix + "wrist")] = np.stack(
            [sway(-0.3, 0.3), side * sway(-0.2, 0.2), side * sway(-0.4, 0.4)], -1
        )
        curl = sway(0.05, 0.9)
        for finger, joints in _CURL.items():
            own = np.clip(curl + sway(-0.25, 0.25), 0.02, 1.0)
            for k, full in enumerate(joints):
                mirror = np.array([1.0, side, side])
                pose[:, _index(f"{prefix}{finger}{k + 1}")] = own[:, None] * (np.array(full) * mirror)
    return pose


def _index(name: str) -> int:
    return JOINT_NAMES.index(name)


def _arm(side: float, hang: _Array, forward: _Array, twist: _Array) -> _Array:
    """Shoulder rotvec (N, 3): turn about the arm, let it hang, then swing it forward."""

    def about(axis: int, angle: _Array) -> torch.Tensor:
        rotvec = torch.zeros(len(angle), 3, dtype=torch.float64)
        rotvec[:, axis] = torch.from_numpy(angle)
        return rotvec

    turns = (about(0, -forward), about(2, -side * hang), about(0, twist))
    first, second, third = map(rotvec_to_unitquat, turns)
    return unitquat_to_rotvec(quat_multiply(quat_multiply(first, second), third)).numpy()


def _free_axes() -> _Array:
    """(55, 3): how much each axis varies from person to person: less for hinges, the face and fingers."""
    free = np.ones((NUM_JOINTS, 3))
    for name, axes in (("knee", (1, 2)), ("elbow", (0, 2)), ("foot", (1, 2))):
        for side in ("left_", "right_"):
            free[_index(side + name), list(axes)] = 0.2
    free[22:25] = 0.2
    free[list(JOINT_SETS["hands"])] = 0.4
    return free


def _apply_limits(pose: _Array) -> None:
    for name, limits in LIMITS.items():
        low, high = np.array(limits).T
        joint = _index(name)
        pose[:, joint] = np.clip(pose[:, joint], low, high)
        other = MIRROR[joint]
        if other != joint:
            sign = np.array(REFLECTION)
            pose[:, other] = np.clip(pose[:, other] * sign, low, high) * sign


def _heading(rng: np.random.Generator, count: int) -> _Array:
    """(count, 3) root rotvecs: upright, facing anywhere."""
    return np.stack([np.zeros(count), rng.uniform(-math.pi, math.pi, count), np.zeros(count)], -1)


def _observed(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """(count, 55) what each sequence observes."""
    body_only = np.zeros(NUM_JOINTS, bool)
    body_only[:22] = True
    suit = body_only.copy()
    for name in ("left_foot", "right_foot", "left_wrist", "right_wrist"):
        suit[_index(name)] = False
    kinds = np.stack([np.ones(NUM_JOINTS, bool), body_only, suit])
    return kinds[rng.permutation(np.arange(count) % 3)]
