"""`GaussianPrior`: the baseline that a pose prior has to beat, diagonal or with full covariance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..._checks import check_choice, check_effect, check_groups
from ...prior import PosePrior
from ...trainable import TrainingPoses
from ..charts.tangent import TangentChart
from ..shared.cache import WeightCache, is_frozen
from ..shared.masks import unobserved_poses
from ..shared.truncation_mass import draw_truncated, log_truncation_mass
from .grouped_mixture import IndependentGroupsMixture, groups_from_data

#: EM steps for a covariance with missing joints; it converges in far fewer on real masks.
_EM_ITERATIONS = 100


@final
class GaussianPrior(PosePrior):
    """A Gaussian in the tangent space at each joint's mean rotation.

    `covariance="diagonal"` has a mean and a log-scale for each coordinate: 330 parameters for 55 joints, as the
    published per-joint baseline. `covariance="full"` has one covariance over all coordinates, except between groups of
    joints that training never shows together, which are independent. Marginals and conditionals are exact, missing
    joints are marginalised, and both are truncated where a tangent vector is longer than pi, so that the density on SO(3)
    integrates to one.

    `fit` is in closed form (EM for a full covariance with missing joints) unless `FitConfig.max_steps` asks for the
    gradient loop.

    Args:
        joints: joints to model; `fit` drops those that no pose observes.
        covariance: "diagonal" or "full".
        groups: independent groups of joints, for "full" alone; None puts all joints in one. `fit` learns them.

    Attributes:
        covariance: (3 J, 3 J) radians^2 in the tangent space, see there.
        covariance_kind: "diagonal" or "full".

    Raises:
        ValueError: an option of another type or out of range, or `groups` of a diagonal covariance.

    >>> prior = GaussianPrior("all")
    >>> prior.num_parameters
    330
    >>> prior.sample(2).shape
    torch.Size([2, 55, 3])
    """

    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_steps": 0})
    closed_form = True

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "body",
        *,
        covariance: Literal["diagonal", "full"] = "diagonal",
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(joints)
        check_choice("covariance", covariance, ("diagonal", "full"))
        groups = check_groups("groups", groups)
        if covariance == "diagonal":
            check_effect("groups", groups, None, "covariance='diagonal'", "covariance='full'")
        self.covariance_kind = covariance
        self.chart = TangentChart(len(self.joints))
        if covariance == "full":
            self.factors = IndependentGroupsMixture(self.joints, groups, num_components=1)
        else:
            self.mean = nn.Parameter(torch.zeros(len(self.joints), 3))
            self.log_scale = nn.Parameter(torch.zeros(len(self.joints), 3))
            self.cache = WeightCache(1)

    @property
    def covariance(self) -> Tensor:
        """(3 J, 3 J) radians^2: covariance of the tangent vectors Log(M_j^-1 R_j) at each joint's mean rotation M_j."""
        scale = self.chart.scale.flatten()
        if self.covariance_kind == "full":
            matrix = self.factors.covariance()
        else:
            matrix = torch.diag_embed((2.0 * self.log_scale).exp().flatten())
        return scale[:, None] * matrix * scale

    def get_config(self) -> dict[str, Any]:
        groups = self.factors.groups if self.covariance_kind == "full" else None
        return {"joints": list(self.joints), "covariance": self.covariance_kind, "groups": groups}

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        rebuilt = super()._fitted_config(train)
        if self.covariance_kind == "full":
            rebuilt["groups"] = groups_from_data(train, tuple(rebuilt["joints"]))
        return rebuilt

    def _initialise(self, train: TrainingPoses) -> None:
        rotvec, observed = train.poses(self.joints)
        self.chart.fit(rotvec, observed, jitter=train.jitter)
        if self.covariance_kind == "full" and train.closed_form:
            self.factors.fit(self.chart, rotvec, observed, train, iterations=_EM_ITERATIONS, prior_count=0.0)
        # The diagonal closed form is the chart itself: mean 0 and scale 1 of its standardised coordinates.

    def _log_prob(self, rotvec: Tensor, observed: Tensor | None, context: Tensor | None) -> Tensor:
        z, volume = self.chart(rotvec, observed)
        if self.covariance_kind == "full":
            return self.factors.log_prob(z, observed, self.chart.scale) - volume
        rate, level = self._diagonal()
        per_joint = level - 0.5 * ((z - self.mean) * rate).square().sum(-1)
        return (per_joint if observed is None else per_joint * observed).sum(-1) - volume

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        return self._log_prob(rotvec, None, context)

    def _diagonal(self) -> tuple[Tensor, Tensor]:
        """1 / scale (J, 3) and the log-densities at the mean (J,) of a diagonal covariance, cached while they are frozen."""

        def compute() -> tuple[Tensor, Tensor]:
            scale = self.log_scale.exp() * self.chart.scale
            mass = log_truncation_mass(self.mean * self.chart.scale, torch.diag_embed(scale.square()))
            return torch.exp(-self.log_scale), -self.log_scale.sum(-1) - 1.5 * math.log(2.0 * math.pi) - mass

        tensors = (self.mean, self.log_scale, self.chart.scale)
        return self.cache(tensors, None, compute) if is_frozen(self, tensors) else compute()

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        missing = unobserved_poses(num, len(self.joints), self._reference_tensor())
        return self._complete(*missing, 1, generator, None)[0]

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        if self.covariance_kind == "full":
            z, _ = self.chart(rotvec, observed)
            return self.chart.inverse(self.factors.draw(z, observed, self.chart.scale, num_samples, generator))
        shape = (num_samples, *rotvec.shape)

        def draw() -> Tensor:
            noise = torch.randn(shape, generator=generator, dtype=rotvec.dtype, device=rotvec.device)
            return self.mean + self.log_scale.exp() * noise

        return self.chart.inverse(draw_truncated(draw, self.chart.scale))
