"""The default flow of `GlobalFlow`: exact whitening, radial tails, then couplings that learn the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..._tracing import is_traced
from ..fused import residual_flow as fused
from ..fused.density import Poses
from ..fused.networks import Affine, scaled_tanh
from ..shared.cache import WeightCache, is_frozen
from ..shared.dropout import Dropout
from .whitening import BlockWhitening, RadialTails

_LAYOUT_SEED = 20


class MixedCoupling(nn.Module):
    """u = Q v; the second half of u moves by (u + shift) exp(log_scale), both from a network of the first half.

    Q is a fixed random orthogonal matrix. The network starts at zero, so the coupling starts as a rotation.

    Args:
        mixing: Q transposed, (D, D).
        context: length of the conditioning vector.
        hidden, layers, dropout: of the network.
        max_log_scale: bound of the log-scales, max_log_scale tanh(.): the whitening before sets the scales, a coupling
            only modulates them, and the bound keeps the densities of far-away poses finite.
        input_noise: standard deviation of the noise on the network's input in training.
    """

    mixing: Tensor

    def __init__(
        self,
        mixing: Tensor,
        context: int,
        *,
        hidden: int,
        layers: int,
        dropout: float,
        max_log_scale: float,
        input_noise: float,
    ) -> None:
        super().__init__()
        self.kept = len(mixing) // 2
        self.max_log_scale, self.input_noise = max_log_scale, input_noise
        self.register_buffer("mixing", mixing)
        steps: list[nn.Module] = []
        width = self.kept + context
        for _ in range(layers):
            steps += [nn.Linear(width, hidden), nn.SiLU(), Dropout(dropout)]
            width = hidden
        last = nn.Linear(width, 2 * (len(mixing) - self.kept))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*steps, last)

    def _shift_and_log_scale(self, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and self.input_noise > 0:
            kept = kept + self.input_noise * torch.randn_like(kept)
        inputs = torch.cat([kept, context], 1) if context.shape[1] else kept
        shift, raw = self.network(inputs).chunk(2, -1)
        return shift, self.max_log_scale * torch.tanh(raw)

    def forward(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) coordinates and log-determinants (B,)."""
        # Two products are cheaper than one and two slices, whose gradients are padded copies.
        kept, moved = v @ self.mixing[:, : self.kept], v @ self.mixing[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(kept, context)
        return torch.cat([kept, (moved + shift) * log_scale.exp()], 1), log_scale.sum(-1)

    def linears(self) -> list[nn.Linear]:
        """Layers of the network, in order."""
        return [layer for layer in self.network if isinstance(layer, nn.Linear)]

    def tables(self) -> fused.CouplingTables:
        """The weights as `fused.residual_flow` takes them; for couplings without context."""
        first, *others = self.linears()
        kept, moved = self.mixing[:, : self.kept], self.mixing[:, self.kept :]
        return fused.CouplingTables(
            inward=Affine.of_rows(
                torch.cat([moved, kept, kept @ first.weight.mT], 1),
                nn.functional.pad(first.bias, (len(self.mixing), 0)),
            ),
            layers=tuple(Affine.of_rows(layer.weight.mT, layer.bias) for layer in others),
            bound=scaled_tanh(self.max_log_scale),
        )

    def inverse(self, u: Tensor, context: Tensor) -> Tensor:
        kept, moved = u[:, : self.kept], u[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(kept, context)
        return torch.cat([kept, moved * torch.exp(-log_scale) - shift], 1) @ self.mixing.T


class ResidualFlow(nn.Module):
    """Whitening, radial tails, couplings: (B, D) coordinates to N(0, I), and back, one pass each.

    A block that is given others (joints that the data sometimes misses) is Student-like around a linear map of those. A
    block that is not also has couplings.

    Args:
        dims: lengths of the blocks, in order.
        given: positions of the earlier blocks that each is conditioned on.
        context: length of the conditioning vector of the couplings.
        couplings, hidden, layers, dropout, max_log_scale, input_noise: see `MixedCoupling`.
    """

    def __init__(
        self,
        dims: Sequence[int],
        given: Sequence[Sequence[int]],
        context: int,
        *,
        couplings: int,
        hidden: int,
        layers: int,
        dropout: float,
        max_log_scale: float,
        input_noise: float,
    ) -> None:
        super().__init__()
        self.dims = list(dims)
        self.whitening = BlockWhitening(dims, given)
        self.tails = RadialTails(dims)
        self.cache = WeightCache(1)
        generator = torch.Generator().manual_seed(_LAYOUT_SEED)
        self.stacks = nn.ModuleList()
        for dim, earlier in zip(dims, given, strict=True):
            count = 0 if earlier else couplings
            mixings = [torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0] for _ in range(count)]
            self.stacks.append(
                nn.ModuleList(
                    MixedCoupling(
                        q, context, hidden=hidden, layers=layers, dropout=dropout, max_log_scale=max_log_scale,
                        input_noise=input_noise,
                    )
                    for q in mixings
                )
            )  # fmt: skip

    def forward(self, w: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) latents and the log-determinants of the blocks (B, K), of coordinates w and `context` (B, C)."""
        v, log_det = self.tails(self.whitening(w))
        log_det = log_det + self.whitening.log_diagonal @ self.tails.membership
        parts, steps = [], []
        for part, stack in zip(v.split(self.dims, 1), self.stacks, strict=True):
            step = log_det.new_zeros(v.shape[0])
            for coupling in stack:  # type: ignore[attr-defined]
                part, log_scale = coupling(part, context)
                step = step + log_scale
            parts.append(part)
            steps.append(step)
        return torch.cat(parts, 1), log_det + torch.stack(steps, 1)

    def fused_log_prob(self, poses: Poses, order: Tensor, counted: Tensor | None) -> Tensor | None:
        """The log-density of frozen weights, without context.

        Args:
            poses: (B, J, 3) in the chart.
            order: (J,) places of the joints, block by block.
            counted: (B, K) ones where a block counts; None where all do.

        Returns:
            (B,) Haar nats; None in training and where gradients to the weights are asked for.
        """
        tensors = self._tensors()
        if is_traced() or not is_frozen(self, tensors):
            return None
        tables = self.cache((*tensors, order), None, lambda: self._tables(order))
        return fused.log_prob(tables, poses, counted)

    def _couplings(self) -> list[list[MixedCoupling]]:
        return [[c for c in stack if isinstance(c, MixedCoupling)] for stack in self.stacks]  # type: ignore[attr-defined]

    def _tensors(self) -> list[Tensor]:
        """All parameters and what is not learned, without walking the module tree."""
        white, tails = self.whitening, self.tails
        tensors: list[Tensor] = [white.shift, white.lower, white.log_diagonal, tails.log_nu, tails.log_scale]
        for stack in self._couplings():
            for coupling in stack:
                tensors.append(coupling.mixing)
                tensors += [tensor for layer in coupling.linears() for tensor in (layer.weight, layer.bias)]
        return tensors

    def _tables(self, order: Tensor) -> fused.ResidualTables:
        white, tails = self.whitening, self.tails
        matrix = white.matrix()
        place = (3 * order[:, None] + torch.arange(3, device=order.device)).flatten()
        level = white.log_diagonal @ tails.membership + tails.dims * (tails.log_scale - 0.5 * math.log(2.0 * math.pi))
        return fused.ResidualTables(
            whitener=Affine.of_rows(torch.empty_like(matrix).index_copy_(0, place, matrix.mT), -(matrix @ white.shift)),
            membership=tails.membership.mT.contiguous(),
            rate=torch.exp(2.0 * tails.log_scale - tails.log_nu)[:, None],
            scale=tails.log_scale.exp()[:, None],
            slack=tails.dims[:, None] - 2.0,
            level=level[:, None],
            couplings=tuple(tuple(coupling.tables() for coupling in stack) for stack in self._couplings()),
            dims=tuple(self.dims),
        )

    def inverse(self, latent: Tensor, context: Tensor) -> Tensor:
        parts = []
        for part, stack in zip(latent.split(self.dims, 1), self.stacks, strict=True):
            for coupling in reversed(stack):  # type: ignore[call-overload]
                part = coupling.inverse(part, context)
            parts.append(part)
        return self.whitening.inverse(self.tails.inverse(torch.cat(parts, 1)))

    def fit_start(self, w: Tensor, there: Tensor) -> None:
        """Closed-form whitening from rows (N, D) and the mask of whole blocks (N, K)."""
        self.whitening.fit(w, there)
