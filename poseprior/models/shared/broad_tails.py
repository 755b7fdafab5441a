"""Broad components: a little mass everywhere, so that densities and their gradients stay alive far from the data.

A broad component is an isotropic Gaussian, wide enough to hold any rotation and narrow enough to pull a pose back from
anywhere. A model adds it to its mixture with a small weight: `OrderAgnosticPrior`, `JointFlow` and the VAEs do.

The others have tails of another kind. The log-density of a Gaussian, and of a mixture of Gaussians, falls with the square
of the distance: it is finite on all of SO(3), and its gradient grows with the distance. The published flows keep such
tails of their base. `GlobalFlow` bends the coordinates of the whole pose along their radius (`whitening.RadialTails`): a
flow of all joints at once has no mixture for each joint to add a component to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .truncation_mass import log_truncation_mass

_LOG_2PI = math.log(2.0 * math.pi)


class BroadComponent:
    """N(0, s^2 I) over R^3.

    Args:
        stddev: s, in the units of the coordinates.
        truncated: coordinates are tangent vectors, radians: the Gaussian is cut off at |x| = pi and normalised within.

    Attributes:
        level: log-density at 0.
        rate: factor of |x|^2 in the log-density, -1 / (2 s^2).
    """

    def __init__(self, stddev: float, *, truncated: bool) -> None:
        self.stddev, self.truncated, self.rate = stddev, truncated, -0.5 / stddev**2
        self.level = -1.5 * _LOG_2PI - 3.0 * math.log(stddev)
        if truncated:
            covariance = stddev**2 * torch.eye(3, dtype=torch.float64)
            self.level -= float(log_truncation_mass(torch.zeros(3, dtype=torch.float64), covariance))

    def log_prob(self, x: Tensor) -> Tensor:
        """(...,) nats, Lebesgue in x (..., 3)."""
        return self.level + self.rate * x.square().sum(-1)

    def draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draws in the shape (..., 3), type and device of `like`; without the truncation, which callers see to."""
        return self.stddev * torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
