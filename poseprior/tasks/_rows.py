"""Flat rows of poses."""

from __future__ import annotations

import torch
from torch import Tensor

from ..prior import PosePrior
from ..skeleton import NUM_JOINTS


def flatten(prior: PosePrior, pose: Tensor, observed: Tensor | None) -> tuple[torch.Size, Tensor, Tensor]:
    """Batch shape, (B, 55, 3) poses in the prior's dtype, and (B, 55) bool of observed modelled joints."""
    batch = pose.shape[:-2]
    seen = torch.zeros(NUM_JOINTS, dtype=torch.bool, device=prior.device)
    seen[list(prior.joints)] = True
    if observed is not None:
        seen = seen & observed.to(prior.device)
    flat = pose.detach().to(dtype=prior.dtype, device=prior.device).reshape(-1, NUM_JOINTS, 3)
    return batch, flat, seen.expand(*batch, NUM_JOINTS).reshape(-1, NUM_JOINTS)
