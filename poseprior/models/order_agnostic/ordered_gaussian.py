"""A Gaussian over joints, factored joint by joint in any order.

With C the covariance in the order of the chain and C = L L^T, the whitened coordinates e = L^-1 (z - mean) are the
standardised residuals of every joint given its predecessors: log p(z_j | before j) = log N(e_j; 0, I) - log |L_jj|.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..._tracing import is_traced
from ..shared.cache import WeightCache
from ..shared.masks import distinct_masks

#: Sets of orders whose tables are cached.
_CACHED_ARRANGEMENTS = 32


class NearArrangement(NamedTuple):
    """The conditional of every joint given those of its near joints that come before it.

    Attributes:
        whitener: (U, 3J, 3J), residuals W (z - mean), both in the joints' own places.
        log_diagonal: (U, J) log-determinants of the conditional's factor.
        visible: (U, J, N), 1 where a near joint comes before.
    """

    whitener: Tensor
    log_diagonal: Tensor
    visible: Tensor


class NearTables(NamedTuple):
    """The same for every set of near joints; set number sum_n 2^n holds the near joints n.

    Attributes:
        whitener: (J, 2^N, 3, 3J).
        factor: (J, 2^N, 3, 3) lower-triangular factors of the conditional covariances.
        log_diagonal: (J, 2^N).
    """

    whitener: Tensor
    factor: Tensor
    log_diagonal: Tensor


class Arrangement(NamedTuple):
    """Orders of J joints and what the Gaussian chain needs in them.

    Attributes:
        whitener: W (U, 3J, 3J) with e = W (z - mean), both in the joints' own places.
        log_diagonal: (U, J) log |L_jj|.
        before: (U, J, J), 1 where the second joint comes before the first.
        own_whitener: (J, 3, 3), the inverse factors of the joints' marginals.
        own_log_diagonal: (J,) their log-determinants, negated.
        near: the conditionals given near joints alone; None without them.
    """

    whitener: Tensor
    log_diagonal: Tensor
    before: Tensor
    own_whitener: Tensor
    own_log_diagonal: Tensor
    near: NearArrangement | None

    def rows(self, table: Tensor, index: Tensor | None, count: int) -> Tensor:
        """Entries of a (U, ...) table for `count` rows; index None means U blocks of equal length."""
        if index is not None:
            return table[index]
        if count == len(table):
            return table
        return table[:, None].expand(-1, count // len(table), *table.shape[1:]).flatten(0, 1)


def arrange(ranks: Tensor, observed: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Orders in which given joints come first and missing ones last, for all pairs of an order and a distinct mask.

    Args:
        ranks: (K, J) position of each joint in K orders.
        observed: (B, J) bool.
        given: (B, J) bool, joints to move to the front.

    Returns:
        perm (K P, J), the joints in order, for the P distinct masks, and index (K B,) into its rows for the B rows
        in every order; index is None where P is 1. Traced code, which cannot compare masks, takes all to be distinct: P is
        B, and index None.
    """
    masks = torch.stack([~observed, torch.zeros_like(observed) if given is None else given & observed], 1)
    masks, inverse = (masks, None) if is_traced() else distinct_masks(masks)
    late, first = masks.long().unbind(1)
    perm = (ranks[:, None] + (late - first) * ranks.shape[1]).argsort(-1).flatten(0, 1)
    if inverse is None:
        return perm, None
    start = torch.arange(len(ranks), device=perm.device)[:, None] * len(masks)
    return perm, (start + inverse).flatten()


def order_key(perm: Tensor) -> bytes:
    """What names the orders perm (U, J) in caches."""
    return perm.cpu().numpy().tobytes()


