"""Keypoints, and files of them, for the tests of their readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Frames of a file.
F = 3


def random_points(count: int, frames: int = F, dimensions: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """(frames, count, dimensions) coordinates of no person."""
    return np.random.default_rng(seed).uniform(50, 600, (frames, count, dimensions)).astype(np.float32)


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
