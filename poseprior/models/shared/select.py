"""`select`: some joints of a batch of poses."""

from __future__ import annotations

from torch import Tensor

from ..._tracing import is_traced


def select(x: Tensor, index: Tensor) -> Tensor:
    """x[:, index]: (B, K, ...) of (B, J, ...) and whole numbers (K,).

    `index_select` is faster in plain code. In traced code torch 2.11 and earlier cannot derive it where the number of poses
    is not known.
    """
    return x[:, index] if is_traced() else x.index_select(1, index)
