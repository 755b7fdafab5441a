"""The linear and radial parts of `ResidualFlow`: exact whitening of blocks of coordinates, and their heavy tails."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..shared.cache import WeightCache, is_frozen

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
        self.cache = WeightCache(1)

    def matrix(self) -> Tensor:
        """(D, D) T."""
        return torch.addcmul(torch.diag(self.log_diagonal.exp()), self.lower, self.allowed)

    def forward(self, w: Tensor) -> Tensor:
        """(B, D) whitened coordinates; the log-determinant of a coordinate is its `log_diagonal`."""
        return nn.functional.linear(w - self.shift, self.matrix())

    def inverse(self, u: Tensor) -> Tensor:
        tensors = (self.lower, self.log_diagonal)
        if is_frozen(self, tensors):
            return u @ self.cache(tensors, None, self._inverse_matrix).T + self.shift
        return torch.linalg.solve_triangular(self.matrix(), u.T, upper=False).T + self.shift

    def _inverse_matrix(self) -> Tensor:
        matrix = self.matrix()
        identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        return torch.linalg.solve_triangular(matrix, identity, upper=False)

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
            # This block is u = P (w - G c - s) of the given coordinates c. T takes c - b_c in place of c, so its constant is
            # s + G b_c.
            constant, start = solved[-1], 0
            for p in before:
                gain = solved[start : start + p.stop - p.start].T
                self.lower[part, p] = -(matrix @ gain).to(w.dtype)
                constant = constant + gain @ self.shift[p].double()
                start += p.stop - p.start
            self.shift[part] = constant.to(w.dtype)


class RadialTails(nn.Module):
    """v = u sqrt(nu log(1 + |u|^2/nu)) / |u| in each block: if v is standard normal, u has tails like Student's t.

    A subject unlike those of training is far out in all coordinates at once. A Gaussian's log-density falls with the
    square of that distance, this one only with its logarithm. nu and an overall scale of each block are learned.

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
