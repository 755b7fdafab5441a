"""Dropout of the library's networks, against the definition of `torch.nn.Dropout`."""

from __future__ import annotations

import pytest
import torch

from poseprior.models.shared.dropout import Dropout


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_units_are_dropped_independently_and_the_others_scaled(p: float) -> None:
    x, count = torch.ones(1000, 399), 399_000  # not a multiple of four numbers
    torch.manual_seed(0)
    y = Dropout(p).train()(x)
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 1.0 / (1.0 - p)]))
    dropped = (y == 0).double()
    stderr = (p * (1 - p) / count) ** 0.5
    assert abs(float(dropped.mean()) - p) < 5 * stderr + 2**-16
    # neighbours, which share a random word, and units of one column are uncorrelated
    for other in (dropped.roll(1, 1), dropped.roll(2, 1), dropped.roll(1, 0)):
        assert abs(float(((dropped - p) * (other - p)).mean())) < 5 * p * (1 - p) / count**0.5


def test_the_gradient_has_the_mask_of_the_value() -> None:
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    y = Dropout(0.4).train()(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)


def test_it_follows_the_seed_and_leaves_evaluation_alone() -> None:
    x, dropout = torch.randn(64, 64), Dropout(0.3)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(dropout.train()(x))
    assert torch.equal(*draws) and not torch.equal(draws[0], dropout(x))
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x) and not Dropout(1.0).train()(x).any()
