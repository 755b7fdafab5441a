"""Where the rows of a `PoseDataset` live: arrays in memory, or `.npy` files that are mapped and read by batches."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from ..skeleton import NUM_JOINTS
from .atomic import new_folder

_CHUNK = 16384
#: What stays on disk of a folder that `write_folder` wrote.
_MAPPED = ("poses", "observed", "imputed")


class PoseStore:
    """(N, 55, 3) poses, (N, 55) observed and maybe imputed. `rows` selects from mapped files without reading them."""

    def __init__(
        self,
        poses: NDArray[Any],
        observed: NDArray[Any] | None,
        imputed: NDArray[Any] | None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self._poses, self._observed, self._imputed, self._rows = poses, observed, imputed, rows
        self.mapped = isinstance(poses, np.memmap)

    @classmethod
    def trusted(cls, poses: NDArray[Any], observed: NDArray[Any], imputed: NDArray[Any] | None = None) -> PoseStore:
        """Parts that are already float32, bool, finite, and zero where unobserved (mapped ones: on reading)."""
        return cls(poses, observed, imputed)

    @classmethod
    def checked(
        cls,
        poses: Tensor | NDArray[Any],
        observed: Tensor | NDArray[Any] | None,
        imputed: Tensor | NDArray[Any] | None = None,
    ) -> PoseStore:
        """Check shapes, types and finiteness; see `PoseDataset`."""
        array, mask = _numpy(poses), None if observed is None else _numpy(observed)
        if array.ndim != 3 or array.shape[1:] != (NUM_JOINTS, 3):
            raise ValueError(
                f"poses: expected (N, {NUM_JOINTS}, 3), got {tuple(array.shape)}; "
                "convert other layouts with poseprior.params or read files with poseprior.io.read_poses."
            )
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"poses: expected a floating-point type, got {array.dtype}; convert with .float().")
        if len(array) == 0:
            raise ValueError("poses: expected at least one row, got none.")
        if mask is not None:
            mask = _checked_mask("observed", mask, len(array))
        filled = None if imputed is None else _checked_mask("imputed", _numpy(imputed), len(array))
        if not isinstance(array, np.memmap):
            array = np.ascontiguousarray(array, np.float32)
            if mask is not None and (array[~mask] != 0).any():
                array = array.copy()
        store = cls(array, mask, filled)
        store._require_finite()
        if not store.mapped:
            if mask is not None and not mask.all():
                _require_writeable(store)._poses[~mask] = 0.0
            store = _require_writeable(store)
        return store

    def __len__(self) -> int:
        return len(self._poses) if self._rows is None else len(self._rows)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Fresh float32 poses and bool observed of some rows."""
        if self._rows is not None:
            rows = self._rows[rows]
        observed = (
            np.ones((len(rows), NUM_JOINTS), bool) if self._observed is None else np.asarray(self._observed[rows])
        )
        poses = np.asarray(self._poses[rows], np.float32)
        if self.mapped:
            poses[~observed] = 0.0
        return poses, observed

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """All rows; views when in memory."""
        if self.mapped or self._rows is not None:
            return self.take(np.arange(len(self)))
        return self._poses, self.observed()

    def observed(self) -> NDArray[np.bool_]:
        """(N, 55), in memory; without reading the poses."""
        if self._observed is None:
            self._observed = np.ones((len(self._poses), NUM_JOINTS), bool)
        if isinstance(self._observed, np.memmap):
            self._observed = np.array(self._observed)
        return self._observed if self._rows is None else self._observed[self._rows]

    def imputed(self) -> NDArray[np.bool_] | None:
        """(N, 55), in memory; None where nobody said."""
        if self._imputed is None:
            return None
        rows = slice(None) if self._rows is None else self._rows
        return np.array(self._imputed[rows]) if self.mapped else self._imputed[rows]

    def select(self, rows: NDArray[np.int64]) -> PoseStore:
        """Some rows: a new index over mapped files, a copy in memory."""
        if self.mapped:
            index = rows if self._rows is None else self._rows[rows]
            return PoseStore(self._poses, self._observed, self._imputed, index)
        return PoseStore(*self.take(rows), None if self._imputed is None else self._imputed[rows])

    def __getstate__(self) -> dict[str, Any]:
        """Mapped files by path, so that worker processes map them too; what is in memory as it is."""
        return {name: _MappedFile.of(value) for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {k: v.open() if isinstance(v, _MappedFile) else v for k, v in state.items()}

    def _require_finite(self) -> None:
        bad: list[int] = []
        for start in range(0, len(self._poses), _CHUNK):
            broken = ~np.isfinite(self._poses[start : start + _CHUNK]).all(-1)
            if self._observed is not None:
                broken &= np.asarray(self._observed[start : start + _CHUNK])
            bad.extend((start + np.flatnonzero(broken.any(1))).tolist())
        if bad:
            shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            raise ValueError(
                f"poses: expected finite values on observed joints, got nan or inf in {len(bad)} of {len(self._poses)} "
                f"rows (rows {shown}); drop these rows or mark the joints unobserved with observed=."
            )


@dataclass(frozen=True)
class _MappedFile:
    """What to pickle of a memory map: where it is, not what is in it."""

    path: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    @classmethod
    def of(cls, array: Any) -> Any:
        """The file of an array that is all of a map; any other value as it is."""
        # A slice of a map has the map's offset, not its own, and mode "c" holds changes that are in no file.
        if not isinstance(array, np.memmap) or not isinstance(array.base, mmap) or array.mode == "c":
            return array
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        return cls(str(array.filename), array.dtype, array.offset, array.shape, order)

    def open(self) -> NDArray[Any]:
        """Map the file again, to read."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


def _numpy(value: Tensor | NDArray[Any]) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()  # NumPy has no bfloat16
    return value if isinstance(value, np.memmap) else np.asarray(value)


def _checked_mask(name: str, mask: NDArray[Any], n: int) -> NDArray[Any]:
    if mask.shape != (n, NUM_JOINTS):
        raise ValueError(
            f"{name}: expected ({n}, {NUM_JOINTS}) to match poses, got {tuple(mask.shape)}; give one flag per row and "
            f"joint, or None{' for all observed' if name == 'observed' else ''}."
        )
    if mask.dtype == bool:
        return mask
    if not np.issubdtype(mask.dtype, np.integer) or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{name}: expected bool (or integers 0 and 1), got {mask.dtype}; pass {name}.bool().")
    return mask.astype(bool)


def _require_writeable(store: PoseStore) -> PoseStore:
    """torch cannot wrap read-only arrays, so these are copied."""
    if not store._poses.flags.writeable:
        store._poses = store._poses.copy()
    for name in ("_observed", "_imputed"):
        mask = getattr(store, name)
        if mask is not None and not mask.flags.writeable:
            setattr(store, name, np.array(mask))
    return store


def write_folder(folder: Path, store: PoseStore, columns: dict[str, Any]) -> Path:
    """Write `poses.npy`, `observed.npy`, maybe `imputed.npy`, and the columns, beside `folder`, then rename."""
    with new_folder(folder) as beside:
        n = len(store)  # a plain int: numpy integers in `shape` write a header that cannot be read back
        poses = open_memmap(beside / "poses.npy", mode="w+", dtype=np.float32, shape=(n, NUM_JOINTS, 3))
        observed = open_memmap(beside / "observed.npy", mode="w+", dtype=np.bool_, shape=(n, NUM_JOINTS))
        for start in range(0, n, _CHUNK):
            stop = min(start + _CHUNK, n)
            poses[start:stop], observed[start:stop] = store.take(np.arange(start, stop))
        poses.flush()
        observed.flush()
        imputed = store.imputed()
        if imputed is not None:
            columns = {**columns, "imputed": imputed}
        for name, value in columns.items():
            np.save(beside / f"{name}.npy", np.asarray(value), allow_pickle=False)
    return folder


def read_folder(folder: Path) -> tuple[PoseStore, dict[str, NDArray[Any]]]:
    """Map a folder that `write_folder` wrote."""
    arrays = {}
    for name in (*_MAPPED, "subject", "sequence", "fps", "frame", "rig"):
        path = folder / f"{name}.npy"
        if path.exists():
            mode = "r" if name in _MAPPED else None
            try:
                arrays[name] = np.load(path, mmap_mode=mode, allow_pickle=False)  # type: ignore[arg-type]
            except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
                raise ValueError(
                    f"folder: expected {name}.npy as PoseDataset.to_memmap writes it in {folder}, got a damaged one "
                    f"({type(error).__name__}); write the folder again."
                ) from None
    poses, observed, imputed = (arrays.pop(name, None) for name in _MAPPED)
    if poses is None or observed is None or poses.shape != (*observed.shape, 3) or poses.shape[1:] != (NUM_JOINTS, 3):
        raise ValueError(
            f"folder: expected poses.npy (N, {NUM_JOINTS}, 3) and observed.npy (N, {NUM_JOINTS}) in {folder}, got "
            f"{None if poses is None else poses.shape} and {None if observed is None else observed.shape}; "
            "write the folder with PoseDataset.to_memmap."
        )
    if imputed is not None and imputed.shape != observed.shape:
        raise ValueError(
            f"folder: expected imputed.npy {observed.shape} in {folder}, got {imputed.shape}; write the folder with "
            "PoseDataset.to_memmap."
        )
    return PoseStore.trusted(poses, observed, imputed), arrays
