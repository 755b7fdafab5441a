"""What the variational autoencoders are made of: residual networks, the flow prior on z, fixed points, random masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._tracing import is_traced
from ..._value_and_gradient import ValueAndBackward
from ..shared.cache import is_frozen
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
        self._norms_and_linears: list[tuple[Any, Any]] = [
            (block[0], block[3]) for block in self.blocks if isinstance(block, nn.Sequential)
        ]
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(F.silu(x))

    def value_and_backward(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`forward` without dropout, and its backward function to x.

        Together they take two thirds of autograd's time for one pose, most of which is overhead.
        """
        aten = torch.ops.aten
        saved = []
        x = self.first(x)
        for norm, linear in self._norms_and_linears:
            normed, mean, rstd = torch.native_layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
            saved.append((norm, linear, x, mean, rstd, normed))
            x = x + linear(F.silu(normed))

        def backward(grad: Tensor) -> Tensor:
            grad = aten.silu_backward(grad @ self.last.weight, x)
            for norm, linear, before, mean, rstd, normed in reversed(saved):
                inner = aten.silu_backward(grad @ linear.weight, normed)
                wanted = (True, False, False)
                inner, _, _ = aten.native_layer_norm_backward(
                    inner, before, norm.normalized_shape, mean, rstd, norm.weight, norm.bias, wanted
                )
                grad = grad + inner
            return grad @ self.first.weight

        return self.last(F.silu(x)), backward


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
        self._layers = tuple(m for m in self.nets.modules() if isinstance(m, (nn.Linear, nn.LayerNorm)))
        turns = torch.linalg.qr(torch.randn((layers + 1) // 2, dim, dim)).Q
        self.register_buffer("rotation", turns)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """u (..., dim) and log|du/dz| (...)."""
        log_det = torch.zeros_like(z[..., 0])
        for k, net in enumerate(self.nets):
            if k % 2 == 0:
                z = z @ self.rotation[k // 2]
            kept, moved = self._parts(k, z)
            log_scale, shift = net(kept).chunk(2, dim=-1)
            log_scale = self._BOUND * torch.tanh(log_scale / self._BOUND)
            moved = moved * log_scale.exp() + shift
            log_det = log_det + log_scale.sum(-1)
            z = self._whole(k, kept, moved)
        return z, log_det

    def inverse(self, u: Tensor) -> Tensor:
        """z (..., dim) of u (..., dim)."""
        if is_traced() or not is_frozen(self, self._weights()):
            return self._inverse(u)[0]
        z: Tensor = ValueAndBackward.apply(self._inverse, u)
        return z

    def _inverse(self, u: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
        """`inverse`, and its backward function."""
        saved = []
        for k, net in reversed(list(enumerate(self.nets))):
            kept, moved = self._parts(k, u)
            assert isinstance(net, ResidualMLP)
            out, net_backward = net.value_and_backward(kept)
            log_scale, shift = out.chunk(2, dim=-1)
            bounded = torch.tanh(log_scale / -self._BOUND)
            scale = torch.exp(self._BOUND * bounded)
            moved = (moved - shift) * scale
            saved.append((k, net_backward, bounded, scale, moved))
            u = self._whole(k, kept, moved)
            if k % 2 == 0:
                u = u @ self.rotation[k // 2].T

        def backward(grad: Tensor) -> tuple[Tensor]:
            for k, net_backward, bounded, scale, moved in reversed(saved):
                if k % 2 == 0:
                    grad = grad @ self.rotation[k // 2]
                to_kept, to_moved = self._parts(k, grad)
                to_scale = torch.ops.aten.tanh_backward(to_moved * moved, bounded).neg()
                to_moved = to_moved * scale
                to_kept = to_kept + net_backward(torch.cat([to_scale, -to_moved], dim=-1))
                grad = self._whole(k, to_kept, to_moved)
            return (grad,)

        return u, backward

    def _weights(self) -> Iterator[Tensor]:
        """All parameters, without walking the module tree."""
        return (tensor for layer in self._layers for tensor in (layer.weight, layer.bias))

    def _parts(self, k: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """What layer k keeps of (..., dim), and what it moves."""
        first, second = z.tensor_split((self._half,), -1)
        return (first, second) if k % 2 == 0 else (second, first)

    @staticmethod
    def _whole(k: int, kept: Tensor, moved: Tensor) -> Tensor:
        """The inverse of `_parts`."""
        return torch.cat([kept, moved] if k % 2 == 0 else [moved, kept], dim=-1)


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