class OrderedGaussian(nn.Module):
    """N(mean, covariance) over J joints of 3 coordinates, as a chain over joints. It has no trainable parameters.

    Args:
        num_joints: J.
        near: places of the joints near each joint, at most N of them; None leaves `Arrangement.near` out.

    Attributes:
        mean: (3J,).
        covariance: (3J, 3J).
        slots: (J, N) places of near joints; used: (J, N) bool, which of them there are.
    """

    mean: Tensor
    covariance: Tensor
    slots: Tensor
    used: Tensor

    def __init__(self, num_joints: int, near: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__()
        self.num_joints = num_joints
        most = max(map(len, near), default=0) if near else 0
        padded = [[*own, *[0] * (most - len(own))] for own in near or [[]] * num_joints]
        used = [[k < len(own) for k in range(most)] for own in near or [[]] * num_joints]
        self.register_buffer("slots", torch.tensor(padded, dtype=torch.long).view(num_joints, most), persistent=False)
        self.register_buffer("used", torch.tensor(used, dtype=torch.bool).view(num_joints, most), persistent=False)
        self.register_buffer("mean", torch.zeros(3 * num_joints))
        self.register_buffer("covariance", torch.eye(3 * num_joints))
        self.cache, self.near_cache = WeightCache(_CACHED_ARRANGEMENTS), WeightCache(1)

    def factor(self, perm: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factors L (U, 3J, 3J) in the orders perm (U, J), and the coordinates (U, 3J) in those orders."""
        coordinate = (3 * perm[..., None] + torch.arange(3, device=perm.device)).flatten(1)
        permuted = self.covariance.double()[coordinate[:, :, None], coordinate[:, None, :]]
        return torch.linalg.cholesky(permuted).to(self.covariance.dtype), coordinate

    @torch.no_grad()
    def arrangement(self, perm: Tensor, key: bytes | None = None) -> Arrangement:
        """Tables for the orders perm (U, J), cached in evaluation, where the same few orders come back call after call.

        `key` is what `order_key` gives for these orders; without it, code that is traced cannot look them up.
        """
        if self.training or (key is None and is_traced()):
            return self._arrangement(perm)
        return self.cache((self.covariance,), key or order_key(perm), lambda: self._arrangement(perm))

    def _arrangement(self, perm: Tensor) -> Arrangement:
        factor, coordinate = self.factor(perm)
        identity = torch.eye(factor.shape[-1], dtype=torch.double, device=factor.device).expand_as(factor)
        inverse = torch.linalg.solve_triangular(factor.double(), identity, upper=False).to(factor.dtype)
        place = coordinate.argsort(-1)
        inverse = inverse.gather(1, place[:, :, None].expand_as(inverse))
        inverse = inverse.gather(2, place[:, None, :].expand_as(inverse))
        log_diagonal = factor.diagonal(dim1=-2, dim2=-1).log().unflatten(-1, (-1, 3)).sum(-1)
        rank = perm.argsort(-1)
        before = (rank[:, None, :] < rank[:, :, None]).to(factor.dtype)
        own = self.own_factor()
        own_whitener = torch.linalg.solve_triangular(own, torch.eye(3, dtype=own.dtype, device=own.device), upper=False)
        own_log_diagonal = own.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        near = self._near(before) if self.slots.shape[1] else None
        return Arrangement(inverse, log_diagonal.gather(1, rank), before, own_whitener, own_log_diagonal, near)

    def own_factor(self) -> Tensor:
        """(J, 3, 3) Cholesky factors of the joints' marginal covariances."""
        blocks = self.covariance.unflatten(0, (-1, 3)).unflatten(2, (-1, 3)).diagonal(dim1=0, dim2=2)
        return torch.linalg.cholesky(blocks.permute(2, 0, 1).contiguous())

    def whiten(self, z: Tensor, whitener: Tensor, index: Tensor | None) -> Tensor:
        """Residuals e (R, J, 3) given the predecessors, of z (R, J, 3) with zeros where missing (meaningless there)."""
        centred = z.flatten(1) - self.mean
        if index is None:
            return (centred.view(len(whitener), -1, centred.shape[1]) @ whitener.mT).reshape(z.shape)
        order = index.argsort()
        parts = centred[order].split(torch.bincount(index, minlength=len(whitener)).tolist())
        white = torch.cat([part @ w.mT for part, w in zip(parts, whitener, strict=True)])
        return white[order.argsort()].view_as(z)

    # ------------------------------------------------------------------ near joints

    def near_set(self, visible: Tensor) -> Tensor:
        """Number of the set of near joints that is visible, (*,) from (*, N)."""
        return (visible.long() << torch.arange(visible.shape[-1], device=visible.device)).sum(-1)

    def _near(self, before: Tensor) -> NearArrangement:
        tables = self.near_tables()
        visible = before.gather(2, self.slots.expand(len(before), -1, -1)) * self.used
        number, joint = self.near_set(visible), torch.arange(self.num_joints, device=before.device)
        return NearArrangement(
            tables.whitener[joint, number].flatten(1, 2), tables.log_diagonal[joint, number], visible
        )

    @torch.no_grad()
    def near_tables(self) -> NearTables:
        """Conditionals given every set of near joints, cached until the covariance changes."""
        return self.near_cache((self.covariance,), None, self._make_near_tables)

    def _make_near_tables(self) -> NearTables:
        c, device = self.covariance.double(), self.covariance.device
        count, most = self.slots.shape
        axes = torch.arange(3, device=device)
        sets = torch.arange(2**most, device=device)[:, None] >> torch.arange(most, device=device) & 1
        on = (sets * self.used[:, None]).repeat_interleave(3, -1).double()  # (J, 2^N, 3N)
        near = (3 * self.slots[..., None] + axes).flatten(1)
        own = 3 * torch.arange(count, device=device)[:, None] + axes
        among = c[near[:, :, None], near[:, None]][:, None] * on[..., None] * on[..., None, :]
        among = among + torch.diag_embed(1.0 - on)
        across = c[own[:, :, None], near[:, None]][:, None] * on[:, :, None]
        regression = torch.linalg.solve(among, across.mT).mT  # (J, 2^N, 3, 3N)
        factor = torch.linalg.cholesky(c[own[:, :, None], own[:, None]][:, None] - regression @ across.mT)
        whitener = torch.zeros(count, len(sets), 3, 3 * count, dtype=c.dtype, device=device)
        whitener.scatter_(
            3,
            own[:, None, None].expand(-1, len(sets), 3, -1),
            torch.eye(3, dtype=c.dtype, device=device).expand(count, len(sets), 3, 3),
        )
        whitener.scatter_add_(3, near[:, None, None].expand_as(regression), -regression)
        whitener = torch.linalg.solve_triangular(factor, whitener, upper=False)
        log_diagonal = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        dtype = self.covariance.dtype
        return NearTables(whitener.to(dtype), factor.to(dtype), log_diagonal.to(dtype))
