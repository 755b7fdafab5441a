"""Dropout whose random numbers cost less than torch's on a processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..._tracing import is_traced


class Dropout(nn.Dropout):
    """As `torch.nn.Dropout`, with 16 random bits for each unit: probabilities are rounded to multiples of 2^-16.

    torch draws a number of full precision for each unit, which takes a sixth of a training step on processors for which
    it has no vectorised generator.
    """

    def forward(self, input: Tensor) -> Tensor:
        drops = self.training and self.p > 0.0
        if not drops or self.p == 1.0 or input.device.type != "cpu" or is_traced():
            return super().forward(input)
        count = input.numel()
        words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[:count].view(input.shape)
        kept = (bits >= round(self.p * 2**16) - 2**15).to(input.dtype)
        return input * kept.mul_(1.0 / (1.0 - self.p))
