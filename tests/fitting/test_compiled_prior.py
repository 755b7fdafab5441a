"""`fit_body` with a prior whose density is compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from poseprior import GaussianPrior
from poseprior.fitting import FitBodyConfig, Joints3D, fit_body


def test_a_fit_uses_the_compiled_density_and_ends_in_the_same_place(
    model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor], body_prior: GaussianPrior
) -> None:
    target = Joints3D(joints_of(model, people[:2])[:, :55], sigma=0.01)
    config = FitBodyConfig(iterations=40)
    plain = fit_body(model, target, prior=body_prior, config=config)
    prior = copy.deepcopy(body_prior).eval().requires_grad_(False)
    prior.compile(backend="eager")
    calls = []
    density = prior._compiled
    assert density is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "_compiled", lambda rotvec: (calls.append(len(rotvec)), density(rotvec))[1])
        fit = fit_body(model, target, prior=prior, config=config)
    assert len(calls) > 5
    torch.testing.assert_close(fit.pose, plain.pose, atol=1e-3, rtol=0.0)
    torch.testing.assert_close(fit.energy, plain.energy, atol=1e-2, rtol=0.0)
    torch.compiler.reset()
