"""Rows grouped by what they observe: rows with equal masks are computed together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def rows_by_mask(observed: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows (R,) that have each distinct mask, and the mask (...), of masks (B, ...) bool."""
    if len(observed) and bool((observed == observed[:1]).all()):
        yield torch.arange(len(observed), device=observed.device), observed[0]
    elif len(observed):
        masks, index = torch.unique(observed.flatten(1), dim=0, return_inverse=True)
        for k, mask in enumerate(masks):
            yield (index == k).nonzero()[:, 0], mask.view(observed.shape[1:])


def unobserved_poses(num: int, joints: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros (num, joints, 3) and a mask (num, joints) that is False everywhere: their completions are draws of whole poses.

    The type and device are those of `like`.
    """
    return like.new_zeros(num, joints, 3), torch.zeros(num, joints, dtype=torch.bool, device=like.device)
