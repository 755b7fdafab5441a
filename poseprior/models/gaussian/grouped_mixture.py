"""Independent groups of joints, each with its own Gaussian mixture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from ...trainable import TrainingPoses
from ..charts.tangent import TangentChart
from ..shared.independent_groups import independent_groups, partition
from ..shared.select import select
from ..shared.truncation_mass import log_truncation_mass
from .em import fit_mixture, shrinkage
from .masked_mixture import MaskedMixture

#: A joint whose tangent Gaussian has more mass than this beyond |x| = pi (a root that turns all the way round) is modelled
#: on its own, where the truncation is exact.
_MOST_MASS_BEYOND = 1e-3
#: Poses at most that this mass is measured on.
_MEASURED_POSES = 20000


def groups_from_data(train: TrainingPoses, joints: tuple[int, ...]) -> list[list[int]]:
    """Groups to model as independent: joints never shown together, and joints that spread over the whole of SO(3)."""
    rotvec, observed = train.poses(joints, max_poses=_MEASURED_POSES)
    chart = TangentChart(len(joints))
    chart.fit(rotvec, observed)
    beyond = -torch.expm1(log_truncation_mass(torch.zeros(len(joints), 3), torch.diag_embed(chart.scale.square())))
    wide = {j for j, mass in zip(joints, beyond.tolist(), strict=True) if mass > _MOST_MASS_BEYOND}
    rest = tuple(j for j in joints if j not in wide)
    groups = independent_groups(train.co_observed, rest)
    return sorted([*([j] for j in sorted(wide)), *(list(g) for g in groups)])


class IndependentGroupsMixture(nn.Module):
    """A product over independent groups of joints, with a `MaskedMixture` for each.

    Args:
        joints: all joints, sorted SMPL-X indices.
        groups: partition of `joints`; None is one group.
        num_components: mixture components of each group.

    Raises:
        ValueError: groups that are not a partition of the joints.
    """

    def __init__(self, joints: tuple[int, ...], groups: Sequence[Sequence[int]] | None, *, num_components: int) -> None:
        super().__init__()
        self.groups = partition(joints, groups)
        place = {j: k for k, j in enumerate(joints)}
        for k, group in enumerate(self.groups):
            self.register_buffer(f"_place{k}", torch.tensor([place[j] for j in group]), persistent=False)
        self.parts = nn.ModuleList(MaskedMixture(len(group), num_components) for group in self.groups)

    def _each(self) -> Iterator[tuple[MaskedMixture, Tensor]]:
        """Mixtures, each with the places of its joints among all joints."""
        for k, part in enumerate(self.parts):
            place = getattr(self, f"_place{k}")  # older versions of torch.compile do not know get_buffer
            assert isinstance(part, MaskedMixture) and isinstance(place, Tensor)
            yield part, place

    def covariance(self) -> Tensor:
        """(3 J, 3 J) of the coordinates, zero between groups; for one component."""
        size = 3 * sum(len(group) for group in self.groups)
        total = next(self.parameters()).new_zeros(size, size)
        for part, place in self._each():
            where = (3 * place[:, None] + torch.arange(3, device=place.device)).flatten()
            total = total.index_put((where[:, None], where), part.covariance()[0])
        return total

    def log_prob(self, z: Tensor, observed: Tensor | None, scale: Tensor) -> Tensor:
        """(B,) log-density of z (B, J, 3), Lebesgue in z, truncated where a tangent vector is longer than pi.

        `observed` is (B, J) bool; None where all joints are.
        """
        total = z.new_zeros(z.shape[0])
        for part, place in self._each():
            one_group = len(place) == z.shape[1]
            own = z if one_group else select(z, place)
            mask = observed if one_group or observed is None else select(observed, place)
            total = total + part.log_prob(own.flatten(1), mask) - part.log_truncation_mass(mask, scale, place)
        return total

    def draw(
        self, z: Tensor, observed: Tensor, scale: Tensor, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """(S, B, J, 3) draws of the missing joints given the observed."""
        result = z.expand(num_samples, *z.shape).clone()
        for part, place in self._each():
            drawn = part.draw(z[:, place].flatten(1), observed[:, place], scale[place], num_samples, generator)
            result[:, :, place] = drawn.unflatten(-1, (-1, 3))
        return result

    @torch.no_grad()
    def fit(
        self,
        chart: TangentChart,
        rotvec: Tensor,
        observed: Tensor,
        train: TrainingPoses,
        *,
        iterations: int,
        prior_count: float,
    ) -> None:
        """Maximum likelihood for (N, J, 3) rotvecs with (N, J) observed, group by group, shrunk where poses are few."""
        generator = torch.Generator().manual_seed(train.seed)
        z, _ = deepcopy(chart).double()(rotvec, observed)
        for part, place in self._each():
            rows = observed[:, place].any(1)
            moments = fit_mixture(
                z[rows][:, place].flatten(1), observed[rows][:, place], part.num_components, iterations=iterations,
                prior_count=prior_count, shrinkage=shrinkage(int(rows.sum()), 3 * len(place)), generator=generator,
                progress=train.progress, out_of_time=train.out_of_time,
            )  # fmt: skip
            part.set_moments(*moments)
