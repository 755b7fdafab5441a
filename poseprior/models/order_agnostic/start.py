"""The start of an `OrderAgnosticPrior`: charts and Gaussians in closed form, before any gradient step."""

from __future__ import annotations

import torch

from ...trainable import TrainingPoses
from ..gaussian.em import fit_mixture
from ..gaussian.masked_mixture import MaskedMixture
from .groups import OrderGroups, stack_sides

_START_POSES = 60_000
_START_ITERATIONS = 50
_PRIOR_COUNT = 50.0


@torch.no_grad()
def fit_start(groups: OrderGroups, train: TrainingPoses) -> None:
    """Fit chart, Gaussians and lone joints to batches as the loop draws them (balanced, mirrored, jittered)."""
    rotvec, seen = train.batches(groups.joints, _START_POSES)
    groups.chart.fit(rotvec, seen)
    for _, sides in groups.each():  # two sides of one part have mirrored charts, exactly
        for side in sides[1:]:
            sign = groups.chart.mean.new_tensor(side.sign)
            groups.chart.mean[side.places] = groups.chart.mean[sides[0].places] * sign
            groups.chart.scale[side.places] = groups.chart.scale[sides[0].places]
    z, _ = groups.chart(rotvec.to(groups.chart.mean), seen)
    generator = torch.Generator().manual_seed(train.seed)
    for part, sides in groups.each():
        values, mask = stack_sides(sides, z), stack_sides(sides, seen)
        shown = mask.any(1)
        _, mean, covariance = fit_mixture(
            values[shown].flatten(1), mask[shown], 1, iterations=_START_ITERATIONS, prior_count=0.0,
            generator=generator, progress=train.progress, out_of_time=train.out_of_time,
        )  # fmt: skip
        part.base.mean.copy_(mean[0])
        part.base.covariance.copy_(covariance[0])
        part.scale.copy_(groups.chart.scale[sides[0].places])
    if groups.lone:
        for module, place in zip(groups.singles.parts, groups.lone, strict=True):
            assert isinstance(module, MaskedMixture)
            shown = seen[:, place]
            moments = fit_mixture(
                z[shown, place], seen[shown, place, None], module.num_components, iterations=_START_ITERATIONS,
                prior_count=_PRIOR_COUNT, generator=generator, progress=train.progress, out_of_time=train.out_of_time,
            )  # fmt: skip
            module.set_moments(*moments)
