"""The columns of a `PoseDataset` (subject, sequence, fps, frame, rig): checking, selecting, joining and grouping by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .names import Names

Labels = str | int | Sequence[str] | Sequence[int] | NDArray[Any] | None
Rates = float | Sequence[float] | Tensor | NDArray[Any] | None
_UNKNOWN, _NAMED = "unknown", ("subject", "sequence", "rig")


@dataclass(frozen=True)
class Columns:
    """What is known of every row beside its pose; None where nothing is. `ignored` and `notes` are of the files read."""

    subject: Names | None = None
    sequence: Names | None = None
    fps: float | NDArray[np.float64] | None = None
    frame: NDArray[np.int64] | None = None
    rig: Names | None = None
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def checked(cls, n: int, subject: Any, sequence: Any, fps: Any, frame: Any, rig: Any) -> Columns:
        """From what a user gave for `n` rows; see `PoseDataset`."""
        return cls(
            labels(subject, n, "subject"), labels(sequence, n, "sequence"), rates(fps, n), frames(frame, n),
            labels(rig, n, "rig"),
        )  # fmt: skip

    @classmethod
    def stored(cls, columns: dict[str, NDArray[Any]]) -> Columns:
        """From arrays that `present` gave."""
        values: dict[str, Any] = {k: Names.of(v) if k in _NAMED else v for k, v in columns.items()}
        if "fps" in values and values["fps"].ndim == 0:
            values["fps"] = float(values["fps"])
        return cls(**values)

    def present(self) -> dict[str, Any]:
        """The columns that are not None, by name, as arrays or one number."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.all() if isinstance(value, Names) else value
            for name, value in values.items()
            if not (value is None or isinstance(value, tuple))
        }

    def said(self) -> str:
        """The first of what was ignored and noted, for `repr`."""
        words = []
        for name, items in (("ignored", self.ignored), ("notes", self.notes)):
            more = f"; and {len(items) - 4} more" if len(items) > 4 else ""
            words += [f", {name}: {'; '.join(items[:4])}{more}"] if items else []
        return "".join(words)

    def take(self, index: NDArray[np.int64]) -> Columns:
        """Some rows."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        rows: dict[str, Any] = {name: value.take(index) for name, value in values.items() if isinstance(value, Names)}
        rows |= {name: value[index] for name, value in values.items() if isinstance(value, np.ndarray)}
        return replace(self, **rows)


def labels(value: Labels, n: int, name: str) -> Names | None:
    """(n,) names from names or numbers; one value stands for all rows."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "USiu":
        raise ValueError(f"{name}: expected names or integers, got {array.dtype}; convert with [str(x) for x in ...].")
    array = np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array.astype(np.str_)
    if array.ndim == 0 or array.shape == (1,):
        return Names.same(array.item(), n)
    if array.shape != (n,):
        raise ValueError(f"{name}: expected {n} names, one per row (or one name), got shape {array.shape}.")
    return Names.of(array)


def rates(value: Rates, n: int) -> float | NDArray[np.float64] | None:
    """One rate, or (n,) rates collapsed to one where they agree."""
    if value is None:
        return None
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"fps: expected frame rates as numbers, got {np.asarray(value).dtype}.") from None
    if array.shape not in ((), (1,), (n,)):
        raise ValueError(f"fps: expected one number or {n}, one per row, got shape {array.shape}.")
    if (array <= 0).any() or np.isinf(array).any():
        raise ValueError(
            f"fps: expected positive frame rates, got {array[~(array > 0)].ravel()[:3].tolist() or 'inf'}."
        )
    flat = array.ravel()
    if np.isnan(flat).all():
        return None
    return float(flat[0]) if bool((flat == flat[0]).all()) else array


def frames(value: Any, n: int) -> NDArray[np.int64] | None:
    """(n,) int64 frame numbers."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind == "O" and all(isinstance(x, int) for x in array.ravel()):
        raise ValueError(f"frame: expected numbers below 2**63, got {max(array.ravel(), key=abs)}.")
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        fix = "give one for each row" if array.shape != (n,) else "convert with .astype(int)"
        if array.dtype.kind not in "iufb":
            fix = "give the numbers in the names, or leave frame out"
        raise ValueError(f"frame: expected {n} integers, one per row, got {array.dtype} {array.shape}; {fix}.")
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"frame: expected numbers below 2**63, got {array.max()}.")
    return array.astype(np.int64)


def row_indices(rows: Any, n: int, name: str) -> NDArray[np.int64]:
    """Indices from 0 to n - 1, maybe none, from a bool mask (n,) or from indices; `name` is the argument's."""
    array = np.asarray(rows)
    if array.dtype == bool:
        if array.shape != (n,):
            raise ValueError(f"{name}: expected a mask of shape ({n},), got {array.shape}; or give indices.")
        array = np.flatnonzero(array)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"{name}: expected a bool mask or a list of indices, got {array.dtype} {array.shape}.")
    index = array.astype(np.int64)
    if index.size and (index.min() < -n or index.max() >= n):
        raise ValueError(f"{name}: expected indices below {n}, got {index.min()} to {index.max()}.")
    return np.where(index < 0, index + n, index)


