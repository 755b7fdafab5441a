"""Where the rows of a `PoseDataset` live: arrays in memory, or `.npy` files that are mapped and read by batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._checks import as_tensor
from ...rotations import MOST_RADIANS
from ...skeleton import NUM_JOINTS
from .mapped_file import MappedFile
from .sharded import ShardedArray

_CHUNK = 16384
#: An array in memory, a mapped one, or a `ShardedArray`.
Stored = Any


class PoseStore:
    """(N, 55, 3) poses, (N, 55) observed, and maybe (N, 55) imputed and (N, C) context.

    `rows` selects from mapped files without reading them.
    """

    def __init__(
        self,
        poses: Stored,
        observed: Stored | None,
        imputed: Stored | None = None,
        context: Stored | None = None,
        rows: NDArray[np.int64] | None = None,
        *,
        clean: bool = False,
    ) -> None:
        self._poses, self._observed, self._imputed, self._context = poses, observed, imputed, context
        self._rows, self._clean = rows, clean
        self.mapped = isinstance(poses, np.memmap | ShardedArray)

    @classmethod
    def trusted(
        cls,
        poses: Stored,
        observed: Stored,
        imputed: Stored | None = None,
        context: Stored | None = None,
    ) -> PoseStore:
        """Parts that are already float32, bool, finite, and zero where unobserved."""
        return cls(poses, observed, imputed, context, clean=True)

    @classmethod
    def checked(
        cls,
        poses: Tensor | NDArray[Any],
        observed: Tensor | NDArray[Any] | None,
        imputed: Tensor | NDArray[Any] | None = None,
        context: Tensor | NDArray[Any] | None = None,
    ) -> PoseStore:
        """Check shapes, types and finiteness; see `PoseDataset`."""
        array, mask = _numpy("poses", poses), None if observed is None else _numpy("observed", observed)
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
        filled = None if imputed is None else _checked_mask("imputed", _numpy("imputed", imputed), len(array))
        condition = None if context is None else _checked_context(_numpy("context", context), len(array))
        if not isinstance(array, np.memmap):
            array = np.ascontiguousarray(array, np.float32)
            if mask is not None and ((array != 0) & ~mask[..., None]).any():
                array = array.copy()
        store = cls(array, mask, filled, condition)
        store._require_finite()
        if not store.mapped:
            if mask is not None and not mask.all():
                np.copyto(_require_writeable(store)._poses, 0.0, where=~mask[..., None])
            store = _require_writeable(store)
        return store

    def __len__(self) -> int:
        return len(self._poses) if self._rows is None else len(self._rows)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Fresh float32 poses and bool observed of some rows."""
        observed = self.take_observed(rows)
        poses = np.asarray(self._poses[self._places(rows)], np.float32)
        if self.mapped and not self._clean:
            poses[~observed] = 0.0
        return poses, observed

    def take_observed(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Fresh (B, 55) of some rows."""
        if self._observed is None:
            return np.ones((len(rows), NUM_JOINTS), bool)
        return np.asarray(self._observed[self._places(rows)])

    def take_imputed(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Fresh (B, 55) of some rows; None where nobody said."""
        return None if self._imputed is None else np.asarray(self._imputed[self._places(rows)])

    def take_context(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Fresh (B, C) of some rows; None where there is none."""
        return None if self._context is None else np.asarray(self._context[self._places(rows)], np.float32)

    def _places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the arrays."""
        return rows if self._rows is None else self._rows[rows]

    @property
    def context_dim(self) -> int:
        """C, numbers of the context of a row; 0 where there is none."""
        return 0 if self._context is None else int(self._context.shape[1])

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """All rows; views when in memory."""
        if self.mapped or self._rows is not None:
            return self.take(np.arange(len(self)))
        return self._poses, self.observed()

    def observed(self) -> NDArray[np.bool_]:
        """(N, 55), in memory; without reading the poses."""
        if self._observed is None:
            self._observed = np.ones((len(self._poses), NUM_JOINTS), bool)
        if isinstance(self._observed, np.memmap | ShardedArray):
            self._observed = np.array(self._observed[:])
        return self._observed if self._rows is None else self._observed[self._rows]

    def observed_chunks(self, size: int = _CHUNK) -> Iterator[NDArray[np.bool_]]:
        """(B, 55) of every row in order, `size` at a time; a mapped file is not held in memory."""
        for start in range(0, len(self), size):
            yield self.take_observed(np.arange(start, min(start + size, len(self))))

    def imputed(self) -> NDArray[np.bool_] | None:
        """(N, 55), in memory; None where nobody said."""
        return self._whole(self._imputed)

    def context(self) -> NDArray[np.float32] | None:
        """(N, C), in memory; None where there is none."""
        return self._whole(self._context)

    def _whole(self, array: NDArray[Any] | None) -> NDArray[Any] | None:
        if array is None:
            return None
        inside = self._rows is None and not isinstance(array, np.memmap | ShardedArray)
        return array if inside else np.array(array[slice(None) if self._rows is None else self._rows])

    def select(self, rows: NDArray[np.int64]) -> PoseStore:
        """Some rows: a new index over mapped files, a copy in memory."""
        if self.mapped:
            index = rows if self._rows is None else self._rows[rows]
            return PoseStore(self._poses, self._observed, self._imputed, self._context, index, clean=self._clean)
        return PoseStore(*self.take(rows), self.take_imputed(rows), self.take_context(rows))

    def without_context(self) -> PoseStore:
        """The same rows without their context."""
        return PoseStore(self._poses, self._observed, self._imputed, None, self._rows, clean=self._clean)

    @classmethod
    def join(cls, stores: Sequence[PoseStore]) -> PoseStore:
        """All rows in order, in memory; what some do not have of `imputed` counts as recorded.

        Raises:
            ValueError: contexts of several lengths, or of some of the stores alone.
        """
        sizes = sorted({store.context_dim for store in stores})
        if len(sizes) > 1:
            raise ValueError(
                f"datasets: expected contexts of one length in all data sets or none in any, got {sizes} numbers; give "
                "each data set its context, or leave the data sets without one out."
            )
        parts = [store.arrays() for store in stores]
        masks = [store.imputed() for store in stores]
        imputed = None
        if any(mask is not None for mask in masks):
            pairs = zip(masks, parts, strict=True)
            imputed = np.concatenate([np.zeros_like(o) if mask is None else mask for mask, (_, o) in pairs])
        contexts = [context for store in stores if (context := store.context()) is not None]
        return cls.trusted(
            np.concatenate([p for p, _ in parts]), np.concatenate([o for _, o in parts]), imputed,
            np.concatenate(contexts) if contexts else None,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Mapped files by path, so that worker processes map them too; what is in memory as it is."""
        return {name: MappedFile.of(value) for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {k: v.open() if isinstance(v, MappedFile) else v for k, v in state.items()}

    def _require_finite(self) -> None:
        bad: list[int] = []
        for start in range(0, len(self._poses), _CHUNK):
            near = np.abs(self._poses[start : start + _CHUNK]) < MOST_RADIANS  # false for a NaN
            if near.all():
                continue
            broken = ~near.all(-1)
            if self._observed is not None:
                broken &= np.asarray(self._observed[start : start + _CHUNK])
            bad.extend((start + np.flatnonzero(broken.any(1))).tolist())
        if bad:
            shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            raise ValueError(
                f"poses: expected finite rotvecs within {MOST_RADIANS:g} radians on observed joints, got nan, inf or larger "
                f"ones in {len(bad)} of {len(self._poses)} rows (rows {shown}); drop these rows "
                "or mark the joints unobserved in PoseDataset(poses, observed)."
            )


def _numpy(name: str, value: Tensor | NDArray[Any]) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = as_tensor(name, value).detach().cpu()
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


def _checked_context(context: NDArray[Any], n: int) -> NDArray[Any]:
    if context.ndim != 2 or len(context) != n or context.shape[1] == 0:
        raise ValueError(
            f"context: expected ({n}, C), C numbers for each row of poses, got {tuple(context.shape)}; one number a row is "
            "context[:, None]."
        )
    if not np.issubdtype(context.dtype, np.floating):
        raise ValueError(
            f"context: expected a floating-point type, got {context.dtype}; class labels go in as one number for each "
            "class, torch.nn.functional.one_hot(label).float()."
        )
    for start in range(0, n, _CHUNK):
        broken = ~np.isfinite(context[start : start + _CHUNK]).all(1)
        if broken.any():
            raise ValueError(
                f"context: expected finite numbers, got nan or inf in row {start + int(broken.argmax())}; drop such rows."
            )
    return context if isinstance(context, np.memmap) else np.array(context, np.float32)


def _require_writeable(store: PoseStore) -> PoseStore:
    """torch cannot wrap read-only arrays, so these are copied."""
    if not store._poses.flags.writeable:
        store._poses = store._poses.copy()
    for name in ("_observed", "_imputed"):
        mask = getattr(store, name)
        if mask is not None and not mask.flags.writeable:
            setattr(store, name, np.array(mask))
    return store
