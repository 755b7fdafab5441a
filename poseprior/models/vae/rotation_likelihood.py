"""A normalised, heavy-tailed density of rotations around decoded ones."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...rotations import haar_log_density
from ..shared.broad_tails import BroadComponent
from ..shared.triangular import lower_solve
from ..shared.truncation_mass import draw_truncated

#: Narrow standard deviations stay above this, radians: jitter is 0.02, and a collapsed one would be a spike.
_FLOOR = 0.01
#: The narrow component's total standard deviation stays below this. Six times its threefold is pi, so the mass that the
#: first two components have beyond |e| = pi is below 2e-8 and they need no correction.
_CAP = math.pi / 18.0
_WIDENING = 3.0
#: Standard deviation of the broad component, radians.
_BROAD_STDDEV = 0.6
_LARGEST_TILT = 4.0
_LOG_2PI = math.log(2.0 * math.pi)


class RotationNoise(nn.Module):
    """Density of the residual e = Log(D^-1 R) of a rotation R around a decoded one D, in Haar nats.

    For each joint, with a full 3 x 3 covariance L L^T and h the Haar density of rotations.py,

        p_haar(R | D) = [w_1 N(e; 0, L L^T) + w_2 N(e; 0, 9 L L^T) + w_3 N(e; 0, 0.36 I) / m] / h(e),

    m being the mass of the broad Gaussian where |e| < pi (that of the others is bounded to be 1 to 2e-8). It is a
    mixture of three normalised densities on SO(3), so it integrates to one.

    Args:
        num_joints: J.
    """

    def __init__(self, num_joints: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((num_joints, 3), math.log(0.1)))
        self.tilt = nn.Parameter(torch.zeros(num_joints, 3))
        self.logits = nn.Parameter(torch.tensor([5.0, 2.0, -4.0]).repeat(num_joints, 1))
        self._broad = BroadComponent(_BROAD_STDDEV, truncated=True)

    def factor(self, modulation: Tensor | None) -> Tensor:
        """Lower Cholesky factors L (..., J, 3, 3) of the narrow covariance.

        Args:
            modulation: (..., J, 6) added to log-scales and tilts; None for the constant noise.
        """
        log_scale: Tensor = self.log_scale
        tilt: Tensor = self.tilt
        if modulation is not None:
            log_scale, tilt = log_scale + modulation[..., :3], tilt + modulation[..., 3:]
        low = math.log(_FLOOR)
        scale = torch.exp(low + F.softplus(log_scale.clamp(max=1.0) - low))
        tilt = _LARGEST_TILT * torch.tanh(tilt / _LARGEST_TILT)
        zero = torch.zeros_like(scale[..., 0])
        x, y, z = scale.unbind(-1)
        a, b, c = tilt.unbind(-1)
        lower = torch.stack([x, zero, zero, a * y, y, zero, b * z, c * z, z], dim=-1).unflatten(-1, (3, 3))
        spread = lower.square().sum((-1, -2))
        return lower * (_CAP * (_CAP**2 + spread).rsqrt())[..., None, None]

    def forward(self, residual: Tensor, modulation: Tensor | None = None) -> Tensor:
        """(..., J) Haar nats of residuals (..., J, 3), |e| <= pi."""
        lower = self.factor(modulation)
        squared = lower_solve(lower, residual).square().sum(-1)
        log_det = torch.log(lower.diagonal(dim1=-2, dim2=-1)).sum(-1)
        log_weight = torch.log_softmax(self.logits, dim=-1)
        level = -1.5 * _LOG_2PI - log_det
        narrow = log_weight[:, 0] + level - 0.5 * squared
        wide = log_weight[:, 1] + level - 0.5 * squared / _WIDENING**2 - 3.0 * math.log(_WIDENING)
        broad = log_weight[:, 2] + self._broad.log_prob(residual)
        mixed = torch.logsumexp(torch.stack([narrow, wide, broad]), dim=0)
        return mixed - haar_log_density(residual)

    def chosen_factor(self, lower: Tensor, level: Tensor) -> Tensor:
        """Factors (..., J, 3, 3) of the component that a uniform number `level` (..., J) in [0, 1) picks."""
        weight = torch.softmax(self.logits, dim=-1)
        wide, broad = level > weight[:, 0], level > weight[:, :2].sum(-1)
        eye = torch.eye(3, dtype=lower.dtype, device=lower.device)
        chosen = torch.where(wide[..., None, None], _WIDENING * lower, lower)
        return torch.where(broad[..., None, None], self._broad.stddev * eye, chosen)

    def draw(self, lower: Tensor, generator: torch.Generator | None) -> Tensor:
        """Residuals (..., J, 3) of covariance factors (..., J, 3, 3), each truncated at |e| = pi by rejection."""
        shape = lower.shape[:-1]
        level = torch.rand(shape[:-1], generator=generator, dtype=lower.dtype, device=lower.device)
        chosen = self.chosen_factor(lower, level)

        def draw() -> Tensor:
            noise = torch.randn(shape, generator=generator, dtype=lower.dtype, device=lower.device)
            return (chosen @ noise[..., None])[..., 0]

        return draw_truncated(draw)
