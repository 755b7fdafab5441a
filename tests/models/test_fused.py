"""Densities of frozen weights, whose gradients are written out, against the composition that autograd derives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from poseprior import FitConfig, GaussianPrior, GlobalFlow, JointFlow, OrderAgnosticPrior, PosePrior
from poseprior.io import synthetic_poses
from poseprior.models.charts.compact import UnfoldedChart
from poseprior.models.charts.tangent import Chart, TangentChart
from poseprior.models.fused import mixture_flow as frozen_mixture_flow
from poseprior.models.fused import residual_flow as frozen_residual_flow
from poseprior.rotations import random_rotvec

_JOINTS = [1, 2, 4, 5, 7, 8, 10, 11, 20, 21]


def _joint_flow() -> PosePrior:
    return JointFlow(_JOINTS, hidden=12, num_components=3)


def _unshared() -> PosePrior:
    return JointFlow(_JOINTS, hidden=12, num_components=3, share_mirror=False, extra_parents=False)


def _global_flow() -> PosePrior:
    return GlobalFlow(_JOINTS, hidden=16, layers=2)


def _published_joints() -> PosePrior:
    return JointFlow.published(_JOINTS)


def _diagonal() -> PosePrior:
    return GaussianPrior(_JOINTS, covariance="diagonal")


def _published() -> PosePrior:
    return GlobalFlow.published(_JOINTS)


def _order_agnostic() -> PosePrior:
    return OrderAgnosticPrior([*_JOINTS, 22], hidden=8, num_components=3, num_orders=4, groups=[_JOINTS, [22]])


@cache
def _fitted(make: Callable[[], PosePrior]) -> PosePrior:
    prior = make().double()
    config = FitConfig(max_steps=25, batch_size=64, warmup_steps=2, learning_rate=5e-3, progress=False)
    prior.fit(synthetic_poses(500, seed=0), config=config)
    return prior


_MAKERS = [_joint_flow, _unshared, _global_flow, _published, _published_joints, _diagonal, _order_agnostic]


def _poses(rows: int) -> Tensor:
    """Near the data, far from it, and at rest."""
    generator = torch.Generator().manual_seed(rows)
    near = 0.3 * torch.randn(rows, 55, 3, generator=generator, dtype=torch.float64)
    far = random_rotvec(rows, 55, generator=generator, dtype=torch.float64)
    pose = torch.where(torch.rand(rows, 1, 1, generator=generator) < 0.5, near, far)
    pose[0] = 0.0
    return pose


def _mask(prior: PosePrior, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if prior.can_marginalise:
        return torch.rand(rows, 55, generator=generator) < 0.7
    assert isinstance(prior, GlobalFlow)
    observed = torch.ones(rows, 55, dtype=torch.bool)
    for members, _ in prior.blocks[1:]:
        observed[:, members] = torch.rand(rows, 1, generator=generator) < 0.5
    return observed


def _value_and_gradient(prior: PosePrior, pose: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
    leaf = pose.clone().requires_grad_()
    value = prior.log_prob(leaf, observed=observed)
    weight = torch.linspace(0.5, 2.0, len(pose), dtype=pose.dtype)
    return value.detach(), torch.autograd.grad((weight * value).sum(), leaf)[0]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 1100])
@pytest.mark.parametrize("make", _MAKERS)
def test_value_and_gradient_are_those_of_the_composition(
    make: Callable[[], PosePrior], rows: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_mixture_flow, "_ROWS", 900)
    prior, pose = _fitted(make), _poses(rows)
    observed = _mask(prior, rows) if masked else None
    value, gradient = _value_and_gradient(prior, pose, observed)
    prior.requires_grad_(True)  # weights that are asked for gradients take the composition
    expected, slope = _value_and_gradient(prior, pose, observed)
    prior.requires_grad_(False)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-6)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("make", _MAKERS)
def test_second_derivatives(make: Callable[[], PosePrior]) -> None:
    prior, pose = _fitted(make), _poses(3)
    if make is _published_joints:  # units that never got a gradient have their kink at rest
        pose = pose[1:]
    assert torch.autograd.gradgradcheck(lambda x: prior.log_prob(x), pose.requires_grad_(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("make", [_joint_flow, _global_flow, _published, _diagonal])
def test_tables_follow_the_weights(make: Callable[[], PosePrior]) -> None:
    prior = make().requires_grad_(False).eval()
    pose = 0.3 * torch.randn(4, 55, 3, generator=torch.Generator().manual_seed(0))
    before = prior.log_prob(pose)
    for name, tensor in prior.state_dict().items():
        if not name.startswith("chart") and tensor.is_floating_point():
            tensor.add_(0.1)
    after = prior.log_prob(pose)
    assert not torch.allclose(before, after)
    prior.requires_grad_(True)
    torch.testing.assert_close(after, prior.log_prob(pose).detach(), rtol=1e-4, atol=1e-4)


def test_tails_near_the_middle_of_a_block() -> None:
    """The slope of the tails is a series there; in float32 the closed form loses all its digits."""
    prior = _fitted(_global_flow)
    middle = prior.decode(torch.zeros(1, prior.latent_dim, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    for reach in (1e-6, 1e-3, 1e-2, 1e-1):
        pose = middle + reach * torch.randn(1, 55, 3, generator=generator, dtype=torch.float64)
        _, exact = _value_and_gradient(prior, pose, None)
        _, single = _value_and_gradient(prior.float(), pose.float(), None)
        prior.double()
        torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-2)


def test_training_does_not_take_the_tables() -> None:
    """Dropout and noise are part of training."""
    for make in (_joint_flow, _global_flow):
        prior, pose = _fitted(make), _poses(5)
        prior.requires_grad_(True).train()
        torch.manual_seed(0)
        first = prior.log_prob(pose)
        assert not torch.allclose(first, prior.log_prob(pose))
        prior.eval()
        torch.testing.assert_close(prior.log_prob(pose), prior.log_prob(pose))


@pytest.mark.parametrize("kind", [TangentChart, UnfoldedChart])
@pytest.mark.parametrize("masked", [False, True])
def test_charts_have_the_gradient_of_their_composition(kind: type[Chart], masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    chart = kind(3).double()  # type: ignore[call-arg, arg-type]
    chart.fit(random_rotvec(50, 3, generator=generator, dtype=torch.float64), torch.ones(50, 3, dtype=torch.bool))  # type: ignore[operator]
    rotvec = 1.5 * random_rotvec(40, 3, generator=generator, dtype=torch.float64)
    rotvec = torch.cat([rotvec, torch.zeros(1, 3, 3, dtype=torch.float64)]).requires_grad_()
    observed = torch.rand(41, 3, generator=generator) < (0.6 if masked else 2.0)
    seen = observed.double()[..., None] if masked else None
    weight = torch.randn(41, 3, 3, generator=generator, dtype=torch.float64)
    results = []
    for z, volume in (chart(rotvec, observed), chart.composed(rotvec, seen)):
        (gradient,) = torch.autograd.grad((weight * z).sum() + (weight[:, 0, 0] * volume).sum(), rotvec)
        results.append((z, volume, gradient))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # of the series near 0, see `derivable_log_map`
    few, mask = rotvec[:4].detach().requires_grad_(), observed[:4]
    assert torch.autograd.gradgradcheck(lambda r: chart(r, mask), few)


def test_pieces_of_the_global_flow_are_what_it_is_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, pose = _fitted(_global_flow), _poses(50)
    whole = _value_and_gradient(prior, pose, None)
    monkeypatch.setattr(frozen_residual_flow, "_ROWS", 7)
    for ours, theirs in zip(_value_and_gradient(prior, pose, None), whole, strict=True):
        torch.testing.assert_close(ours, theirs)
