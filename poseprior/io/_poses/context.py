"""The context of the poses of a file: an array that a conditional prior is to be given beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._files.array_file import ArrayFile


def file_context(file: ArrayFile, key: str) -> NDArray[np.float32]:
    """The array under a key: (N, C) for N poses, or (C,) or (1, C) that stands for all of them.

    Raises:
        ValueError: no such array, or one that holds no floating-point numbers.
    """
    if key not in file:
        raise ValueError(f"context: expected an array {key!r}, got none of that name.")
    array = file[key]
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"context: expected floating-point numbers under {key!r}, got {array.dtype}; save class labels as one number "
            "for each class (one-hot), numpy.eye(num_classes, dtype='float32')[label]."
        )
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"context: expected (N, C) or (C,) under {key!r}, got {array.shape}.")
    return array.astype(np.float32)


def every_row(context: NDArray[np.float32], key: str, n: int) -> NDArray[np.float32]:
    """(n, C), of an array as `file_context` gives it.

    Raises:
        ValueError: another number of rows, or one axis of n numbers, which may be n contexts or one.
    """
    if context.ndim == 1 and len(context) == n and n > 1:
        raise ValueError(
            f"context: {key!r} has {n} numbers and there are {n} poses, so they may be one number for each pose or one "
            f"context for all; save it as ({n}, 1) or as (1, {n})."
        )
    rows = np.atleast_2d(context)
    if len(rows) not in (1, n):
        raise ValueError(f"context: expected ({n}, C) or (1, C) under {key!r} for {n} poses, got {context.shape}.")
    return np.broadcast_to(rows, (n, rows.shape[1]))
