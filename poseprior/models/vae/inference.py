"""Inference in a `VAECore`: the latent whose decoded pose is nearest, and draws of z given some joints."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._tracing import is_traced
from .core import VAECore

#: Angles below this, radians, weigh alike in the robust fit.
_SOFT = 0.02
_DAMPING = 1e-3
#: Step of the finite differences in z. An error in them changes the direction of a Gauss-Newton step, but a step is taken
#: only where it lowers the sum of angles.
_DIFFERENCE = 1e-2
_ROWS = 512
#: Standard deviation of further starts around the first, in standard deviations of the prior on z.
_NEAR = 0.25
#: Proposals of `draw_latents` for a pose, and Metropolis-Hastings moves of a draw.
_PROPOSALS, _MOVES = 256, 16


def nearest_latent(core: VAECore, rotvec: Tensor, observed: Tensor | None, z: Tensor, *, steps: int) -> Tensor:
    """Gauss-Newton descent of sum_j |angle(R_j, decoded_j(z))| over observed joints, from z.

    The sum of angles is minimised by reweighted least squares (weights 1 / (angle + 0.02)); steps that do not lower a
    pose's sum are not taken.

    Args:
        core: the autoencoder.
        rotvec: (B, J, 3).
        observed: (B, J) bool; None where all joints are.
        z: (B, D) start.
        steps: iterations.

    Returns:
        (B, D).
    """
    if is_traced() or len(z) <= _ROWS:
        return _descend(core, rotvec, observed, z, steps)
    rows = torch.arange(len(z), device=z.device).split(_ROWS)
    return torch.cat([_descend(core, rotvec[r], None if observed is None else observed[r], z[r], steps) for r in rows])


def nearest_of_several(
    core: VAECore, rotvec: Tensor, observed: Tensor | None, z: Tensor, *, steps: int, starts: int
) -> Tensor:
    """`nearest_latent` from z and from starts - 1 fixed points around it; the end with the least sum of angles.

    The points are normal, a quarter as wide as the prior on z.
    """
    best = nearest_latent(core, rotvec, observed, z, steps=steps)
    if starts < 2:
        return best
    prior = core.spread_points.to(z)
    spread = (prior if core.flow is None else core.flow.inverse(prior)).std(0)
    least = angle_sum(core, rotvec, observed, best)
    for point in core.start_points[: starts - 1].to(z).unbind():
        other = nearest_latent(core, rotvec, observed, z + _NEAR * spread * point, steps=steps)
        distance = angle_sum(core, rotvec, observed, other)
        best = torch.where((distance < least)[:, None], other, best)
        least = torch.minimum(distance, least)
    return best


def angle_sum(core: VAECore, rotvec: Tensor, observed: Tensor | None, z: Tensor) -> Tensor:
    """(B,) radians between the observed (B, J) of rotvecs (B, J, 3) and what z (B, D) decodes to, summed over joints."""
    return _total(core.log_likelihood(rotvec, observed, z[:, None])[1][:, 0], observed)


def _descend(core: VAECore, rotvec: Tensor, observed: Tensor | None, z: Tensor, steps: int) -> Tensor:
    eye = torch.eye(core.dim, dtype=z.dtype, device=z.device)
    around = torch.cat([torch.zeros_like(eye[:1]), _DIFFERENCE * eye])
    residual = core.log_likelihood(rotvec, observed, z[:, None])[1][:, 0]
    for _ in range(steps):
        rotmat = core.matrices(z[:, None] + around)[0]
        slope = (rotmat[:, 1:] - rotmat[:, :1]) / _DIFFERENCE
        spin = rotmat[:, :1].transpose(-1, -2) @ slope  # R^T dR/dz_d: (B, D, J, 3, 3)
        turn = torch.stack([spin[..., 2, 1], spin[..., 0, 2], spin[..., 1, 0]], dim=-1).movedim(1, -1)
        angle = residual.square().sum(-1, keepdim=True).clamp_min(1e-20).sqrt()
        weight = 1.0 / (angle + _SOFT) if observed is None else observed[..., None] / (angle + _SOFT)
        weight = weight.expand_as(residual).flatten(1)
        matrix, error = turn.flatten(1, 2), residual.flatten(1)
        weighted = matrix.transpose(-1, -2) * weight[:, None]
        moved = z + torch.linalg.solve(weighted @ matrix + _DAMPING * eye, weighted @ error[..., None])[..., 0]
        after = core.log_likelihood(rotvec, observed, moved[:, None])[1][:, 0]
        better = _total(after, observed) < _total(residual, observed)
        z = torch.where(better[:, None], moved, z)
        residual = torch.where(better[:, None, None], after, residual)
    return z


def _total(residual: Tensor, observed: Tensor | None) -> Tensor:
    angle = residual.square().sum(-1).clamp_min(1e-12).sqrt()
    return (angle if observed is None else angle * observed).sum(-1)


def draw_latents(
    core: VAECore, rotvec: Tensor, observed: Tensor, num_samples: int, generator: torch.Generator | None
) -> Tensor:
    """Draws of p(z | observed joints): sampling-importance-resampling, then Metropolis-Hastings moves.

    256 proposals of q(z | observed) are weighted by p(observed | z) p(z) / q(z) and resampled; every draw then makes 16
    random-walk moves in the coordinates of q that leave p(z | observed) invariant. Right in the limit of many proposals
    or many moves; the moves repair what the proposals miss. With nothing observed the draws are exact.

    Args:
        core: the autoencoder.
        rotvec: (B, J, 3).
        observed: (B, J) bool.
        num_samples: S.
        generator: source of randomness.

    Returns:
        (S, B, D).
    """
    parts = [
        _draw(core, r, s, num_samples, generator) for r, s in zip(rotvec.split(64), observed.split(64), strict=True)
    ]
    empty = rotvec.new_zeros(num_samples, 0, core.dim)
    return torch.cat(parts, dim=1) if parts else empty


def _draw(
    core: VAECore, rotvec: Tensor, observed: Tensor, num_samples: int, generator: torch.Generator | None
) -> Tensor:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=rotvec.dtype, device=rotvec.device)

    mean, factor, _ = core.posterior(rotvec, observed)

    def target(eps: Tensor) -> Tensor:
        z = mean[:, None] + eps @ factor.transpose(-1, -2)
        return core.log_likelihood(rotvec, observed, z)[0] + core.log_prior(z)

    eps = normal(len(rotvec), _PROPOSALS, core.dim)
    density = target(eps)
    weight = torch.softmax(density + 0.5 * eps.square().sum(-1), dim=1)
    chosen = torch.multinomial(weight, num_samples, replacement=True, generator=generator)
    eps = eps.gather(1, chosen[..., None].expand(-1, -1, core.dim))
    density = density.gather(1, chosen)
    step = 2.0 / core.dim**0.5
    for _ in range(_MOVES):
        proposed = eps + step * normal(*eps.shape)
        after = target(proposed)
        level = torch.rand(after.shape, generator=generator, dtype=after.dtype, device=after.device)
        accept = level.log() < after - density
        eps = torch.where(accept[..., None], proposed, eps)
        density = torch.where(accept, after, density)
    z = (mean[:, None] + eps @ factor.transpose(-1, -2)).transpose(0, 1)
    prior = normal(num_samples, len(rotvec), core.dim)
    prior = core.flow.inverse(prior) if core.flow is not None else prior
    return torch.where(observed.any(1)[:, None], z, prior)
