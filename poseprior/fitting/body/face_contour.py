"""`FaceContour`: the landmarks of smplx that slide along the outline of the face as the head turns."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ...rotations import rotvec_to_rotmat

#: The tables of smplx end at this turn of the head, degrees.
_MOST_DEGREES = 39


@final
class FaceContour:
    """Some of the 17 contour landmarks, each a point on a triangle of the mesh that depends on the head's turn, in degrees.

    Args:
        buffers: of an SMPL-X model that was made with `use_face_contour`.
        columns: which of the landmarks.

    Attributes:
        faces: (79, D, 3) vertices of the mesh at the triangles' corners, a row for each degree.
        rows: the same, as places among the vertices that are computed; see `among`.
    """

    def __init__(self, buffers: dict[str, Tensor], columns: Sequence[int]) -> None:
        columns = list(columns)
        self.faces = buffers["faces_tensor"][buffers["dynamic_lmk_faces_idx"][:, columns]]
        self._weights = buffers["dynamic_lmk_bary_coords"][:, columns]
        self._neck_chain: list[int] = buffers["neck_kin_chain"].tolist()
        self.rows = self.faces

    def among(self, vertices: Sequence[int], num_vertices: int) -> None:
        """Set `rows`: where the corners stand among the vertices that are computed."""
        lookup = torch.full((num_vertices,), -1, dtype=torch.long, device=self.faces.device)
        lookup[list(vertices)] = torch.arange(len(vertices), device=self.faces.device)
        self.rows = lookup[self.faces]

    def points(self, skinned: Tensor, pose: Tensor) -> Tensor:
        """Landmarks (B, D, 3) on the computed vertices (B, N, 3) of poses (B, 55, 3); the choice has no gradient."""
        with torch.no_grad():
            turn = torch.eye(3, dtype=pose.dtype, device=pose.device).expand(len(pose), 3, 3)
            for joint in self._neck_chain:
                turn = rotvec_to_rotmat(pose[:, joint]) @ turn
            yaw = torch.atan2(-turn[:, 2, 0], (turn[:, 0, 0].square() + turn[:, 1, 0].square()).sqrt())
            degrees = torch.round(torch.clamp(-yaw * 180.0 / torch.pi, max=_MOST_DEGREES)).long()
            beyond = (degrees < -_MOST_DEGREES).long()
            negative = beyond * 2 * _MOST_DEGREES + (1 - beyond) * (_MOST_DEGREES - degrees)
            index = torch.where(degrees < 0, negative, degrees)
        corners = self.rows[index]  # (B, D, 3)
        found = skinned.gather(1, corners.flatten(1)[..., None].expand(-1, -1, 3)).unflatten(1, (-1, 3))
        return (found * self._weights[index][..., None]).sum(-2)

    def to(self, dtype: torch.dtype) -> FaceContour:
        """The same for vertices of another dtype."""
        other = copy.copy(self)
        other._weights = self._weights.to(dtype)
        return other
