"""Maximum likelihood for Gaussian mixtures with missing coordinates: expectation-maximisation.

Source: Ghahramani and Jordan, "Supervised learning from incomplete data via an EM approach" (NIPS 1993).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from ..shared.masks import rows_by_mask

_CHUNK = 16384


def shrinkage(count: int, dims: int) -> float:
    """Weight of the unit covariance in a pooled covariance: near 1 for a single pose, 0 from ten poses a coordinate on.

    It is the weight of max(0, D - n / 10) poses with independent coordinates beside n poses of D coordinates. The
    covariance of fewer poses than coordinates is singular, and that of few more nearly so.
    """
    more = max(0.0, dims - count / 10)
    return more / (count + more)


def fit_mixture(
    z: Tensor,
    observed: Tensor,
    num_components: int,
    *,
    iterations: int,
    prior_count: float,
    generator: torch.Generator,
    shrinkage: float = 0.0,
    progress: bool = False,
    out_of_time: Callable[[], bool] = lambda: False,
    tol: float = 1e-4,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit weights (K,), means (K, D) and covariances (K, D, D), in float64.

    Args:
        z: (N, 3J) standardised coordinates, zero where missing.
        observed: (N, J) bool.
        num_components: K.
        iterations: most EM steps; one step is exact when K is 1 and nothing is missing.
        prior_count: pseudo-poses of the pooled covariance added to every component, so that none collapses.
        generator: draws the starting components.
        shrinkage: weight of the unit Gaussian in the pooled covariance.
        progress: show a tqdm bar of the EM steps.
        out_of_time: called after every step; EM ends with the present estimate when it returns True.
        tol: stop when the log-likelihood gains less than this, nats a pose.

    Returns:
        (weights, mean, covariance).
    """
    z = z.double()
    groups = [(rows, mask.repeat_interleave(3)) for rows, mask in rows_by_mask(observed)]
    dims = z.shape[1]
    identity = torch.eye(dims, dtype=z.dtype)
    pooled_mean = torch.zeros(dims, dtype=z.dtype)
    pooled = identity.clone()
    # One Gaussian first: it is the result when K is 1, and regularises the components otherwise.
    weights, mean, covariance = torch.ones(1, dtype=z.dtype), pooled_mean[None], pooled[None]
    complete = len(groups) == 1 and bool(groups[0][1].all())
    weights, mean, covariance = _em(
        z, groups, weights, mean, covariance, 1 if complete else iterations, 0.0, tol,
        "EM of one Gaussian" if progress and not complete else None, out_of_time,
    )  # fmt: skip
    covariance = (1.0 - shrinkage) * covariance + shrinkage * identity
    if num_components == 1:
        return weights, mean, covariance
    pool = covariance[0]
    start = _kmeans_plus_plus(z, num_components, generator)
    nearest = torch.cat([torch.cdist(part, start).argmin(1) for part in z.split(_CHUNK)])
    weights = torch.bincount(nearest, minlength=num_components).double().clamp_min(1.0)
    return _em(z, groups, weights / weights.sum(), start, pool.expand(num_components, -1, -1).clone() * 0.5, iterations,
               prior_count, tol, "EM" if progress else None, out_of_time)  # fmt: skip


def _em(
    z: Tensor,
    groups: list[tuple[Tensor, Tensor]],
    weights: Tensor,
    mean: Tensor,
    covariance: Tensor,
    iterations: int,
    prior_count: float,
    tol: float,
    bar: str | None,
    out_of_time: Callable[[], bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """EM from the given moments; `bar` is the text of a tqdm bar, None for none."""
    components, dims = mean.shape
    pool = covariance.mean(0)
    ridge = 1e-6 * torch.eye(dims, dtype=z.dtype)
    last = -math.inf
    for _ in tqdm(range(iterations), desc=bar, disable=bar is None, leave=False):
        count = torch.zeros(components, dtype=z.dtype)
        first = torch.zeros(components, dims, dtype=z.dtype)
        second = torch.zeros(components, dims, dims, dtype=z.dtype)
        total = 0.0
        for rows, known in groups:
            for part in rows.split(_CHUNK):
                total += _accumulate(z[part], known, weights, mean, covariance, count, first, second)
        mean = first / count.clamp_min(1e-9)[:, None]
        centred = second - count[:, None, None] * mean[:, :, None] * mean[:, None, :]
        covariance = (centred + prior_count * pool) / (count + prior_count).clamp_min(1e-9)[:, None, None]
        covariance = 0.5 * (covariance + covariance.mT) + ridge
        weights = (count / count.sum()).clamp_min(1e-8)
        weights = weights / weights.sum()
        total /= len(z)
        if total - last < tol or out_of_time():
            break
        last = total
    return weights, mean, covariance


def _accumulate(
    z: Tensor,
    known: Tensor,
    weights: Tensor,
    mean: Tensor,
    covariance: Tensor,
    count: Tensor,
    first: Tensor,
    second: Tensor,
) -> float:
    """Add the expected statistics of rows that miss the same coordinates; returns their log-likelihood."""
    o, m = known.nonzero()[:, 0], (~known).nonzero()[:, 0]
    factor = torch.linalg.cholesky(covariance[:, o][:, :, o])
    error = z[:, o] - mean[:, None, o]
    white = torch.linalg.solve_triangular(factor, error.mT, upper=False)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_joint = weights.log()[:, None] - 0.5 * white.square().sum(1) - log_det[:, None]
    log_likelihood = log_joint.logsumexp(0) - 0.5 * len(o) * math.log(2.0 * math.pi)
    responsibility = log_joint.softmax(0)
    gain = torch.cholesky_solve(covariance[:, o][:, :, m], factor).mT
    rest = covariance[:, m][:, :, m] - gain @ covariance[:, o][:, :, m]
    for k in range(len(weights)):
        filled = z.clone()
        if len(m):
            filled[:, m] = mean[k, m] + error[k] @ gain[k].mT
        weighted = filled * responsibility[k][:, None]
        weight = responsibility[k].sum()
        count[k] += weight
        first[k] += weighted.sum(0)
        second[k] += weighted.T @ filled
        if len(m):
            second[k][m[:, None], m] += weight * rest[k]
    return float(log_likelihood.sum())


def _kmeans_plus_plus(z: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Starting means: k-means++ seeding (Arthur and Vassilvitskii 2007) and five Lloyd steps on a subset."""
    subset = z[torch.randperm(len(z), generator=generator)[:20000]]
    chosen = [subset[int(torch.randint(len(subset), (1,), generator=generator))]]
    for _ in range(number - 1):
        distance = torch.cdist(subset, torch.stack(chosen)).amin(1).square() + 1e-12
        chosen.append(subset[int(torch.multinomial(distance, 1, generator=generator))])
    centre = torch.stack(chosen)
    for _ in range(5):
        nearest = torch.cdist(subset, centre).argmin(1)
        total = torch.zeros_like(centre).index_add_(0, nearest, subset)
        size = torch.bincount(nearest, minlength=number).double()
        centre = torch.where(size[:, None] > 0, total / size.clamp_min(1.0)[:, None], centre)
    return centre
