"""One small network for each joint, all evaluated together."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from .dropout import Dropout


class GroupedLinear(nn.Module):
    """G affine maps side by side, y_g = x_g W_g + b_g.

    Args:
        groups: G.
        inputs: length of x_g.
        outputs: length of y_g.
        gain: weights are drawn with variance gain^2 / inputs, biases are zero.
    """

    def __init__(self, groups: int, inputs: int, outputs: int, *, gain: float = math.sqrt(2.0)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, inputs, outputs) * (gain / math.sqrt(inputs)))
        self.bias = nn.Parameter(torch.zeros(groups, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(G, B, inputs) to (G, B, outputs)."""
        return torch.baddbmm(self.bias, x, self.weight)

    def one(self, group: int, x: Tensor) -> Tensor:
        """The map of one group: (B, inputs) to (B, outputs)."""
        return torch.addmm(self.bias[group], x, self.weight[group])


class GroupedMLP(nn.Module):
    """G multi-layer perceptrons side by side, with SiLU and dropout.

    Args:
        groups: G.
        inputs: length of each network's input.
        outputs: length of each network's output.
        hidden: width.
        layers: hidden layers, at least 1.
        dropout: probability of dropping a hidden unit in training.
    """

    def __init__(
        self, groups: int, inputs: int, outputs: int, *, hidden: int, layers: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        sizes = [inputs] + [hidden] * layers
        self.hidden = nn.ModuleList(GroupedLinear(groups, a, b) for a, b in pairwise(sizes))
        # Small last weights: a fresh network hardly moves the Gaussian it starts from.
        self.out = GroupedLinear(groups, hidden, outputs, gain=0.05)
        self.dropout = Dropout(dropout)

    def tensors(self) -> list[Tensor]:
        """All parameters, without walking the module tree."""
        return [tensor for layer in self.layers() for tensor in (layer.weight, layer.bias)]

    def layers(self) -> list[GroupedLinear]:
        """Hidden layers and the last one."""
        return [layer for layer in (*self.hidden, self.out) if isinstance(layer, GroupedLinear)]

    def forward(self, x: Tensor) -> Tensor:
        """(G, B, inputs) to (G, B, outputs)."""
        for layer in self.hidden:
            x = self.dropout(nn.functional.silu(layer(x)))
        result: Tensor = self.out(x)
        return result

    def one(self, group: int, x: Tensor) -> Tensor:
        """The network of one group: (B, inputs) to (B, outputs)."""
        for layer in self.hidden:
            assert isinstance(layer, GroupedLinear)
            x = self.dropout(nn.functional.silu(layer.one(group, x)))
        return self.out.one(group, x)
