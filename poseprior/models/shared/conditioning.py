"""The conditioning vector of conditional priors: how networks see it, and how training withholds it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import check_effect, check_share

#: Default probability that training withholds the conditioning vector.
_CONTEXT_DROPOUT = 0.2


def settled_context_dropout(value: float | None, context_dim: int) -> float | None:
    """The option `context_dropout` of a conditional prior; None for an unconditional one.

    Raises:
        ValueError: not a probability below 1, or given without `context_dim`.
    """
    if context_dim:
        return _CONTEXT_DROPOUT if value is None else check_share("context_dropout", value)
    check_effect("context_dropout", value, None, "context_dim=0", "context_dim above 0", zero_is_off=True)
    return None


def flagged_context(context: Tensor | None, rows: int, context_dim: int, dropout: float | None, like: Tensor) -> Tensor:
    """(rows, context_dim + 1): conditioning vectors and a flag that says whether they are there; (rows, 0) without any.

    Args:
        context: (rows, context_dim), or None, which gives zeros.
        rows: number of poses.
        context_dim: length of a conditioning vector; 0 for unconditional priors.
        dropout: probability that a vector is withheld (zeros, and so is its flag); None never withholds.
        like: gives dtype and device.
    """
    if not context_dim:
        return like.new_zeros(rows, 0)
    if context is None:
        return like.new_zeros(rows, context_dim + 1)
    there = torch.ones(rows, 1, dtype=context.dtype, device=context.device)
    if dropout:
        there = (torch.rand_like(there) >= dropout).to(context.dtype)
    return torch.cat([context * there, there], 1)
