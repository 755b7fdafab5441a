"""The start of an `OrderAgnosticPrior`: charts and Gaussians in closed form, before any gradient step."""

from __future__ import annotations

import torch

from ...trainable import TrainingPoses
from ..gaussian.em import fit_mixture
from ..gaussian.masked_mixture import MaskedMixture
from ..shared.mirror import stack_views
from .groups import OrderGroups

_START_POSES = 60_000
_START_ITERATIONS = 50
_PRIOR_COUNT = 50.0


@torch.no_grad()
def fit_start(groups: OrderGroups, train: TrainingPoses) -> None:
    """Fit chart, Gaussians and lone joints to batches as the loop draws them (balanced, mirrored, jittered)."""
    rotvec, observed = train.batches(groups.joints, _START_POSES)
    chart = groups.chart
    chart.fit(rotvec, observed)
    for _, views in groups.each():  # two groups that share networks have mirrored charts, exactly
        for view in views[1:]:
            chart.mean[view.places] = view.reflect(chart.mean[views[0].places])
            chart.scale[view.places] = chart.scale[views[0].places]
    z, _ = chart(rotvec.to(chart.mean), observed)
    generator = torch.Generator().manual_seed(train.seed)
    for part, views in groups.each():
        values, mask = stack_views(views, z), stack_views(views, observed)
        some = mask.any(1)
        _, mean, covariance = fit_mixture(
            values[some].flatten(1), mask[some], 1, iterations=_START_ITERATIONS, prior_count=0.0,
            generator=generator, progress=train.progress, out_of_time=train.out_of_time,
        )  # fmt: skip
        part.base.mean.copy_(mean[0])
        part.base.covariance.copy_(covariance[0])
        part.scale.copy_(chart.scale[views[0].places])
    if groups.lone:
        for module, place in zip(groups.singles.parts, groups.lone, strict=True):
            assert isinstance(module, MaskedMixture)
            some = observed[:, place]
            moments = fit_mixture(
                z[some, place], observed[some, place, None], module.num_components, iterations=_START_ITERATIONS,
                prior_count=_PRIOR_COUNT, generator=generator, progress=train.progress, out_of_time=train.out_of_time,
            )  # fmt: skip
            module.set_moments(*moments)
