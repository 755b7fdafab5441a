"""One person, or one hand, followed through frames in which several were detected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..keypoint_layouts import SMPLX_144, KeypointLayout
from ._keypoint_json import Frame

#: Pixels: a person of whom one point is known has no size of their own.
_LEAST_SIZE = 20.0

People = NDArray[np.float32]


def hands_of_one_side(frames: list[Frame], asked: KeypointLayout | None, path: Path) -> list[Frame]:
    """The frames with the hands of the side that the layout is of; as they are where the file says no sides.

    Raises:
        ValueError: no hand of that side in any frame, or hands of both where the layout is of neither.
    """
    there = sorted({side for frame in frames for side in frame.sides})
    if not there:
        return frames
    names = [] if asked is None else [*asked.parts, *(SMPLX_144[joint] for joint in asked.joints if joint is not None)]
    wanted = sorted({side for side in ("left", "right") if any(name.startswith(f"{side}_") for name in names)}) or there
    if len(wanted) > 1:
        raise ValueError(
            f"layout: expected one of a single hand for {path.name}, whose handedness is {' and '.join(there)}; pass "
            + " or ".join(f"layout='mediapipe_{side}_hand'" for side in there)
            + ", or a table of one hand, layout={point: joint}."
        )
    side = wanted[0]
    if side not in there:
        raise ValueError(
            f"layout: expected that of a {there[0]} hand for {path.name}, whose handedness is {there[0]}, got one of a {side} "
            f"hand; pass layout='mediapipe_{there[0]}_hand', or leave handedness out of the file if it is wrong."
        )
    left_out = [f"not read: the {one} hands of {path.name}" for one in there if one != side]
    chosen = []
    for frame in frames:
        if frame.sides:
            people = frame.people[[one == side for one in frame.sides]]
            frame = replace(frame, people=people, layout=f"mediapipe_{side}_hand", notes=frame.notes + left_out)
        chosen.append(frame)
    return chosen


def follow(frames: Sequence[People], person: int | None) -> People:
    """(F, K, 3) of one person; a frame without them is zero.

    Args:
        frames: (P, K, 3) x, y, confidence of each.
        person: an index among the people of each frame; None takes the most confident one and follows it.
    """
    if person is not None and (isinstance(person, bool) or not isinstance(person, int) or person < 0):
        raise ValueError(f"person: expected 0 or more, got {person}.")
    most = max(len(people) for people in frames)
    if person is not None and 0 < most <= person:
        raise ValueError(f"person: expected a number below {most}, since no frame shows more people, got {person}.")
    width = max(people.shape[1] for people in frames)
    chosen, last, missed = [], None, 0
    for people in frames:
        padded = np.zeros((len(people), width, 3), np.float32)
        padded[:, : people.shape[1]] = people
        padded[~np.isfinite(padded).all(-1)] = 0.0  # JSON's null: a point that was not found
        one = _choose(padded, person, last, missed)
        missed = missed + 1 if one is None else 0
        one = np.zeros((width, 3), np.float32) if one is None else one
        chosen.append(one)
        if last is not None or one[:, 2].any():
            last = one if last is None else np.where(one[:, 2:] > 0, one, last)
    return np.stack(chosen)


def _choose(people: People, person: int | None, last: People | None, missed: int) -> People | None:
    """The one of the people (P, K, 3) who is followed.

    Args:
        people: x, y, confidence.
        person: an index, to follow nobody.
        last: (K, 3) where each point of the followed person was seen last; None at first.
        missed: frames since then without them.
    """
    if len(people) == 0 or (person is not None and person >= len(people)):
        return None
    if person is not None:
        return np.asarray(people[person])
    if last is None:
        return np.asarray(people[int(people[..., 2].sum(1).argmax())])
    known = last[:, 2] > 0
    size = max(float(np.ptp(last[known, :2], axis=0).max()), _LEAST_SIZE)
    both = (people[..., 2] > 0) & known
    distance = np.linalg.norm(people[..., :2] - last[:, :2], axis=-1)
    shared = np.where(both.any(1), (distance * both).sum(1) / np.maximum(both.sum(1), 1), math.inf)
    # Points that someone lacks count as far as a person may move, so that a fragment close by does not win.
    nearest = int(np.where(both, distance, size)[:, known].mean(1).argmin())
    return np.asarray(people[nearest]) if shared[nearest] <= (1 + missed) * size else None
