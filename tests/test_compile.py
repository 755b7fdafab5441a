"""`prior.compile()`: the same values and gradients, of one graph."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor

import poseprior

pytestmark = pytest.mark.filterwarnings("ignore")
#: Those whose graphs are compiled in a minute; the classes of the others are compiled in `test_torch_transforms`.
NAMES = ("body-gaussian", "body-mixture", "body-global-flow")


def _value_and_gradient(prior: poseprior.PosePrior, pose: Tensor) -> tuple[Tensor, Tensor]:
    leaf = pose.clone().requires_grad_()
    value = prior.log_prob(leaf)
    return value.detach(), torch.autograd.grad((value * torch.arange(1.0, len(pose) + 1.0)).sum(), leaf)[0]


def _check(name: str, **options: str) -> None:
    prior, plain = poseprior.load(name), poseprior.load(name)
    prior.compile(**options)
    for rows in (1, 3):
        pose = plain.sample(rows, generator=torch.Generator().manual_seed(rows))
        value, gradient = _value_and_gradient(prior, pose)
        expected, slope = _value_and_gradient(plain, pose)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-3)
        assert float((gradient - slope).abs().max()) < 1e-4 * float(slope.abs().max())
        with torch.no_grad():
            torch.testing.assert_close(prior.log_prob(pose), expected, rtol=1e-5, atol=1e-3)
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled_priors(name: str) -> None:
    _check(name)


def test_a_compiled_gaussian() -> None:
    _check("body-gaussian", backend="aot_eager")


def test_compiled_priors_do_not_share_a_limit() -> None:
    """torch.compile bounds the recompilations of a piece of code, which all compiled priors have in common."""
    config = torch._dynamo.config
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    with config.patch({limit: 1}):
        for joints in ((1, 2), (1, 2, 4)):
            prior = poseprior.GaussianPrior(joints, covariance="diagonal").eval().requires_grad_(False)
            pose = prior.sample(2, generator=torch.Generator().manual_seed(0))
            expected = prior.log_prob(pose)
            prior.compile(backend="eager")
            torch.testing.assert_close(prior.log_prob(pose), expected)
    torch.compiler.reset()


def test_what_is_not_compiled_is_as_before() -> None:
    """Masks, weights that take gradients, second derivatives, copies and pickles."""
    prior, plain = poseprior.load("body-gaussian"), poseprior.load("body-gaussian")
    prior.compile(backend="eager")
    pose = plain.sample(2, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(55) % 2 == 0
    torch.testing.assert_close(prior.log_prob(pose, observed=mask), plain.log_prob(pose, observed=mask))
    for one in (prior, plain):
        one.requires_grad_(True)
    slopes = [torch.autograd.grad(one.log_prob(pose).sum(), list(one.parameters())) for one in (prior, plain)]
    for ours, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, theirs)
    for one in (prior, plain):
        one.requires_grad_(False)
    seconds = []
    for one in (prior, plain):
        leaf = pose.clone().requires_grad_()
        (slope,) = torch.autograd.grad(one.log_prob(leaf).sum(), leaf, create_graph=True)
        seconds.append(torch.autograd.grad(slope.square().sum(), leaf)[0])
    torch.testing.assert_close(seconds[0], seconds[1], rtol=1e-3, atol=1e-2)
    stored = io.BytesIO(pickle.dumps(prior))
    for other in (copy.deepcopy(prior), pickle.load(stored)):
        assert other._compiled is None
        torch.testing.assert_close(other.log_prob(pose), plain.log_prob(pose))
    torch.compiler.reset()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="expected frozen weights"):
        poseprior.GaussianPrior("body").compile()
    with pytest.raises(ValueError, match="dynamic: always on"):
        poseprior.load("body-gaussian").compile(dynamic=False)
