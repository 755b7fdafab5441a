"""`PosePriorTerm`: any prior as an energy in nats, called with what `smplx` is called with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Literal, final

import torch
from torch import Tensor, nn

from .. import skeleton
from .._checks import check_joint_names, check_mapping, check_number, quoted
from .._pose_checks import check_latent, density_dtype
from .._tracing import is_traced, untransformed
from ..prior import LatentPosePrior, PosePrior
from ..training.pose_rows import check_prior
from .body.hand_convention import HandConvention
from .energy import EnergyTerm, PoseParams, pose_and_joints

#: Factor on the weight over the progress of a fit: a function of [0, 1], or values spread evenly over it.
Schedule = Callable[[float], float] | Sequence[float]

#: Of terms; energies beyond it leave no digits to those of other terms.
LARGEST_WEIGHT = 1e9
#: Nats a joint. No pose costs as much, and 55 of them still fit into half of single precision's range.
_LARGEST_ROBUST = 1e9
_TYPICAL_SAMPLES = 256


@final
class PosePriorTerm(EnergyTerm):
    """-log p of a pose under a prior, or of a latent under N(0, I), as a differentiable energy in nats against Haar.

        energy(pose) = weight * schedule(progress) * (-log p(pose)) / (joints scored, with reduction="mean")

    A prior is a density, so its energy has a unit, and no weight has to be found for each prior. With "sum" and weight 1 one
    nat of the prior counts as one nat of a data energy that is summed over measurements: a posterior, which `fit_body`
    minimises. With "mean" one nat a joint counts as one nat a measurement, for losses that are means.

    Args:
        prior: any fitted prior. It must be able to marginalise what `params` leaves out.
        weight: of the energy.
        joints: score these joints only (the prior's marginal); of a set such as "body" those that the prior models. None
            is all that it models.
        joint_weights: by joint name, for joints that should count less or more than 1; 0 leaves a joint out. With the
            different weights in ascending order, w_1 < w_2 < ..., and w_0 = 0, the energy is the sum over k of
            (w_k - w_(k-1)) (-log p(joints of weight w_k or more)), each a marginal of the prior. Where joints are
            independent, that is the weighted sum of their energies.
        robust: cap on the energy, in nats a joint above that of a typical sample: -log(p + exp(-cap)). A pose that the
            prior finds impossible costs about the cap, and its gradient vanishes. None is no cap.
        schedule: factor on the weight as a function of progress; a sequence such as (10, 3, 1) is spread evenly and
            interpolated in its logarithm.
        reduction: "mean" over scored joints, or "sum".
        model: the `smplx` model whose keyword arguments come in: its PCA components, number of coefficients and mean
            hand are used. None: hands are full rotations on the flat hand.

    Raises:
        ValueError: an unfitted prior, unknown joints, weights below 0, or options of the wrong kind.

    >>> import poseprior
    >>> prior = poseprior.GaussianPrior("body")
    >>> _ = prior.fit(0.2 * torch.randn(500, 55, 3, generator=torch.Generator().manual_seed(0)))
    >>> term = PosePriorTerm(prior)
    >>> term({"body_pose": torch.zeros(4, 63, requires_grad=True), "betas": torch.zeros(4, 10)}).shape
    torch.Size([4])
    """

    def __init__(
        self,
        prior: PosePrior,
        *,
        weight: float = 1.0,
        joints: str | int | Iterable[str | int] | None = None,
        joint_weights: Mapping[str, float] | None = None,
        robust: float | None = None,
        schedule: Schedule | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        model: nn.Module | None = None,
        name: str = "prior",
    ) -> None:
        check_prior(prior)
        if not prior.fitted:
            raise ValueError("prior: expected a fitted prior, got fresh weights; fit it, or take poseprior.load(name).")
        if prior.context_dim:
            raise ValueError("prior: expected a prior without context; scoring with a context needs prior.log_prob.")
        check_number("weight", weight, least=0.0, most=LARGEST_WEIGHT)
        if robust is not None:
            check_number("robust", robust, above=0.0, most=_LARGEST_ROBUST)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}.")
        self.prior, self.weight, self.robust, self.reduction, self.name = prior, weight, robust, reduction, name
        self.schedule = schedule
        factor_at(schedule, 0.0)
        self._hands = HandConvention.of(model)
        self._levels = _levels(prior, joints, joint_weights)
        self.joints = self._levels[-1][1]
        self.latent_dim = prior.latent_dim if isinstance(prior, LatentPosePrior) else None
        self._typical: dict[tuple[int, ...], float] = {}

    def __call__(
        self, params: PoseParams | None = None, *, latent: Tensor | None = None, progress: float = 1.0
    ) -> Tensor:
        """Energies (*batch,), nats.

        Args:
            params: keyword dict of `smplx` (flat or shaped; parts left out or None are unobserved, and integrated out), or
                a pose (*batch, 55, 3) of rotvecs. Keys that are no rotations (betas, transl, ...) have no effect.
            latent: (*batch, D) latents of a `LatentPosePrior`, scored by N(0, I) instead of the pose; without `params`.
            progress: where in the fit this is, for `schedule`, 0 to 1.

        Raises:
            ValueError: a pose or latent that is not finite, of another shape, or without any joint of the prior; joints of
                the prior beside a latent; a progress beyond 0 to 1.
        """
        weight = self.weight * factor_at(self.schedule, progress)
        if latent is not None:
            energy = self._latent_energy(latent)
            self._refuse_beside_latent(params)
            return weight * energy
        pose, given = pose_and_joints(params, self._hands)
        total = pose.new_zeros(())
        scored = 0.0
        for level, joints in self._levels:
            kept = joints if given is None else tuple(j for j in joints if j in given)
            if not kept:
                continue
            total = total + level * self._energy(pose, kept)
            scored = max(scored, float(len(kept)))
        if not scored:
            names = ", ".join(skeleton.JOINT_NAMES[j] for j in self._levels[-1][1][:3])
            raise ValueError(
                f"params: expected rotations of some joint that the prior models ({names}, ...), got none of them; pass "
                "body_pose, left_hand_pose or right_hand_pose."
            )
        return weight * (total / scored if self.reduction == "mean" else total)

    def __repr__(self) -> str:
        cap = "" if self.robust is None else f", capped at {self.robust:g} nats a joint"
        return f"PosePriorTerm({self.prior!r}, weight {self.weight:g}, {self.reduction} over {len(self.joints)} joints{cap})"

    def select(self, bodies: Tensor) -> PosePriorTerm:
        """Itself: a prior is the same for every body."""
        del bodies
        return self

    @property
    def is_log_density(self) -> bool:
        """Whether it is -log p of all the prior's joints times weight and schedule: no cap, no weights or choice of joints."""
        whole = self._levels == [(1.0, self.prior.joints)]
        return whole and self.robust is None and self.reduction == "sum"

    def _as_summand(
        self, params: PoseParams | None, latent: Tensor | None, progress: float, others: frozenset[int]
    ) -> Tensor:
        # The pose of joints that the latent decides is not lost where the other terms judge it; a tensor cannot leave any out.
        read = latent is not None and bool(others if isinstance(params, Tensor) else others & set(self.joints))
        return self(None if read else params, latent=latent, progress=progress)

    def _refuse_beside_latent(self, params: PoseParams | None) -> None:
        """Refuse joints of the prior: the latent decides them."""
        if params is None:
            return
        pose_and_joints(params, self._hands)  # checks the argument
        lost = [
            "a whole pose" if isinstance(params, Tensor) else name
            for name, part in skeleton.PART_SLICES.items()
            if isinstance(params, Tensor) or params.get(name) is not None
            if set(self.joints) & set(range(skeleton.NUM_JOINTS)[part])
        ]
        if lost:
            raise ValueError(
                f"params: expected no joints of the prior beside latent, which is scored in their place, got "
                f"{', '.join(dict.fromkeys(lost))}; leave out params, or latent."
            )

    def _energy(self, pose: Tensor, joints: tuple[int, ...]) -> Tensor:
        """(*batch,) -log p of the marginal over `joints`."""
        observed = None
        if joints != self.prior.joints:
            observed = torch.zeros(skeleton.NUM_JOINTS, dtype=torch.bool, device=pose.device)
            observed[list(joints)] = True
        log_prob = self.prior.log_prob(pose, observed=observed)
        if self.robust is not None:
            floor = -self._typical_energy(joints, observed) - self.robust * len(joints)
            log_prob = torch.logaddexp(log_prob, torch.full_like(log_prob, floor))
        return -log_prob

    @property
    def judges_latents(self) -> bool:
        """Whether it can be called with latents: no cap, no weights or choice of joints, which are those of a pose."""
        return self.latent_dim is not None and self._levels == [(1.0, self.prior.joints)] and self.robust is None

    def _latent_energy(self, latent: Tensor) -> Tensor:
        if not isinstance(self.prior, LatentPosePrior):
            raise ValueError(
                f"latent: {type(self.prior).__name__} has no latent space; pass a pose, or use a VAE or GlobalFlow."
            )
        if not self.judges_latents:
            raise ValueError(
                "latent: expected a term without robust, joints and joint_weights, since a latent is judged as a whole; make "
                "the term without them, or pass the decoded pose."
            )
        check_latent(latent, self.prior.latent_dim)
        energy = 0.5 * (latent.to(density_dtype(latent)).square() + math.log(2.0 * math.pi)).sum(-1)
        return energy / len(self.prior.joints) if self.reduction == "mean" else energy

    def _typical_energy(self, joints: tuple[int, ...], observed: Tensor | None) -> float:
        """Mean energy of the prior's own samples: its entropy, up to Monte Carlo noise."""
        if joints not in self._typical:
            if torch.compiler.is_compiling():
                raise ValueError(
                    "robust: expected a term that was called before it is compiled, which needs to know the energy of a "
                    "typical sample; call term(params) once."
                )
            with torch.no_grad(), untransformed():
                generator = torch.Generator(self.prior.device).manual_seed(0)
                drawn = self.prior.sample(_TYPICAL_SAMPLES, generator=generator)
                self._typical[joints] = -float(self.prior.log_prob(drawn, observed=observed).mean())
        return self._typical[joints]


def factor_at(schedule: Schedule | None, progress: float) -> float:
    """Value of a schedule at a progress in [0, 1].

    Raises:
        ValueError: a progress beyond [0, 1], something that is no schedule, or one with values below 0 or not finite.
    """
    if not is_traced():  # there a progress that changes is a symbol
        progress = check_number("progress", _plain(progress), least=0.0, most=1.0)
    if schedule is None:
        return 1.0
    if callable(schedule):
        factor = schedule(progress)
        if is_traced():
            return float(factor)
        return check_number(f"schedule({progress:g})", _plain(factor), least=0.0, most=LARGEST_WEIGHT)
    listed = isinstance(schedule, Iterable) and not isinstance(schedule, str | bytes | Mapping | Set | Iterator)
    values = (
        [check_number("schedule", _plain(value), above=0.0, most=LARGEST_WEIGHT) for value in schedule]
        if listed
        else []
    )
    if not values:
        raise ValueError(f"schedule: expected a function of progress, or a list of factors, got {quoted(schedule)}.")
    place = progress * (len(values) - 1)
    low = min(int(place), len(values) - 1)
    high = min(low + 1, len(values) - 1)
    return math.exp(math.log(values[low]) + (place - low) * (math.log(values[high]) - math.log(values[low])))


def _plain(value: object) -> object:
    """The number in a tensor that holds one; anything else as it is."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 and value.device.type != "meta" else value


def _levels(
    prior: PosePrior, joints: str | int | Iterable[str | int] | None, weights: Mapping[str, float] | None
) -> list[tuple[float, tuple[int, ...]]]:
    """(factor, joints) such that the energy is the sum of factor times -log p(joints), the widest set last."""
    chosen = (
        prior.joints
        if joints is None
        else _among("joints", check_joint_names(joints), prior.joints, "the prior models")
    )
    of = dict.fromkeys(chosen, 1.0)
    for name, value in check_mapping("joint_weights", {} if weights is None else weights).items():
        check_number(f"joint_weights[{name!r}]", value, least=0.0, most=LARGEST_WEIGHT)
        of |= dict.fromkeys(_among("joint_weights", name, chosen, "are scored"), float(value))
    steps = sorted(set(of.values()) - {0.0})
    if not steps:
        raise ValueError("joint_weights: expected some joint with a weight above 0, got none.")
    below = [0.0, *steps[:-1]]
    levels = [(w - b, tuple(j for j in of if of[j] >= w)) for w, b in zip(steps, below, strict=True)]
    return levels[::-1]


def _among(argument: str, named: str | list[str | int], known: tuple[int, ...], which: str) -> tuple[int, ...]:
    """The joints that are named, each by a word or an index, sorted. Of a set those that are known; other words name one."""
    words = [named] if isinstance(named, str) else named
    parts = [part for word in words for part in (word.replace(",", " ").split() if isinstance(word, str) else [word])]
    found: set[int] = set()
    for part in parts:
        try:
            joints = set(skeleton.resolve_joints(part)) & set(known)
        except ValueError as error:
            raise ValueError(f"{argument}{str(error).removeprefix('joints')}") from None
        if not joints:
            got = skeleton.JOINT_NAMES[part] if isinstance(part, int) else part
            raise ValueError(f"{argument}: expected joints that {which}, got {got}; leave it out.")
        found |= joints
    if not found:
        raise ValueError(f"{argument}: expected at least one joint, got none; try 'body' or 'whole_body'.")
    return tuple(sorted(found))
