"""Triangular systems in three dimensions, component by component: at this size faster than batched linear algebra."""

from __future__ import annotations

import torch
from torch import Tensor

Triple = tuple[Tensor, Tensor, Tensor]


def unit_lower_product(entries: Triple, x: Triple) -> Triple:
    """y = L x for L = [[1, 0, 0], [a, 1, 0], [b, c, 1]].

    Args:
        entries: (a, b, c), of shapes that broadcast with the components of x.
        x: the three components.
    """
    a, b, c = entries
    first, second, third = x
    return first, torch.addcmul(second, a, first), torch.addcmul(torch.addcmul(third, b, first), c, second)


def unit_lower_solve(entries: Triple, y: Triple) -> Triple:
    """Inverse of `unit_lower_product` by forward substitution: x with L x = y."""
    a, b, c = entries
    first = y[0]
    second = torch.addcmul(y[1], a, first, value=-1.0)
    third = torch.addcmul(torch.addcmul(y[2], b, first, value=-1.0), c, second, value=-1.0)
    return first, second, third


def lower_solve(lower: Tensor, y: Tensor) -> Tensor:
    """x (..., 3) with L x = y, for lower-triangular L (..., 3, 3) and y (..., 3)."""
    first = y[..., 0] / lower[..., 0, 0]
    second = (y[..., 1] - lower[..., 1, 0] * first) / lower[..., 1, 1]
    third = (y[..., 2] - lower[..., 2, 0] * first - lower[..., 2, 1] * second) / lower[..., 2, 2]
    return torch.stack((first, second, third), -1)
