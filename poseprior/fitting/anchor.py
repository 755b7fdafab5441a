"""`PoseAnchor`: an estimate of the pose, such as a regressor's, with its uncertainty, as an energy."""

from __future__ import annotations

from copy import copy
from typing import final

import torch
from torch import Tensor, nn

from .. import skeleton
from .._checks import as_real_tensor, check_floating, check_number
from .._pose_checks import check_near
from .._tracing import is_traced
from ..models.shared.student_t import standard_log_prob
from ..rotations import haar_log_density, rotvec_to_tangent
from .body.hand_convention import HandConvention
from .energy import EnergyTerm, PoseParams, pose_and_joints
from .term import LARGEST_WEIGHT, Schedule, factor_at

#: Radians. Squares of rotations over those of a width beyond these bounds leave the range of single precision.
_LEAST_SIGMA, _MOST_SIGMA = 1e-9, 1e9


@final
class PoseAnchor(EnergyTerm):
    """-log density of a pose around an estimate.

    The rotation of joint j is y_j Exp(n_j), with y_j that of the estimate and n_j ~ N(0, sigma_j^2 I). Nats against Haar,
    like a prior's. Sum it with `PosePriorTerm` for the posterior given the estimate.

    Args:
        estimate: the keyword dict of `smplx`, or a pose (*batch, 55, 3), radians; parts left out are not anchored.
        sigma: how far the estimate may be off, radians: a number, or a tensor that broadcasts to (*batch, 55), such as a
            regressor's own uncertainty; infinite where it says nothing.
        dof: degrees of freedom of a Student-t in place of the Gaussian, for estimates that are sometimes far off; None is
            the Gaussian.
        weight, schedule, model: as in `PosePriorTerm`.
        reduction: "mean" over the anchored joints (sigma finite for some body), or "sum".

    >>> anchor = PoseAnchor(torch.zeros(2, 55, 3), sigma=0.1)
    >>> anchor(torch.zeros(2, 55, 3)).shape
    torch.Size([2])
    """

    def __repr__(self) -> str:
        return f"PoseAnchor({len(self.joints)} joints, weight {self.weight:g})"

    def __init__(
        self,
        estimate: PoseParams,
        *,
        sigma: float | Tensor,
        dof: float | None = None,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        reduction: str = "mean",
        model: nn.Module | None = None,
        name: str = "anchor",
    ) -> None:
        self._hands = HandConvention.of(model)
        if isinstance(estimate, Tensor):
            check_floating("estimate", estimate)
        pose, given = pose_and_joints(estimate, self._hands)
        width = as_real_tensor("sigma", sigma, dtype=pose.dtype, device=pose.device)
        if bool((torch.isnan(width) | (width < _LEAST_SIGMA) | ((width > _MOST_SIGMA) & torch.isfinite(width))).any()):
            raise ValueError(
                f"sigma: expected radians from {_LEAST_SIGMA:g} to {_MOST_SIGMA:g} (infinite for no anchor), got {sigma}."
            )
        try:
            width = width.expand(pose.shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"sigma: expected a number or a tensor that broadcasts to {tuple(pose.shape[:-1])}, got "
                f"{tuple(width.shape)}."
            ) from None
        check_number("weight", weight, least=0.0, most=LARGEST_WEIGHT)
        if dof is not None:
            check_number("dof", dof, least=1e-3, most=1e6)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}.")
        factor_at(schedule, 0.0)
        wanted = torch.isfinite(width).reshape(-1, skeleton.NUM_JOINTS).any(0)
        if given is not None:
            wanted[[j for j in range(skeleton.NUM_JOINTS) if j not in given]] = False
        self._joints = wanted.nonzero()[:, 0]
        self.joints = tuple(self._joints.tolist())
        self._sigma = width.index_select(-1, self._joints)
        estimate = pose.detach().index_select(-2, self._joints)
        self._estimate = torch.where(torch.isfinite(self._sigma)[..., None], estimate, 0.0)
        check_near("estimate", self._estimate, self._joints, "give joints that nobody knows sigma=inf")
        self.weight, self.schedule, self.reduction, self.name, self.dof = weight, schedule, reduction, name, dof

    def __call__(
        self, params: PoseParams | None = None, *, latent: Tensor | None = None, progress: float = 1.0
    ) -> Tensor:
        """Energies (*batch,), nats; arguments as of `EnergyTerm`. An anchor judges poses: `latent` has no effect.

        Raises:
            ValueError: a batch other than the estimate's, or rotvecs of anchored joints that are not finite.
        """
        pose, given = pose_and_joints(params, self._hands)
        self._check_batch(pose.shape[:-2])
        known = torch.isfinite(self._sigma)
        if given is not None:
            known = known & torch.tensor([j in given for j in self.joints], device=known.device)
        sigma = torch.where(known, self._sigma, torch.ones_like(self._sigma)).to(pose)
        rotvec = pose.index_select(-2, self._joints.to(pose.device))
        rotvec = torch.where(known.to(pose.device)[..., None], rotvec, 0.0)
        if not is_traced():
            check_near("params", rotvec, self._joints, "give the joint sigma=inf in the anchor")
        x = rotvec_to_tangent(rotvec, self._estimate.to(pose))
        squared = x.square().sum(-1) / sigma.square()
        energy = 3.0 * sigma.log() - standard_log_prob(squared, self.dof) + haar_log_density(x)
        energy = (energy * known.to(energy)).sum(-1)
        if self.reduction == "mean":
            energy = energy / max(len(self._joints), 1)
        return self.weight * factor_at(self.schedule, progress) * energy

    def _check_batch(self, batch: torch.Size) -> None:
        own = self._sigma.shape[:-1]
        try:
            torch.broadcast_shapes(own, batch)
        except RuntimeError:
            raise ValueError(
                f"params: expected the batch of the anchor's estimate, {tuple(own)}, got {tuple(batch)}; anchor as many "
                "bodies as there are."
            ) from None

    def precision(self) -> dict[int, float]:
        """By joint, 1 / sigma^2 of its coordinates (rad^-2), averaged over bodies, times the weight."""
        mean = self._sigma.reshape(-1, len(self.joints)).square().reciprocal().mean(0)
        return dict(zip(self.joints, (self.weight * mean).tolist(), strict=True))

    def select(self, bodies: Tensor) -> PoseAnchor | None:
        """As `EnergyTerm`; None for an estimate with more batch dimensions than one."""
        if self._sigma.dim() > 2:
            return None
        if self._sigma.dim() < 2 or len(self._sigma) == 1:
            return self
        if len(bodies) and len(self._sigma) <= int(bodies.max()):
            self._check_batch(torch.Size((int(bodies.max()) + 1,)))
        part = copy(self)
        part._estimate, part._sigma = self._estimate[bodies], self._sigma[bodies]
        return part
