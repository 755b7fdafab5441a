"""`JointFlow`: a conditional flow for each joint given its parent's rotation, all joints at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from ..._checks import check_groups, check_number, check_share, check_switch, check_whole
from ...prior import LatentPosePrior
from ...trainable import TrainingPoses
from ..charts.axis_angle import AxisAngleChart
from ..charts.compact import CompactChart
from ..shared.architectures import from_architecture
from ..shared.independent_groups import independent_groups, partition
from ..shared.masks import unobserved_poses
from .graph import depth_levels, parent_joints
from .mixture_flow import JointMixtureFlow
from .particle_filter import draw_missing, needs_particle_filter
from .realnvp import JointRealNVP

#: Poses at most that the closed-form start reads, and particles at most that `complete` holds at a time.
_START_POSES, _MOST_PARTICLES = 40_000, 1 << 14


@final
class JointFlow(LatentPosePrior):
    """log p(pose) = sum_j log p(R_j | R_parents(j)), each term an invertible map to N(0, I).

    The parents of a joint are its nearest modelled ancestor and at most two related joints (the joint of the other side,
    the grandparent): a sparse directed graph, see docs/flows.md. Unobserved joints drop out of `log_prob`; the networks
    learn what an unobserved parent means. Dropping joints that are no parents of an observed joint (toes, wrists) is
    therefore the exact marginal; dropping others is a trained estimate of it. `complete` is exact where no observed joint
    has a missing parent (a joint hidden with all its descendants) and otherwise uses ancestral sampling with importance
    resampling by `num_particles` particles.

    Each joint is mapped by the triangular map of a Gaussian mixture, started from the exact Gaussian conditional.
    `JointFlow.published` builds the reference architecture instead.

    Args:
        joints: joints to model; `fit` drops those that no pose observes.
        hidden: width of the networks, one for each joint.
        layers: hidden layers of the networks.
        dropout: probability in training that a hidden unit is dropped.
        num_components: Gaussians in each joint's mixture.
        broad_weight: weight of two broad Gaussians, together, in each mixture, for rotations far from the data.
        input_noise: noise in training on what networks see of other joints, in standard deviations of each joint.
        input_dropout: probability in training that a network sees a parent as unobserved.
        extra_parents: give joints more parents than the nearest modelled ancestor.
        groups: independent groups of joints, across which there are no parents; None puts all in one. `fit` learns them.
        share_mirror: right joints use the left joints' networks through the mirror. `fit` without `mirror` gives every
            joint a network of its own.
        num_particles: for `complete`, where it is not exact otherwise; may be changed at any time.

    Attributes:
        architecture: "default" or "published".
        parents: the parents of each joint, by SMPL-X index.

    Raises:
        ValueError: an option of another type or out of range.

    >>> prior = JointFlow("all", hidden=16)
    >>> prior.sample(2, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 55, 3])
    >>> JointFlow.published("all").num_parameters
    517770
    """

    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({
        "max_steps": 1500, "learning_rate": 7e-4, "warmup_steps": 100, "clip_grad_norm": 5.0, "ema_decay": 0.998,
        "subject_balance": 0.5, "eval_every": 50, "patience": 12,
    })  # fmt: skip

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "body",
        *,
        hidden: int = 64,
        layers: int = 2,
        dropout: float = 0.2,
        num_components: int = 12,
        broad_weight: float = 0.02,
        input_noise: float = 0.15,
        input_dropout: float = 0.02,
        extra_parents: bool = True,
        groups: Sequence[Sequence[int]] | None = None,
        share_mirror: bool = True,
        num_particles: int = 1024,
    ) -> None:
        options = {
            "hidden": check_whole("hidden", hidden, least=1, most=2048),
            "layers": check_whole("layers", layers, least=1, most=16),
            "dropout": check_share("dropout", dropout),
            "num_components": check_whole("num_components", num_components, least=1, most=256),
            "broad_weight": check_number("broad_weight", broad_weight, above=0.0, below=1.0),
            "input_noise": check_number("input_noise", input_noise, least=0.0, most=100.0),
            "input_dropout": check_share("input_dropout", input_dropout),
            "share_mirror": check_switch("share_mirror", share_mirror),
        }
        self._build(joints, groups, num_particles, check_switch("extra_parents", extra_parents), options)

    @classmethod
    def published(
        cls,
        joints: str | int | Iterable[str | int] = "body",
        *,
        groups: Sequence[Sequence[int]] | None = None,
        num_particles: int = 1024,
    ) -> JointFlow:
        """The reference architecture: two affine couplings a joint on the raw axis-angle given the parent's.

        Log-scales are bounded by tanh; 517,770 parameters for 55 joints. It needs no data-dependent start, and an
        unobserved parent is a zero rotvec. Its `log_prob_kind` is "lower_bound": rotvecs beyond pi are left out, see
        `AxisAngleChart`.

        Args:
            joints: joints to model; `fit` drops those that no pose observes.
            groups, num_particles: as of the class.
        """
        prior = cls.__new__(cls)
        prior._build(joints, groups, num_particles, extra_parents=False, options=None)
        return prior

    def _build(
        self,
        joints: str | int | Iterable[str | int],
        groups: Sequence[Sequence[int]] | None,
        num_particles: int,
        extra_parents: bool,
        options: dict[str, Any] | None,
    ) -> None:
        """Make the modules; `options` of the networks, None for the published architecture."""
        super().__init__(joints)
        self.architecture: Literal["default", "published"] = "published" if options is None else "default"
        self.extra_parents, self._options, self.num_particles = extra_parents, options or {}, num_particles
        self.groups = partition(self.joints, check_groups("groups", groups))
        self.parents = parent_joints(self.joints, extra=extra_parents, groups=self.groups)
        self.latent_dim = 3 * len(self.joints)
        place = {joint: k for k, joint in enumerate(self.joints)}
        self._parents = [[place[c] for c in self.parents[j]] for j in self.joints]
        self._levels = [[place[j] for j in level] for level in depth_levels(self.parents)]
        self.chart: AxisAngleChart | CompactChart
        self.conditionals: JointRealNVP | JointMixtureFlow
        if options is None:
            self.chart = AxisAngleChart()
            # What the flow puts beyond |r| = pi belongs to other rotations and is not added there (see AxisAngleChart).
            self.log_prob_kind = "lower_bound"
            self.conditionals = JointRealNVP([c[0] if c else -1 for c in self._parents])
        else:
            self.chart = CompactChart(len(self.joints))
            self.conditionals = JointMixtureFlow(self.parents, options=options)

    @property
    def num_particles(self) -> int:
        """Particles of `complete`, where it is not exact otherwise."""
        return self._num_particles

    @num_particles.setter
    def num_particles(self, value: int) -> None:
        self._num_particles = check_whole("num_particles", value, least=1, most=_MOST_PARTICLES)

    def get_config(self) -> dict[str, Any]:
        config = {"joints": list(self.joints), "groups": self.groups, "num_particles": self.num_particles}
        if self.architecture == "published":
            return {"architecture": "published", **config}
        return {**config, "extra_parents": self.extra_parents, **self._options}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> JointFlow:
        renamed = {"context_noise": "input_noise", "context_dropout": "input_dropout", "partners": "extra_parents"}
        return from_architecture(cls, cls.published, config, renamed=renamed)

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        rebuilt = super()._fitted_config(train)
        groups = independent_groups(train.co_observed, tuple(rebuilt["joints"]))
        rebuilt["groups"] = [list(g) for g in groups]
        if self.architecture == "default":
            rebuilt["share_mirror"] = rebuilt["share_mirror"] and train.mirror
        return rebuilt

    def _initialise(self, train: TrainingPoses) -> None:
        if not (isinstance(self.chart, CompactChart) and isinstance(self.conditionals, JointMixtureFlow)):
            return
        rotvec, observed = train.poses(self.joints, max_poses=_START_POSES)
        self.chart.fit(rotvec, observed)
        w, _ = self.chart(rotvec.to(self.dtype), observed)
        self.conditionals.fit_start(w, observed)

    # ------------------------------------------------------------------ densities

    def _log_prob(self, rotvec: Tensor, observed: Tensor | None, context: Tensor | None) -> Tensor:
        value = self.conditionals.fused_log_prob(rotvec, self.chart, observed)
        if value is not None:
            return value
        w, volume = self.chart(rotvec, observed)
        return self.conditionals.total(w, observed) - volume

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        return self._log_prob(rotvec, None, context)

    # ------------------------------------------------------------------ both directions

    def _encode(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        w, _ = self.chart(rotvec, None)
        seen = self.conditionals.inputs(w, None, None)
        return self.conditionals.encode(w.transpose(0, 1), seen, None).transpose(0, 1).flatten(1)

    def _decode(self, latent: Tensor, context: Tensor | None) -> Tensor:
        z = latent.unflatten(1, (-1, 3)).transpose(0, 1)
        w = latent.new_zeros(latent.shape[0], len(self.joints), 3)
        for level in self._levels:
            places = torch.tensor(level, device=w.device)
            seen = self.conditionals.inputs(w, None, places)
            made = self.conditionals.decode(z[places], seen, places)
            w = w.index_copy(1, places, made.transpose(0, 1))
        return self.chart.inverse(w)

    # ------------------------------------------------------------------ draws

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        missing = unobserved_poses(num, len(self.joints), self._reference_tensor())
        return self.chart.inverse(draw_missing(self.conditionals, self._levels, *missing, 1, 1, generator)[0])

    def draw_of_noise(self, rotvec: Tensor, observed: Sequence[bool], normal: Tensor, uniform: Tensor) -> Tensor:
        """Exact draws as a function of noise, without particles and without checks.

        Args:
            rotvec: (B, J, 3) of the modelled joints, radians; looked at where they are observed.
            observed: which of the J joints are given, the same in every row; none of them may have a missing parent.
            normal: (B, J, 3) standard normal numbers.
            uniform: (B, J) numbers in [0, 1); the published architecture does not look at them.

        Returns:
            (B, J, 3) with the missing joints drawn.
        """
        w = torch.zeros_like(rotvec)
        if any(observed):
            w, _ = self.chart(rotvec, None)
        for level in self._levels:
            missing = [place for place in level if not observed[place]]
            if not missing:
                continue
            places = torch.tensor(missing, device=w.device)
            noise = normal.index_select(1, places).transpose(0, 1), uniform.index_select(1, places).T
            made = self.conditionals.draw_of_noise(self.conditionals.inputs(w, None, places), places, *noise)
            w = w.index_copy(1, places, made.transpose(0, 1))
        return self.chart.inverse(w)

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        w, _ = self.chart(rotvec, observed)
        weighted = needs_particle_filter(observed, self._parents)
        drawn = w.new_zeros(num_samples, *w.shape)
        particles = max(self.num_particles, 4 * num_samples)
        for rows, count in ((~weighted, num_samples), (weighted, particles)):
            chosen = rows.nonzero()[:, 0]
            for part in chosen.split(max(1, _MOST_PARTICLES // count)):
                drawn[:, part] = draw_missing(
                    self.conditionals, self._levels, w[part], observed[part], num_samples, count, generator
                )
        return self.chart.inverse(drawn)
