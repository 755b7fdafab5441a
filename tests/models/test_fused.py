"""Every fused density against its eager twin: value, gradient and second derivative, with and without masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from poseprior import FitConfig, GaussianPrior, GlobalFlow, JointFlow, OrderAgnosticPrior, PosePrior
from poseprior.io import synthetic_poses
from poseprior.models.charts.axis_angle import AxisAngleChart
from poseprior.models.charts.chart import Chart, observed_weight
from poseprior.models.charts.compact import CompactChart
from poseprior.models.charts.tangent import TangentChart
from poseprior.models.fused import joint_mixture, order_chains, residual_flow
from poseprior.rotations import random_rotvec

_JOINTS = [1, 2, 4, 5, 7, 8, 10, 11, 20, 21]


def _joint_flow() -> PosePrior:
    return JointFlow(_JOINTS, hidden=12, num_components=3)


def _unshared() -> PosePrior:
    return JointFlow(_JOINTS, hidden=12, layers=3, num_components=3, share_mirror=False, extra_parents=False)


def _global_flow() -> PosePrior:
    return GlobalFlow(_JOINTS, hidden=16, layers=2)


def _published_joints() -> PosePrior:
    return JointFlow.published(_JOINTS)


def _diagonal() -> PosePrior:
    return GaussianPrior(_JOINTS, covariance="diagonal")


def _order_agnostic() -> PosePrior:
    return OrderAgnosticPrior([*_JOINTS, 22], hidden=8, num_components=3, num_orders=4, groups=[_JOINTS, [22]])


@cache
def _fitted(make: Callable[[], PosePrior]) -> PosePrior:
    prior = make().double()
    config = FitConfig(max_steps=25, batch_size=64, warmup_steps=2, learning_rate=5e-3, progress=False)
    prior.fit(synthetic_poses(500, seed=0), config=config)
    return prior


#: Densities that are computed in another way where weights are frozen; the published joint flow has its chart alone.
_FUSED = [_joint_flow, _unshared, _global_flow, _diagonal, _order_agnostic]
_MAKERS = [*_FUSED, _published_joints]


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
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("make", _FUSED)
def test_a_fused_density_is_its_eager_twin(
    make: Callable[[], PosePrior], rows: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (joint_mixture, residual_flow):
        monkeypatch.setattr(module, "_ROWS", 90)
    prior, pose = _fitted(make), _poses(rows)
    observed = _mask(prior, rows) if masked else None
    value, gradient = _value_and_gradient(prior, pose, observed)
    few = slice(1, 4) if rows > 4 else slice(0, 1)
    second = _second_derivative(prior, pose[few], None if observed is None else observed[few])
    prior.requires_grad_(True)  # gradients to the weights are asked for: the eager twin
    expected, slope = _value_and_gradient(prior, pose, observed)
    expected_second = _second_derivative(prior, pose[few], None if observed is None else observed[few])
    prior.requires_grad_(False)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(second, expected_second, rtol=1e-6, atol=1e-5)
    assert torch.isfinite(gradient).all() and torch.isfinite(second).all()


def _second_derivative(prior: PosePrior, pose: Tensor, observed: Tensor | None) -> Tensor:
    """The Hessians times the gradients."""
    leaf = pose.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(leaf, observed=observed).sum(), leaf, create_graph=True)
    return torch.autograd.grad(0.5 * gradient.square().sum(), leaf)[0]


@pytest.mark.parametrize("make", _MAKERS)
def test_second_derivatives(make: Callable[[], PosePrior]) -> None:
    prior, pose = _fitted(make), _poses(3)
    if make is _published_joints:  # units that never got a gradient have their kink at rest
        pose = pose[1:]
    assert torch.autograd.gradgradcheck(lambda x: prior.log_prob(x), pose.requires_grad_(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("make", [_joint_flow, _global_flow, _diagonal, _order_agnostic])
def test_tables_follow_the_weights(make: Callable[[], PosePrior]) -> None:
    prior = make().requires_grad_(False).eval()
    pose = 0.3 * torch.randn(4, 55, 3, generator=torch.Generator().manual_seed(0))
    before = prior.log_prob(pose)
    for name, tensor in prior.state_dict().items():
        if "chart" not in name and tensor.is_floating_point():
            tensor.mul_(1.2) if "covariance" in name else tensor.add_(0.1)
    after = prior.log_prob(pose)
    assert not torch.allclose(before, after)
    prior.requires_grad_(True)
    torch.testing.assert_close(after, prior.log_prob(pose).detach(), rtol=1e-4, atol=1e-4)


def test_tails_near_the_middle_of_a_block() -> None:
    """The slope of the tails is a series there; in float32 the closed form loses all its digits."""
    prior = _fitted(_global_flow)
    middle = prior.decode(torch.zeros(1, prior.latent_dim, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    for spread in (1e-6, 1e-3, 1e-2, 1e-1):
        pose = middle + spread * torch.randn(1, 55, 3, generator=generator, dtype=torch.float64)
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


@pytest.mark.parametrize("kind", [TangentChart, CompactChart, AxisAngleChart])
@pytest.mark.parametrize("masked", [False, True])
def test_charts_have_the_gradient_of_their_eager_twin(kind: type[Chart], masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    chart = kind() if kind is AxisAngleChart else kind(3).double()  # type: ignore[call-arg]
    reference = random_rotvec(50, 3, generator=generator, dtype=torch.float64)
    if isinstance(chart, TangentChart | CompactChart):
        chart.fit(reference, torch.ones(50, 3, dtype=torch.bool))
    rotvec = (0.9 if kind is AxisAngleChart else 1.5) * random_rotvec(40, 3, generator=generator, dtype=torch.float64)
    rotvec = torch.cat([rotvec, torch.zeros(1, 3, 3, dtype=torch.float64)]).requires_grad_()
    observed = torch.rand(41, 3, generator=generator) < (0.6 if masked else 2.0)
    weight = torch.randn(41, 3, 3, generator=generator, dtype=torch.float64)
    results = []
    for z, volume in (chart(rotvec, observed), chart.eager(rotvec, observed_weight(observed, rotvec))):
        (gradient,) = torch.autograd.grad((weight * z).sum() + (weight[:, 0, 0] * volume).sum(), rotvec)
        results.append((z, volume, gradient))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # of the series near the mean
    few, mask = rotvec[:4].detach().requires_grad_(), observed[:4]
    assert torch.autograd.gradgradcheck(lambda r: chart(r, mask), few)


@pytest.mark.parametrize(
    ("make", "module", "size"),
    [
        (_global_flow, residual_flow, "_ROWS"),
        (_joint_flow, joint_mixture, "_ROWS"),
        (_order_agnostic, order_chains, "_CHAINS"),
    ],
)
def test_chunks_are_what_the_whole_batch_is(
    make: Callable[[], PosePrior], module: object, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior, pose = _fitted(make), _poses(50)
    whole = _value_and_gradient(prior, pose, None)
    second = _second_derivative(prior, pose[:9], None)
    monkeypatch.setattr(module, size, 28)
    for ours, theirs in zip(_value_and_gradient(prior, pose, None), whole, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(_second_derivative(prior, pose[:9], None), second)


def test_rows_with_different_masks_are_what_they_are_alone() -> None:
    prior = OrderAgnosticPrior((1, 2, 3, 4), hidden=4, num_components=2, num_orders=3).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    pose = 0.3 * torch.randn(9, 55, 3, generator=generator)
    observed = torch.rand(9, 55, generator=generator) < 0.5
    observed[4, 1:5] = False
    each = torch.stack([prior.log_prob(pose[k], observed=observed[k]) for k in range(9)])
    torch.testing.assert_close(prior.log_prob(pose, observed=observed), each, rtol=1e-5, atol=1e-5)
    assert float(each[4]) == 0.0


@pytest.mark.parametrize("dof", [8, None])
@pytest.mark.parametrize("given", [(1,), (2, 5)])
def test_conditional_densities_are_those_of_the_eager_twin(dof: int | None, given: tuple[int, ...]) -> None:
    """Joints that come first, with other joints missing."""
    prior = OrderAgnosticPrior(range(1, 7), hidden=12, num_components=3, num_orders=5, dof=dof)
    config = FitConfig(max_steps=20, batch_size=64, warmup_steps=2, learning_rate=5e-3, progress=False)
    prior.fit(synthetic_poses(400, seed=0), config=config)
    prior.double()
    first = torch.zeros(55, dtype=torch.bool)
    first[list(given)] = True
    observed = torch.ones(55, dtype=torch.bool)
    observed[3] = False
    results = []
    for eager in (False, True):
        prior.requires_grad_(eager)
        pose = _poses(5).requires_grad_()
        value = prior.conditional_log_prob(pose, first, observed=observed)
        results.append((value.detach(), torch.autograd.grad(value.sum(), pose)[0]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
