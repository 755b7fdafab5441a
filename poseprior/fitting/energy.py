"""`EnergyTerm`: what a fit minimises, in nats, one value a body; terms add."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from .. import skeleton
from .._checks import check_floating
from ..params import pose_from_smplx
from .body.hand_convention import HandConvention

#: What a user passes to `smplx`: its keyword arguments by name, or a pose (*batch, 55, 3).
PoseParams = Mapping[str, Tensor | None] | Tensor


class EnergyTerm(ABC):
    """An energy of poses, (*batch,) nats: lower is better, and exp(-energy) is a density up to a constant.

    Attributes:
        name: key of the term in tables of energies.
        joints: that the term judges, SMPL-X indices: fits move them, and do not pull them to the rest pose besides. ()
            where the term only adds to what others judge.
        latent_dim: length of the latents that it judges in place of a pose; None where it judges poses alone.
        reduction: "sum" or "mean" over what it judges; fits take sums.
    """

    name: str = "term"
    joints: tuple[int, ...] = ()
    latent_dim: int | None = None
    reduction: str = "sum"

    @abstractmethod
    def __call__(
        self, params: PoseParams | None = None, *, latent: Tensor | None = None, progress: float = 1.0
    ) -> Tensor:
        """Energies (*batch,).

        Args:
            params: the keyword arguments of the body model by name, or a pose (*batch, 55, 3) of rotations.
            latent: (*batch, D) latents, for terms that judge them instead of the pose.
            progress: 0 at the start of a fit and 1 at its end, for terms that change on the way.
        """

    def select(self, bodies: Tensor) -> EnergyTerm | None:
        """The term of some bodies only; fits use it to leave out bodies that are done.

        Args:
            bodies: (B',) their numbers, 0 to B - 1, in the batch that the term is called with.

        Returns:
            The term; itself, if it is the same for all bodies; None, the default, if it cannot be split: then every step
            evaluates all bodies.
        """
        del bodies
        return None

    def _as_summand(
        self, params: PoseParams | None, latent: Tensor | None, progress: float, others: frozenset[int]
    ) -> Tensor:
        """Energies (*batch,) as part of a sum whose other terms judge the joints `others`."""
        del others
        return self(params, latent=latent, progress=progress)

    @final
    def __add__(self, other: EnergyTerm) -> EnergySum:
        return EnergySum((*summands(self), *summands(other)))


@final
class EnergySum(EnergyTerm):
    """The sum of terms: `term + term`.

    A latent goes to the term that judges latents of its length; the others judge the pose.

    Attributes:
        terms: the summands.
    """

    name = "sum"

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.terms))

    def __init__(self, terms: tuple[EnergyTerm, ...]) -> None:
        self.terms = terms
        self.joints = tuple(sorted({joint for term in terms for joint in term.joints}))

    def __call__(
        self, params: PoseParams | None = None, *, latent: Tensor | None = None, progress: float = 1.0
    ) -> Tensor:
        judge = None if latent is None else self._judge(latent)
        values = []
        for term in self.terms:
            others = frozenset(joint for other in self.terms if other is not term for joint in other.joints)
            values.append(term._as_summand(params, latent if term is judge else None, progress, others))
        return torch.stack(torch.broadcast_tensors(*values)).sum(0)

    def _judge(self, latent: Tensor) -> EnergyTerm:
        """The term that judges latents of this length."""
        check_floating("latent", latent, "(*batch, D)")
        judges = [term for term in self.terms if latent.shape[-1:] == (term.latent_dim,)]
        if len(judges) != 1:
            raise ValueError(
                f"latent: expected one term of the sum with latents of length {latent.shape[-1] if latent.dim() else 0}, got "
                f"{len(judges)}; call the terms one by one."
            )
        return judges[0]

    def select(self, bodies: Tensor) -> EnergyTerm | None:
        parts = [term.select(bodies) for term in self.terms]
        known = tuple(part for part in parts if part is not None)
        return EnergySum(known) if len(known) == len(parts) else None


def summands(term: EnergyTerm) -> tuple[EnergyTerm, ...]:
    """The terms of a sum, or the term itself."""
    return term.terms if isinstance(term, EnergySum) else (term,)


def pose_and_joints(params: PoseParams | None, hands: HandConvention) -> tuple[Tensor, tuple[int, ...] | None]:
    """The pose in what a user passes, and which joints it gives.

    Returns:
        Rotvecs (*batch, 55, 3) with hands on the flat hand, and the joints; None where all are given.

    Raises:
        ValueError: neither a pose nor keyword arguments of `smplx`, or an empty batch.
    """
    if isinstance(params, Tensor):
        check_floating("params", params)
        if params.shape[-2:] != (skeleton.NUM_JOINTS, 3):
            raise ValueError(
                f"params: expected the keyword dict of smplx or a pose (*batch, {skeleton.NUM_JOINTS}, 3), got a tensor "
                f"{tuple(params.shape)}; pass a body pose as {{'body_pose': ...}}."
            )
        return params, None
    if not isinstance(params, Mapping):
        raise ValueError(
            f"params: expected the keyword dict of smplx or a pose tensor, got {type(params).__name__}; pass the dict "
            "itself, term(params)."
        )
    pose, _ = pose_from_smplx(params, **hands.options())
    if pose.numel() == 0:
        raise ValueError("params: expected one body or more, got an empty batch.")
    parts = [part for name, part in skeleton.PART_SLICES.items() if params.get(name) is not None]
    given = tuple(sorted(j for part in parts for j in range(part.start, part.stop)))
    return pose, None if len(given) == skeleton.NUM_JOINTS else given
