"""What every prior that ships keeps to, whatever it is put into or given."""

from __future__ import annotations

import copy
import pickle
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior import FitConfig, GaussianPrior, GlobalFlow, PosePrior, ProductPrior

NAMES = list(poseprior.list_pretrained())


@cache
def _prior(name: str) -> PosePrior:
    return poseprior.load(name)


@cache
def _poses(name: str) -> Tensor:
    return _prior(name).sample(3, generator=torch.Generator().manual_seed(0))


class _Net(nn.Module):
    def __init__(self, prior: PosePrior) -> None:
        super().__init__()
        self.head, self.inner = nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.5))
        self.prior = prior


# ---------------------------------------------------------------------- training mode


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_prior_stays_deterministic_in_a_module_in_training(name: str) -> None:
    prior, poses = _prior(name), _poses(name)
    expected = prior.log_prob(poses)
    for net in (_Net(prior), copy.deepcopy(_Net(prior)), pickle.loads(pickle.dumps(_Net(prior)))):
        net.train()
        assert net.training and net.inner[0].training
        assert not any(module.training for module in net.prior.modules())
        assert torch.equal(net.prior.log_prob(poses), expected)
        assert torch.equal(net.prior.log_prob(poses), expected)


def test_weights_that_take_gradients_are_trained() -> None:
    prior = poseprior.load("body-global-flow")
    prior.requires_grad_(True).train()
    assert all(module.training for module in prior.modules())
    first, second = (prior.log_prob(_poses("body-global-flow")) for _ in range(2))
    assert not torch.equal(first, second)
    fresh = GlobalFlow((1, 2), hidden=4).requires_grad_(False)
    assert _Net(fresh).train().prior.training  # nobody has fitted it


def test_fit_trains_a_frozen_prior_and_freezes_it_again() -> None:
    poses = poseprior.io.synthetic_poses(300, seed=0, num_subjects=2)
    config = FitConfig(max_steps=3, batch_size=32, progress=False)
    prior = GlobalFlow((1, 2), hidden=4)
    prior.fit(poses, config=config)
    seen: list[bool] = []
    loss = prior.training_loss
    prior.training_loss = lambda *args: (seen.append(prior.training), loss(*args))[1]  # type: ignore[method-assign]
    before = prior.state_dict()["flow.tails.log_nu"].clone()
    prior.fit(poses, config=config)
    assert seen == [True] * 3
    assert not torch.equal(prior.state_dict()["flow.tails.log_nu"], before)
    assert not prior.training and not prior.train().training


def test_frozen_parts_of_a_product_stay_deterministic_while_others_train() -> None:
    flow = GlobalFlow((1, 2), hidden=4)
    flow.fit(poseprior.io.synthetic_poses(300, seed=0), config=FitConfig(max_steps=2, batch_size=32, progress=False))
    product = ProductPrior([flow, GaussianPrior((4, 5))]).train()
    modes = [part.training for part in product.parts]
    assert product.training and modes == [False, True]
    assert not _Net(ProductPrior([flow])).train().prior.training


# ---------------------------------------------------------------------- far and half-precision poses


@pytest.mark.parametrize("name", NAMES)
def test_far_poses_have_the_density_of_their_rotations_and_a_gradient(name: str) -> None:
    prior = _prior(name)
    generator = torch.Generator().manual_seed(0)
    axes = nn.functional.normalize(torch.randn(8, 55, 3, generator=generator, dtype=torch.float64), dim=-1)
    for exponent in range(1, 15):
        far = (axes * 9 * 10.0**exponent).float().requires_grad_()
        value = prior.log_prob(far)
        (gradient,) = torch.autograd.grad(value.sum(), far)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    near = 2.0 * axes
    turned = axes * (2.0 + 2.0 * torch.pi * 10**6)
    torch.testing.assert_close(prior.log_prob(turned), prior.log_prob(near), rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_poses_have_finite_densities(name: str, dtype: torch.dtype) -> None:
    """They are of single precision: far poses are below -65,504 nats, where half precision ends."""
    prior = _prior(name)
    poses = torch.randn(4, 55, 3, generator=torch.Generator().manual_seed(0)).to(dtype) * 2
    value = prior.log_prob(poses)
    assert value.dtype == torch.float32 and torch.isfinite(value).all()
    torch.testing.assert_close(value, prior.log_prob(poses.float()))


def test_half_precision_poses_have_the_densities_of_double_precision() -> None:
    turned = torch.zeros(8, 55, 3, dtype=torch.float16)
    turned[..., 1] = torch.linspace(1.0, 3.0, 8)[:, None]
    for name in ("body-mixture", "body-vae"):
        torch.testing.assert_close(
            _prior(name).log_prob(turned).double(), _prior(name).log_prob(turned.double()), rtol=1e-3, atol=1e-2
        )
