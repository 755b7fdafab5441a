"""Empirical Bayes for rest frames: how far they differ between the people and rigs of a data set.

The poses R' of a group, which is one person on one rig, are taken for R'_j = Exp(a_j) R_j Exp(b_j) of poses R of a density
that all groups share, a Gaussian over all joints. The rest frames a_j ~ N(0, A_j) and b_j ~ N(0, B_j) are drawn once for a
group. EM finds A, B and the density (`mixed_model`): of each group the most likely a and b, and the normal approximation
about them (Laplace), whose covariance V counts in A_j <- mean over groups of (a_j a_j^T + V_j). Left and right joints are
pooled through the mirror, and rigs, and people within a rig, count alike.

Poses of a recording repeat each other. The poses of a group therefore weigh as a given number of independent draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.density.mixed_model import Group, MixedModel
from poseprior import PoseDataset, RigNoise, skeleton
from poseprior.rotations import quat_multiply, rotvec_to_unitquat, unitquat_to_rotvec

#: How many independent draws the poses of one person on one rig are worth (docs/rig_noise.md).
DRAWS = 20
#: Of each group; more poses of the same people change little.
_MOST_POSES = 400
#: EM takes derivatives anew after so many steps.
_LINEAR_STEPS = 10


@dataclass(frozen=True)
class Estimate:
    """What EM found.

    Attributes:
        joints: SMPL-X indices.
        groups: whose rest frames differ.
        frames: (G, J, 2, 3) most likely rotvecs of a_j and b_j of each group, radians.
        covariance: (J, 2, 3, 3), A_j and B_j, radians^2.
        steps: that EM took.
    """

    joints: tuple[int, ...]
    groups: tuple[Group, ...]
    frames: Tensor
    covariance: Tensor
    steps: int

    def by_group(self) -> dict[tuple[str, str], Tensor]:
        """(J, 2, 3) rest frames by rig and person, as `turned` takes them."""
        return {(group.rig, group.person): own for group, own in zip(self.groups, self.frames, strict=True)}

    def showing(self, place: int) -> list[Group]:
        """The groups that show a joint, given by its place in `joints`, on either side."""
        partner = self.joints.index(skeleton.MIRROR[self.joints[place]])
        return [group for group in self.groups if bool(group.shown[place]) or bool(group.shown[partner])]

    def rig_noise(self) -> RigNoise:
        """The sizes of rest frames of left and middle joints, degrees^2, and no other noise."""
        degrees = self.covariance * (180.0 / torch.pi) ** 2
        sides = [
            {
                skeleton.JOINT_NAMES[j]: [[round(v, 4) for v in row] for row in degrees[k, side].tolist()]
                for k, j in enumerate(self.joints)
                if not skeleton.JOINT_NAMES[j].startswith("right_")
            }
            for side in range(2)
        ]
        return RigNoise(parent_frame=sides[0], child_frame=sides[1])


def groups_of(data: PoseDataset, joints: Sequence[int]) -> list[Group]:
    """The people of each rig; a fixed random few hundred poses of each, and the joints that nine in ten of them show.

    Where a rule made a joint that other rows measure (collars), it counts as unobserved.
    """
    pose, observed = data.all_poses()
    observed = observed.clone()
    if data.imputed is not None:
        imputed = torch.as_tensor(np.asarray(data.imputed))
        observed &= ~imputed | ~(observed & ~imputed).any(0)
    rotvec, observed = pose[:, list(joints)].double(), observed[:, list(joints)]
    rig, person, found = np.asarray(data.rig), np.asarray(data.subject), []
    for name, who in sorted(set(zip(rig.tolist(), person.tolist(), strict=True))):
        rows = torch.from_numpy(np.flatnonzero((rig == name) & (person == who)))
        shown = observed[rows].double().mean(0) > 0.9
        rows = rows[observed[rows][:, shown].all(1)]
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:_MOST_POSES]
        if bool(shown.any()) and len(rows) > 1:
            found.append(Group(name, who, rotvec[rows[chosen]], shown))
    return found


def estimate(
    groups: Sequence[Group],
    joints: Sequence[int],
    *,
    draws: float = DRAWS,
    steps: int = 150,
    tolerance: float = 2e-3,
) -> Estimate:
    """A_j and B_j by EM.

    Args:
        groups: of `groups_of`, two or more.
        joints: SMPL-X indices, both sides of each joint.
        draws: how many independent draws the poses of a group are worth, at most one for each pose.
        steps: most steps of EM.
        tolerance: EM ends when no covariance changes by more than this share of its norm in a step.
    """
    model = MixedModel(groups, tuple(joints), draws)
    taken, change = 0, float("inf")
    while taken < steps and change > tolerance:
        if taken % _LINEAR_STEPS == 0:
            model.linearise()
        before = model.covariance
        model.step()
        size = before.flatten(2).norm(dim=2)
        taken, change = taken + 1, float(((model.covariance - before).flatten(2).norm(dim=2) / size).max())
    return Estimate(tuple(joints), tuple(groups), model.frames, model.covariance, taken)


def turned(
    data: PoseDataset, joints: Sequence[int], frames: Mapping[tuple[str, str], Tensor], *, inverse: bool = False
) -> PoseDataset:
    """Poses in other rest frames, R'_j = Exp(a_j) R_j Exp(b_j).

    Args:
        data: the poses, with the rig and the person of each.
        joints: SMPL-X indices.
        frames: (J, 2, 3) rotvecs of a_j and b_j for each rig and person; a person without any stays.
        inverse: take the frames off instead, R_j of R'_j.
    """
    pose, observed = (part.clone() for part in data.all_poses())
    rig, person = np.asarray(data.rig), np.asarray(data.subject)
    index = torch.tensor(list(joints))
    for (name, who), found in frames.items():
        rows = torch.from_numpy(np.flatnonzero((rig == name) & (person == who)))[:, None]
        left, right = rotvec_to_unitquat(-found if inverse else found).unbind(1)
        own = quat_multiply(quat_multiply(left, rotvec_to_unitquat(pose[rows, index].double())), right)
        pose[rows, index] = unitquat_to_rotvec(own).to(pose) * observed[rows, index, None]
    return PoseDataset(
        pose, observed, subject=data.subject, sequence=data.sequence, fps=data.fps, frame=data.frame, rig=data.rig,
        imputed=data.imputed,
    )  # fmt: skip
