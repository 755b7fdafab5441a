"""`JointFlow`: a conditional flow for each joint given its parent's rotation, all joints at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from ...prior import LatentPosePrior
from ...trainable import TrainingPoses
from ..charts.axis_angle import AxisAngleChart
from ..charts.compact import CompactChart
from ..shared.independent_groups import independent_groups, partition
from .graph import context_joints, depth_levels
from .mixture_flow import JointMixtureFlow
from .particle_filter import draw_missing, needs_particle_filter
from .realnvp import JointRealNVP

#: Poses at most for the closed-form start, and particles alive at once in `complete`.
_START_POSES, _MOST_PARTICLES = 40_000, 1 << 17


@final
class JointFlow(LatentPosePrior):
    """log p(pose) = sum_j log p(R_j | R_context(j)), each term an invertible map to N(0, I).

    The context of a joint is its nearest modelled ancestor and, in the default design, at most two related joints (the
    joint of the other side, the grandparent): a sparse directed graph, see docs/flows.md. Unobserved joints drop out of
    `log_prob`; an unobserved context joint is a learned context. Dropping joints that no observed joint has as context
    (toes, wrists) is therefore the exact marginal; dropping others is a trained estimate of it. `complete` is exact
    where no observed joint has a missing context joint (a joint hidden with all its descendants) and otherwise uses
    ancestral sampling with importance resampling by `num_particles` particles.

    `preset="default"` maps each joint by the triangular map of a Gaussian mixture, started from the exact Gaussian
    conditional. `preset="published"` is the reference architecture: two affine couplings a joint on the raw axis-angle
    given the parent's, tanh-bounded log-scales, 517,770 parameters for 55 joints; it needs no data-dependent start, an
    unobserved parent is a zero rotvec, and of the other options only `groups` applies to it. Its `log_prob_kind` is
    "lower_bound": rotvecs beyond pi are left out, see `AxisAngleChart`.

    Args:
        joints: joints to model; `fit` drops those that no pose observes.
        preset: "default" or "published".
        hidden, dropout: of the networks, one for each joint.
        num_components: Gaussians in each joint's mixture.
        broad_weight: share of two broad Gaussians in each mixture, for rotations far from the data.
        context_noise: noise on what a network sees of other joints in training, in standard deviations of the joint.
        context_dropout: probability in training that a context joint is taken for unobserved.
        partners: give joints more context than the nearest modelled ancestor.
        groups: independent groups of joints, within which contexts stay; None puts all in one. `fit` learns them.
        share_mirror: right joints use the left joints' networks through the mirror (`fit` sets it to its `mirror`).
        num_particles: for `complete`, where it is not exact otherwise; may be changed at any time.

    >>> prior = JointFlow("all", preset="published")
    >>> prior.num_parameters
    517770
    >>> prior.sample(2, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 55, 3])
    """

    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({
        "max_steps": 1500, "learning_rate": 7e-4, "warmup_steps": 100, "clip_grad_norm": 5.0, "ema_decay": 0.998,
        "subject_balance": 0.5, "eval_every": 50, "patience": 12,
    })  # fmt: skip

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "body",
        *,
        preset: Literal["default", "published"] = "default",
        hidden: int = 64,
        dropout: float = 0.2,
        num_components: int = 12,
        broad_weight: float = 0.02,
        context_noise: float = 0.15,
        context_dropout: float = 0.02,
        partners: bool = True,
        groups: Sequence[Sequence[int]] | None = None,
        share_mirror: bool = True,
        num_particles: int = 1024,
    ) -> None:
        super().__init__(joints)
        if preset not in ("default", "published"):
            raise ValueError(f"preset: expected 'default' or 'published', got {preset!r}.")
        for name, number in (("hidden", hidden), ("num_components", num_components), ("num_particles", num_particles)):
            if number < 1:
                raise ValueError(f"{name}: expected 1 or more, got {number!r}.")
        for name, share in (("dropout", dropout), ("broad_weight", broad_weight), ("context_dropout", context_dropout)):
            if not 0 <= share < 1 or (name == "broad_weight" and share == 0):
                raise ValueError(f"{name}: expected a share below 1 (broad_weight above 0), got {share!r}.")
        self.preset, self.partners, self.num_particles = preset, partners, num_particles
        self._options: dict[str, Any] = {
            "hidden": hidden, "dropout": dropout, "num_components": num_components, "broad_weight": broad_weight,
            "context_noise": context_noise, "context_dropout": context_dropout, "share_mirror": share_mirror,
        }  # fmt: skip
        self.groups = partition(self.joints, groups)
        self.contexts = context_joints(self.joints, partners=partners and preset == "default", groups=self.groups)
        self.latent_dim = 3 * len(self.joints)
        place = {joint: k for k, joint in enumerate(self.joints)}
        self._contexts = [[place[c] for c in self.contexts[j]] for j in self.joints]
        self._levels = [[place[j] for j in level] for level in depth_levels(self.contexts)]
        self.chart: AxisAngleChart | CompactChart
        self.conditionals: JointRealNVP | JointMixtureFlow
        if preset == "published":
            self.chart = AxisAngleChart()
            # What the flow puts beyond |r| = pi belongs to other rotations and is not added there (see AxisAngleChart).
            self.log_prob_kind = "lower_bound"
            self.conditionals = JointRealNVP([c[0] if c else -1 for c in self._contexts])
        else:
            self.chart = CompactChart(len(self.joints))
            self.conditionals = JointMixtureFlow(self.contexts, options=self._options)

    def get_config(self) -> dict[str, Any]:
        return {
            "joints": list(self.joints), "preset": self.preset, "partners": self.partners,
            "groups": self.groups, "num_particles": self.num_particles, **self._options,
        }  # fmt: skip

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        rebuilt = super()._fitted_config(train)
        groups = independent_groups(train.co_observed, tuple(rebuilt["joints"]))
        return {
            **rebuilt, "groups": [list(g) for g in groups], "share_mirror": rebuilt["share_mirror"] and train.mirror
        }  # fmt: skip

    def _initialise(self, train: TrainingPoses) -> None:
        if not (isinstance(self.chart, CompactChart) and isinstance(self.conditionals, JointMixtureFlow)):
            return
        rotvec, observed = train.poses(self.joints, max_poses=_START_POSES)
        self.chart.fit(rotvec, observed)
        w, _ = self.chart(rotvec.to(self.dtype), observed)
        self.conditionals.fit_start(w, observed)

    # ------------------------------------------------------------------ densities

    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        w, volume = self.chart(rotvec, observed)
        return self.conditionals.total(w, observed) - volume

    # ------------------------------------------------------------------ both directions

    def _encode(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        observed = torch.ones(rotvec.shape[:2], dtype=torch.bool, device=rotvec.device)
        w, _ = self.chart(rotvec, observed)
        seen = self.conditionals.context(w, observed, None)
        return self.conditionals.encode(w.transpose(0, 1), seen, None).transpose(0, 1).flatten(1)

    def _decode(self, latent: Tensor, context: Tensor | None) -> Tensor:
        z = latent.unflatten(1, (-1, 3)).transpose(0, 1)
        w = latent.new_zeros(len(latent), len(self.joints), 3)
        for level in self._levels:
            places = torch.tensor(level, device=w.device)
            seen = self.conditionals.context(w, torch.ones_like(w[..., 0], dtype=torch.bool), places)
            made = self.conditionals.decode(z[places], seen, places)
            w = w.index_copy(1, places, made.transpose(0, 1))
        return self.chart.inverse(w)

    # ------------------------------------------------------------------ draws

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        empty = torch.zeros(num, len(self.joints), 3, dtype=self.dtype, device=self.device)
        nothing = torch.zeros(num, len(self.joints), dtype=torch.bool, device=self.device)
        return self.chart.inverse(draw_missing(self.conditionals, self._levels, empty, nothing, 1, 1, generator)[0])

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        w, _ = self.chart(rotvec, observed)
        weighted = needs_particle_filter(observed, self._contexts)
        drawn = w.new_zeros(num_samples, *w.shape)
        particles = max(self.num_particles, 4 * num_samples)
        for rows, count in ((~weighted, num_samples), (weighted, particles)):
            chosen = rows.nonzero()[:, 0]
            for part in chosen.split(max(1, _MOST_PARTICLES // count)):
                drawn[:, part] = draw_missing(
                    self.conditionals, self._levels, w[part], observed[part], num_samples, count, generator
                )
        return self.chart.inverse(drawn)
