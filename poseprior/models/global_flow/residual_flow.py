"""The default flow of `GlobalFlow`: exact whitening, radial tails, then couplings that learn the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..fused.residual_flow import CouplingTables, ResidualTables, value_and_gradient
from ..shared.cache import Kept, is_frozen

_LAYOUT_SEED = 20
#: Added to covariances, in units of the chart, so that collinear coordinates stay finite.
_RIDGE = 1e-6
#: Degrees of freedom the tails start from.
_START_NU = 30.0


def block_membership(dims: Sequence[int]) -> Tensor:
    """(D, K) ones where a coordinate belongs to a block; blocks are consecutive."""
    return torch.block_diag(*(torch.ones(d, 1) for d in dims))


class BlockWhitening(nn.Module):
    """u = T (w - b), T lower triangular with a positive diagonal: every block a Gaussian given its given blocks.

    Args:
        dims: lengths of the blocks.
        given: positions of earlier blocks that each block is conditioned on; T is zero for the others.
    """

    allowed: Tensor

    def __init__(self, dims: Sequence[int], given: Sequence[Sequence[int]]) -> None:
        super().__init__()
        total = sum(dims)
        self.parts = [slice(sum(dims[:k]), sum(dims[: k + 1])) for k in range(len(dims))]
        self.given = [list(g) for g in given]
        allowed = torch.zeros(total, total)
        for part, earlier in zip(self.parts, self.given, strict=True):
            for other in (part, *(self.parts[g] for g in earlier)):
                allowed[part, other] = 1.0
        self.register_buffer("allowed", allowed.tril(-1), persistent=False)
        self.shift = nn.Parameter(torch.zeros(total))
        self.lower = nn.Parameter(torch.zeros(total, total))
        self.log_diagonal = nn.Parameter(torch.zeros(total))

    def matrix(self) -> Tensor:
        """(D, D) T."""
        return torch.addcmul(torch.diag(self.log_diagonal.exp()), self.lower, self.allowed)

    def forward(self, w: Tensor) -> Tensor:
        """(B, D) whitened coordinates; the log-determinant of a coordinate is its `log_diagonal`."""
        return nn.functional.linear(w - self.shift, self.matrix())

    def inverse(self, u: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.matrix(), u.T, upper=False).T + self.shift

    @torch.no_grad()
    def fit(self, w: Tensor, there: Tensor) -> None:
        """Least squares on the given blocks and the covariance of the residual, from rows (N, D) and (N, K) bool."""
        for k, part in enumerate(self.parts):
            rows = w[there[:, k]].double()
            if len(rows) < 2:
                continue
            before = [self.parts[g] for g in self.given[k]]
            x = torch.cat([*(rows[:, p] for p in before), torch.ones_like(rows[:, :1])], 1)
            ridge = _RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            solved = torch.linalg.solve(x.T @ x + ridge, x.T @ rows[:, part])
            residual = rows[:, part] - x @ solved
            eye = torch.eye(residual.shape[1], dtype=x.dtype, device=x.device)
            matrix = torch.linalg.inv(torch.linalg.cholesky(residual.T @ residual / len(x) + _RIDGE * eye))
            self.lower[part, part] = matrix.tril(-1).to(w.dtype)
            self.log_diagonal[part] = matrix.diagonal().log().to(w.dtype)
            # u = P (w - G c - s) and c stands shifted by its own b in T: the constant is s + G b_c.
            constant, start = solved[-1], 0
            for p in before:
                gain = solved[start : start + p.stop - p.start].T
                self.lower[part, p] = -(matrix @ gain).to(w.dtype)
                constant = constant + gain @ self.shift[p].double()
                start += p.stop - p.start
            self.shift[part] = constant.to(w.dtype)


class RadialTails(nn.Module):
    """v = u sqrt(nu log(1 + |u|^2/nu)) / |u| in each block: if v is standard normal, u has tails like Student's t.

    A subject unlike those of training is far out in all coordinates at once; a Gaussian charges the square of the
    distance for it, this the logarithm. nu and an overall scale of each block are learned.

    Args:
        dims: lengths of the blocks, each at least 2.
    """

    membership: Tensor
    dims: Tensor

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("membership", block_membership(dims), persistent=False)
        self.register_buffer("dims", torch.tensor([float(d) for d in dims]), persistent=False)
        self.log_nu = nn.Parameter(torch.full((len(dims),), math.log(_START_NU)))
        self.log_scale = nn.Parameter(torch.zeros(len(dims)))

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) coordinates and the log-determinants of the blocks, (B, K)."""
        ratio = (u.square() @ self.membership * torch.exp(2.0 * self.log_scale - self.log_nu)).clamp_min(1e-12)
        log_term = torch.log1p(ratio)
        log_shrink = 0.5 * torch.log(log_term / ratio)
        log_det = (self.dims - 2.0) * log_shrink - log_term + self.dims * self.log_scale
        return u * (torch.exp(log_shrink + self.log_scale) @ self.membership.T), log_det

    def inverse(self, v: Tensor) -> Tensor:
        ratio = (v.square() @ self.membership * torch.exp(-self.log_nu)).clamp(1e-12, 60.0)
        factor = (torch.expm1(ratio) / ratio).sqrt() * torch.exp(-self.log_scale)
        return v * (factor @ self.membership.T)


