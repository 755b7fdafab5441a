"""The published joint flow: per joint two conditional affine couplings (RealNVP) given the parent's rotation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..shared.grouped_mlp import GroupedLinear
from ..shared.select import select
from .conditionals import JointConditionals, grouped_affine


class _GroupedCoupling(nn.Module):
    """Shift and log-scale of some components from an MLP [kept + 3 parent values] -> hidden -> hidden, ReLU, tanh."""

    def __init__(self, groups: int, kept: int, moved: int, hidden: int) -> None:
        super().__init__()
        sizes, gains = (kept + 3, hidden, hidden, 2 * moved), (2**0.5, 2**0.5, 0.05)
        self.layers = nn.ModuleList(
            GroupedLinear(groups, a, b, gain=g) for a, b, g in zip(sizes, sizes[1:], gains, strict=False)
        )

    def forward(self, kept: Tensor, inputs: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shift and log-scale, (P, B, moved) each."""
        x = torch.cat([kept, inputs], -1)
        layers = [layer for layer in self.layers if isinstance(layer, GroupedLinear)]
        if places is None and x.shape[1] > 1:
            # Units before poses: the thin products at both ends run along the poses.
            x = x.mT
            for k, layer in enumerate(layers):
                x = torch.baddbmm(layer.bias.mT, layer.weight.mT, torch.relu_(x) if k else x)
            shift, raw = x.mT.chunk(2, -1)
        else:
            for k, layer in enumerate(layers):
                x = grouped_affine(layer, torch.relu_(x) if k else x, places)
            shift, raw = x.chunk(2, -1)
        return shift, torch.tanh(raw)


class JointRealNVP(JointConditionals):
    """z = coupling_2(coupling_1(r)): the first keeps components 0 and 2 and moves 1, the second keeps 1 and moves 0, 2.

    Each moves by u -> u exp(log_scale) + shift. An absent or unobserved parent is a zero rotvec. Source: Dinh et al.,
    "Density estimation using Real NVP" (ICLR 2017), one flow for each joint.

    Args:
        parents: position of each joint's parent, or -1.
        hidden: width of the networks.
    """

    parents: Tensor

    def __init__(self, parents: list[int], *, hidden: int = 64) -> None:
        super().__init__()
        # One position past the last joint stands for "no parent".
        slots = [len(parents) if parent < 0 else parent for parent in parents]
        self.register_buffer("parents", torch.tensor(slots), persistent=False)
        self.first = _GroupedCoupling(len(parents), 2, 1, hidden)
        self.second = _GroupedCoupling(len(parents), 1, 2, hidden)

    def inputs(self, w: Tensor, known: Tensor | None, places: Tensor | None) -> Tensor:
        padded = torch.cat([w, w.new_zeros(w.shape[0], 1, 3)], 1)
        parents = self.parents if places is None else self.parents[places]
        return select(padded, parents).transpose(0, 1)

    def _forward(self, own: Tensor, inputs: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
        outer, middle = own[..., ::2], own[..., 1:2]
        shift, log_scale = self.first(outer, inputs, places)
        middle = middle * log_scale.exp() + shift
        outer_shift, outer_log_scale = self.second(middle, inputs, places)
        outer = outer * outer_log_scale.exp() + outer_shift
        latent = torch.cat([outer, middle], -1)  # order 0, 2, 1
        return latent, torch.cat([log_scale, outer_log_scale], -1).sum(-1)

    def log_prob(self, own: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        latent, log_det = self._forward(own, inputs, places)
        return log_det - 0.5 * latent.square().sum(-1) - 1.5 * math.log(2.0 * math.pi)

    def encode(self, own: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        return self._forward(own, inputs, places)[0][..., [0, 2, 1]]

    def decode(self, latent: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        outer, middle = latent[..., ::2], latent[..., 1:2]
        shift, log_scale = self.second(middle, inputs, places)
        outer = (outer - shift) * torch.exp(-log_scale)
        shift, log_scale = self.first(outer, inputs, places)
        middle = (middle - shift) * torch.exp(-log_scale)
        return torch.cat([outer[..., :1], middle, outer[..., 1:]], -1)

    def draw(self, inputs: Tensor, places: Tensor | None, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(
            *inputs.shape[:2], 3, generator=generator, dtype=inputs.dtype, device=inputs.device
        )  # fmt: skip
        return self.decode(noise, inputs, places)

    def draw_of_noise(self, inputs: Tensor, places: Tensor | None, normal: Tensor, uniform: Tensor) -> Tensor:
        return self.decode(normal, inputs, places)
