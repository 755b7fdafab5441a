"""GaussianMixturePrior against a hand-written mixture, and EM on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from poseprior import FitConfig, GaussianMixturePrior, GaussianPrior, PoseDataset
from poseprior.models.gaussian.em import fit_mixture
from poseprior.models.gaussian.masked_mixture import MaskedMixture


def _truth() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    root = 0.4 * rng.normal(size=(2, 6, 6))
    return (
        np.array([0.3, 0.7]),
        np.stack([np.full(6, -2.0), np.full(6, 2.0)]),
        root @ root.transpose(0, 2, 1) + 0.05 * np.eye(6),
    )


def _draws(count: int) -> torch.Tensor:
    weights, mean, covariance = _truth()
    rng = np.random.default_rng(4)
    component = rng.choice(2, size=count, p=weights)
    return torch.tensor(np.stack([rng.multivariate_normal(mean[k], covariance[k]) for k in component]))


def _mixture() -> MaskedMixture:
    mixture = MaskedMixture(2, 2).double().requires_grad_(False)
    mixture.set_moments(*(torch.tensor(x) for x in _truth()))
    return mixture


@pytest.mark.parametrize("joints", [(0, 1), (0,), (1,)])
def test_marginals_equal_scipy(joints: tuple[int, ...]) -> None:
    weights, mean, covariance = _truth()
    z = _draws(40)
    dims = [3 * j + k for j in joints for k in range(3)]
    expected = logsumexp(
        [np.log(w) + multivariate_normal(m[dims], c[np.ix_(dims, dims)]).logpdf(z[:, dims].numpy())
         for w, m, c in zip(weights, mean, covariance, strict=True)], axis=0,
    )  # fmt: skip
    seen = torch.zeros(40, 2, dtype=torch.bool)
    seen[:, list(joints)] = True
    ours = _mixture().log_prob(z, seen)
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-9)


def test_conditional_draws_pick_the_right_component() -> None:
    z = torch.full((1, 6), -2.0, dtype=torch.float64)
    seen = torch.tensor([[True, False]])
    generator = torch.Generator().manual_seed(0)
    drawn = _mixture().draw(z, seen, torch.full((2, 3), 0.1), 2000, generator)[:, 0]
    assert float(drawn[:, 3:].mean()) == pytest.approx(-2.0, abs=0.1)
    assert torch.equal(drawn[:, :3], z[:, :3].expand(2000, 3))
    free = _mixture().draw(z, torch.zeros_like(seen), torch.full((2, 3), 0.1), 4000, generator)[:, 0]
    weights, mean, covariance = _truth()
    positive = (weights * norm.cdf(mean[:, 0] / np.sqrt(covariance[:, 0, 0]))).sum()
    assert float((free[:, 0] > 0).double().mean()) == pytest.approx(positive, abs=0.03)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_em_recovers_the_truth_with_and_without_missing_joints(missing: float) -> None:
    z = _draws(6000)
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(6000, 2, generator=generator) >= missing
    seen[~seen.any(1), 0] = True
    z = torch.where(seen.repeat_interleave(3, 1), z, torch.zeros_like(z))
    weights, mean, covariance = fit_mixture(z, seen, 2, iterations=60, prior_count=0.0, generator=generator)
    order = mean[:, 0].argsort()
    true_weights, true_mean, true_covariance = _truth()
    np.testing.assert_allclose(weights[order].numpy(), true_weights, atol=0.03)
    np.testing.assert_allclose(mean[order].numpy(), true_mean, atol=0.1)
    np.testing.assert_allclose(covariance[order].numpy(), true_covariance, atol=0.25)


@pytest.mark.parametrize("progress", [True, False])
def test_em_shows_its_steps(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the mixture, and those of the Gaussian that comes first where joints are missing."""
    z, seen = _draws(500), torch.rand(500, 2, generator=torch.Generator().manual_seed(1)) < 0.8
    seen[~seen.any(1), 0] = True
    for components in (1, 2):
        fit_mixture(
            z, seen, components, iterations=7, prior_count=0.0, generator=torch.Generator().manual_seed(0), tol=-1.0,
            progress=progress,
        )  # fmt: skip
        bars = capsys.readouterr().err
        assert ("EM of one Gaussian:   0%" in bars and "0/7" in bars) == progress
        assert ("EM:   0%" in bars) == (progress and components == 2)
    fit_mixture(
        z, torch.ones_like(seen), 1, iterations=7, prior_count=0.0, generator=torch.Generator(), progress=progress
    )
    assert capsys.readouterr().err == ""  # one step, without a bar


@torch.no_grad()
def test_em_never_lowers_the_likelihood() -> None:
    z, seen = _draws(2000), torch.rand(2000, 2, generator=torch.Generator().manual_seed(1)) < 0.8
    values = []
    for iterations in (1, 3, 10, 30):
        mixture = MaskedMixture(2, 3).double()
        generator = torch.Generator().manual_seed(0)
        mixture.set_moments(
            *fit_mixture(z, seen, 3, iterations=iterations, prior_count=0.0, generator=generator, tol=0.0)
        )
        values.append(float(mixture.log_prob(z, seen).mean()))
    assert values == sorted(values)


def test_one_component_is_the_full_gaussian() -> None:
    poses = torch.zeros(500, 55, 3)
    poses[:, 16:18] = 0.3 * torch.randn(500, 2, 3, generator=torch.Generator().manual_seed(0))
    config = FitConfig(max_steps=0, progress=False)
    mixture = GaussianMixturePrior((16, 17), num_components=1)
    gaussian = GaussianPrior((16, 17), covariance="full")
    for prior in (mixture, gaussian):
        prior.fit(PoseDataset(poses), config=config)
    torch.testing.assert_close(mixture.log_prob(poses), gaussian.log_prob(poses), rtol=1e-4, atol=1e-3)


def test_cached_factors_follow_the_weights() -> None:
    mixture = _mixture()
    z, seen = _draws(5), torch.ones(5, 2, dtype=torch.bool)
    before = mixture.log_prob(z, seen)
    with torch.no_grad():
        mixture.mean += 1.0
    after = mixture.log_prob(z, seen)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, _shifted().log_prob(z, seen))


def _shifted() -> MaskedMixture:
    weights, mean, covariance = (torch.tensor(x) for x in _truth())
    mixture = MaskedMixture(2, 2).double()
    mixture.set_moments(weights, mean + 1.0, covariance)
    return mixture


def test_too_few_poses_for_the_components() -> None:
    with pytest.raises(ValueError, match=r"train: expected at least num_components=8 poses, got [24]"):
        GaussianMixturePrior("body").fit(torch.zeros(2, 55, 3))
    with pytest.raises(
        ValueError, match=r"num_components: expected a whole number of 1 or more and at most 1024, got 0"
    ):
        GaussianMixturePrior("body", num_components=0)
