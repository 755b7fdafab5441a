"""Dropout of the library's networks, against the definition of `torch.nn.Dropout`."""

from __future__ import annotations

import pytest
import torch

from poseprior import GlobalFlow, PosePrior, ProductPrior
from poseprior.models.shared.dropout import Dropout
from poseprior.rigs import adapted


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


@pytest.mark.parametrize("held_by", [None, "product", "adapted"])
def test_weights_that_are_frozen_again_drop_nothing(held_by: str | None) -> None:
    """Also where the prior is part of another one, whose other parts are being trained, or whose mode is evaluation."""
    part, other = (GlobalFlow(joints, hidden=16, dropout=0.5) for joints in ((1, 2), (16, 17)))
    part.fitted = other.fitted = True
    holders: dict[str | None, PosePrior] = {
        None: part,
        "product": ProductPrior([part, other]),
        "adapted": adapted(part),
    }
    prior, pose = holders[held_by], 0.3 * torch.randn(6, 55, 3, generator=torch.Generator().manual_seed(0))
    for linear in (m for m in prior.modules() if isinstance(m, torch.nn.Linear)):
        torch.nn.init.normal_(linear.weight)
    prior.eval().requires_grad_(False)
    expected = prior.log_prob(pose)
    prior.requires_grad_(True).train()
    assert not torch.allclose(prior.log_prob(pose), expected)
    prior.requires_grad_(False)
    assert torch.equal(prior.log_prob(pose), expected)
    part.requires_grad_(True).train()
    part.requires_grad_(False)
    assert torch.equal(prior.log_prob(pose), expected)
    if held_by == "product":
        prior.requires_grad_(True).train()
        part.requires_grad_(False)
        for module in other.modules():
            module.training = False
        torch.testing.assert_close(prior.log_prob(pose), expected)
        assert prior.training and not part.training


def test_a_prior_without_a_fit_is_left_in_training_mode() -> None:
    """Its weights are nobody's result yet."""
    prior = GlobalFlow((1, 2), hidden=16).requires_grad_(False).train()
    prior.sample(2)
    assert prior.training
