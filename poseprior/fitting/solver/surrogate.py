"""`GaussianSurrogate`: a Gaussian fitted to a prior's samples, which stands in for it in the first stages of a fit."""

from __future__ import annotations

from typing import final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...prior import PosePrior
from ...rotations import frechet_mean, rotvec_to_tangent
from ..energy import EnergyTerm, PoseParams
from ..term import PosePriorTerm, factor_at

_SAMPLES = 1000
#: Added to variances, rad^2: it keeps joints that hardly move in the samples from holding back a fit that is still far away.
_FLOOR = 1e-3


@final
class GaussianSurrogate(EnergyTerm):
    """Energy of a Gaussian with the mean and covariance of a prior's samples, in the tangent space at each joint's mean.

    The first stages of a fit only look for the basin of attraction. There a quadratic is smoother than the prior, and costs
    the same for every prior. Its precision also preconditions all stages.

    Args:
        term: the term whose prior it stands in for.

    Attributes:
        joints: of the prior.
        mean: (J, 3) rotvecs.
    """

    def __init__(self, term: PosePriorTerm) -> None:
        self.term, self.name, self.joints = term, term.name, term.prior.joints
        self.mean, self._covariance = _cached_moments(term.prior)
        self._precision: dict[tuple[int, ...], Tensor] = {}

    def precision(self, joints: tuple[int, ...]) -> Tensor:
        """(3 J', 3 J') inverse covariance of some of the prior's joints, the others integrated out."""
        if joints not in self._precision:
            index = torch.tensor([3 * self.joints.index(j) + c for j in joints for c in range(3)])
            self._precision[joints] = torch.linalg.inv(self._covariance[index[:, None], index])
        return self._precision[joints]

    def __call__(
        self, params: PoseParams | None = None, *, latent: Tensor | None = None, progress: float = 1.0
    ) -> Tensor:
        """Energies (*batch,) of poses (*batch, 55, 3), nats up to a constant."""
        assert isinstance(params, Tensor)
        x = rotvec_to_tangent(params[..., list(self.joints), :], self.mean.to(params)).flatten(-2)
        quadratic = ((x @ self.precision(self.joints).to(params)) * x).sum(-1)
        return 0.5 * self.term.weight * factor_at(self.term.schedule, progress) * quadratic


#: Moments by prior, with what they were computed from: fits of single frames share them. Entries go with their prior.
_CACHE: WeakKeyDictionary[PosePrior, tuple[object, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def _cached_moments(prior: PosePrior) -> tuple[Tensor, Tensor]:
    """`_moments`, computed again when the prior's options or tensors have changed."""
    tensors = (*prior.parameters(), *prior.buffers())
    stamp = (repr(prior.get_config()), tuple((id(t), t.data_ptr(), t._version, t.dtype, t.device) for t in tensors))
    found = _CACHE.get(prior)
    if found is None or found[0] != stamp:
        found = _CACHE[prior] = stamp, _moments(prior)
    return found[1]


def _moments(prior: PosePrior) -> tuple[Tensor, Tensor]:
    """Mean rotations (J, 3) and tangent covariance (3 J, 3 J) of a prior's samples."""
    drawn = prior.sample(_SAMPLES, generator=torch.Generator(prior.device).manual_seed(0))[:, list(prior.joints)]
    mean = frechet_mean(drawn).to(drawn)
    x = rotvec_to_tangent(drawn, mean).flatten(1).double()
    x = x - x.mean(0)
    return mean, x.T @ x / len(x) + _FLOOR * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