def join(parts: Sequence[tuple[int, Columns]]) -> Columns:
    """Columns of several data sets, each with its length, after one another."""

    def names(column: str) -> Any:
        values = [(n, getattr(c, column)) for n, c in parts]
        if all(value is None for _, value in values):
            return None
        return Names.join([Names.same(_UNKNOWN, n) if value is None else value for n, value in values])

    fps: Any = None
    if any(c.fps is not None for _, c in parts):
        each = [np.broadcast_to(np.nan if c.fps is None else c.fps, n) for n, c in parts]
        fps = np.concatenate(each).astype(np.float64)
        fps = rates(fps, len(fps))
    frame: Any = None
    if any(c.frame is not None for _, c in parts):
        frame = np.concatenate([positions(c.subject, c.sequence, n) if c.frame is None else c.frame for n, c in parts])
    said = [tuple(dict.fromkeys(x for _, c in parts for x in getattr(c, name))) for name in ("ignored", "notes")]
    return Columns(names("subject"), names("sequence"), fps, frame, names("rig"), *said)


def groups(subject: Names | None, sequence: Names | None, frame: Any, n: int) -> list[tuple[str, NDArray[np.int64]]]:
    """(name, rows in frame order) of every sequence; a sequence is a (subject, sequence) pair."""
    key = np.zeros(n, np.int64)
    if sequence is not None:
        key = sequence.index()
    if subject is not None:
        person = subject.index()
        key = key * (int(person.max()) + 1) + person
    order = np.argsort(key, kind="stable") if frame is None else np.lexsort((frame, key))
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    parts = np.split(order, cuts)
    return [("" if sequence is None else str(sequence.values[sequence.codes[rows[0]]]), rows) for rows in parts]


def repeated_frame(groups: Sequence[tuple[str, NDArray[np.int64]]], frame: Any) -> tuple[str, int] | None:
    """A recording with a frame number that it has more than once, and the number; `groups` are those of `groups`."""
    for name, rows in groups if frame is not None else ():
        same = np.flatnonzero(np.diff(frame[rows]) == 0)
        if same.size:
            return name, int(frame[rows[same[0]]])
    return None


def positions(subject: Names | None, sequence: Names | None, n: int) -> NDArray[np.int64]:
    """(n,) how many rows of the same sequence come before each row: the frame number when none was recorded."""
    result = np.zeros(n, np.int64)
    for _, rows in groups(subject, sequence, None, n):
        result[rows] = np.arange(len(rows))
    return result


def subject_parts(subject: Names | None, parts: Sequence[Any], seed: int) -> list[list[str]]:
    """Subject names of each part; see `PoseDataset.split_by_subject`."""
    if subject is None:
        raise ValueError(
            "split_by_subject: expected a data set with subject names, got none; pass subject= to PoseDataset or "
            "read_poses, or split by hand with select()."
        )
    names, sizes = subject.present(), np.bincount(subject.index())
    if len(parts) == 0:
        raise ValueError("parts: expected at least one fraction or list of names, got none.")
    if not all(isinstance(p, int | float) for p in parts):
        return _explicit_parts(names, parts)
    share = np.asarray(parts, np.float64)
    if (share <= 0).any() or not 0 < share.sum() <= 1 + 1e-6:
        raise ValueError(f"parts: expected positive fractions that add up to at most 1, got {share.tolist()}.")
    if len(names) < len(parts):
        raise ValueError(
            f"split_by_subject: expected at least {len(parts)} subjects for {len(parts)} parts, got {len(names)} "
            f"({', '.join(names)}); add recordings of other people, or ask for fewer parts."
        )
    rest = 1 - share.sum()
    target = np.append(share, rest if rest > 1e-6 else 0) * sizes.sum()
    best: tuple[float, Any] = (np.inf, None)
    rng = np.random.default_rng(seed)
    for _ in range(64):  # whole subjects rarely meet the fractions, so the nearest of several draws is taken
        home, filled = np.full(len(names), -1), np.zeros(len(target))
        order = rng.permutation(len(names))
        for k, person in enumerate(order):
            gap = target - filled
            empty = np.flatnonzero(filled[: len(parts)] == 0)
            if len(order) - k <= len(empty):
                gap = np.where(np.isin(np.arange(len(target)), empty), gap, -np.inf)
            home[person] = int(np.argmax(gap))
            filled[home[person]] += sizes[person]
        error = float(np.abs(target - filled).sum())
        if error < best[0]:
            best = (error, home)
    return [[str(s) for s in names[best[1] == k]] for k in range(len(parts))]


def _explicit_parts(names: NDArray[np.str_], parts: Sequence[Any]) -> list[list[str]]:
    if any(isinstance(p, str | int | float) for p in parts):
        raise ValueError(f"parts: expected all fractions or all lists of subject names, got {list(parts)!r}.")
    chosen = [[str(s) for s in p] for p in parts]
    flat = [s for p in chosen for s in p]
    if unknown := sorted(set(flat) - set(names.tolist())):
        raise ValueError(f"parts: unknown subjects {unknown}; this data set has {', '.join(names)}.")
    if twice := sorted({s for s in flat if flat.count(s) > 1}):
        raise ValueError(f"parts: expected every subject in one part, got {twice} in several.")
    if empty := [k for k, p in enumerate(chosen) if not p]:
        raise ValueError(f"parts: expected at least one subject in every part, got none in part {empty[0]}.")
    return chosen
