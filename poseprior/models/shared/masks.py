"""Rows grouped by what they observe: rows with equal masks are computed together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def rows_by_mask(observed: Tensor) -> Iterator[tuple[Tensor | None, Tensor]]:
    """The distinct masks, each with its rows.

    Args:
        observed: (B, ...) bool.

    Yields:
        The rows (R,) that have a mask, None where all rows have the same, and the mask (...).
    """
    if not len(observed):
        return
    if len(observed) == 1 or bool((observed == observed[:1]).all()):
        yield None, observed[0]
        return
    masks, index = torch.unique(observed.flatten(1), dim=0, return_inverse=True)
    for k, mask in enumerate(masks):
        yield (index == k).nonzero()[:, 0], mask.view(observed.shape[1:])
