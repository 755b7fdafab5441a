"""Data sets of any size on disk: shards of mapped arrays, and an index that says what they hold.

DIR/index.json                     the parts (train, val, test) and the shards of each; written last
DIR/shards/00000/train/poses.npy   (n, 55, 3) float32, beside observed.npy, frame.npy, maybe imputed.npy, context.npy
DIR/shards/00000/train/runs.json   [rows, subject, sequence, rig, fps] of each run of rows that share them
DIR/rows/train.npy                 the rows that count, where a source was capped
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._text import shown
from ..skeleton import NUM_JOINTS
from ._dataset.columns import Columns, rates
from ._dataset.growing_array import GrowingArray
from ._dataset.names import Names
from ._dataset.sharded import ShardedArray
from ._dataset.storage import PoseStore
from .atomic import write_json
from .dataset import PoseDataset

INDEX, PLAN, RUNS = "index.json", "plan.json", "runs.json"
_FORMAT, _VERSION = "poseprior shards", 1


class Run(NamedTuple):
    """Rows after one another that share what is said of them; `fps` is None where it is not known."""

    rows: int
    subject: str
    sequence: str
    rig: str
    fps: float | None


class ShardWriter:
    """Writes one part of one shard, recording by recording: memory is that of a recording.

    Args:
        folder: a folder that does not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._arrays, self._runs = folder, dict[str, GrowingArray](), list[Run]()
        self.rows = 0

    def append(self, data: PoseDataset) -> None:
        """Add all rows of a data set.

        Raises:
            ValueError: a context of another length than that of the rows before.
        """
        pose, observed = data.all_poses()
        arrays: dict[str, NDArray[Any]] = {"poses": pose.numpy(), "observed": observed.numpy()}
        frame = data.frame
        arrays["frame"] = np.arange(len(data)) if frame is None else frame
        imputed, context = data.imputed, data.context
        if imputed is not None or "imputed" in self._arrays:
            arrays["imputed"] = np.zeros((len(data), NUM_JOINTS), bool) if imputed is None else imputed.numpy()
        if context is not None:
            arrays["context"] = context.numpy()
        if self.rows and ("context" in arrays) != ("context" in self._arrays):
            raise ValueError("context: expected one in all recordings or in none.")
        for name, value in arrays.items():
            if name not in self._arrays:
                dtype = {"poses": np.float32, "context": np.float32, "frame": np.int64}.get(name, np.bool_)
                self._arrays[name] = GrowingArray(self._folder / f"{name}.npy", dtype, value.shape[1:])
                if name == "imputed" and self.rows:
                    self._arrays[name].append(np.zeros((self.rows, NUM_JOINTS), bool))
            if value.shape[1:] != self._arrays[name].row:
                wanted = self._arrays[name].row
                raise ValueError(f"{name}: expected rows {wanted} as in the recordings before, got {value.shape[1:]}.")
        for name, value in arrays.items():
            self._arrays[name].append(value)
        self._runs += runs_of(data)
        self.rows += len(data)

    def close(self) -> list[Run]:
        """Finish the files; the runs of all rows."""
        for array in self._arrays.values():
            array.close()
        (self._folder / RUNS).write_text(json.dumps(self._runs))
        return self._runs


def runs_of(data: PoseDataset) -> list[Run]:
    """Runs of rows that share subject, sequence, rig and frame rate."""
    n = len(data)
    names = [["unknown"] * n if v is None else v.tolist() for v in (data.subject, data.sequence, data.rig)]
    rate = np.full(n, np.nan) if data.fps is None else np.broadcast_to(np.asarray(data.fps, float), n)
    rows = list(zip(*names, [None if np.isnan(v) else float(v) for v in rate], strict=True))
    starts = [0, *(k for k in range(1, n) if rows[k] != rows[k - 1])]
    return [Run(stop - start, *rows[start]) for start, stop in zip(starts, [*starts[1:], n], strict=True)]


