"""`GaussianSurrogate`: equal to a Gaussian prior up to a constant, used early in a fit and never in what a fit reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior import skeleton
from poseprior.fitting import FitBodyConfig, Joints3D, PosePriorTerm, fit_body
from poseprior.fitting.solver.surrogate import GaussianSurrogate
from poseprior.rotations import tangent_to_rotvec


@pytest.fixture(scope="module")
def gaussian() -> poseprior.GaussianPrior:
    generator = torch.Generator().manual_seed(0)
    mixing = 0.2 * torch.eye(165) + 0.01 * torch.randn(165, 165, generator=generator)
    shift = 0.3 * torch.randn(55, 3, generator=generator)
    x = (torch.randn(4000, 165, generator=generator) @ mixing).view(-1, 55, 3)
    prior = poseprior.GaussianPrior("body", covariance="full")
    prior.fit(tangent_to_rotvec(x, shift))
    return prior


def test_of_a_gaussian_is_its_energy_up_to_a_constant(gaussian: poseprior.GaussianPrior) -> None:
    term = PosePriorTerm(gaussian, weight=2.0, schedule=(3.0, 1.0), reduction="sum")
    pose = gaussian.sample(64, generator=torch.Generator().manual_seed(1))
    for progress in (0.0, 1.0):
        exact, found = term(pose, progress=progress), GaussianSurrogate(term)(pose, progress=progress)
        # 1,000 samples leave some noise in the precision of 63 coordinates.
        assert torch.corrcoef(torch.stack((exact, found)))[0, 1] > 0.95
        assert 0.9 < float(found.std() / exact.std()) < 1.1


def test_marginal_precision_inverts_the_marginal_covariance(gaussian: poseprior.GaussianPrior) -> None:
    surrogate = GaussianSurrogate(PosePriorTerm(gaussian, reduction="sum"))
    whole = torch.linalg.inv(surrogate.precision(gaussian.joints))
    place = [gaussian.joints.index(j) for j in (18, 4)]
    index = torch.tensor([3 * k + c for k in place for c in range(3)])
    torch.testing.assert_close(torch.linalg.inv(surrogate.precision((18, 4))), whole[index[:, None], index])


def test_a_fit_ends_on_the_prior_itself(
    gaussian: poseprior.GaussianPrior, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = poseprior.GaussianMixturePrior("body", num_components=2)
    prior.fit(gaussian.sample(2000, generator=torch.Generator().manual_seed(2)))
    counted = {"surrogate": 0}
    original: Callable[..., Tensor] = GaussianSurrogate.__call__

    def count(self: GaussianSurrogate, *args: Tensor, **options: object) -> Tensor:
        counted["surrogate"] += 1
        return original(self, *args, **options)

    monkeypatch.setattr(GaussianSurrogate, "__call__", count)
    joints = model().joints[:, :55].detach()
    config = FitBodyConfig(iterations=20)
    fit = fit_body(model, Joints3D(joints), prior=PosePriorTerm(prior, reduction="sum"), config=config)
    assert counted["surrogate"] > 0
    with torch.no_grad():
        torch.testing.assert_close(fit.energies["prior"], -prior.log_prob(fit.pose), atol=1e-3, rtol=0)
    counted["surrogate"] = 0  # a cap is no Gaussian
    capped = PosePriorTerm(prior, robust=2.0, reduction="sum")
    fit_body(model, Joints3D(joints), prior=capped, config=config)
    assert counted["surrogate"] == 0


def test_only_the_whole_density_has_a_surrogate(gaussian: poseprior.GaussianPrior) -> None:
    def term(**options: Any) -> PosePriorTerm:
        return PosePriorTerm(gaussian, **{"reduction": "sum", **options})

    assert term().is_log_density and term(weight=3.0, schedule=(2.0, 1.0)).is_log_density
    everywhere = dict.fromkeys((skeleton.JOINT_NAMES[j] for j in gaussian.joints), 2.0)
    for other in ({"joint_weights": everywhere}, {"joints": ["left_elbow"]}, {"robust": 1.0}, {"reduction": "mean"}):
        assert not term(**other).is_log_density, other


def test_moments_are_kept_until_the_prior_changes(
    gaussian: poseprior.GaussianPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = poseprior.GaussianPrior("body")
    prior.fit(gaussian.sample(500, generator=torch.Generator().manual_seed(3)))
    drawn = {"times": 0}
    original = poseprior.GaussianPrior.sample

    def count(self: poseprior.GaussianPrior, *args: Any, **options: Any) -> Tensor:
        drawn["times"] += 1
        return original(self, *args, **options)

    monkeypatch.setattr(poseprior.GaussianPrior, "sample", count)
    first = GaussianSurrogate(PosePriorTerm(prior, reduction="sum")).precision((16, 18))
    again = GaussianSurrogate(PosePriorTerm(prior, weight=2.0, reduction="sum")).precision((16, 18))
    assert drawn["times"] == 1 and torch.equal(first, again)
    prior.load_state_dict(
        {name: value * 4.0 if "scale" in name else value for name, value in prior.state_dict().items()}
    )
    wider = GaussianSurrogate(PosePriorTerm(prior, reduction="sum")).precision((16, 18))
    assert drawn["times"] == 2
    assert not torch.allclose(wider, first, rtol=0.1)
