"""`AdaptedPrior` and `AdaptedLatentPrior`: a prior of people, seen through the conventions of one rig."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor

from .. import checkpoint, skeleton
from .._checks import check_mapping, check_number, quoted
from ..models.shared.nested import nested_prior
from ..prior import LatentPosePrior, PosePrior
from ..trainable import Trainable, TrainingPoses
from .rig_map import RigMap

#: Three numbers by joint name.
ByJoint = Mapping[str, Sequence[float]]
_NOTHING: ByJoint = MappingProxyType({})
#: Bounds of the factors d_j: beyond them the density is no longer one of people.
_LEAST_SPREAD, _MOST_SPREAD = 0.05, 20.0


class _Adapted(PosePrior):
    """What both adapted priors share: they hold a prior, and call it with the poses in its own conventions.

    Args:
        prior: a prior, or the `class` and `config` of one.
        parent_frame: rotvec of A_j by joint name, degrees; joints that are left out have none.
        child_frame: rotvec of B_j by joint name, degrees.
        spread: d_j by joint name, the rig's spread over the prior's, along x, y and z about the centre.
        centre: rotvec of M_j by joint name, degrees; needed for joints with a spread.

    Raises:
        ValueError: not a prior, a joint that it does not model, other than three numbers for a joint, or a spread without
            a centre.
    """

    parent_frame: Tensor
    child_frame: Tensor
    spread: Tensor
    centre: Tensor

    @property
    @abstractmethod
    def _held(self) -> PosePrior:
        """The prior that it holds."""

    def __init__(
        self,
        prior: PosePrior | Mapping[str, Any],
        *,
        parent_frame: ByJoint = _NOTHING,
        child_frame: ByJoint = _NOTHING,
        spread: ByJoint = _NOTHING,
        centre: ByJoint = _NOTHING,
    ) -> None:
        inner = nested_prior("prior", prior)
        if isinstance(inner, LatentPosePrior) != isinstance(self, LatentPosePrior):
            raise ValueError(
                f"prior: {type(self).__name__} does not hold a {type(inner).__name__}; poseprior.rigs.adapted chooses "
                "the class that does."
            )
        super().__init__(inner.joints, context_dim=inner.context_dim)
        self._given = {
            name: _check_by_joint(name, values, inner)
            for name, values in (
                ("parent_frame", parent_frame), ("child_frame", child_frame), ("spread", spread), ("centre", centre),
            )
        }  # fmt: skip
        bare = sorted(set(self._given["spread"]) - set(self._given["centre"]))
        if bare:
            raise ValueError(f"centre: expected one for every joint with a spread, got none for {', '.join(bare)}.")
        self.prior = inner
        if isinstance(inner, LatentPosePrior):
            self.latent_dim = inner.latent_dim
        for name, values in _table(self.joints, self._given)._asdict().items():
            self.register_buffer(name, values.to(device=inner.device, dtype=inner.dtype), persistent=False)
        self.fitted = inner.fitted
        self.log_prob_kind = inner.log_prob_kind
        self.can_marginalise = inner.can_marginalise
        self.closed_form = inner.closed_form
        self.default_fit = dict(inner.default_fit)  # type: ignore[misc]  # deepcopy does not take a mapping proxy

    @property
    def rig_map(self) -> RigMap:
        """The map between the rig's rotations and those of the held prior, over `joints`."""
        return RigMap(self.parent_frame, self.child_frame, self.spread, self.centre)

    def get_config(self) -> dict[str, Any]:
        given = {name: {joint: list(v) for joint, v in values.items()} for name, values in self._given.items()}
        return {"prior": {"class": type(self.prior).__name__, "config": self.prior.get_config()}, **given}

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        inner = self.prior._fitted_config(train)
        joints = checkpoint.build(type(self.prior).__name__, inner, "it").joints
        kept = {skeleton.JOINT_NAMES[j] for j in joints}
        given = {
            name: {joint: list(v) for joint, v in values.items() if joint in kept}
            for name, values in self._given.items()
        }
        return {"prior": {"class": type(self.prior).__name__, "config": inner}, **given}

    def _initialise(self, train: TrainingPoses) -> None:
        self.prior._initialise(_PosesOfThePrior(train, self))
        self.prior.fitted = True

    def _thaw(self) -> None:
        self.prior._thaw()

    def _settle(self) -> None:
        super()._settle()
        self.prior._settle()

    def _check_weights(self) -> None:
        self.prior._check_weights()
        super()._check_weights()

    def training_loss(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        """As the prior's on its own poses, less the change of volume."""
        own, log_volume = self.rig_map.to_prior(rotvec)
        return self.prior.training_loss(own, observed, context, step) - (log_volume * observed).sum(1).mean()

    def selection_penalty(self, rotvec: Tensor, observed: Tensor) -> Tensor | None:
        """As the prior's on its own poses."""
        return self.prior.selection_penalty(self.rig_map.to_prior(rotvec)[0], observed)

    def can_score(self, observed: Tensor) -> Tensor:
        """As `PosePrior.can_score` of the prior that it holds."""
        return self.prior.can_score(observed)

    def _refuse_partial(self, seen: Tensor) -> None:
        self.prior._refuse_partial(seen)

    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        own, log_volume = self.rig_map.to_prior(rotvec)
        return self.prior._log_prob(own, observed, context) + (log_volume * observed).sum(1)

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        own, log_volume = self.rig_map.to_prior(rotvec)
        return self.prior._log_prob_whole(own, context) + log_volume.sum(1)

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        return self.rig_map.to_rig(self.prior._sample(num, generator, context))

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        own = self.rig_map.to_prior(rotvec)[0]
        return self.rig_map.to_rig(self.prior._complete(own, observed, num_samples, generator, context))


@final
class AdaptedPrior(_Adapted):
    """A prior that holds another one and scores one rig's poses with it, exact in the same measure.

    A rig's pose R' stands for the pose R = T^-1(R') of the people that the held prior describes; see `RigMap` for T:

        log p(R') = log p_held(T^-1(R')) + log |dR / dR'|.

    `sample` and `complete` go the other way. It marginalises, completes and is fitted as the prior that it holds.
    `poseprior.tasks.adapt` finds T from poses.

    >>> from poseprior import GaussianPrior
    >>> prior = AdaptedPrior(GaussianPrior("body"), parent_frame={"left_knee": (10.0, 0.0, 0.0)})
    >>> prior.log_prob(torch.zeros(2, 55, 3)).shape
    torch.Size([2])
    """

    @property
    def _held(self) -> PosePrior:
        return self.prior


@final
class AdaptedLatentPrior(_Adapted, LatentPosePrior):
    """As `AdaptedPrior`, for priors with a latent space: latents are those of the prior that it holds."""

    latent_dim: int

    @property
    def _held(self) -> LatentPosePrior:
        assert isinstance(self.prior, LatentPosePrior)
        return self.prior

    def _encode(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        return self._held._encode(self.rig_map.to_prior(rotvec)[0], context)

    def _decode(self, latent: Tensor, context: Tensor | None) -> Tensor:
        return self.rig_map.to_rig(self._held._decode(latent, context))


def adapted(
    prior: PosePrior,
    *,
    parent_frame: ByJoint = _NOTHING,
    child_frame: ByJoint = _NOTHING,
    spread: ByJoint = _NOTHING,
    centre: ByJoint = _NOTHING,
) -> PosePrior:
    """An `AdaptedLatentPrior` of a prior with a latent space, else an `AdaptedPrior`; arguments as theirs."""
    kind = AdaptedLatentPrior if isinstance(prior, LatentPosePrior) else AdaptedPrior
    return kind(prior, parent_frame=parent_frame, child_frame=child_frame, spread=spread, centre=centre)


class _PosesOfThePrior:
    """`TrainingPoses` of a rig, in the conventions of the held prior."""

    def __init__(self, train: TrainingPoses, prior: _Adapted) -> None:
        self._train, self._prior = train, prior
        self.seed, self.mirror, self.jitter = train.seed, train.mirror, train.jitter
        self.closed_form, self.progress = train.closed_form, train.progress

    @property
    def observed(self) -> Tensor:
        return self._train.observed

    @property
    def co_observed(self) -> Tensor:
        return self._train.co_observed

    def poses(self, joints: Sequence[int], *, max_poses: int | None = None) -> tuple[Tensor, Tensor]:
        return self._moved(*self._train.poses(joints, max_poses=max_poses), joints)

    def batches(self, joints: Sequence[int], max_poses: int) -> tuple[Tensor, Tensor]:
        return self._moved(*self._train.batches(joints, max_poses), joints)

    def out_of_time(self) -> bool:
        return self._train.out_of_time()

    def _moved(self, rotvec: Tensor, observed: Tensor, joints: Sequence[int]) -> tuple[Tensor, Tensor]:
        names = {skeleton.JOINT_NAMES[j] for j in joints}
        given = {name: {k: v for k, v in values.items() if k in names} for name, values in self._prior._given.items()}
        return _table(joints, given).to_prior(rotvec)[0], observed


def _table(joints: Sequence[int], given: Mapping[str, ByJoint]) -> RigMap:
    """The map over some joints from values by joint name, in double precision."""
    tables = {}
    for name in RigMap._fields:
        tables[name] = torch.full((len(joints), 3), float(name == "spread"), dtype=torch.float64)
        for joint, value in given[name].items():
            tables[name][joints.index(skeleton.JOINT_NAMES.index(joint))] = torch.tensor(value, dtype=torch.float64)
        if name != "spread":
            tables[name] *= math.pi / 180.0
    return RigMap(**tables)


def _check_by_joint(argument: str, values: object, prior: Trainable) -> dict[str, tuple[float, ...]]:
    known = {skeleton.JOINT_NAMES[j] for j in prior.joints}
    checked = {}
    for joint, value in check_mapping(argument, values).items():
        if joint not in known:
            raise ValueError(f"{argument}: expected names of joints that the prior models, got {quoted(joint)}.")
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise ValueError(f"{argument}[{joint!r}]: expected three numbers (x, y, z), got {quoted(value)}.")
        limits = {"least": _LEAST_SPREAD, "most": _MOST_SPREAD} if argument == "spread" else {}
        checked[joint] = tuple(check_number(f"{argument}[{joint!r}]", v, **limits) for v in value)
    return checked