def write_index(folder: Path, parts: dict[str, list[str]], facts: dict[str, Any]) -> None:
    """Write the index: the shards of each part, by name, and anything else worth keeping."""
    write_json(folder / INDEX, {"format": _FORMAT, "version": _VERSION, "parts": parts, **facts})


def read_index(folder: Path) -> dict[str, Any] | None:
    """The index of a folder of shards; None for any other folder.

    Raises:
        ValueError: shards that were not finished, of a newer version, or an index that is damaged.
    """
    path = folder / INDEX
    if not path.is_file():
        if (folder / PLAN).is_file():
            raise ValueError(
                f"path: expected finished shards in {shown(folder)}, got an import that was stopped; run the same poseprior data "
                "import again, it goes on where it was."
            )
        return None
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"path: {shown(path)} cannot be read ({type(error).__name__}); import the poses again."
        ) from None
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        return None
    if index.get("version") != _VERSION:
        raise ValueError(
            f"path: expected shards of version {_VERSION} in {shown(folder)}, got {index.get('version')!r}; update poseprior."
        )
    return index


def read_shards(folder: Path, parts: Mapping[str, Sequence[str]]) -> PoseDataset:
    """Map the shards of some parts, in order.

    Raises:
        ValueError: a shard that is missing or damaged.
    """
    arrays: dict[str, list[Any]] = {}
    runs: list[Run] = []
    chosen: list[NDArray[np.int64]] = []
    rows = 0
    for part, shards in parts.items():
        start = rows
        for shard in shards:
            mine, own = _read_shard(folder / "shards" / shard / part)
            for name, value in mine.items():
                arrays.setdefault(name, []).append(value)
            runs += own
            rows += len(mine["poses"])
        capped = folder / "rows" / f"{part}.npy"
        chosen.append(start + np.load(capped, allow_pickle=False) if capped.is_file() else np.arange(start, rows))
    frame = np.concatenate([np.asarray(part) for part in arrays.pop("frame")])
    said = any(isinstance(mask, np.memmap) for mask in arrays["imputed"])
    store = PoseStore.trusted(
        ShardedArray(arrays["poses"]), ShardedArray(arrays["observed"]), ShardedArray(arrays["imputed"]) if said else None,
        ShardedArray(arrays["context"]) if "context" in arrays else None,
    )  # fmt: skip
    count, subject, sequence, rig, fps = (list(column) for column in zip(*runs, strict=True))
    rate = np.repeat([np.nan if v is None else v for v in fps], count)
    columns = Columns(
        Names.repeated(subject, count), Names.repeated(sequence, count), rates(rate, len(rate)), frame,
        Names.repeated(rig, count),
    )  # fmt: skip
    data = PoseDataset._with(store, columns)
    index = np.concatenate(chosen)
    return data if len(index) == rows else data.select(index)


def _read_shard(folder: Path) -> tuple[dict[str, NDArray[Any]], list[Run]]:
    """The arrays of one part of a shard by name, mapped, and its runs."""
    try:
        arrays = {p.stem: np.load(p, mmap_mode="r", allow_pickle=False) for p in sorted(folder.glob("*.npy"))}
        runs = [Run(*run) for run in json.loads((folder / RUNS).read_text())]
        n = len(arrays["poses"])
        whole = arrays["poses"].shape[1:] == (NUM_JOINTS, 3) and arrays["observed"].shape == (n, NUM_JOINTS)
        if not whole or any(len(array) != n for array in arrays.values()) or sum(run.rows for run in runs) != n:
            raise ValueError("arrays of several lengths")
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        raise ValueError(
            f"path: expected a whole shard in {shown(folder)}, got a damaged one ({type(error).__name__}: {error}); remove "
            f"{shown(folder.parent)} and the index beside its folder, and run the same poseprior data import again."
        ) from None
    arrays.setdefault("imputed", np.broadcast_to(np.zeros(1, bool), (n, NUM_JOINTS)))
    return arrays, runs
