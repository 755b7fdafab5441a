"""`RigMap`: the rotations of one rig <-> those of the people that a prior knows, with the change of volume."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..rotations import quat_multiply, rotvec_to_unitquat, unitquat_log


class RigMap(NamedTuple):
    """The rotations of one rig <-> those of the people that a prior knows, joint by joint.

    The pose R of the prior is the rig's pose

        R'_j = A_j N_j(R_j) B_j,       N_j(M_j Q) = M_j (v d_j, w) / |(v d_j, w)|,      (v, w) = Q, a unit quaternion.

    A_j and B_j turn rest frames, which leaves the Haar measure as it is. N_j scales the distance from a centre M_j along
    each axis by d_j, the rig's spread over the prior's, and is a bijection of SO(3). With (v, w) the quaternion of
    M_j^-1 A_j^-1 R'_j B_j^-1, its change of volume is (Tyler, Biometrika 1987)

        |dR_j / dR'_j| = 1 / (d_jx d_jy d_jz |(v / d_j, w)|^4).

    Attributes:
        parent_frame, child_frame, centre: (J, 3) rotvecs of A_j, B_j and M_j, radians.
        spread: (J, 3) factors d_j.
    """

    parent_frame: Tensor
    child_frame: Tensor
    spread: Tensor
    centre: Tensor

    def to_prior(self, rotvec: Tensor) -> tuple[Tensor, Tensor]:
        """The prior's (..., J, 3) rotvecs of the rig's, and the logarithms (..., J) of the change of volume."""
        quat = quat_multiply(rotvec_to_unitquat(-self.parent_frame), rotvec_to_unitquat(rotvec))
        quat = quat_multiply(quat, rotvec_to_unitquat(-self.child_frame))
        quat, log_volume = self._scaled(quat, 1.0 / self.spread)
        return unitquat_log(quat)[0], log_volume

    def to_rig(self, rotvec: Tensor) -> Tensor:
        """The rig's rotvecs (..., J, 3) of the prior's, norm at most pi: the inverse of `to_prior`."""
        quat = self._scaled(rotvec_to_unitquat(rotvec), self.spread)[0]
        quat = quat_multiply(rotvec_to_unitquat(self.parent_frame), quat)
        return unitquat_log(quat_multiply(quat, rotvec_to_unitquat(self.child_frame)))[0]

    def _scaled(self, quat: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Unit quaternions (..., J, 4) scaled about the centre, and the logarithms (..., J) of the change of volume."""
        about = quat_multiply(rotvec_to_unitquat(-self.centre), quat)
        longer = torch.cat([about[..., :3] * factor, about[..., 3:]], -1)
        squared = longer.square().sum(-1)
        log_volume = factor.log().sum(-1) - 2.0 * squared.log()
        return quat_multiply(rotvec_to_unitquat(self.centre), longer * squared.rsqrt()[..., None]), log_volume
