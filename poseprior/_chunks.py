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

#: Poses that a density works on at once: below 0.5 GB of memory with every shipped prior (benchmarks/speed/memory.py).
ROWS = 4096


def in_chunks(log_prob: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`PosePrior.log_prob`, computed on at most `ROWS` poses at a time.

    Traced code calls it as it is: the number of poses may not be known there.
    """

    @functools.wraps(log_prob)
    def chunked(prior: Any, pose: Tensor, *, observed: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        if (
            is_traced()
            or torch.jit.is_tracing()
            or not isinstance(pose, Tensor)
            or pose.shape[-2:] != (NUM_JOINTS, 3)
            or math.prod(pose.shape[:-2]) <= ROWS
        ):
            return log_prob(prior, pose, observed=observed, context=context)
        batch = pose.shape[:-2]
        try:
            masks = _rows(observed, batch, NUM_JOINTS)
            contexts = _rows(context, batch, prior.context_dim)
        except (RuntimeError, AttributeError):  # not tensors, or of another shape: `log_prob` itself says what is wrong
            return log_prob(prior, pose, observed=observed, context=context)
        values, start = [], 0
        for k, part in enumerate(pose.reshape(-1, NUM_JOINTS, 3).split(ROWS)):
            try:
                values.append(log_prob(prior, part, observed=masks(k), context=contexts(k)))
            except ValueError as error:
                raise ValueError(f"{error} (Poses are counted from pose {start}.)" if start else str(error)) from None
            start += len(part)
        return torch.cat(values).reshape(batch)

    return chunked


def _rows(value: Tensor | None, batch: torch.Size, width: int) -> Callable[[int], Tensor | None]:
    """The part of a mask or a context (*batch, width), or broadcastable to it, that goes with a chunk of poses."""
    if value is None or value.dim() == 1:
        return lambda k: value
    parts = value.expand(*batch, width).reshape(-1, width).split(ROWS)
    return lambda k: parts[k]
