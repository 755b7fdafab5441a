"""A data set as a folder of plain `.npy` files: poses, masks and context are mapped, the columns are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._text import shown
from ..skeleton import NUM_JOINTS
from ._dataset.growing_array import GrowingArray
from ._dataset.storage import PoseStore
from .atomic import new_folder

_CHUNK = 16384
#: What stays on disk of a folder that `write_folder` wrote.
_MAPPED = ("poses", "observed", "imputed", "context")


def write_folder(folder: Path, store: PoseStore, columns: dict[str, Any]) -> Path:
    """Write `poses.npy`, `observed.npy`, maybe `imputed.npy` and `context.npy`, and the columns, beside `folder`, then rename."""
    with new_folder(folder) as beside:
        poses = GrowingArray(beside / "poses.npy", np.float32, (NUM_JOINTS, 3))
        observed = GrowingArray(beside / "observed.npy", np.bool_, (NUM_JOINTS,))
        for start in range(0, len(store), _CHUNK):
            pose, mask = store.take(np.arange(start, min(start + _CHUNK, len(store))))
            poses.append(pose)
            observed.append(mask)
        poses.close()
        observed.close()
        for name, value in (("imputed", store.imputed()), ("context", store.context())):
            if value is not None:
                columns = {**columns, name: value}
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
                    f"folder: expected {name}.npy as PoseDataset.to_memmap writes it in {shown(folder)}, got a damaged one "
                    f"({type(error).__name__}); write the folder again."
                ) from None
    poses, observed, imputed, context = (arrays.pop(name, None) for name in _MAPPED)
    if poses is None or observed is None or poses.shape != (*observed.shape, 3) or poses.shape[1:] != (NUM_JOINTS, 3):
        raise ValueError(
            f"folder: expected poses.npy (N, {NUM_JOINTS}, 3) and observed.npy (N, {NUM_JOINTS}) in {shown(folder)}, got "
            f"{None if poses is None else poses.shape} and {None if observed is None else observed.shape}; "
            "write the folder with PoseDataset.to_memmap."
        )
    if imputed is not None and imputed.shape != observed.shape:
        raise ValueError(
            f"folder: expected imputed.npy {observed.shape} in {shown(folder)}, got {imputed.shape}; write the folder with "
            "PoseDataset.to_memmap."
        )
    if context is not None and (context.ndim != 2 or len(context) != len(poses)):
        raise ValueError(
            f"folder: expected context.npy ({len(poses)}, C) in {shown(folder)}, got {context.shape}; write the folder with "
            "PoseDataset.to_memmap."
        )
    return PoseStore.trusted(poses, observed, imputed, context), arrays
