"""Checks of poses, masks, latents and contexts: what users pass to a prior is checked and flattened here, once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from . import skeleton
from ._checks import check_floating, quoted, require_dense
from ._tracing import is_traced
from .rotations import MOST_RADIANS

_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")

#: Poses that one call draws at most: 165 numbers each, 6.6 GB in single precision.
MOST_DRAWS = 10_000_000
#: Of latents, which are N(0, 1); the sum of their squares is far from where single precision ends.
_MOST_LATENT = 1e15
#: Radians. Rotvecs beyond it are wrapped to norms of at most pi in double precision before a model sees them: in single
#: precision, rounding would lose the rotation that is left when whole turns are taken off, and its gradient.
_FAR_RADIANS = 1e4


def in_full_precision(method: Callable[_Given, _Got]) -> Callable[_Given, _Got]:
    """The method, computed outside of autocast: in half precision a log-density is off by whole nats."""

    @functools.wraps(method)
    def outside(*args: _Given.args, **kwargs: _Given.kwargs) -> _Got:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return method(*args, **kwargs)
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return method(*args, **kwargs)

    return outside


def check_pose(pose: Tensor, observed: Tensor | None, index: Tensor, like: Tensor) -> tuple[torch.Size, Tensor, Tensor]:
    """Poses and masks as models take them.

    Args:
        pose: (*batch, 55, 3) rotvecs.
        observed: (*batch, 55) bool or broadcastable to it; None means all.
        index: (J,) SMPL-X indices of the modelled joints.
        like: gives dtype and device.

    Returns:
        The batch shape, (B, J, 3) rotvecs with zeros where unobserved, and (B, J) bool.

    Raises:
        ValueError: another type or shape, a mask that does not broadcast, or (not in traced code, which has no values)
            values that are not finite, or beyond 1e15, on observed modelled joints.
    """
    n = skeleton.NUM_JOINTS
    check_precision(like)
    check_floating("pose", pose, f"(*batch, {n}, 3)")
    if pose.shape[-2:] != (n, 3):
        raise ValueError(f"pose: expected shape (*batch, {n}, 3), got {tuple(pose.shape)}{_layout_hint(pose)}.")
    batch = pose.shape[:-2]
    given = pose if len(index) == n else pose.index_select(-2, index.to(pose.device))
    rotvec = given.to(like)
    if observed is None:
        seen = torch.ones(rotvec.shape[:-1], dtype=torch.bool, device=rotvec.device)
    else:
        if isinstance(observed, Tensor):
            require_dense("observed", observed)
        if not isinstance(observed, Tensor) or observed.dtype != torch.bool or observed.shape[-1:] != (n,):
            what = (
                f"{observed.dtype} {tuple(observed.shape)}" if isinstance(observed, Tensor) else type(observed).__name__
            )
            raise ValueError(f"observed: expected a bool tensor (*batch, {n}), got {what}.")
        try:
            seen = observed.to(rotvec.device).index_select(-1, index.to(rotvec.device)).expand(rotvec.shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"observed: shape {tuple(observed.shape)} does not broadcast to the pose batch {tuple(batch)}."
            ) from None
        rotvec = torch.where(seen[..., None], rotvec, torch.zeros_like(rotvec))
    # At batch 1 the number of operations is the cost, and one that autograd records costs twice: reshape only if needed.
    if len(batch) != 1:
        rotvec, seen = rotvec.reshape(-1, len(index), 3), seen.reshape(-1, len(index))
    if is_traced():
        return batch, rotvec, seen
    most = check_near("pose", rotvec, index, "mark missing joints in `observed` instead")
    if most > _FAR_RADIANS:
        rotvec = _without_turns(given.to(rotvec.device).reshape(rotvec.shape), seen).to(rotvec)
    return batch, rotvec, seen


def check_near(name: str, rotvec: Tensor, joints: Tensor, remedy: str) -> float:
    """The largest number in rotvecs (*batch, J, 3) of joints (J,), in absolute value.

    Raises:
        ValueError: one that is not finite, or beyond 1e15, with the name of the argument and the remedy.
    """
    found = rotvec.detach()
    most = float(found.abs().max()) if found.numel() else 0.0
    if most < MOST_RADIANS:  # a NaN fails the comparison
        return most
    found = found.reshape(-1, len(joints), 3)
    row, place, axis = (~(found.abs() < MOST_RADIANS)).nonzero()[0].tolist()
    value = float(found[row, place, axis])
    what = f"{value:.3g} radians" if math.isfinite(value) else "a NaN or infinity"
    raise ValueError(
        f"{name}: expected finite rotvecs, got {what} at {skeleton.JOINT_NAMES[int(joints[place])]} of pose {row}; {remedy}."
    )


def _without_turns(rotvec: Tensor, seen: Tensor) -> Tensor:
    """The same rotations (B, J, 3) with norms of at most pi, computed in double precision; zero where not seen."""
    precise = torch.where(seen[..., None], rotvec.double(), 0.0)
    angle = precise.square().sum(-1, keepdim=True).clamp_min(1e-30).sqrt()
    turns = torch.round(angle.detach() / (2.0 * math.pi))
    return precise * ((angle - 2.0 * math.pi * turns) / angle)


def _layout_hint(pose: Tensor) -> str:
    """The remedy for a pose in another layout: which function converts it."""
    joints = pose.shape[-2] if pose.dim() > 1 and pose.shape[-1] == 3 else None
    width = pose.shape[-1] if pose.dim() else None
    if joints == 53 or width == 159:
        return "; poseprior.params.pose_from_joints53 adds the eyes"
    if joints in (52, 24):
        return f"; poseprior.params.pose_from_{'smplh' if joints == 52 else 'smpl'} takes {joints} joints"
    if joints == 21 or width == 63:
        return '; poseprior.params.pose_from_smplx({"body_pose": pose}) takes a body pose alone'
    if width in (165, 156, 72):
        return "; poseprior.params.pose_from_vector takes flat vectors"
    return ""


def check_context(context: Tensor, batch: Sequence[int], size: int, like: Tensor, owner: str) -> Tensor:
    """(B, size) of a conditioning vector (*batch, size) or broadcastable to it.

    Args:
        context: what the user passed.
        batch: the batch shape.
        size: length of the conditioning vector; 0 for unconditional priors.
        like: gives dtype and device.
        owner: class name of the prior, for messages.

    Raises:
        ValueError: a context for an unconditional prior, another size, or a shape that does not broadcast.
    """
    if not size:
        raise ValueError(f"context: {owner} was built without context_dim; leave context out.")
    check_floating("context", context, f"(*batch, {size})")
    if context.shape[-1:] != (size,):
        raise ValueError(f"context: expected (*batch, {size}), got {tuple(context.shape)}.")
    if not (is_traced() or bool(torch.isfinite(context).all())):
        raise ValueError("context: expected finite numbers, got a NaN or infinity.")
    try:
        expanded = context.to(like).expand(*batch, size)
    except RuntimeError:
        raise ValueError(
            f"context: shape {tuple(context.shape)} does not broadcast to the batch {tuple(batch)}."
        ) from None
    return expanded.reshape(-1, size)


def check_latent(latent: Tensor, dim: int) -> None:
    """Refuse what is not a floating-point tensor (*batch, dim) of finite numbers.

    Raises:
        ValueError: another type or length, or (not in traced code) a NaN or numbers beyond 1e15.
    """
    check_floating("latent", latent, f"(*batch, {dim})")
    if latent.shape[-1:] != (dim,):
        raise ValueError(f"latent: expected (*batch, {dim}), got {tuple(latent.shape)}.")
    if not is_traced() and not bool((latent.detach().abs() < _MOST_LATENT).all()):  # a NaN fails the comparison
        raise ValueError(
            f"latent: expected finite numbers within {_MOST_LATENT:g}, got others; prior.encode(pose) gives the latent of a "
            "pose."
        )


def check_sample_shape(sample_shape: int | Sequence[int]) -> tuple[int, ...]:
    """The shape of independent draws; an int n means (n,).

    Raises:
        ValueError: sizes that are not whole numbers of 0 or more, or more draws than memory addresses.
    """
    shape = (sample_shape,) if isinstance(sample_shape, int | Integral) else sample_shape
    if not isinstance(shape, Sequence) or not all(
        isinstance(n, Integral) and not isinstance(n, bool) and 0 <= int(n) < 2**63 for n in shape
    ):
        raise ValueError(f"sample_shape: expected whole sizes of 0 or more, got {quoted(sample_shape)}.")
    check_draws(
        "sample_shape", math.prod(max(int(n), 1) for n in shape), sample_shape
    )  # sizes beside a 0 have limits, too
    return tuple(int(n) for n in shape)


def check_precision(like: Tensor) -> None:
    """Refuse weights of half precision, in which densities would cost whole nats, and weights without values.

    Raises:
        ValueError: weights that are neither of single nor of double precision, or on the meta device.
    """
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"prior: its weights are {like.dtype}; priors compute in single or double precision, call prior.float()."
        )
    if like.is_meta:
        raise ValueError(
            "prior: its weights are on the meta device, which holds no values; build or load it on the CPU."
        )


def density_dtype(pose: Tensor) -> torch.dtype:
    """The type of a pose's log-density: its own, but single precision for half-precision poses.

    Far poses have log-densities below -65,504 nats, where half precision ends.
    """
    return torch.promote_types(pose.dtype, torch.float32)


def check_generator(generator: object, device: torch.device) -> None:
    """Refuse what is no generator for a device.

    Raises:
        ValueError: another type, or a generator of another kind of device.
    """
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"generator: expected a torch.Generator or None, got {quoted(generator)}; use "
            "torch.Generator().manual_seed(seed)."
        )
    if generator.device.type != device.type:
        raise ValueError(
            f"generator: expected one of the prior's device, {device.type}, got one of {generator.device.type}; use "
            f"torch.Generator({device.type!r})."
        )


def check_draws(name: str, number: int, given: object) -> None:
    """Refuse more poses than one call draws.

    Args:
        name: of the argument.
        number: of poses to draw.
        given: what the user passed.

    Raises:
        ValueError: too many.
    """
    if number > MOST_DRAWS:
        raise ValueError(
            f"{name}: expected at most {MOST_DRAWS:,} poses a call, got {quoted(given)}; draw in several calls."
        )


def refuse_partial(owner: str, joints: Sequence[int], seen: Tensor) -> None:
    """Refuse masks (B, J) that leave out joints, for a prior that cannot marginalise.

    Raises:
        ValueError: some joint is unobserved.
    """
    if not bool(seen.all()):
        missing = [skeleton.JOINT_NAMES[joints[k]] for k in (~seen).any(0).nonzero()[:, 0].tolist()]
        raise ValueError(
            f"observed: {owner} cannot marginalise, and {', '.join(missing[:4])} "
            f"{'are' if len(missing) > 1 else 'is'} unobserved; use a prior that can (GaussianPrior, "
            "GaussianMixturePrior, OrderAgnosticPrior)."
        )
