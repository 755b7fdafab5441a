"""What `adapt` and the tasks share: the prior they take, rows of poses, joints that never move, mean rotations."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..prior import PosePrior
from ..rotations import frechet_mean, geodesic_distance
from ..skeleton import JOINT_NAMES, NUM_JOINTS

#: A joint that turns by less than this in all poses is constant, radians.
_STILL = math.radians(0.05)


def check_prior(prior: object) -> None:
    """Refuse what is no prior.

    Raises:
        ValueError: naming the type and the remedy.
    """
    if not isinstance(prior, PosePrior):
        raise ValueError(f"prior: expected a PosePrior, got {type(prior).__name__}; poseprior.load(name) gives one.")


def check_fitted(prior: PosePrior) -> None:
    """Refuse what is no prior, and a prior that is not fitted or takes a context.

    Raises:
        ValueError: naming the remedy.
    """
    check_prior(prior)
    if not prior.fitted or prior.context_dim:
        raise ValueError(
            "prior: expected a fitted prior without a context; fit it, or take one that ships (poseprior.list_pretrained)."
        )


def flatten(prior: PosePrior, pose: Tensor, observed: Tensor | None) -> tuple[torch.Size, Tensor, Tensor]:
    """Batch shape, (B, 55, 3) poses in the prior's dtype, and (B, 55) bool of observed modelled joints."""
    batch = pose.shape[:-2]
    seen = torch.zeros(NUM_JOINTS, dtype=torch.bool, device=prior.device)
    seen[list(prior.joints)] = True
    if observed is not None:
        seen = seen & observed.to(prior.device)
    flat = pose.detach().to(dtype=prior.dtype, device=prior.device).reshape(-1, NUM_JOINTS, 3)
    return batch, flat, seen.expand(*batch, NUM_JOINTS).reshape(-1, NUM_JOINTS)


class MovingRows(NamedTuple):
    """Poses as a prior scores them, where joints that never move count as unobserved.

    Attributes:
        pose: (N, 55, 3), of the prior's dtype.
        seen: (N, 55) bool, observed modelled joints that move.
        usable: (N,) bool, the poses that the prior can score.
        moving: (N, 55) bool, observed joints that move, those that the prior does not model too.
        constant: names of the prior's joints that never move.
    """

    pose: Tensor
    seen: Tensor
    usable: Tensor
    moving: Tensor
    constant: list[str]


def moving_rows(prior: PosePrior, pose: Tensor, observed: Tensor) -> MovingRows:
    """Of poses (N, 55, 3) with masks (N, 55)."""
    still = constant_joints(pose, observed)
    moving = observed.clone()
    moving[:, still] = False
    _, flat, seen = flatten(prior, pose, moving)
    names = [JOINT_NAMES[joint] for joint in still if joint in prior.joints]
    return MovingRows(flat, seen, seen.any(1) & prior.can_score(seen), moving.to(flat.device), names)


def constant_joints(pose: Tensor, observed: Tensor) -> list[int]:
    """Joints that turn by less than 0.05 degrees in all of the poses (N, 55, 3) that observe them, (N, 55)."""
    still = []
    for joint in range(NUM_JOINTS):
        values = pose[observed[:, joint], joint]
        if len(values) > 1 and float(geodesic_distance(values, values[:1]).max()) < _STILL:
            still.append(joint)
    return still


def quick_mean(rotvec: Tensor, observed: Tensor | None = None) -> Tensor:
    """Mean rotations (J, 3) of (N, J, 3) rotvecs where they are observed (N, J), to a thousandth of a degree or so."""
    return frechet_mean(rotvec, None if observed is None else observed.double(), iterations=20, tol=1e-5)
