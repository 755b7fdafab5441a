"""Working in a prior's latent space: the nearest plausible pose, MAP estimates, and paths between poses.

For any `LatentPosePrior`: latents are N(0, I) a priori, so |latent|^2 / 2 is the negative log prior of a latent up to a
constant, and `decode` turns every latent into a pose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ._checks import check_choice, check_effect, check_number, check_whole
from ._inference_mode import leaves_inference_mode
from .optim import adam
from .prior import LatentPosePrior
from .rotations import geodesic_path, rotvec_to_tangent

_LATENT_RATE = 0.1


@leaves_inference_mode
def latent_map(
    prior: LatentPosePrior,
    loss: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    prior_weight: float = 1.0,
    steps: int = 200,
    learning_rate: float = _LATENT_RATE,
) -> Tensor:
    """Minimise loss(decode(z)) + prior_weight |z|^2 / 2 over latents, row by row, with Adam.

    With a negative log-likelihood as the loss and weight 1 this is the maximum a posteriori latent, what SMPLify-X does
    with VPoser.

    Args:
        prior: a prior with a latent space.
        loss: maps poses (*batch, 55, 3) to losses (*batch,), one for each pose; differentiable.
        start: (*batch, latent_dim) latents to start from, such as `prior.encode(pose)` or zeros.
        prior_weight: weight of |z|^2 / 2.
        steps: Adam steps; the rate falls to zero along a cosine.
        learning_rate: the first step's length in every coordinate.

    Returns:
        (*batch, latent_dim): of every row the latent with the lowest objective that was met, `start` included.

    Raises:
        ValueError: a prior without a latent space, a number out of range, a loss of another shape, or one that is not
            finite at the start.

    >>> from poseprior.models.vae import HandVAE
    >>> prior = HandVAE("left_hand", latent_dim=4)
    >>> latent_map(prior, lambda pose: pose.square().sum((-1, -2)), torch.ones(3, 4), steps=2).shape
    torch.Size([3, 4])
    """
    _require_latent(prior)
    check_number("prior_weight", prior_weight, least=0.0)
    check_whole("steps", steps)
    check_number("learning_rate", learning_rate, above=0.0)
    if steps == 0:
        check_effect("learning_rate", learning_rate, _LATENT_RATE, "steps=0", "steps above 0")
    batch = start.shape[:-1]

    def energy(rows: Tensor) -> Tensor:
        data = loss(prior.decode(rows.reshape(start.shape)))
        if data.shape != batch:
            raise ValueError(
                f"loss: expected one value a pose, {tuple(batch)}, got {tuple(data.shape)}; sum over joints only."
            )
        return data.reshape(-1) + 0.5 * prior_weight * rows.square().sum(-1)

    rows = start.detach().reshape(-1, start.shape[-1])
    with torch.enable_grad():  # as in every step: a loss may differentiate something itself
        first = energy(rows).detach()
    if not bool(torch.isfinite(first).all()):
        raise ValueError("loss: expected finite values at `start`, got NaN or infinity; check the pose and start.")
    return adam(energy, rows, iterations=steps, learning_rate=learning_rate).point.reshape(start.shape)


@leaves_inference_mode
def project(
    prior: LatentPosePrior,
    pose: Tensor,
    *,
    observed: Tensor | None = None,
    scale: float = 0.1,
    prior_weight: float = 1.0,
    steps: int = 200,
) -> tuple[Tensor, Tensor]:
    """The nearest plausible pose: MAP of the latent under rotations observed with heavy-tailed noise.

    Minimises sum_j rho(angle_j / scale) + prior_weight |z|^2 / 2 over observed modelled joints, with
    rho(a) = 2 (sqrt(1 + a^2 / 2) - 1): quadratic for small angles, linear for large ones, so one broken joint does not
    bend the others.

    Args:
        prior: a prior with a latent space.
        pose: (*batch, 55, 3) rotvecs, radians.
        observed: (*batch, 55) bool; joints that are not observed are filled in from the others.
        scale: trust in the pose, radians: smaller stays closer.
        prior_weight: 0 gives the nearest decodable pose, plausible or not.
        steps: of `latent_map`.

    Returns:
        The projected poses (*batch, 55, 3), with joints the prior does not model as given, and their latents
        (*batch, latent_dim).

    Raises:
        ValueError: a prior without a latent space, a number out of range, or as `PosePrior.log_prob` for pose and mask.
    """
    _require_latent(prior)
    check_number("scale", scale, above=0.0)
    check_number("prior_weight", prior_weight, least=0.0)
    batch, rotvec, seen = prior._check_pose(pose, observed)
    index = list(prior.joints)
    rotvec, seen = rotvec.reshape(*batch, len(index), 3).detach(), seen.reshape(*batch, len(index))

    def distance(decoded: Tensor) -> Tensor:
        squared = rotvec_to_tangent(rotvec, decoded[..., index, :].to(rotvec)).square().sum(-1) / scale**2
        return (2.0 * ((1.0 + 0.5 * squared).sqrt() - 1.0) * seen).sum(-1)

    with torch.no_grad():
        known = torch.zeros(*batch, 55, 3, dtype=prior.dtype, device=prior.device)
        known[..., index, :] = rotvec
        zero = torch.zeros(*batch, prior.latent_dim, dtype=prior.dtype, device=prior.device)
        encoded = torch.nan_to_num(prior.encode(known))

        def start_value(z: Tensor) -> Tensor:
            return distance(prior.decode(z)) + 0.5 * prior_weight * z.square().sum(-1)

        start = torch.where((start_value(encoded) < start_value(zero))[..., None], encoded, zero)
    latent = latent_map(prior, distance, start, prior_weight=prior_weight, steps=steps)
    with torch.no_grad():
        plausible = prior.decode(latent).to(pose.dtype)
    result = pose.detach().clone()
    result[..., index, :] = plausible[..., index, :].to(result.device)
    return result, latent.to(pose.dtype)


def _require_latent(prior: object) -> None:
    if not isinstance(prior, LatentPosePrior):
        raise ValueError(
            f"prior: expected one with a latent space (a VAE, GlobalFlow, JointFlow), got {type(prior).__name__}."
        )


def interpolate_latent(
    prior: LatentPosePrior, start: Tensor, end: Tensor, num: int, *, path: Literal["spherical", "linear"] = "spherical"
) -> Tensor:
    """Poses along a path between the latents of two poses.

    Args:
        prior: a prior with a latent space.
        start: (*batch, 55, 3) rotvecs, radians.
        end: (*batch, 55, 3).
        num: poses on the path, both ends (encoded and decoded) included; at least 2.
        path: "spherical" turns the latent and changes its length evenly, so that it keeps the length that N(0, I) has;
            "linear" cuts straight through.

    Returns:
        (num, *batch, 55, 3); joints the prior does not model go straight along the geodesic from start to end.

    Raises:
        ValueError: a prior without a latent space, fewer than 2 poses, an unknown path, or an end of another shape.
    """
    _require_latent(prior)
    check_whole("num", num, least=2)
    check_choice("path", path, ("spherical", "linear"))
    if start.shape != end.shape:
        raise ValueError(f"end: expected the shape of start, {tuple(start.shape)}, got {tuple(end.shape)}.")
    first, last = prior.encode(start), prior.encode(end)
    time = torch.linspace(0.0, 1.0, num, dtype=first.dtype, device=first.device)
    t = time.reshape(num, *([1] * first.dim()))
    straight = first + t * (last - first)
    latent = _spherical_path(first, last, t, straight) if path == "spherical" else straight
    decoded = prior.decode(latent)
    index = list(prior.joints)
    result = geodesic_path(start, end, time)
    result[..., index, :] = decoded[..., index, :].to(result)
    return result


def _spherical_path(first: Tensor, last: Tensor, t: Tensor, straight: Tensor) -> Tensor:
    """Latents whose direction turns evenly and whose length changes evenly; `straight` where no direction is defined."""
    a, b = first.norm(dim=-1, keepdim=True), last.norm(dim=-1, keepdim=True)
    cosine = (first * last).sum(-1, keepdim=True) / (a * b).clamp_min(1e-12)
    angle = torch.acos(cosine.clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    from_first = torch.sin((1 - t) * angle) * first / a.clamp_min(1e-12)
    from_last = torch.sin(t * angle) * last / b.clamp_min(1e-12)
    direction = (from_first + from_last) / sine.clamp_min(1e-6)
    return torch.where((sine < 1e-4) | (a < 1e-6) | (b < 1e-6), straight, direction * (a + t * (b - a)))
