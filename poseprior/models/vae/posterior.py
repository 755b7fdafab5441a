"""The encoder's distribution over latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._pose_checks import in_full_precision
from .layers import LatentFlow, normal_points

#: Points that `stddev` is measured on.
_POINTS = 64

_Part = tuple[LatentFlow | None, Tensor, Tensor, Tensor]


class LatentPosterior:
    """q(latent | pose): for each group a Gaussian of z, pushed through the prior's flow to latents u, a priori N(0, I).

    Args:
        batch: batch shape of the poses.
        parts: for each group its flow, the mean (B, D), factor (B, D, D) and log-determinant (B,) of the Gaussian.
        dtype: of what comes back.
    """

    def __init__(self, batch: torch.Size, parts: list[_Part], dtype: torch.dtype) -> None:
        self._batch, self._parts, self._dtype = batch, parts, dtype

    @property
    @in_full_precision
    def mean(self) -> Tensor:
        """(*batch, latent_dim): the Gaussian's mean pushed through the flow: with a flow, not quite the mean of q."""
        return self._shaped(torch.cat([_push(flow, mean)[0] for flow, mean, _, _ in self._parts], dim=-1))

    @property
    @in_full_precision
    def stddev(self) -> Tensor:
        """(*batch, latent_dim): standard deviation of every latent coordinate, over fixed points."""
        spread = []
        for flow, mean, factor, _ in self._parts:
            eps = normal_points(_POINTS, mean.shape[-1]).to(mean)
            spread.append(_push(flow, mean[:, None] + eps @ factor.transpose(-1, -2))[0].std(1))
        return self._shaped(torch.cat(spread, dim=-1))

    @in_full_precision
    def rsample(self, num_samples: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """(num_samples, *batch, latent_dim) latents, differentiable in the pose."""
        drawn = []
        for flow, mean, factor, _ in self._parts:
            noise = torch.randn(num_samples, *mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
            drawn.append(_push(flow, mean + (factor @ noise[..., None])[..., 0])[0])
        return self._shaped(torch.cat(drawn, dim=-1), num_samples)

    @in_full_precision
    def log_prob(self, latent: Tensor) -> Tensor:
        """log q (*batch,) of latents (*batch, latent_dim), nats against Lebesgue."""
        flat = latent.reshape(-1, latent.shape[-1])
        total, start = torch.zeros_like(flat[:, 0]), 0
        for flow, mean, factor, log_det in self._parts:
            dim = mean.shape[-1]
            u = flat[:, start : start + dim].to(mean)
            z = u if flow is None else flow.inverse(u)
            white = torch.linalg.solve(factor, (z - mean)[..., None])[..., 0]
            gaussian = -0.5 * (white.square().sum(-1) + dim * math.log(2.0 * math.pi)) - log_det
            total = total + (gaussian - _push(flow, z)[1]).to(total)
            start += dim
        return total.reshape(self._batch)

    def _shaped(self, latent: Tensor, *lead: int) -> Tensor:
        return latent.to(self._dtype).reshape(*lead, *self._batch, latent.shape[-1])


def _push(flow: LatentFlow | None, z: Tensor) -> tuple[Tensor, Tensor]:
    return (z, torch.zeros_like(z[..., 0])) if flow is None else flow(z)
