"""The written-out operation on frozen chains, against the composition that autograd derives."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from poseprior import FitConfig
from poseprior.io import synthetic_poses
from poseprior.models.fused.autograd import written_out
from poseprior.models.order_agnostic import OrderAgnosticPrior
from poseprior.models.order_agnostic.group_model import OrderPart
from poseprior.models.order_agnostic.ordered_gaussian import arrange

_SIZE, _ORDERS = 6, 5


@cache
def _part(dof: int | None) -> OrderPart:
    prior = OrderAgnosticPrior(range(1, 1 + _SIZE), hidden=12, num_components=3, dof=dof)
    config = FitConfig(max_steps=20, batch_size=64, warmup_steps=2, learning_rate=5e-3, progress=False)
    prior.fit(synthetic_poses(400, seed=0), config=config)
    return prior.double().groups.each()[0][0]


def _case(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    ranks = torch.stack([torch.randperm(_SIZE, generator=generator) for _ in range(_ORDERS)])
    return 1.5 * torch.randn(rows, _SIZE, 3, generator=generator, dtype=torch.float64), ranks


def _mixture(part: OrderPart, z: Tensor, ranks: Tensor, seen: Tensor, given: Tensor, target: Tensor) -> Tensor:
    return written_out(
        z,
        lambda x, need: part.value_and_gradient(x, ranks, seen, given, target, need),
        lambda x: _composed(part, x, ranks, seen, given, target),
    )


def _composed(part: OrderPart, z: Tensor, ranks: Tensor, seen: Tensor, given: Tensor, target: Tensor) -> Tensor:
    perm, _ = arrange(ranks, seen[None], given[None])
    each = part.log_prob(z.repeat(len(perm), 1, 1), perm, None, target.expand(len(perm) * len(z), -1))
    return each.view(len(perm), -1).logsumexp(0)


@pytest.mark.parametrize("dof", [8, None])
@pytest.mark.parametrize("rows", [1, 3, 200])
@pytest.mark.parametrize(("missing", "given"), [((), ()), ((2,), ()), ((0, 3), (1, 5))])
def test_value_and_gradient_are_those_of_the_composition(
    dof: int | None, rows: int, missing: tuple[int, ...], given: tuple[int, ...]
) -> None:
    part, (z, ranks) = _part(dof), _case(rows)
    seen = torch.ones(_SIZE, dtype=torch.bool)
    seen[list(missing)] = False
    first = torch.zeros(_SIZE, dtype=torch.bool)
    first[list(given)] = True
    z = (z * seen[:, None]).requires_grad_()
    weight = torch.linspace(0.5, 2.0, rows, dtype=torch.float64)
    value = _mixture(part, z, ranks, seen, first, seen & ~first)
    (gradient,) = torch.autograd.grad((weight * value).sum(), z)
    expected = _composed(part, z, ranks, seen, first, seen & ~first)
    (slope,) = torch.autograd.grad((weight * expected).sum(), z)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, slope, rtol=1e-7, atol=1e-8)


def test_second_derivatives() -> None:
    part, (z, ranks) = _part(8), _case(3)
    seen = torch.ones(_SIZE, dtype=torch.bool)

    def value(x: Tensor) -> Tensor:
        return _mixture(part, x, ranks, seen, seen & False, seen)

    assert torch.autograd.gradgradcheck(value, z.requires_grad_(), atol=1e-4)


def test_tables_follow_the_weights() -> None:
    prior = OrderAgnosticPrior((1, 2, 3), hidden=4, num_components=2).eval().requires_grad_(False)
    pose = 0.3 * torch.randn(4, 55, 3, generator=torch.Generator().manual_seed(0))
    before = prior.log_prob(pose)
    for tensor in prior.state_dict().values():
        tensor.mul_(1.2)
    after = prior.log_prob(pose)
    assert not torch.allclose(before, after)
    orders = prior.order_log_prob(pose)
    torch.testing.assert_close(after, orders.logsumexp(0) - torch.tensor(float(len(orders))).log())


def test_rows_with_different_masks_are_what_they_are_alone() -> None:
    prior = OrderAgnosticPrior((1, 2, 3, 4), hidden=4, num_components=2, num_orders=3).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    pose = 0.3 * torch.randn(9, 55, 3, generator=generator)
    observed = torch.rand(9, 55, generator=generator) < 0.5
    observed[4, 1:5] = False
    each = torch.stack([prior.log_prob(pose[k], observed=observed[k]) for k in range(9)])
    torch.testing.assert_close(prior.log_prob(pose, observed=observed), each, rtol=1e-5, atol=1e-5)
    assert float(each[4]) == 0.0
