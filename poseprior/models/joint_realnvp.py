"""The published joint flow: per joint two conditional affine couplings (RealNVP) given the parent's rotation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .grouped_mlp import GroupedLinear
from .joint_conditionals import JointConditionals, grouped_affine

_KEPT_FIRST, _MOVED_FIRST = (0, 2), (1,)


class _GroupedCoupling(nn.Module):
    """Moves some components by shift and log-scale that an MLP [kept + parent] -> 64 -> 64 (ReLU, tanh log-scale) gives."""

    def __init__(self, groups: int, kept: tuple[int, ...], moved: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.kept, self.moved = list(kept), list(moved)
        sizes = (len(kept) + 3, hidden, hidden, 2 * len(moved))
        self.layers = nn.ModuleList(
            GroupedLinear(groups, a, b, gain=g) for a, b, g in zip(sizes, sizes[1:], (2**0.5, 2**0.5, 0.05), strict=False)
        )

    def shift_and_log_scale(self, x: Tensor, context: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
        h = torch.cat([x[..., self.kept], context], -1)
        for k, layer in enumerate(self.layers):
            h = grouped_affine(layer, h, places)
            if k < 2:
                h = torch.relu(h)
        shift, raw = h.chunk(2, -1)
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
        self.register_buffer("parents", torch.tensor(parents), persistent=False)
        self.first = _GroupedCoupling(len(parents), _KEPT_FIRST, _MOVED_FIRST, hidden)
        self.second = _GroupedCoupling(len(parents), _MOVED_FIRST, _KEPT_FIRST, hidden)

    def _select(self, places: Tensor) -> Tensor | None:
        return None if len(places) == len(self.parents) else places

    def context(self, w: Tensor, known: Tensor, places: Tensor) -> Tensor:
        # Position -1 picks the zeros appended at the end.
        masked = torch.cat([w * known[..., None], w.new_zeros(len(w), 1, 3)], 1)
        return masked[:, self.parents[places]].transpose(0, 1)

    def _forward(self, own: Tensor, context: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        select = self._select(places)
        shift, log_scale = self.first.shift_and_log_scale(own, context, select)
        x0, x1, x2 = own.unbind(-1)
        x1 = x1 * log_scale[..., 0].exp() + shift[..., 0]
        shift2, log_scale2 = self.second.shift_and_log_scale(torch.stack([x0, x1, x2], -1), context, select)
        outer = torch.stack([x0, x2], -1) * log_scale2.exp() + shift2
        latent = torch.stack([outer[..., 0], x1, outer[..., 1]], -1)
        return latent, log_scale[..., 0] + log_scale2.sum(-1)

    def log_prob(self, own: Tensor, context: Tensor, places: Tensor) -> Tensor:
        latent, log_det = self._forward(own, context, places)
        return log_det - 0.5 * latent.square().sum(-1) - 1.5 * math.log(2.0 * math.pi)

    def encode(self, own: Tensor, context: Tensor, places: Tensor) -> Tensor:
        return self._forward(own, context, places)[0]

    def decode(self, latent: Tensor, context: Tensor, places: Tensor) -> Tensor:
        select = self._select(places)
        shift2, log_scale2 = self.second.shift_and_log_scale(latent, context, select)
        z0, z1, z2 = latent.unbind(-1)
        outer = (torch.stack([z0, z2], -1) - shift2) * torch.exp(-log_scale2)
        halfway = torch.stack([outer[..., 0], z1, outer[..., 1]], -1)
        shift, log_scale = self.first.shift_and_log_scale(halfway, context, select)
        x1 = (z1 - shift[..., 0]) * torch.exp(-log_scale[..., 0])
        return torch.stack([outer[..., 0], x1, outer[..., 1]], -1)

    def draw(self, context: Tensor, places: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(
            *context.shape[:2], 3, generator=generator, dtype=context.dtype, device=context.device
        )  # fmt: skip
        return self.decode(noise, context, places)
