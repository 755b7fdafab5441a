"""What a draw from noise is: the class that all draws share."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Draw(nn.Module, ABC):
    """Rotvecs (B, J, 3) of a prior's joints, from noise (B, `normals`), (B, `uniforms`) and the observed joints.

    Attributes:
        normals, uniforms: numbers of each kind that a draw takes.
    """

    normals: int
    uniforms: int = 0

    @abstractmethod
    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """The prior's rotvecs with the hidden joints drawn; `rotvec` is looked at where joints are observed."""
