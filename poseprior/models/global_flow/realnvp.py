"""The published global flow: ActNorm, affine couplings on alternating components, fixed permutations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..shared.select import select

_LAYOUT_SEED = 21
_BLOCKS, _HIDDEN = 7, 128


class ActNorm(nn.Module):
    """u -> u exp(log_scale) + shift, set by data to zero mean and unit variance (Kingma and Dhariwal 2018)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, u: Tensor) -> Tensor:
        return torch.addcmul(self.shift, u, self.log_scale.exp())

    def inverse(self, u: Tensor) -> Tensor:
        return (u - self.shift) * torch.exp(-self.log_scale)

    @torch.no_grad()
    def fit(self, u: Tensor) -> None:
        self.log_scale.copy_(-u.std(0).clamp_min(1e-3).log())
        self.shift.copy_(-u.mean(0) * self.log_scale.exp())


class _Block(nn.Module):
    """ActNorm, affine coupling, ActNorm, permutation. Even blocks keep the even components, odd blocks the odd ones."""

    kept: Tensor
    moved: Tensor
    permutation: Tensor

    def __init__(self, dim: int, context: int, *, even: bool, generator: torch.Generator) -> None:
        super().__init__()
        index = torch.arange(dim)
        self.register_buffer("kept", index[index % 2 == (0 if even else 1)], persistent=False)
        self.register_buffer("moved", index[index % 2 == (1 if even else 0)], persistent=False)
        self.register_buffer("permutation", torch.randperm(dim, generator=generator))
        self.first, self.second = ActNorm(dim), ActNorm(dim)
        last = nn.Linear(_HIDDEN, 2 * len(self.moved))
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(len(self.kept) + context, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(), last
        )

    def _couple(self, u: Tensor, context: Tensor, *, back: bool) -> tuple[Tensor, Tensor]:
        kept, moved = select(u, self.kept), select(u, self.moved)
        shift, raw = self.network(torch.cat([kept, context], 1) if context.shape[1] else kept).chunk(2, -1)
        log_scale = torch.tanh(raw)
        moved = (moved - shift) * torch.exp(-log_scale) if back else torch.addcmul(shift, moved, log_scale.exp())
        return u.index_copy(1, self.moved, moved), log_scale.sum(-1)

    def forward(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        u, log_det = self._couple(self.first(u), context, back=False)
        log_det = log_det + (self.first.log_scale + self.second.log_scale).sum()
        return select(self.second(u), self.permutation), log_det

    def inverse(self, u: Tensor, context: Tensor) -> Tensor:
        u = torch.empty_like(u).index_copy(1, self.permutation, u)
        return self.first.inverse(self._couple(self.second.inverse(u), context, back=True)[0])

    @torch.no_grad()
    def fit_start(self, u: Tensor, context: Tensor) -> Tensor:
        self.first.fit(u)
        self.second.fit(self._couple(self.first(u), context, back=False)[0])
        return self(u, context)[0]


class GlobalRealNVP(nn.Module):
    """Seven blocks from the pose vector to N(0, I); 343,950 parameters at 165 dimensions.

    Args:
        dim: length of the pose vector.
        context: length of the conditioning vector.
    """

    def __init__(self, dim: int, context: int) -> None:
        super().__init__()
        self.context = context
        generator = torch.Generator().manual_seed(_LAYOUT_SEED)
        self.blocks = nn.ModuleList(_Block(dim, context, even=k % 2 == 0, generator=generator) for k in range(_BLOCKS))

    def forward(self, w: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) latents and log-determinants (B, 1); the published flow has one block of joints."""
        total = w.new_zeros(w.shape[0])
        for block in self.blocks:
            w, log_det = block(w, context)
            total = total + log_det
        return w, total[:, None]

    def inverse(self, latent: Tensor, context: Tensor) -> Tensor:
        for block in reversed(self.blocks):
            assert isinstance(block, _Block)
            latent = block.inverse(latent, context)
        return latent

    def fit_start(self, w: Tensor, there: Tensor) -> None:
        """Data-dependent ActNorm, layer by layer, from rows (N, D) and the mask of whole poses (N, 1)."""
        w = w[there[:, 0]]
        if len(w) < 2:
            return
        context = w.new_zeros(len(w), self.context)
        for block in self.blocks:
            assert isinstance(block, _Block)
            w = block.fit_start(w, context)
