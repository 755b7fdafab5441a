"""`denoise`: the clean poses behind noisy ones, by the mode or the mean of the posterior."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .._checks import as_real_tensor, check_choice, check_effect, check_whole
from .._inference_mode import leaves_inference_mode
from .._pose_checks import MOST_DRAWS
from ..models.shared.masks import rows_by_mask
from ..optim import hmc, lbfgs
from ..prior import PosePrior
from ..rotations import frechet_mean, rotvec_to_tangent, tangent_to_rotvec
from ..skeleton import NUM_JOINTS
from ..training.pose_rows import check_prior, flatten

#: Markov chains of "mean", and its samples unless told, for each pose.
_CHAINS, _SAMPLES = 16, 256


@leaves_inference_mode
def denoise(
    prior: PosePrior,
    pose: Tensor,
    sigma: float | Tensor,
    *,
    method: Literal["map", "mean"] = "map",
    observed: Tensor | None = None,
    num_samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The clean poses behind noisy ones, y_j = x_j Exp(n_j) with n_j ~ N(0, sigma^2 I).

    With x_j = y_j Exp(u_j) the posterior density of u is, exactly, p(u | y) ~ p_haar(y Exp(u)) N(u; 0, sigma^2 I).
    "map" is its mode next to y (L-BFGS; deterministic). "mean" is each joint's Fréchet mean over posterior samples from
    Hamiltonian Monte Carlo, preconditioned with the covariance of the prior's samples: right in the limit of
    `num_samples`, with a Monte Carlo error of about the posterior's spread over the square root of `num_samples`. Where
    the posterior has far-apart modes, both stay near the mode that is next to y.

    Args:
        prior: any prior; one that only bounds its density is used through the bound.
        pose: (*batch, 55, 3) noisy rotvecs, radians.
        sigma: standard deviation of the noise, radians: a number, or a tensor that broadcasts to (*batch, 55).
        method: "map" or "mean".
        observed: (*batch, 55) bool; None means all. Missing joints are integrated out; `complete` fills them.
        num_samples: posterior samples of "mean", 16 chains; None is 256. Only with "mean".
        generator: source of randomness on the prior's device. Only with "mean".

    Returns:
        (*batch, 55, 3), norms at most pi on the joints that were denoised; joints that are missing or not modelled
        come back as given.

    Raises:
        ValueError: as `PosePrior.log_prob`; an unknown `method`; a `sigma` that is not above 0 or does not broadcast;
            `num_samples` below 1 or above ten million; an option of "mean" with "map".
    """
    check_prior(prior)
    check_choice("method", method, ("map", "mean"))
    if method == "map":
        for name, value in (("num_samples", num_samples), ("generator", generator)):
            check_effect(name, value, None, "method='map'", "method='mean'")
    num_samples = check_whole("num_samples", _SAMPLES if num_samples is None else num_samples, least=1, most=MOST_DRAWS)
    with torch.no_grad():
        prior.log_prob(pose, observed=observed)  # checks the arguments
    batch, flat, seen = flatten(prior, pose, observed)
    width = as_real_tensor("sigma", sigma, dtype=flat.dtype, device=flat.device)
    if not bool(torch.isfinite(width).all()) or bool((width <= 0).any()):
        raise ValueError(f"sigma: expected finite values above 0 (radians), got {sigma}.")
    try:
        width = width.expand(*batch, NUM_JOINTS).reshape(-1, NUM_JOINTS)
    except RuntimeError:
        raise ValueError(
            f"sigma: expected a number or a tensor that broadcasts to {(*batch, NUM_JOINTS)}, got {tuple(width.shape)}."
        ) from None
    clean = flat.clone()
    tangent = _prior_tangent(prior, generator) if method == "mean" else None
    for rows, mask in rows_by_mask(seen):
        joints = mask.nonzero()[:, 0]
        if len(joints):
            posterior = _Posterior(prior, flat[rows], mask, joints, width[rows][:, joints])
            shift = posterior.mode() if tangent is None else posterior.mean(tangent, num_samples, generator)
            clean[rows[:, None], joints] = tangent_to_rotvec(shift, flat[rows][:, joints])
    keep = seen.reshape(*batch, NUM_JOINTS).to(pose.device)[..., None]
    return torch.where(keep, clean.to(pose).reshape(pose.shape), pose)


