"""Bounds on a VAE's log-density, and the energy that its training minimises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor

from ..._checks import check_number, check_whole
from ..._pose_checks import density_dtype
from ...prior import LatentPosePrior
from .layers import normal_points
from .objective import log_mean_weight
from .options import VAEOptions

_MOST_SAMPLES = 65536


class BoundedPrior(LatentPosePrior):
    """A latent-variable prior whose density is known by bounds, log p(x) >= E_q[log p(x | z) + log p(z) - log q(z | x)]."""

    options: VAEOptions

    @abstractmethod
    def _log_weights(self, rotvec: Tensor, observed: Tensor | None, points: Tensor) -> tuple[Tensor, Tensor]:
        """log p(observed | z_k) and log p(z_k) / q(z_k), both (views, B, K), for (K, D) normal points."""

    def bound(self, pose: Tensor, *, observed: Tensor | None = None, num_samples: int) -> Tensor:
        """`log_prob` with `num_samples` importance samples: (*batch,) Haar nats, rising with `num_samples`."""
        return self._reduced(pose, observed, num_samples, log_mean_weight)

    def elbo(self, pose: Tensor, *, observed: Tensor | None = None, num_samples: int = 16) -> Tensor:
        """Evidence lower bound E_q[log p(observed | z) + log p(z) - log q(z)], (*batch,) Haar nats.

        The mean over `num_samples` fixed points; never above `log_prob` at the same number.
        """
        return -self.energy(pose, observed=observed, num_samples=num_samples)

    def energy(
        self, pose: Tensor, *, beta: float = 1.0, observed: Tensor | None = None, num_samples: int = 16
    ) -> Tensor:
        """The energy of a beta-VAE, E_q[-log p(observed | z)] + beta KL(q(z | observed) || p(z)).

        With beta of 1 it is minus the evidence lower bound, in nats as every energy here; below 1 a pose is judged by
        how well it is reconstructed, above 1 by how usual its latent is. Differentiable in the pose.

        Args:
            pose: (*batch, 55, 3) rotvecs, radians.
            beta: weight of the divergence.
            observed: (*batch, 55) bool; None means all.
            num_samples: fixed points that the expectation is a mean over.

        Returns:
            (*batch,) Haar nats.
        """
        check_number("beta", beta, least=0.0)
        return self._reduced(
            pose, observed, num_samples, lambda likelihood, ratio: -(likelihood + beta * ratio).mean(-1)
        )

    def _reduced(
        self, pose: Tensor, observed: Tensor | None, num_samples: int, reduce: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        check_whole("num_samples", num_samples, least=1, most=_MOST_SAMPLES)
        batch, rotvec, seen = self._check_pose(pose, observed)
        points = normal_points(num_samples, self.options.latent_dim)
        total = reduce(*self._log_weights(rotvec, seen, points)).sum(0)
        return total.to(density_dtype(pose)).reshape(batch)
