"""The state that a fit begins with: the rest pose, the prior's mean pose, or the pose that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ... import skeleton
from ..._checks import as_tensor
from ...prior import LatentPosePrior, PosePrior
from ...rotations import MOST_RADIANS
from ..body.hand_convention import HandConvention
from ..energy import PoseParams, pose_and_joints
from .state import BodyState, decode_hands

#: Poses (1 + N, 55, 3), the mean first, and in latent space their latents (1 + N, D).
Samples = tuple[Tensor, Tensor | None]
#: Shape coefficients beyond this, standard deviations, belong to no body.
_LARGEST_BETA = 1e3


def initial_state(
    model: nn.Module, bodies: int, convention: HandConvention, prior: PosePrior | None, samples: Samples | None,
    start: PoseParams | None, betas: Tensor | None, latent: bool,
) -> BodyState:  # fmt: skip
    """One start of B bodies at the origin: in the given pose, else in the prior's mean pose, else in the rest pose.

    Args:
        model: SMPL-X model of the smplx package.
        bodies: B.
        convention: of the model's hands.
        prior, samples: a prior, and poses of it, the mean first; without a prior the samples are not used.
        start, betas: what the user gave to `fit_body`. The known shape `betas` comes before that of `start`.
        latent: whether the search is in latent space.

    Raises:
        ValueError: a start or a shape that is not finite or of another size.
    """
    reference = model.v_template
    assert isinstance(reference, Tensor)
    sizes: tuple[int, int] = (int(model.num_betas), int(model.num_expression_coeffs))  # type: ignore[arg-type]
    given = None if start is None else _given_pose(start, bodies, convention)
    first = _first_latent(prior, samples, given) if latent else None
    state = start_state(reference, bodies, *sizes, convention.num_coefficients, first)
    pose = state.pose.clone()
    if given is not None:
        pose = given.to(pose).expand_as(pose[0])[None].clone()
    elif samples is not None and prior is not None:
        index = list(prior.joints)
        pose[..., index, :] = samples[0][0, index].to(pose)
    state = replace(state, pose=pose)
    judged = () if prior is None else prior.joints
    if state.hands is not None and start is None and not any(j >= 25 for j in judged):
        pose = pose.clone()  # the model's own hand at rest: coefficients of zero
        pose[..., 25:55, :] = decode_hands(state.hands, convention)
        state = replace(state, pose=pose)
    elif state.hands is not None:
        state = replace(state, hands=hand_coefficients(pose, convention))
    if isinstance(start, Mapping):
        for name in ("betas", "expression"):
            value = start.get(name)
            if value is not None:
                own = _coefficients(f"start: {name}", value, getattr(state, name))
                state = replace(state, **{name: own})
    return state if betas is None else replace(state, betas=_coefficients("betas", betas, state.betas))


def hand_coefficients(pose: Tensor, convention: HandConvention) -> Tensor:
    """(*, 2, n) least-squares PCA coefficients of the hands of poses (*, 55, 3)."""
    parts = (skeleton.PART_SLICES["left_hand_pose"], skeleton.PART_SLICES["right_hand_pose"])
    return torch.stack([_one_hand(pose[..., part, :], convention, side) for side, part in enumerate(parts)], -2)


def _given_pose(start: PoseParams, bodies: int, convention: HandConvention) -> Tensor:
    """The poses (1 or B, 55, 3), or (55, 3), that the user gives."""
    if isinstance(start, Mapping):
        start = {name: None if value is None else as_tensor(f"start: {name}", value) for name, value in start.items()}
    else:
        start = as_tensor("start", start)
    try:
        given, _ = pose_and_joints(start, convention)
    except ValueError as error:
        text = str(error).removeprefix("start: ").removeprefix("params: ")
        raise ValueError(f"start: {text}") from None
    if given.dim() > 3 or not bool((given.abs() < MOST_RADIANS).all()):
        raise ValueError(
            f"start: expected finite rotations of {bodies} bodies, below {MOST_RADIANS:g} radians, got {tuple(given.shape)} up "
            f"to {float(given.abs().max()):g}."
        )
    if given.dim() == 3 and len(given) not in (1, bodies):
        raise ValueError(f"start: expected 1 or {bodies} bodies, got {len(given)}.")
    return given


def _first_latent(prior: PosePrior | None, samples: Samples | None, given: Tensor | None) -> Tensor:
    assert isinstance(prior, LatentPosePrior) and samples is not None and samples[1] is not None
    return samples[1][:1] if given is None else prior.encode(given)


def start_state(
    reference: Tensor, bodies: int, num_betas: int, num_expression: int, hand_size: int | None, latent: Tensor | None
) -> BodyState:
    """One start of B bodies in the rest pose, at the origin."""
    new = reference.new_zeros
    return BodyState(
        pose=new(1, bodies, skeleton.NUM_JOINTS, 3), transl=new(1, bodies, 3), betas=new(1, bodies, num_betas),
        expression=new(1, bodies, num_expression),
        hands=None if hand_size is None else new(1, bodies, 2, hand_size),
        latent=None if latent is None else latent.to(reference).expand(1, bodies, -1),
    )  # fmt: skip


def _coefficients(name: str, value: Tensor, like: Tensor) -> Tensor:
    """(1, B, n) coefficients of shape or expression, of those that the user gives."""
    value = as_tensor(name, value).to(like)
    sizes = ((like.shape[-1],), (1, like.shape[-1]), tuple(like.shape[1:]))
    if tuple(value.shape) not in sizes:
        raise ValueError(f"{name}: expected {sizes[0]} or {sizes[2]}, got {tuple(value.shape)}.")
    if not bool((value.abs() <= _LARGEST_BETA).all()):  # a NaN fails the comparison
        raise ValueError(
            f"{name}: expected finite numbers of at most {_LARGEST_BETA:g}, got {float(value.abs().max())}."
        )
    return value.expand_as(like).clone()


def _one_hand(hand: Tensor, convention: HandConvention, side: int) -> Tensor:
    """(*, n) least-squares PCA coefficients of hands (*, 15, 3)."""
    assert convention.components is not None
    vector = hand.flatten(-2)
    if convention.mean is not None:
        vector = vector - convention.mean[side].to(vector)
    return vector @ torch.linalg.pinv(convention.components[side].to(vector))
