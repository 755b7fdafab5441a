"""Keypoints, and files of them, for the tests of their readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseprior.io._keypoints.proportions import place_of
from poseprior.keypoint_layouts import SMPLX_144, layout_of_length

#: Frames of a file.
F = 3


def random_points(count: int, frames: int = F, dimensions: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """(frames, count, dimensions) coordinates from 50 to 600: of a person who stands, where one layout has so many points."""
    rng = np.random.default_rng(seed)
    found = layout_of_length(count)
    if found is None:
        return rng.uniform(50, 600, (frames, count, dimensions)).astype(np.float32)
    names = [SMPLX_144[0 if joint is None else joint] for joint in found.joints]
    person = (
        np.array([place_of(name) or (0, 0, 0) for name in names])[:, :dimensions] * np.array([1, -1, 1])[:dimensions]
    )
    moved = (
        2.5 * person + rng.uniform(300, 325, (frames, 1, dimensions)) + rng.uniform(-8, 8, (frames, count, dimensions))
    )
    return moved.astype(np.float32)


def save_npz(path: Path, **arrays: Any) -> Path:
    """Write arrays; the path."""
    np.savez(path, **arrays)
    return path


def save_json(path: Path, content: Any) -> Path:
    """Write JSON; the path."""
    path.write_text(json.dumps(content))
    return path


def with_confidence(points: NDArray[Any], confidence: float = 0.9) -> list[float]:
    """x, y, confidence of points (K, 2), flat, as detectors write them."""
    return np.column_stack((points, np.full(len(points), confidence))).ravel().tolist()


def h36m_person() -> NDArray[np.float32]:
    """(17, 2) a standing person in the order of Human3.6M."""
    return np.array([
        [0, 0], [-10, 0], [-11, 45], [-11, 88], [10, 0], [11, 45], [11, 88], [0, -25], [0, -50], [0, -58], [0, -70],
        [18, -48], [22, -20], [24, 5], [-18, -48], [-22, -20], [-24, 5],
    ], np.float32) * 3 + 400  # fmt: skip


def coco_person() -> NDArray[np.float32]:
    """The same person in the order of COCO."""
    return np.array([
        [0, -62], [3, -65], [-3, -65], [7, -63], [-7, -63], [18, -48], [-18, -48], [22, -20], [-22, -20], [24, 5], [-24, 5],
        [10, 0], [-10, 0], [11, 45], [-11, 45], [11, 88], [-11, 88],
    ], np.float32) * 3 + 400  # fmt: skip


def coco_people() -> NDArray[np.float32]:
    """(F, 17, 2) that person in each frame, moved a little."""
    return coco_person() + random_points(1, seed=3) / 100 + random_points(17, seed=4) / 500
