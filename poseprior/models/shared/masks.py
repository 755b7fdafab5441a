"""Rows grouped by what they observe: rows with equal masks are computed together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def distinct_masks(observed: Tensor) -> tuple[Tensor, Tensor | None]:
    """The P distinct masks (P, ...) among masks (B, ...) bool, and which of them each row has, (B,).

    The index is None where all rows have the same mask: P is 1.
    """
    if len(observed) and bool((observed == observed[:1]).all()):
        return observed[:1], None
    masks, index = torch.unique(observed.flatten(1), dim=0, return_inverse=True)
    return masks.unflatten(1, observed.shape[1:]), index


def rows_by_mask(observed: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows (R,) that have each distinct mask, and the mask (...), of masks (B, ...) bool."""
    masks, index = distinct_masks(observed)
    if index is None:
        yield torch.arange(len(observed), device=observed.device), masks[0]
    else:
        for k, mask in enumerate(masks):
            yield (index == k).nonzero()[:, 0], mask


def unobserved_poses(num: int, joints: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros (num, joints, 3) and a mask (num, joints) that is False everywhere: their completions are draws of whole poses.

    The type and device are those of `like`.
    """
    return like.new_zeros(num, joints, 3), torch.zeros(num, joints, dtype=torch.bool, device=like.device)
