"""Densities of many poses, computed in chunks, so that memory does not grow with the number of poses."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._tracing import is_traced
from .skeleton import NUM_JOINTS

# The C library of Linux gives freed memory back to the system, and then gets it again page by page, until a block about as
# large as this one has been freed. For a density's intermediate values that can take as long as all of its arithmetic.
torch.empty(31 << 20, dtype=torch.uint8, device="cpu")

#: Poses that a density works on at once: below 0.5 GB of memory with every shipped prior (benchmarks/speed/memory.py).
ROWS = 1024
#: The same on a GPU, where many small operations take longer than few large ones.
_ROWS_ON_GPU = 32768


def in_chunks(log_prob: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`PosePrior.log_prob`, computed on at most `ROWS` poses at a time, on a GPU 32,768.

    Traced code calls it as it is: the number of poses may not be known there.
    """

    @functools.wraps(log_prob)
    def chunked(prior: Any, pose: Tensor, *, observed: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        if (
            is_traced()
            or torch.jit.is_tracing()
            or not isinstance(pose, Tensor)
            or pose.is_nested
            or pose.shape[-2:] != (NUM_JOINTS, 3)
            or math.prod(pose.shape[:-2]) <= ROWS
        ):
            return log_prob(prior, pose, observed=observed, context=context)
        batch, rows = pose.shape[:-2], ROWS if prior.device.type == "cpu" else _ROWS_ON_GPU
        try:
            masks = _rows(observed, batch, NUM_JOINTS, rows)
            contexts = _rows(context, batch, prior.context_dim, rows)
        except (RuntimeError, AttributeError):  # not tensors, or of another shape: `log_prob` itself says what is wrong
            return log_prob(prior, pose, observed=observed, context=context)
        values, start = [], 0
        for k, part in enumerate(pose.reshape(-1, NUM_JOINTS, 3).split(rows)):
            try:
                values.append(log_prob(prior, part, observed=masks(k), context=contexts(k)))
            except ValueError as error:
                raise ValueError(f"{error} (Poses are counted from pose {start}.)" if start else str(error)) from None
            start += len(part)
        return torch.cat(values).reshape(batch)

    return chunked


def _rows(value: Tensor | None, batch: torch.Size, width: int, rows: int) -> Callable[[int], Tensor | None]:
    """The part of a mask or a context (*batch, width), or broadcastable to it, that goes with a chunk of `rows` poses."""
    if value is None or value.dim() == 1:
        return lambda k: value
    parts = value.expand(*batch, width).reshape(-1, width).split(rows)
    return lambda k: parts[k]
