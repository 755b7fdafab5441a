"""One person, or one hand, followed through frames in which several were detected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..._checks import quoted
from ..._text import printable, shown
from ...keypoint_layouts import SMPLX_144, KeypointLayout
from .frame import Frame, Points

#: Pixels: a person of whom one point is known has no size of their own.
_LEAST_SIZE = 20.0
#: People who are followed to see who was seen most, and tracks that a message lists.
_MOST_TRACKS, _LISTED = 5, 8

People = Points


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
            f"layout: expected one of a single hand for {shown(path.name)}, whose handedness is {' and '.join(there)}; pass "
            + " or ".join(f"layout='mediapipe_{side}_hand'" for side in there)
            + ", or a table of one hand, layout={point: joint}."
        )
    side = wanted[0]
    if side not in there:
        raise ValueError(
            f"layout: expected that of a {there[0]} hand for {shown(path.name)}, whose handedness is {there[0]}, got one of a "
            f"{side} hand; pass layout='mediapipe_{there[0]}_hand', or leave handedness out of the file if it is wrong."
        )
    left_out = [f"not read: the {one} hands of {shown(path.name)}" for one in there if one != side]
    chosen = []
    for frame in frames:
        if frame.sides:
            people = frame.people[[one == side for one in frame.sides]]
            frame = replace(frame, people=people, layout=f"mediapipe_{side}_hand", notes=frame.notes + left_out)
        chosen.append(frame)
    return chosen


def follow(frames: Sequence[Frame], person: int | None, path: Path) -> tuple[People, tuple[str, ...]]:
    """(F, K, 3) of one person, zero in a frame without them, and what to note.

    Args:
        frames: with the people in each.
        person: the number of a track, where the file has them; else an index among the people of each frame. None takes who
            was seen most, which is the largest sum of confidences over all frames.
        path: of the file, for messages.
    """
    if person is not None and (isinstance(person, bool) or not isinstance(person, Integral) or person < 0):
        raise ValueError(f"person: expected an integer of 0 or more, got {quoted(person)}.")
    width = max(frame.people.shape[1] for frame in frames)
    padded = []
    for frame in frames:
        people = np.zeros((len(frame.people), width, 3), np.float32)
        people[:, : frame.people.shape[1]] = frame.people
        people[~np.isfinite(people).all(-1)] = 0.0  # JSON's null: a point that was not found
        padded.append(people)
    tracks, notes = _tracks(frames, path)
    most = max(len(people) for people in padded)
    if tracks is not None:
        places, track_notes = _of_track(padded, tracks, person, path)
        notes += track_notes
    elif person is None:
        places = _seen_most(padded)
    elif 0 < most <= person:
        raise ValueError(f"person: expected a number below {most}, since no frame shows more people, got {person}.")
    else:
        places = [int(person) if person < len(people) else None for people in padded]
    left = [
        frame.name
        for frame, people, place in zip(frames, padded, places, strict=True)
        if place is None and bool(people[..., 2].any())
    ]
    if left:
        notes.append(
            f"in {len(left)} of {len(frames)} frames (the first is {printable(left[0])}) people were found, but not the one who "
            "is followed: these frames are empty (person= chooses another)"
        )
    empty = np.zeros((width, 3), np.float32)
    chosen = [empty if place is None else people[place] for people, place in zip(padded, places, strict=True)]
    return np.stack(chosen), tuple(notes)


def _tracks(frames: Sequence[Frame], path: Path) -> tuple[list[tuple[int | None, ...]] | None, list[str]]:
    """The numbers of the tracks of each frame's people, None where they say nothing, and what to note."""
    if not any(track is not None for frame in frames for track in frame.tracks):
        return None, []
    tracks = [frame.tracks or (None,) * len(frame.people) for frame in frames]
    for frame, numbers in zip(frames, tracks, strict=True):
        told = [track for track in numbers if track is not None]
        if len(set(told)) < len(told):  # AlphaPose writes 0 for everyone where it does not track
            return None, [
                f"not used: the numbers of tracks in {shown(path.name)}, since two people of frame {printable(frame.name)} "
                "have one"
            ]
    return tracks, []


