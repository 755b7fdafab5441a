"""The stand-in body's hand space: a relaxed mean hand and 45 orthonormal directions, the first of them plausible."""

from __future__ import annotations

import numpy as np

from ...kinematics import END_OFFSETS, REST_OFFSETS
from ...skeleton import REFLECTION
from .stand_in_tubes import Array

_FINGERS = ("index", "middle", "pinky", "ring", "thumb")  # the order of a hand's joints, three each
_FLIP = np.tile(REFLECTION, 15)


def _flexion_axes() -> Array:
    """(15, 3) unit axes in the rest frame about which the left hand's joints flex.

    Fingers turn from their own direction towards the palm (down in the rest pose), the thumb across it.
    """
    rest = REST_OFFSETS.numpy()
    axes = np.zeros((15, 3))
    for k in range(5):
        first = 25 + 3 * k
        bones = [rest[first + 1], rest[first + 2], END_OFFSETS.numpy()[k]]
        towards = np.array([0.0, -1.0, 0.0]) if k < 4 else np.array([0.35, -0.6, -1.0])
        for j, bone in enumerate(bones):
            axis = np.cross(bone, towards)
            axes[3 * k + j] = axis / np.linalg.norm(axis)
    return axes


def hand_space() -> dict[str, Array]:
    """`hands_meanl`, `hands_meanr` (45,) radians, and `hands_componentsl`, `hands_componentsr` (45, 45), row by row.

    The right hand is the left one's mirror image, (x, -y, -z) joint by joint, so equal coefficients are equal hands.
    """
    axes = _flexion_axes()

    def flex(amounts: dict[int, tuple[float, float, float]]) -> Array:
        hand = np.zeros((15, 3))
        for k, amount in amounts.items():
            for j in range(3):
                hand[3 * k + j] = amount[j] * axes[3 * k + j]
        return hand.ravel()

    curl = (0.8, 1.0, 0.7)
    spread = np.zeros((15, 3))
    for k, amount in ((0, -0.6), (1, -0.1), (3, 0.35), (2, 0.9)):
        spread[3 * k, 1] = amount
    thumb_out = np.zeros((15, 3))
    thumb_out[12] = [0.3, -1.0, 0.3]
    leading = [
        flex({k: curl for k in range(4)} | {4: (0.3, 0.5, 0.5)}),  # a fist
        flex({4: (0.6, 0.9, 0.9)}),  # the thumb alone
        flex({0: (-0.9, -1.0, -0.7), 1: (-0.3, -0.3, -0.2), 2: curl, 3: (0.6, 0.7, 0.5)}),  # pointing
        flex({k: (0.8, -0.8, -0.6) for k in range(4)}),  # knuckles against finger joints
        spread.ravel(),
        thumb_out.ravel(),
        flex({1: curl}), flex({3: curl}), flex({2: curl}),
    ]  # fmt: skip
    basis = np.concatenate([np.stack(leading), np.eye(45)])
    rows: list[Array] = []
    for candidate in basis:  # Gram-Schmidt, twice for the digits; a direction that is already spanned is left out
        rest = candidate
        for _ in range(2):
            for row in rows:
                rest = rest - (rest @ row) * row
        norm = float(np.linalg.norm(rest))
        if norm > 1e-6 * float(np.linalg.norm(candidate)):
            rows.append(rest / norm)
    components = np.stack(rows)
    mean = flex({0: (0.20, 0.28, 0.18), 1: (0.26, 0.34, 0.22), 3: (0.30, 0.36, 0.24), 2: (0.32, 0.34, 0.24),
                 4: (0.12, 0.15, 0.20)})  # fmt: skip
    return {
        "hands_componentsl": components, "hands_componentsr": components * _FLIP,
        "hands_meanl": mean, "hands_meanr": mean * _FLIP,
    }  # fmt: skip
