"""Hamiltonian Monte Carlo: its draws have the moments of the density."""

import torch

from poseprior.optim import hmc


def test_draws_have_the_right_moments() -> None:
    scale = torch.tensor([0.5, 1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    draws = hmc(lambda x: 0.5 * (x / scale).square().sum(-1), torch.zeros(64, 2, 3), 200, generator=generator)
    assert draws.shape == (200, 64, 2, 3)
    torch.testing.assert_close(draws.flatten(0, 2).std(0), scale, rtol=0.05, atol=0)
    assert (draws.flatten(0, 2).mean(0).abs() < 0.05 * scale).all()
