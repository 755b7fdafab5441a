"""The default flow of `GlobalFlow`: exact whitening, a radial tail, then couplings that learn the rest."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LAYOUT_SEED = 20
#: Standard deviation of nothing: keeps the whitening of collinear coordinates finite, in units of the chart.
_RIDGE = 1e-6


class Whitening(nn.Module):
    """u = T (w - b - G c), T lower triangular with a positive diagonal: a Gaussian given c, in closed form.

    Args:
        dim: length of w.
        given: length of c.
    """

    def __init__(self, dim: int, given: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dim))
        self.gain = nn.Parameter(torch.zeros(dim, given))
        self.lower = nn.Parameter(torch.zeros(dim, dim))
        self.log_diagonal = nn.Parameter(torch.zeros(dim))

    def _matrix(self) -> Tensor:
        return self.lower.tril(-1) + torch.diag(self.log_diagonal.exp())

    def _mean(self, given: Tensor) -> Tensor:
        return torch.addmm(self.shift, given, self.gain.T) if self.gain.shape[1] else self.shift

    def forward(self, w: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) whitened coordinates and the log-determinant (scalar)."""
        return (w - self._mean(given)) @ self._matrix().T, self.log_diagonal.sum()

    def inverse(self, u: Tensor, given: Tensor) -> Tensor:
        centred = torch.linalg.solve_triangular(self._matrix(), u.T, upper=False).T
        return centred + self._mean(given)

    @torch.no_grad()
    def fit(self, w: Tensor, given: Tensor) -> None:
        """Least squares on `given` and the covariance of the residual, from rows (N, D) and (N, C)."""
        x = torch.cat([given, torch.ones_like(w[:, :1])], 1).double()
        y = w.double()
        ridge = _RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        solved = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
        residual = y - x @ solved
        eye = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
        matrix = torch.linalg.inv(torch.linalg.cholesky(residual.T @ residual / len(y) + _RIDGE * eye))
        self.gain.copy_(solved[:-1].T)
        self.shift.copy_(solved[-1])
        self.lower.copy_(matrix.tril(-1))
        self.log_diagonal.copy_(matrix.diagonal().log())


class RadialTail(nn.Module):
    """v = u sqrt(nu log(1 + |u|^2/nu)) / |u|: if v is standard normal, u has tails like a multivariate Student t.

    A subject unlike those of training is far out in all coordinates at once; a Gaussian charges the square of the
    distance for it, this the logarithm. nu and an overall scale are learned.

    Args:
        dim: length of u, at least 2.
    """

    def __init__(self, dim: int, *, start: float = 30.0) -> None:
        super().__init__()
        self.dim = dim
        self.log_nu = nn.Parameter(torch.tensor(math.log(start)))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) coordinates and log-determinants (B,)."""
        nu = self.log_nu.exp()
        u = u * self.log_scale.exp()
        ratio = (u.square().sum(-1) / nu).clamp_min(1e-12)
        log_term = torch.log1p(ratio)
        log_shrink = 0.5 * torch.log(log_term / ratio)
        log_det = (self.dim - 2) * log_shrink - log_term + self.dim * self.log_scale
        return u * log_shrink.exp()[:, None], log_det

    def inverse(self, v: Tensor) -> Tensor:
        ratio = (v.square().sum(-1, keepdim=True) * torch.exp(-self.log_nu)).clamp(1e-12, 60.0)
        return v * (torch.expm1(ratio) / ratio).sqrt() * torch.exp(-self.log_scale)


class MixedCoupling(nn.Module):
    """u = Q v; the second half of u moves by (u + shift) exp(log_scale), both from a network of the first half.

    Q is a fixed random orthogonal matrix. The network starts at zero, so the coupling starts as a rotation.

    Args:
        mixing: Q, (D, D).
        given: length of the conditioning vector.
        hidden, layers, dropout: of the network.
        most_log_scale: log-scales are `most_log_scale * tanh(. / most_log_scale)`: the whitening before sets the
            scales, this only modulates them, and a bound keeps far-away poses finite.
        noise: on the network's input in training.
    """

    mixing: Tensor

    def __init__(
        self,
        mixing: Tensor,
        given: int,
        *,
        hidden: int,
        layers: int,
        dropout: float,
        most_log_scale: float,
        noise: float,
    ) -> None:
        super().__init__()
        dim = len(mixing)
        self.kept = dim // 2
        self.most_log_scale, self.noise = most_log_scale, noise
        self.register_buffer("mixing", mixing)
        steps: list[nn.Module] = []
        width = self.kept + given
        for _ in range(layers):
            steps += [nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(dropout)]
            width = hidden
        last = nn.Linear(width, 2 * (dim - self.kept))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*steps, last)

    def _shift_and_log_scale(self, kept: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        seen = torch.cat([kept, given], 1) if given.shape[1] else kept
        if self.training and self.noise > 0:
            seen = seen + self.noise * torch.randn_like(seen)
        shift, raw = self.network(seen).chunk(2, -1)
        return shift, self.most_log_scale * torch.tanh(raw / self.most_log_scale)

    def forward(self, v: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) coordinates and log-determinants (B,)."""
        u = v @ self.mixing
        kept, moved = u[:, : self.kept], u[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(kept, given)
        return torch.cat([kept, (moved + shift) * log_scale.exp()], 1), log_scale.sum(-1)

    def inverse(self, u: Tensor, given: Tensor) -> Tensor:
        kept, moved = u[:, : self.kept], u[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(kept, given)
        return torch.cat([kept, moved * torch.exp(-log_scale) - shift], 1) @ self.mixing.T


class ResidualFlow(nn.Module):
    """Whitening, radial tail, couplings: (B, D) coordinates to N(0, I), and back, one pass each.

    Args:
        dim: D.
        given: length of the coordinates the whitening regresses on.
        context: length of what only the couplings see besides.
        couplings, hidden, layers, dropout, most_log_scale, noise: see `MixedCoupling`.
    """

    def __init__(
        self,
        dim: int,
        given: int,
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
        self.whitening = Whitening(dim, given)
        self.tail = RadialTail(dim)
        generator = torch.Generator().manual_seed(_LAYOUT_SEED)
        mixings = [torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0] for _ in range(couplings)]
        self.couplings = nn.ModuleList(
            MixedCoupling(
                q, given + context, hidden=hidden, layers=layers, dropout=dropout, most_log_scale=most_log_scale,
                noise=noise,
            )
            for q in mixings
        )  # fmt: skip

    def forward(self, w: Tensor, given: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) latents and log-determinants (B,) of coordinates w, with `given` (B, G) and `context` (B, C)."""
        u, log_det = self.whitening(w, given)
        u, radial = self.tail(u)
        log_det = log_det + radial
        seen = torch.cat([given, context], 1)
        for coupling in self.couplings:
            u, step = coupling(u, seen)
            log_det = log_det + step
        return u, log_det

    def inverse(self, latent: Tensor, given: Tensor, context: Tensor) -> Tensor:
        seen = torch.cat([given, context], 1)
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, MixedCoupling)
            latent = coupling.inverse(latent, seen)
        return self.whitening.inverse(self.tail.inverse(latent), given)

    def fit_start(self, w: Tensor, given: Tensor) -> None:
        """Closed-form whitening from rows (N, D) and (N, G)."""
        self.whitening.fit(w, given)
