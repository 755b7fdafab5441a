"""A mixture of full-covariance Gaussians over standardised tangent coordinates, with any joints missing.

The shared engine of `GaussianPrior(covariance="full")` (one component) and `GaussianMixturePrior`. Marginals and
conditionals of a Gaussian mixture are Gaussian mixtures (Bishop 2006, sections 2.3 and 9.2), so every quantity is exact
for every subset of joints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..._tracing import is_traced
from ..shared.cache import WeightCache
from ..shared.masks import rows_by_mask
from ..shared.truncation_mass import log_truncation_mass

_LOG_2PI = math.log(2.0 * math.pi)
_MOST_REDRAWS = 200
#: Masks whose whiteners are cached.
_CACHED_MASKS = 128
_T = TypeVar("_T")


class MaskedMixture(nn.Module):
    """p(z) = sum_k w_k N(z; mean_k, L_k L_k^T) over J joints of 3 standardised coordinates each.

    Args:
        num_joints: J.
        num_components: K.

    Parameters: `logits` (K,) unless K is 1, `mean` (K, 3J), `log_scale` (K, 3J) the log-diagonal of L, `lower`
    (K, 3J(3J-1)/2) its strictly lower part, row by row.
    """

    tangent_scale: Tensor

    def __init__(self, num_joints: int, num_components: int = 1) -> None:
        super().__init__()
        self.num_joints, self.num_components = num_joints, num_components
        dims = 3 * num_joints
        if num_components > 1:
            self.logits = nn.Parameter(torch.zeros(num_components))
        self.mean = nn.Parameter(torch.zeros(num_components, dims))
        self.log_scale = nn.Parameter(torch.zeros(num_components, dims))
        self.lower = nn.Parameter(torch.zeros(num_components, dims * (dims - 1) // 2))
        self.cache, self.mass_cache = WeightCache(_CACHED_MASKS), WeightCache(1)

    def log_weights(self) -> Tensor:
        """(K,) log w_k."""
        return self.logits.log_softmax(0) if self.num_components > 1 else self.mean.new_zeros(1)

    def factor(self) -> Tensor:
        """(K, 3J, 3J) lower-triangular L_k."""
        dims = 3 * self.num_joints
        factor = torch.diag_embed(self.log_scale.exp())
        row, column = torch.tril_indices(dims, dims, -1, device=factor.device)
        return factor.index_put(
            (torch.arange(self.num_components, device=factor.device)[:, None], row, column), self.lower
        )

    def covariance(self) -> Tensor:
        """(K, 3J, 3J)."""
        factor = self.factor()
        return factor @ factor.mT

    @torch.no_grad()
    def set_moments(self, weights: Tensor, mean: Tensor, covariance: Tensor) -> None:
        """Set weights (K,), means (K, 3J) and covariances (K, 3J, 3J)."""
        if self.num_components > 1:
            self.logits.copy_(weights.log())
        self.mean.copy_(mean)
        factor = torch.linalg.cholesky(covariance)
        self.log_scale.copy_(factor.diagonal(dim1=-2, dim2=-1).log())
        row, column = torch.tril_indices(factor.shape[-1], factor.shape[-1], -1)
        self.lower.copy_(factor[:, row, column])

    # ------------------------------------------------------------------ density

    def component_log_prob(self, z: Tensor, observed: Tensor | None) -> Tensor:
        """(B, K) log w_k N_k over the observed coordinates of z (B, 3J) with the mask (B, J), None where all are."""
        if observed is None:
            return self._masked_log_prob(z, [True] * self.num_joints) + self.log_weights()
        if is_traced():
            return self._log_prob_of_each_mask(z, observed) + self.log_weights()
        result = z.new_zeros(len(z), self.num_components)
        for rows, mask in rows_by_mask(observed):
            whole = len(rows) == len(z)
            part = self._masked_log_prob(z if whole else z[rows], mask.tolist())
            result = part if whole else result.index_copy(0, rows, part)
        return result + self.log_weights()

    def _masked_log_prob(self, z: Tensor, mask: list[bool]) -> Tensor:
        """(B, K) log N_k of rows (B, 3J) that all observe the same joints."""
        dims = None if all(mask) else [3 * j + axis for j, seen in enumerate(mask) if seen for axis in range(3)]
        whitener, log_det = self._cached(("whitener", *mask), lambda: self._whitener(dims))
        error = (z if dims is None else z[:, dims]) - (self.mean if dims is None else self.mean[:, dims])[:, None]
        white = error @ whitener.mT
        return (-0.5 * (white.square().sum(-1) + error.shape[-1] * _LOG_2PI) - log_det[:, None]).mT

    def _log_prob_of_each_mask(self, z: Tensor, observed: Tensor) -> Tensor:
        """The same for rows that each have their own mask (B, J), for traced code, which cannot read masks: one factor a row."""
        on = observed.repeat_interleave(3, -1).to(z.dtype)[:, None]
        # Coordinates that are not observed become independent ones at their mean.
        covariance = self.covariance() * on[..., None] * on[..., None, :] + torch.diag_embed(1.0 - on)
        factor = torch.linalg.cholesky(covariance)
        error = (z[:, None] - self.mean) * on
        white = torch.linalg.solve_triangular(factor, error[..., None], upper=False)[..., 0]
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (white.square().sum(-1) + on.sum(-1) * _LOG_2PI) - log_det

    def log_prob(self, z: Tensor, observed: Tensor | None) -> Tensor:
        """(B,) log-density of the observed coordinates, Lebesgue in z; all of them without a mask."""
        return self.component_log_prob(z, observed).logsumexp(-1)

    def _whitener(self, dims: list[int] | None) -> tuple[Tensor, Tensor]:
        """Inverse Cholesky factors (K, d, d) of the marginal covariances and half their log-determinants (K,)."""
        factor = self.factor()
        if dims is not None:
            factor = torch.linalg.cholesky((factor @ factor.mT)[:, dims][:, :, dims])
        identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device).expand_as(factor)
        whitener = torch.linalg.solve_triangular(factor, identity, upper=False)
        return whitener, factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_truncation_mass(self, observed: Tensor | None, scale: Tensor, place: Tensor) -> Tensor:
        """(B,) log of the mass where the tangent vectors of the observed joints are shorter than pi, joint by joint.

        Exact for one joint. Priors keep joints with more than a thousandth beyond pi in groups of their own, so that the
        product over joints is exact to that order.

        Args:
            observed: (B, J) bool; None where all joints are.
            scale: (>= J, 3) radians per standardised unit, of all joints of the prior.
            place: (J,) rows of `scale` that are this mixture's joints.
        """
        per_joint = self._cached("mass", lambda: self._log_mass_by_joint(scale[place]), scale)
        return per_joint.sum() if observed is None else (observed * per_joint).sum(-1)

    def _log_mass_by_joint(self, scale: Tensor) -> Tensor:
        factor = self.factor()
        rows = factor.unflatten(1, (self.num_joints, 3)) * scale[:, :, None]
        mean = self.mean.unflatten(1, (self.num_joints, 3)) * scale
        mass = log_truncation_mass(mean.flatten(0, 1), (rows @ rows.mT).flatten(0, 1))
        return (mass.unflatten(0, (self.num_components, self.num_joints)) + self.log_weights()[:, None]).logsumexp(0)

    def _cached(self, key: Hashable, compute: Callable[[], _T], *others: Tensor) -> _T:
        """The value of `compute` for the weights and `others`, cached where the weights are frozen.

        A fit of bodies asks for the same few masks thousands of times.
        """
        parameters = tuple(self.parameters())
        if any(p.requires_grad for p in parameters):
            return compute()
        return (self.cache if not others else self.mass_cache)((*parameters, *others), key, compute)

    # ------------------------------------------------------------------ draws

    def draw(
        self, z: Tensor, observed: Tensor, scale: Tensor, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """(S, B, 3J) draws of p(missing | observed), observed coordinates as given.

        Tangent vectors longer than pi are drawn again: the density is that of the truncated Gaussian.

        Args:
            z: (B, 3J); observed: (B, J).
            scale: (J, 3) radians per standardised unit.
            num_samples: S.
            generator: source of randomness.
        """
        responsibility = self.component_log_prob(z, observed).softmax(-1)
        result = z.expand(num_samples, *z.shape).clone()
        for rows, mask in rows_by_mask(observed):
            if bool(mask.all()):
                continue
            target = rows.repeat(num_samples)
            place = torch.arange(num_samples, device=z.device).repeat_interleave(len(rows))
            for _ in range(_MOST_REDRAWS):
                drawn = self._draw_masked(z[target], mask, responsibility[target], generator)
                inside = (drawn.unflatten(1, (-1, 3)) * scale).square().sum(-1)[:, ~mask].le(math.pi**2).all(1)
                result[place[inside], target[inside]] = drawn[inside]
                target, place = target[~inside], place[~inside]
                if len(target) == 0:
                    break
            else:  # a component with almost all its mass beyond pi: keep the last draw, which wraps to some rotation
                result[place, target] = drawn[~inside]
        return result

    def _draw_masked(
        self, z: Tensor, mask: Tensor, responsibility: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """(B, 3J) draws for rows that all observe the same joints."""
        dims = mask.repeat_interleave(3)
        known, missing = dims.nonzero()[:, 0], (~dims).nonzero()[:, 0]
        component = torch.multinomial(responsibility, 1, generator=generator)[:, 0]
        gain, factor = self._conditional(known, missing)
        noise = torch.randn(len(z), len(missing), generator=generator, dtype=z.dtype, device=z.device)
        result = z.clone()
        for k in torch.unique(component).tolist():
            rows = (component == k).nonzero()[:, 0]
            drawn = self.mean[k, missing] + noise[rows] @ factor[k].mT
            if len(known):
                drawn = drawn + (z[rows][:, known] - self.mean[k, known]) @ gain[k].mT
            result[rows[:, None], missing] = drawn
        return result

    def _conditional(self, known: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Regression matrices (K, m, o) and Cholesky factors (K, m, m) of x_missing given x_known."""
        covariance = self.covariance()
        m_m = covariance[:, missing][:, :, missing]
        if len(known) == 0:
            return m_m[:, :, :0], torch.linalg.cholesky(m_m)
        m_o = covariance[:, missing][:, :, known]
        factor = torch.linalg.cholesky(covariance[:, known][:, :, known])
        gain = torch.cholesky_solve(m_o.mT, factor).mT
        rest = m_m - gain @ m_o.mT
        ridge = 1e-7 * torch.eye(len(missing), dtype=rest.dtype, device=rest.device)
        return gain, torch.linalg.cholesky(0.5 * (rest + rest.mT) + ridge)