def _of_track(
    frames: Sequence[People], tracks: Sequence[tuple[int | None, ...]], person: int | None, path: Path
) -> tuple[list[int | None], list[str]]:
    """The place of one track in each frame, and what to note."""
    totals: dict[int, float] = {}
    for people, numbers in zip(frames, tracks, strict=True):
        for one, track in zip(people, numbers, strict=True):
            if track is not None:
                totals[track] = totals.get(track, 0.0) + float(one[:, 2].sum())
    if person is not None and person not in totals:
        known = sorted(totals)
        few = ", ".join(str(track) for track in known[:_LISTED]) + (", ..." if len(known) > _LISTED else "")
        raise ValueError(f"person: expected the number of a track in {shown(path.name)}, one of {few}, got {person}.")
    wanted = max(totals, key=lambda track: totals[track]) if person is None else int(person)
    notes = []
    if person is None and len(totals) > 1:
        notes = [
            f"of {len(totals)} tracks in {shown(path.name)} number {wanted}, which was seen most, is followed (person= chooses)"
        ]
    return [numbers.index(wanted) if wanted in numbers else None for numbers in tracks], notes


def _seen_most(frames: Sequence[People]) -> list[int | None]:
    """The place in each frame of the person with the largest sum of confidences, followed from where they are seen best."""
    weight = [people[..., 2].sum(1) for people in frames]
    clarity = [w * _size(people) for w, people in zip(weight, frames, strict=True)]
    free = [np.ones(len(people), bool) for people in frames]
    best, most = list[int | None]([None] * len(frames)), 0.0
    for _ in range(_MOST_TRACKS):
        top = [float((c * f).max(initial=0.0)) for c, f in zip(clarity, free, strict=True)]
        start = int(np.argmax(top))
        if top[start] <= 0:
            break
        seed = int((clarity[start] * free[start]).argmax())
        places = list[int | None]([None] * len(frames))
        places[start] = seed
        for steps in (range(start + 1, len(frames)), range(start - 1, -1, -1)):
            last, missed = frames[start][seed], 0
            for k in steps:
                places[k] = _nearest(frames[k], free[k], last, missed)
                missed = missed + 1 if places[k] is None else 0
                if (place := places[k]) is not None:
                    one = frames[k][place]
                    last = np.where(one[:, 2:] > 0, one, last)
        total = sum(float(w[place]) for w, place in zip(weight, places, strict=True) if place is not None)
        for taken, place in zip(free, places, strict=True):
            if place is not None:
                taken[place] = False
        if total > most:
            best, most = places, total
        if sum(float((w * f).sum()) for w, f in zip(weight, free, strict=True)) <= most:
            break
    return best


def _size(people: People) -> NDArray[np.float32]:
    """(P,) longest side of the box round the points of each of the people (P, K, 3)."""
    seen = people[..., 2:] > 0
    high = np.where(seen, people[..., :2], -np.inf).max(1, initial=-np.inf)
    low = np.where(seen, people[..., :2], np.inf).min(1, initial=np.inf)
    return np.maximum(np.nan_to_num(high - low, neginf=0.0).max(1), 1.0).astype(np.float32)


def _nearest(people: People, free: NDArray[np.bool_], last: People, missed: int) -> int | None:
    """The place of the one of the people (P, K, 3) who is followed, if they are there.

    Args:
        people: x, y, confidence.
        free: (P,) whether nobody else is followed there.
        last: (K, 3) where each point of the followed person was seen last.
        missed: frames since then without them.
    """
    if not free.any():
        return None
    known = last[:, 2] > 0
    size = max(float(np.ptp(last[known, :2], axis=0).max()), _LEAST_SIZE)
    both = (people[..., 2] > 0) & known
    distance = np.linalg.norm(people[..., :2] - last[:, :2], axis=-1)
    shared = np.where(both.any(1) & free, (distance * both).sum(1) / np.maximum(both.sum(1), 1), math.inf)
    # Points that someone lacks count as far as a person may move, so that a fragment close by does not win.
    apart = np.where(free, np.where(both, distance, size)[:, known].mean(1), math.inf)
    nearest = int(apart.argmin())
    return nearest if shared[nearest] <= (1 + missed) * size else None
