"""A Gaussian over joints, factored joint by joint in any order.

With C the covariance in the order at hand and C = L L^T, the whitened coordinates e = L^-1 (z - mean) are the
standardised residuals of every joint given its predecessors: log p(z_j | before j) = log N(e_j; 0, I) - log |L_jj|.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MOST_CACHED = 32


def arrange(ranks: Tensor, seen: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Orders in which given joints come first and missing ones last, for all pairs of an order and a distinct mask.

    Args:
        ranks: (K, J) position of each joint in K orders.
        seen: (B, J) bool.
        given: (B, J) bool, joints to move to the front.

    Returns:
        perm (K P, J), the joints in order, for the P distinct masks, and index (K, B) into its rows.
    """
    size = ranks.shape[1]
    late = (~seen).long() * size
    if given is not None:
        late = late - (given & seen).long() * size
    if bool((late == late[:1]).all()):
        distinct, inverse = late[:1], torch.zeros(len(late), dtype=torch.long, device=late.device)
    else:
        distinct, inverse = torch.unique(late, dim=0, return_inverse=True)
    perm = (ranks[:, None] + distinct).argsort(-1).flatten(0, 1)
    start = torch.arange(len(ranks), device=late.device)[:, None] * len(distinct)
    return perm, start + inverse


class OrderedGaussian(nn.Module):
    """N(mean, covariance) over J joints of 3 coordinates, as a chain over joints. It has no trainable parameters.

    Args:
        num_joints: J.

    Attributes:
        mean: (3J,).
        covariance: (3J, 3J).
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, num_joints: int) -> None:
        super().__init__()
        self.num_joints = num_joints
        self.register_buffer("mean", torch.zeros(3 * num_joints))
        self.register_buffer("covariance", torch.eye(3 * num_joints))
        self._cache: dict[bytes, tuple[Tensor, Tensor]] = {}
        self._stamp: tuple[object, ...] = ()

    def factor(self, perm: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factors L (U, 3J, 3J) in the orders perm (U, J), and the coordinates (U, 3J) in those orders."""
        coordinate = (3 * perm[..., None] + torch.arange(3, device=perm.device)).flatten(1)
        permuted = self.covariance.double()[coordinate[:, :, None], coordinate[:, None, :]]
        return torch.linalg.cholesky(permuted).to(self.covariance.dtype), coordinate

    def whitener(self, perm: Tensor) -> tuple[Tensor, Tensor]:
        """W (U, 3J, 3J) with e = W (z - mean), both in the joints' own places, and log |L_jj| (U, J).

        Kept for a few arrangements: at evaluation the same ones come back call after call.
        """
        stamp = (id(self.covariance), self.covariance._version, self.covariance.dtype, self.covariance.device)
        if stamp != self._stamp:
            self._cache, self._stamp = {}, stamp
        key = b"" if self.training else perm.cpu().numpy().tobytes()
        if key in self._cache:
            return self._cache[key]
        factor, coordinate = self.factor(perm)
        identity = torch.eye(factor.shape[-1], dtype=torch.double, device=factor.device).expand_as(factor)
        inverse = torch.linalg.solve_triangular(factor.double(), identity, upper=False).to(factor.dtype)
        place = coordinate.argsort(-1)
        inverse = inverse.gather(1, place[:, :, None].expand_as(inverse)).gather(2, place[:, None, :].expand_as(inverse))
        log_diagonal = factor.diagonal(dim1=-2, dim2=-1).log().unflatten(-1, (-1, 3)).sum(-1)
        result = inverse, log_diagonal.gather(1, perm.argsort(-1))
        if not self.training:
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            self._cache[key] = result
        return result

    def whiten(self, z: Tensor, perm: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals given the predecessors.

        Args:
            z: (R, J, 3), zero where missing.
            perm: (U, J) orders, missing joints last.
            index: (R,) the order of each row.

        Returns:
            e (R, J, 3) and log |L_jj| (R, J); meaningless at missing joints.
        """
        whitener, log_diagonal = self.whitener(perm)
        centred = z.flatten(1) - self.mean
        count = torch.bincount(index, minlength=len(perm))
        each = len(index) // len(perm)
        if bool((count == each).all()) and bool((index.diff() >= 0).all()):
            white = (centred.view(len(perm), each, -1) @ whitener.mT).flatten(0, 1)
        else:
            order = index.argsort()
            parts = centred[order].split(count.tolist())
            white = torch.cat([part @ w.mT for part, w in zip(parts, whitener, strict=True)])[order.argsort()]
        return white.view_as(z), log_diagonal[index]