class _Posterior:
    """p(u | y) over the observed joints of rows that share a mask, in units of sigma."""

    def __init__(self, prior: PosePrior, noisy: Tensor, mask: Tensor, joints: Tensor, sigma: Tensor) -> None:
        self.prior, self.noisy, self.mask, self.joints = prior, noisy, mask, joints
        self.sigma = sigma[..., None].expand(-1, -1, 3).flatten(1)

    def energy(self, v: Tensor) -> Tensor:
        """-log p(u | y) up to a constant, (*lead, R) of v = u / sigma, (*lead, R, 3 k)."""
        u = (v * self.sigma).unflatten(-1, (-1, 3))
        clean = tangent_to_rotvec(u, self.noisy[:, self.joints])
        pose = torch.zeros(*u.shape[:-2], NUM_JOINTS, 3, dtype=u.dtype, device=u.device)
        pose = pose.index_copy(-2, self.joints, clean)
        return 0.5 * v.square().sum(-1) - self.prior.log_prob(pose, observed=self.mask.expand(pose.shape[:-1]))

    def mode(self) -> Tensor:
        return (lbfgs(self.energy, torch.zeros_like(self.sigma)).point * self.sigma).unflatten(-1, (-1, 3))

    def mean(self, tangent: Tensor, num_samples: int, generator: torch.Generator | None) -> Tensor:
        start = lbfgs(self.energy, torch.zeros_like(self.sigma), iterations=30).point
        factor = _posterior_factor(tangent, self.prior.joints, self.joints, self.sigma)

        def spread(w: Tensor) -> Tensor:
            return start + (factor @ w[..., None])[..., 0]

        noise = torch.randn(_CHAINS, *start.shape, generator=generator, dtype=start.dtype, device=start.device)
        draws = -(-num_samples // _CHAINS)
        w = hmc(lambda w: self.energy(spread(w)), noise, draws, generator=generator)
        u = (spread(w) * self.sigma).unflatten(-1, (-1, 3))
        return frechet_mean(u.flatten(0, 1)).to(start)


def _posterior_factor(tangent: Tensor, modelled: tuple[int, ...], joints: Tensor, sigma: Tensor) -> Tensor:
    """Cholesky factors (R, D, D) of the posterior covariance, in units of sigma, if the prior were a Gaussian."""
    place = [modelled.index(j) for j in joints.tolist()]
    x = tangent[:, place].flatten(1).double()
    x = x - x.mean(0)
    covariance = x.T @ x / (len(x) - 1)
    covariance = covariance + 1e-6 * torch.eye(len(covariance), dtype=x.dtype, device=x.device)
    precision = torch.linalg.inv(covariance)
    scaled = sigma.double()[:, :, None] * precision * sigma.double()[:, None, :]
    whole = scaled + torch.eye(scaled.shape[-1], dtype=x.dtype, device=x.device)
    # With whole = L L^T the covariance is L^-T L^-1.
    lower = torch.linalg.cholesky(whole)
    eye = torch.eye(lower.shape[-1], dtype=x.dtype, device=x.device).expand_as(lower)
    return torch.linalg.solve_triangular(lower.mT, eye, upper=True).to(sigma)


def _prior_tangent(prior: PosePrior, generator: torch.Generator | None) -> Tensor:
    """(N, J, 3) tangent vectors of the prior's samples at their mean rotation."""
    sample = prior.sample(2000, generator=generator)[:, list(prior.joints)]
    return rotvec_to_tangent(sample, frechet_mean(sample).to(sample))
