"""`GaussianMixturePrior`: K full-covariance Gaussians, the pose prior of SMPLify, with missing joints and exact conditionals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..._checks import check_effect, check_groups, check_number, check_whole
from ...prior import PosePrior
from ...trainable import TrainingPoses
from ..charts.tangent import TangentChart
from ..shared.masks import unobserved_poses
from .grouped_mixture import IndependentGroupsMixture, groups_from_data

_PRIOR_COUNT = 50.0


@final
class GaussianMixturePrior(PosePrior):
    """A mixture of full-covariance Gaussians in the tangent space at each joint's mean rotation.

    Marginals and conditionals of every subset of joints are exact. Groups of joints that training never shows together
    have a mixture each and are independent. `fit` is EM with missing joints, without optimiser steps; with
    `FitConfig.max_steps` above 0 the gradient loop continues from there.

    Source: Bogo et al., "Keep it SMPL" (ECCV 2016), with a normalised density on SO(3).

    Args:
        joints: joints to model; `fit` drops those that no pose observes.
        num_components: K.
        groups: independent groups of joints; None puts all in one. `fit` learns them.
        em_iterations: most EM steps.
        em_poses: EM reads a random subset of at most this many poses (before mirroring).
        prior_count: pseudo-poses of the pooled covariance in every component, against collapse. Only with several
            components and EM steps.

    Raises:
        ValueError: an option of another type, out of range or without effect.

    >>> GaussianMixturePrior("left_hand", num_components=2).sample(3).shape
    torch.Size([3, 55, 3])
    """

    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_steps": 0})
    closed_form = True

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "body",
        *,
        num_components: int = 8,
        groups: Sequence[Sequence[int]] | None = None,
        em_iterations: int = 40,
        em_poses: int = 50_000,
        prior_count: float = _PRIOR_COUNT,
    ) -> None:
        super().__init__(joints)
        self.num_components = check_whole("num_components", num_components, least=1, most=1024)
        self.em_iterations = check_whole("em_iterations", em_iterations, most=100_000)
        self.em_poses = check_whole("em_poses", em_poses, least=1)
        self.prior_count = check_number("prior_count", prior_count, least=0.0)
        for idle, cause, remedy in (
            (self.num_components == 1, "num_components=1", "num_components above 1"),
            (self.em_iterations == 0, "em_iterations=0", "em_iterations above 0"),
        ):
            if idle:
                check_effect("prior_count", self.prior_count, _PRIOR_COUNT, cause, remedy, zero_is_off=True)
        self.chart = TangentChart(len(self.joints))
        self.factors = IndependentGroupsMixture(
            self.joints, check_groups("groups", groups), num_components=self.num_components
        )  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        return {
            "joints": list(self.joints), "num_components": self.num_components, "groups": self.factors.groups,
            "em_iterations": self.em_iterations, "em_poses": self.em_poses, "prior_count": self.prior_count,
        }  # fmt: skip

    @classmethod
    def _upgrade_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Older versions took a `prior_count` that has no effect; 0 is taken, and comes back."""
        idle = config.get("num_components") == 1 or config.get("em_iterations") == 0
        return {name: value for name, value in config.items() if not (idle and name == "prior_count" and value)}

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        rebuilt = super()._fitted_config(train)
        return {**rebuilt, "groups": groups_from_data(train, tuple(rebuilt["joints"]))}

    def _initialise(self, train: TrainingPoses) -> None:
        rotvec, observed = train.poses(self.joints, max_poses=self.em_poses)
        if len(rotvec) < self.num_components:
            raise ValueError(
                f"train: expected at least num_components={self.num_components} poses, got {len(rotvec)}; use fewer "
                "components."
            )
        self.chart.fit(rotvec, observed, jitter=train.jitter)
        self.factors.fit(
            self.chart, rotvec, observed, train, iterations=self.em_iterations, prior_count=self.prior_count
        )

    def _log_prob(self, rotvec: Tensor, observed: Tensor | None, context: Tensor | None) -> Tensor:
        z, volume = self.chart(rotvec, observed)
        return self.factors.log_prob(z, observed, self.chart.scale) - volume

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        return self._log_prob(rotvec, None, context)

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
        z, _ = self.chart(rotvec, observed)
        return self.chart.inverse(self.factors.draw(z, observed, self.chart.scale, num_samples, generator))
