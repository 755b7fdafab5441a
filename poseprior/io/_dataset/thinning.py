"""Which frames to keep of a recording: by frame rate, and by how far the body moved."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._checks import check_number
from .columns import repeated_frame
from .storage import PoseStore

_LOOKAHEAD = 4
_CHUNK = 512

Groups = list[tuple[str, NDArray[np.int64]]]


def subsample(groups: Groups, frame: Any, rate: Any, fps: float, seed: int) -> NDArray[np.int64]:
    """Sorted rows that stay; see `PoseDataset.subsample`."""
    check_number("fps", fps, above=0.0)
    if rate is None:
        raise ValueError(
            "subsample: expected a data set with a known frame rate, got fps=None; pass fps= to PoseDataset "
            "or read_poses."
        )
    if (twice := repeated_frame(groups, frame)) is not None:
        raise ValueError(
            f"subsample: expected each frame number once in a recording, got {twice[1]} more than once in "
            f"{twice[0] or 'the recording'!r}; two people or recordings need names of their own: with_names(sequence=...), or "
            "an array 'sequence' in the file."
        )
    kept = []
    for name, rows in groups:
        phase = np.random.default_rng([seed, zlib.crc32(name.encode())]).random()
        number = np.arange(len(rows)) if frame is None else frame[rows]
        recorded = rate[rows] if isinstance(rate, np.ndarray) else rate
        step = np.minimum(fps / np.asarray(recorded, np.float64), 1.0)
        unknown = np.isnan(step)
        # a hair above, so that frames on the edge of a bin do not fall by rounding
        bins = np.floor(number * np.where(unknown, 1.0, step) + phase + 1e-9)
        first = np.ones(len(rows), bool)
        first[1:] = bins[1:] != bins[:-1]
        kept.append(rows[first | unknown])
    return np.sort(np.concatenate(kept))


def thin(store: PoseStore, groups: Groups, threshold_deg: float, joints: Sequence[int] | None) -> NDArray[np.int64]:
    """Sorted rows that stay; see `PoseDataset.thin`."""
    check_number("threshold_deg", threshold_deg, least=0.0, most=180.0)
    kept = []
    for _, rows in groups:
        poses, observed = store.take(rows)
        if joints is not None:
            poses, observed = poses[:, list(joints)], observed[:, list(joints)]
        used = np.flatnonzero(observed.any(0))
        if len(used) < observed.shape[1]:
            poses, observed = poses[:, used], observed[:, used]
        kept.append(rows[_greedy(_quaternions(poses), observed, threshold_deg)])
    return np.sort(np.concatenate(kept))


def _greedy(quat: NDArray[np.float64], seen: NDArray[np.bool_], threshold_deg: float) -> list[int]:
    """Positions kept. The successor of a kept frame depends on that frame alone, so near ones come vectorised."""
    n = len(quat)
    bound = math.cos(math.radians(threshold_deg) / 2)

    def moved(a: Any, b: Any) -> NDArray[np.bool_]:
        both = seen[a] & seen[b]
        turned = np.abs(np.einsum("...jk,...jk->...j", quat[a], quat[b])) < bound
        return (turned & both).any(-1) | ~both.any(-1)

    successor = np.zeros(n, np.int64)  # 0: further away
    for offset in range(1, min(_LOOKAHEAD, n - 1) + 1):
        open_rows = np.flatnonzero(successor[: n - offset] == 0)
        hit = open_rows[moved(open_rows, open_rows + offset)]
        successor[hit] = hit + offset
        if len(hit) < 0.05 * n:
            break  # slow motion: searching from the few kept frames is cheaper
    jump = successor.tolist()
    kept, at = [], 0
    while at < n:
        kept.append(at)
        at = jump[at] or _search(moved, at, at + 1, n)
    return kept


def _search(moved: Any, at: int, start: int, n: int) -> int:
    """First position from `start` that moved away from `at`, looking in windows that double; n if none."""
    width = 16
    while start < n:
        stop = min(start + width, n)
        hits = np.flatnonzero(moved(slice(at, at + 1), slice(start, stop)))
        if hits.size:
            return start + int(hits[0])
        start, width = stop, width * 2
    return n


def _quaternions(rotvec: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, J, 3) rotvecs to (N, J, 4) unit quaternions; float64 because the cosine of a small angle is compared.

    In numpy a quarter faster than `rotations.rotvec_to_unitquat`, and derivatives are not needed here.
    """
    quat = np.empty((*rotvec.shape[:-1], 4))
    for start in range(0, len(rotvec), _CHUNK):  # in the cache, several times faster than all at once
        vector = rotvec[start : start + _CHUNK].astype(np.float64)
        half = 0.5 * np.sqrt(np.einsum("njk,njk->nj", vector, vector))
        quat[start : start + _CHUNK, :, 0] = np.cos(half)
        scale = 0.5 * np.sin(half) / np.where(half > 0, half, 1.0)
        quat[start : start + _CHUNK, :, 1:] = vector * np.where(half > 0, scale, 0.5)[..., None]
    return quat
