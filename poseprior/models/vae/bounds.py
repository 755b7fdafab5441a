"""Bounds on a VAE's log-density, and the energy that its training minimises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor

from ..._checks import check_number, check_whole
from ..._pose_checks import density_dtype, in_full_precision
from ...prior import LatentPosePrior
from .layers import normal_points
from .objective import log_mean_weight
from .options import MOST_BOUND_SAMPLES, VAEOptions


class BoundedPrior(LatentPosePrior):
    """A latent-variable prior whose density is known by bounds, log p(x) >= E_q[log p(x | z) + log p(z) - log q(z | x)]."""

    options: VAEOptions

    @abstractmethod
    def _log_weights(self, rotvec: Tensor, observed: Tensor | None, points: Tensor) -> tuple[Tensor, Tensor]:
        """log p(observed | z_k) and log p(z_k) / q(z_k), both (views, B, K), for (K, D) normal points."""

    def bound(self, pose: Tensor, *, observed: Tensor | None = None, num_samples: int) -> Tensor:
        """`log_prob` with `num_samples` importance samples: (*batch,) Haar nats, higher on average the more there are.

        Raises:
            ValueError: as `log_prob`, or `num_samples` out of range.
        """
        return self._reduced(pose, observed, num_samples, log_mean_weight)

    def elbo(self, pose: Tensor, *, observed: Tensor | None = None, num_samples: int = 16) -> Tensor:
        """Evidence lower bound E_q[log p(observed | z) + log p(z) - log q(z)], (*batch,) Haar nats.

        The mean over `num_samples` fixed points; never above `bound` at the same number.

        Raises:
            ValueError: as `bound`.
        """
        return -self.energy(pose, observed=observed, num_samples=num_samples)

    def energy(
        self, pose: Tensor, *, beta: float = 1.0, observed: Tensor | None = None, num_samples: int = 16
    ) -> Tensor:
        """The energy of a beta-VAE, E_q[-log p(observed | z)] + beta KL(q(z | observed) || p(z)).

        With beta of 1 it is minus the evidence lower bound. A smaller beta gives more weight to how well the pose is
        reconstructed, a larger one to how usual its latent is. Differentiable in the pose.

        Args:
            pose: (*batch, 55, 3) rotvecs, radians.
            beta: weight of the divergence.
            observed: (*batch, 55) bool; None means all.
            num_samples: fixed points that the expectation is a mean over.

        Returns:
            (*batch,) Haar nats.

        Raises:
            ValueError: as `bound`, or a negative `beta`.
        """
        check_number("beta", beta, least=0.0)
        return self._reduced(
            pose, observed, num_samples, lambda likelihood, ratio: -(likelihood + beta * ratio).mean(-1)
        )

    @in_full_precision
    def _reduced(
        self, pose: Tensor, observed: Tensor | None, num_samples: int, reduce: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        check_whole("num_samples", num_samples, least=1, most=MOST_BOUND_SAMPLES)
        batch, rotvec, seen = self._check_pose(pose, observed)
        points = normal_points(num_samples, self.options.latent_dim)
        total = reduce(*self._log_weights(rotvec, seen, points)).sum(0)
        return total.to(density_dtype(pose)).reshape(batch)
