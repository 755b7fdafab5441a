"""What the variational autoencoders are made of: residual networks, the flow prior on z, fixed points, random masks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shared.dropout import Dropout

#: Distinct random masks in a training batch.
_MASKS = 8


class ResidualMLP(nn.Module):
    """Linear, `depth` pre-normalised residual blocks, linear; the last layer starts near zero.

    Args:
        inputs: length of the input.
        outputs: length of the output.
        hidden: width.
        depth: residual blocks.
        dropout: in every block.
    """

    def __init__(self, inputs: int, outputs: int, *, hidden: int, depth: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.SiLU(), Dropout(dropout), nn.Linear(hidden, hidden))
            for _ in range(depth)
        )
        self.last = nn.Linear(hidden, outputs)
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(F.silu(x))


class LatentFlow(nn.Module):
    """Affine coupling layers between fixed random rotations, z -> u ~ N(0, I) (Dinh et al. 2017).

    Starts as the identity up to rotations, so the prior on z starts as N(0, I).

    Args:
        dim: length of z, at least 2.
        layers: coupling layers; every pair shares a rotation.
        hidden: width of their networks.
    """

    rotation: Tensor

    #: Bound of a layer's log-scales: scales stay within a factor of 4.5.
    _BOUND = 1.5

    def __init__(self, dim: int, *, layers: int, hidden: int) -> None:
        super().__init__()
        self._half = dim // 2
        sizes = [(self._half, dim - self._half), (dim - self._half, self._half)]
        self.nets = nn.ModuleList(
            ResidualMLP(sizes[k % 2][0], 2 * sizes[k % 2][1], hidden=hidden, depth=1) for k in range(layers)
        )
        turns = torch.linalg.qr(torch.randn((layers + 1) // 2, dim, dim)).Q
        self.register_buffer("rotation", turns)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """u (..., dim) and log|du/dz| (...)."""
        log_det = torch.zeros_like(z[..., 0])
        for k, net in enumerate(self.nets):
            if k % 2 == 0:
                z = z @ self.rotation[k // 2]
            first, second = z.tensor_split((self._half,), -1)
            kept, moved = (first, second) if k % 2 == 0 else (second, first)
            log_scale, shift = self._affine(net, kept)
            moved = moved * log_scale.exp() + shift
            log_det = log_det + log_scale.sum(-1)
            z = torch.cat([kept, moved] if k % 2 == 0 else [moved, kept], dim=-1)
        return z, log_det

    def inverse(self, u: Tensor) -> Tensor:
        """z (..., dim) of u (..., dim)."""
        for k, net in reversed(list(enumerate(self.nets))):
            first, second = u.tensor_split((self._half,), -1)
            kept, moved = (first, second) if k % 2 == 0 else (second, first)
            log_scale, shift = self._affine(net, kept)
            moved = (moved - shift) * (-log_scale).exp()
            u = torch.cat([kept, moved] if k % 2 == 0 else [moved, kept], dim=-1)
            if k % 2 == 0:
                u = u @ self.rotation[k // 2].T
        return u

    def _affine(self, net: nn.Module, kept: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = net(kept).chunk(2, dim=-1)
        return self._BOUND * torch.tanh(log_scale / self._BOUND), shift


def normal_points(num: int, dim: int) -> Tensor:
    """(num, dim) float64 points of N(0, I): a scrambled Sobol sequence of fixed seed, through the normal quantile.

    Each point is exactly normal over scrambles, so importance-weighted bounds keep their guarantee; together they cover
    the space more evenly than independent draws. The first points of a longer set are those of a shorter one.
    """
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=20240501)
    uniform = engine.draw(num, dtype=torch.float64).clamp(1e-9, 1.0 - 1e-9)
    return math.sqrt(2.0) * torch.erfinv(2.0 * uniform - 1.0)


def hide_some(observed: Tensor, fraction: float) -> Tensor:
    """Hide joints of about `fraction` of the rows of (B, J), with one of a few masks; no row loses all its joints."""
    if not fraction:
        return observed
    device = observed.device
    keep = torch.rand(_MASKS, observed.shape[1], device=device) < torch.rand(_MASKS, 1, device=device)
    chosen = keep[torch.randint(_MASKS, (len(observed),), device=device)] & observed
    use = (torch.rand(len(observed), device=device) < fraction) & chosen.any(1)
    return torch.where(use[:, None], chosen, observed)
