"""Training batches: reflections, ranks, and how long they take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sample_poses import labelled

from poseprior import FitConfig, GaussianPrior, RigNoise, skeleton
from poseprior.training.batches import BatchSource

QUIET = FitConfig(batch_size=40, jitter=0.0, progress=False)
#: Rig noise that turns nothing.
STILL = RigNoise(child_frame={"left_knee": [[0.0, 0.0, 0.0]] * 3})


@pytest.mark.parametrize("joints", [tuple(range(1, 22)), tuple(range(25, 40)), tuple(range(55))])
@pytest.mark.parametrize("rig_noise", [None, STILL])
def test_half_of_the_poses_are_reflections(joints: tuple[int, ...], rig_noise: RigNoise | None) -> None:
    data = labelled(40)
    source = BatchSource(data, joints, replace(QUIET, rig_noise=rig_noise).resolve({}))
    rows = source.indices(0)
    pose, observed = source.batch(0)
    own, mine = data.batch(rows)
    other, theirs = skeleton.mirror(own), skeleton.mirror_observed(mine)
    index = list(joints)
    plain = torch.isclose(pose, own[:, index], atol=1e-5).flatten(1).all(1) & (observed == mine[:, index]).all(1)
    flipped = torch.isclose(pose, other[:, index], atol=1e-5).flatten(1).all(1) & (observed == theirs[:, index]).all(1)
    shown = mine[:, index].any(1) | theirs[:, index].any(1)
    assert bool((plain | flipped)[shown].all())
    assert 5 < int((flipped & shown).sum()) < int(shown.sum()) - 5


def test_a_fit_says_what_its_batches_cost() -> None:
    result = GaussianPrior("body").fit(labelled(40), config=replace(QUIET, max_steps=5))
    assert result.loading_share is not None and 0.0 < result.loading_share < 1.0
    assert GaussianPrior("body").fit(labelled(40)).loading_share is None