class MixedCoupling(nn.Module):
    """u = Q v; the second half of u moves by (u + shift) exp(log_scale), both from a network of the first half.

    Q is a fixed random orthogonal matrix. The network starts at zero, so the coupling starts as a rotation.

    Args:
        mixing: Q transposed, (D, D).
        context: length of the conditioning vector.
        hidden, layers, dropout: of the network.
        most_log_scale: log-scales are `most_log_scale * tanh(.)`: the whitening before sets the scales, this only
            modulates them, and a bound keeps far-away poses finite.
        noise: on the network's input in training.
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
        most_log_scale: float,
        noise: float,
    ) -> None:
        super().__init__()
        self.kept = len(mixing) // 2
        self.most_log_scale, self.noise = most_log_scale, noise
        self.register_buffer("mixing", mixing)
        steps: list[nn.Module] = []
        width = self.kept + context
        for _ in range(layers):
            steps += [nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(dropout)]
            width = hidden
        last = nn.Linear(width, 2 * (len(mixing) - self.kept))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*steps, last)

    def _shift_and_log_scale(self, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and self.noise > 0:
            kept = kept + self.noise * torch.randn_like(kept)
        seen = torch.cat([kept, context], 1) if context.shape[1] else kept
        shift, raw = self.network(seen).chunk(2, -1)
        return shift, self.most_log_scale * torch.tanh(raw)

    def forward(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) coordinates and log-determinants (B,)."""
        # Two products are cheaper than one and two slices, whose gradients are padded copies.
        kept, moved = v @ self.mixing[:, : self.kept], v @ self.mixing[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(kept, context)
        return torch.cat([kept, (moved + shift) * log_scale.exp()], 1), log_scale.sum(-1)

    def linears(self) -> list[nn.Linear]:
        """Layers of the network, in order."""
        return [layer for layer in self.network if isinstance(layer, nn.Linear)]

    def tables(self) -> CouplingTables:
        """The weights as `frozen_residual_flow` takes them; for couplings without context."""
        first, *others = self.linears()
        kept, moved = self.mixing[:, : self.kept], self.mixing[:, self.kept :]
        return CouplingTables(
            inward=torch.cat([moved, kept, kept @ first.weight.mT], 1),
            bias=first.bias.clone(),
            layers=tuple((layer.weight.mT.contiguous(), layer.bias.clone()) for layer in others),
            most_log_scale=self.most_log_scale,
        )

    def inverse(self, u: Tensor, context: Tensor) -> Tensor:
        kept, moved = u[:, : self.kept], u[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(kept, context)
        return torch.cat([kept, moved * torch.exp(-log_scale) - shift], 1) @ self.mixing.T


class ResidualFlow(nn.Module):
    """Whitening, radial tails, couplings: (B, D) coordinates to N(0, I), and back, one pass each.

    Blocks that are given others (what the data sometimes misses) are Student-like around a linear map of those; blocks
    that stand for themselves also have couplings.

    Args:
        dims: lengths of the blocks, in order.
        given: positions of the earlier blocks that each is conditioned on.
        context: length of the conditioning vector of the couplings.
        couplings, hidden, layers, dropout, most_log_scale, noise: see `MixedCoupling`.
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
        most_log_scale: float,
        noise: float,
    ) -> None:
        super().__init__()
        self.dims = list(dims)
        self.whitening = BlockWhitening(dims, given)
        self.tails = RadialTails(dims)
        self.kept = Kept(1)
        generator = torch.Generator().manual_seed(_LAYOUT_SEED)
        self.stacks = nn.ModuleList()
        for dim, earlier in zip(dims, given, strict=True):
            count = 0 if earlier else couplings
            mixings = [torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0] for _ in range(count)]
            self.stacks.append(
                nn.ModuleList(
                    MixedCoupling(
                        q, context, hidden=hidden, layers=layers, dropout=dropout, most_log_scale=most_log_scale,
                        noise=noise,
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
            step = log_det.new_zeros(len(v))
            for coupling in stack:  # type: ignore[attr-defined]
                part, log_scale = coupling(part, context)
                step = step + log_scale
            parts.append(part)
            steps.append(step)
        return torch.cat(parts, 1), log_det + torch.stack(steps, 1)

    def frozen_density(
        self, order: Tensor, there: Tensor | None
    ) -> Callable[[Tensor, bool], tuple[Tensor, Tensor]] | None:
        """The log-density of frozen weights without context, and its gradient.

        Args:
            order: (J,) places of the joints, block by block.
            there: (B, K) ones where a block counts; None where all do.

        Returns:
            A function of w (B, J, 3), zero where unobserved, and whether the gradient is asked for: (B,) nats, Lebesgue in w,
            and (B, J, 3). None where gradients to the weights are asked for, or in training.
        """
        tensors = self._tensors()
        if not is_frozen(self, tensors):
            return None
        tables = self.kept((*tensors, order), None, lambda: self._tables(order))

        def density(w: Tensor, need: bool) -> tuple[Tensor, Tensor]:
            value, slope = value_and_gradient(tables, w.flatten(1), there, need)
            return value, slope.view_as(w) if need else slope

        return density

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

    def _tables(self, order: Tensor) -> ResidualTables:
        white, tails = self.whitening, self.tails
        matrix = white.matrix()
        place = (3 * order[:, None] + torch.arange(3, device=order.device)).flatten()
        level = white.log_diagonal @ tails.membership + tails.dims * (tails.log_scale - 0.5 * math.log(2.0 * math.pi))
        return ResidualTables(
            whitener=torch.empty_like(matrix).index_copy_(0, place, matrix.mT),
            shift=-(matrix @ white.shift),
            membership=tails.membership,
            rate=torch.exp(2.0 * tails.log_scale - tails.log_nu),
            scale=tails.log_scale.exp(),
            slack=tails.dims - 2.0,
            level=level,
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
