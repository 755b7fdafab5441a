"""What `JointFlow` is made of: one conditional density for each joint, all evaluated together."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..charts.chart import Chart
from ..shared.grouped_mlp import GroupedLinear


class JointConditionals(nn.Module, ABC):
    """p(w_j | parent joints) for every joint j, in chart coordinates w.

    `places` (P,) are positions of joints in the prior's list, None all of them; all methods work on those joints only,
    along the leading axis.
    """

    @abstractmethod
    def inputs(self, w: Tensor, known: Tensor | None, places: Tensor | None) -> Tensor:
        """What the joints at `places` see: (P, B, I).

        From coordinates w (B, J, 3), zero where not known, and the mask of known joints (B, J), None where all are.
        """

    @abstractmethod
    def log_prob(self, own: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        """(P, B) log-densities, Lebesgue in w, of (P, B, 3) coordinates."""

    def fused_log_prob(self, rotvec: Tensor, chart: Chart, observed: Tensor | None) -> Tensor | None:
        """(B,) Haar nats of rotvecs (B, J, 3) by a fused density, `observed` (B, J) bool; None where there is none.

        There is none in training, in traced code, where gradients to the weights are needed, and for some models.
        """
        return None

    def total(self, w: Tensor, observed: Tensor | None) -> Tensor:
        """(B,) sums over observed joints of their log-densities, of w (B, J, 3), zero where unobserved.

        `observed` is (B, J) bool; None where all joints are.
        """
        each = self.log_prob(w.transpose(0, 1), self.inputs(w, observed, None), None).T
        return (each if observed is None else each * observed).sum(-1)

    @abstractmethod
    def draw(self, inputs: Tensor, places: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """(P, B, 3) exact draws."""

    @abstractmethod
    def encode(self, own: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        """(P, B, 3) latents, standard normal under the model."""

    @abstractmethod
    def decode(self, latent: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        """Inverse of `encode`, differentiable."""


def grouped_affine(layer: nn.Module, x: Tensor, groups: Tensor | None) -> Tensor:
    """Affine maps of chosen groups, (P, B, inputs) to (P, B, outputs); `groups` (P,) may repeat, None takes all."""
    assert isinstance(layer, GroupedLinear)
    if groups is None:
        return torch.baddbmm(layer.bias, x, layer.weight)
    return torch.baddbmm(layer.bias[groups], x, layer.weight[groups])
