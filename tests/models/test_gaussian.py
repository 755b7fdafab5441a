"""GaussianPrior against scipy, and its groups, missing joints and cut-off."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from poseprior import FitConfig, GaussianPrior, JointFlow, PoseDataset
from poseprior.io import synthetic_poses
from poseprior.models.gaussian.em import shrinkage
from poseprior.models.shared.truncation_mass import log_truncation_mass
from poseprior.rotations import haar_log_density, random_rotvec, rotvec_to_tangent, tangent_to_rotvec

EXACT = FitConfig(max_steps=0, jitter=0.0, mirror=False, progress=False)
PAIR = (16, 18)


def _correlated(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Tangent-space Gaussian poses of two joints: mean rotvecs (6,), covariance (6, 6), poses (count, 55, 3)."""
    rng = np.random.default_rng(seed)
    root = 0.1 * rng.normal(size=(6, 6))
    covariance = root @ root.T + 0.01 * np.eye(6)
    mean = np.array([0.3, -0.2, 0.9, 0.0, -1.1, 0.2])
    tangent = rng.multivariate_normal(np.zeros(6), covariance, size=count).reshape(count, 2, 3)
    poses = torch.zeros(count, 55, 3)
    poses[:, list(PAIR)] = tangent_to_rotvec(torch.tensor(tangent), torch.tensor(mean.reshape(2, 3))).float()
    return mean, covariance, poses


def _scipy_log_prob(prior: GaussianPrior, poses: torch.Tensor, joints: tuple[int, ...]) -> np.ndarray:
    """Haar log-density of some joints from the prior's chart and covariance, through scipy."""
    place = [prior.joints.index(j) for j in joints]
    dims = [3 * p + k for p in place for k in range(3)]
    part = prior.factors.parts[0]
    mean = part.mean[0, dims].double().numpy()
    covariance = part.covariance()[0][dims][:, dims].double().numpy()
    tangent = rotvec_to_tangent(poses[:, list(joints)].double(), prior.chart.mean[place].double())
    z = (tangent / prior.chart.scale[place].double()).flatten(1).numpy()
    log_p = np.atleast_1d(multivariate_normal(mean, covariance).logpdf(z))
    return log_p - haar_log_density(tangent).sum(1).numpy() - float(prior.chart.scale[place].double().log().sum())


def test_published_baseline_has_330_parameters() -> None:
    assert GaussianPrior("all").num_parameters == 330
    assert GaussianPrior("body").num_parameters == 126


def test_full_covariance_equals_scipy_on_every_subset() -> None:
    _, _, poses = _correlated(3000)
    prior = GaussianPrior(PAIR, covariance="full")
    prior.fit(poses, config=EXACT)
    for joints in (PAIR, (16,), (18,)):
        observed = torch.zeros(55, dtype=torch.bool)
        observed[list(joints)] = True
        ours = prior.log_prob(poses[:50], observed=observed).numpy()
        np.testing.assert_allclose(ours, _scipy_log_prob(prior, poses[:50], joints), rtol=1e-4, atol=1e-3)


def test_fit_recovers_mean_and_covariance() -> None:
    mean, covariance, poses = _correlated(40_000)
    prior = GaussianPrior(PAIR, covariance="full")
    prior.fit(poses, config=EXACT)
    error = rotvec_to_tangent(prior.chart.mean, torch.tensor(mean.reshape(2, 3)).float())
    assert float(error.norm(dim=-1).max()) < 0.01
    scale = prior.chart.scale.flatten().double()
    fitted = prior.factors.parts[0].covariance()[0].double() * scale * scale[:, None]
    np.testing.assert_allclose(fitted.numpy(), covariance, atol=2e-3)


def test_a_fitted_one_is_fitted_anew() -> None:
    first, second = synthetic_poses(300, seed=0), synthetic_poses(300, seed=1)
    prior, fresh = GaussianPrior("body", covariance="full"), GaussianPrior("body", covariance="full")
    prior.fit(first)
    prior.metadata["licence"] = "of the first"
    prior.fit(second)
    fresh.fit(second)
    assert all(torch.equal(a, b) for a, b in zip(prior.parameters(), fresh.parameters(), strict=True))
    assert prior.metadata["training"]["data_digest"] == second.digest() and "licence" not in prior.metadata
    flow = JointFlow("body", hidden=8)
    flow.fit(first, config=FitConfig(max_steps=2, batch_size=32, progress=False))
    with pytest.raises(ValueError, match="max_steps above 0 to train a fitted JointFlow"):
        flow.fit(second, config=FitConfig(max_steps=0))


def test_complete_equals_the_gaussian_conditional() -> None:
    _, _, poses = _correlated(20_000)
    prior = GaussianPrior(PAIR, covariance="full")
    prior.fit(poses, config=EXACT)
    observed = torch.ones(55, dtype=torch.bool)
    observed[18] = False
    drawn = prior.complete(poses[7], observed, num_samples=40_000, generator=torch.Generator().manual_seed(0))
    tangent = rotvec_to_tangent(drawn[:, 18], prior.chart.mean[1]) / prior.chart.scale[1]
    part = prior.factors.parts[0]
    covariance, mean = part.covariance()[0], part.mean[0]
    z = rotvec_to_tangent(poses[7, 16], prior.chart.mean[0]) / prior.chart.scale[0]
    gain = covariance[3:, :3] @ torch.linalg.inv(covariance[:3, :3])
    expected = mean[3:] + gain @ (z - mean[:3])
    rest = covariance[3:, 3:] - gain @ covariance[:3, 3:]
    torch.testing.assert_close(tangent.mean(0), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(tangent.T.cov(), rest, atol=0.02, rtol=0)


def test_missing_at_random_is_fitted_by_em() -> None:
    """Values missing for half the rows, where the other joint decides which: means of observed rows would be biased."""
    _, _, poses = _correlated(40_000)
    observed = torch.zeros(40_000, 55, dtype=torch.bool)
    observed[:, list(PAIR)] = True
    observed[poses[:, 16, 2] > 0.9, 18] = False
    full = GaussianPrior(PAIR, covariance="full")
    full.fit(poses, config=EXACT)
    masked = GaussianPrior(PAIR, covariance="full")
    masked.fit(PoseDataset(poses, observed), config=EXACT)
    difference = (full.log_prob(poses[:2000]) - masked.log_prob(poses[:2000])).mean()
    assert abs(float(difference)) < 0.05
    naive = GaussianPrior(PAIR, covariance="full")
    naive.fit(poses[observed[:, 18]], config=EXACT)
    assert float((full.log_prob(poses[:2000]) - naive.log_prob(poses[:2000])).mean()) > 0.2


def test_groups_never_seen_together_are_independent() -> None:
    poses = synthetic_poses(400, seed=0, num_subjects=4).poses.clone()
    poses[:, 25, 2] = poses[:, 18, 1]  # a finger that copies an elbow
    observed = torch.ones(400, 55, dtype=torch.bool)
    observed[:200, 25:] = False
    observed[200:, :25] = False
    prior = GaussianPrior("whole_body", covariance="full")
    prior.fit(PoseDataset(poses, observed), config=FitConfig(max_steps=0, mirror=False, progress=False))
    body, fingers = prior.factors.groups
    assert fingers == list(range(25, 55))
    assert max(body) < 25
    both = torch.ones(55, dtype=torch.bool)
    only = [both.clone(), both.clone()]
    only[0][25:] = False
    only[1][:25] = False
    apart = sum(prior.log_prob(poses[:9], observed=o) for o in only)
    torch.testing.assert_close(prior.log_prob(poses[:9]), apart, rtol=1e-5, atol=1e-3)
    together = GaussianPrior("whole_body", covariance="full")
    together.fit(poses, config=FitConfig(max_steps=0, mirror=False, progress=False))
    assert len(together.factors.groups) == 1


def test_a_root_that_turns_all_round_integrates_to_one_and_samples_fit() -> None:
    poses = torch.zeros(4000, 55, 3)
    poses[:, 0, 1] = torch.linspace(-math.pi, math.pi, 4000)
    poses[:, 0] = tangent_to_rotvec(0.2 * torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)), poses[:, 0])
    poses[:, 4, 0] = 0.5
    for covariance in ("diagonal", "full"):
        prior = GaussianPrior((0, 4), covariance=covariance)
        prior.fit(poses, config=FitConfig(max_steps=0, progress=False))
        only_root = torch.zeros(55, dtype=torch.bool)
        only_root[0] = True
        random = torch.zeros(200_000, 55, 3)
        random[:, 0] = random_rotvec(200_000, generator=torch.Generator().manual_seed(1))
        density = prior.log_prob(random, observed=only_root).double().exp()
        assert abs(float(density.mean()) - 1) < 5 * float(density.std()) / math.sqrt(200_000)
        # Without the cut-off a fifth of this density would be missing.
        sampled = prior.sample(20_000, generator=torch.Generator().manual_seed(2))
        mean_angle = rotvec_to_tangent(sampled[:, 0], prior.chart.mean[0]).norm(dim=-1).mean()
        angle = rotvec_to_tangent(random[:, 0], prior.chart.mean[0]).norm(dim=-1).double()
        assert float(mean_angle) == pytest.approx(float((angle * density).mean() / density.mean()), abs=0.03)
    assert prior.factors.groups == [[0], [4]]


@pytest.mark.parametrize("count", [2, 5, 20, 60])
def test_few_poses_give_a_usable_covariance(count: int) -> None:
    """Fewer poses than coordinates: no singular covariance, and no worse on other people than independent joints."""
    data = synthetic_poses(2000, seed=0, num_subjects=8)
    few, others = data.random_subset(count, seed=0), data.random_subset(500, seed=1)
    config = FitConfig(max_steps=0, progress=False)
    full, diagonal = GaussianPrior("body", covariance="full"), GaussianPrior("body")
    full_nll, diagonal_nll = (prior.fit(few, val=others, config=config).val_nll for prior in (full, diagonal))
    assert full_nll is not None and diagonal_nll is not None and full_nll < diagonal_nll + 0.3 * abs(diagonal_nll)
    assert bool(full.sample(200, generator=torch.Generator().manual_seed(0)).isfinite().all())


def test_many_poses_are_not_shrunk() -> None:
    assert shrinkage(570, 57) == 0.0 < shrinkage(500, 57) < shrinkage(1, 57) < 1.0


def test_mass_in_ball_against_monte_carlo() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 3, 3, generator=generator)
    covariance = root @ root.mT
    mean = torch.randn(6, 3, generator=generator)
    draws = torch.randn(400_000, 3, generator=generator)
    for m, c in zip(mean, covariance, strict=True):
        inside = ((m + draws @ torch.linalg.cholesky(c).mT).norm(dim=-1) < math.pi).float().mean()
        assert float(log_truncation_mass(m, c).exp()) == pytest.approx(float(inside), abs=3e-3)
    narrow = 0.1 * torch.eye(3)
    assert float(log_truncation_mass(torch.zeros(3), narrow.square())) == 0.0


@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), (0.3, -0.5, 0.9)])
def test_gradient_of_the_mass_where_variances_are_equal(mean: tuple[float, float, float]) -> None:
    """Principal axes have no derivative there, the mass has one (finite differences, coarser than the quadrature)."""

    def mass(m: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
        return log_truncation_mass(m, torch.eye(3, dtype=m.dtype) + moved + moved.mT)

    centre = torch.tensor(mean, dtype=torch.float64, requires_grad=True)
    moved = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mass, (centre, moved), eps=1e-2, atol=1e-3)


def test_gradient_training_of_a_fresh_gaussian_that_fills_the_ball() -> None:
    prior = GaussianPrior("root", covariance="full")
    prior.training_loss(random_rotvec(64, 1), torch.ones(64, 1, dtype=torch.bool), None, 0).backward()
    assert all(bool(p.grad.isfinite().all()) for p in prior.parameters() if p.grad is not None)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match=r"covariance: expected one of 'diagonal', 'full', got 'round'"):
        GaussianPrior("body", covariance="round")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"groups: expected a partition of the joints"):
        GaussianPrior((1, 2, 3), covariance="full", groups=[[1], [2]])
    with pytest.raises(ValueError, match=r"groups: has no effect with covariance='diagonal'"):
        GaussianPrior((1, 2), groups=[[1], [2]])
    with pytest.raises(ValueError, match=r"joints: unknown name 'elbows'"):
        GaussianPrior("elbows")


@pytest.mark.real_data
def test_held_out_subjects_as_the_docs_say(real_data_dir) -> None:  # type: ignore[no-untyped-def]
    from poseprior.evaluation.report import evaluate
    from poseprior.io import read_split

    splits = read_split(real_data_dir / "body")
    prior = GaussianPrior("body")
    prior.fit(splits["train"])
    result = evaluate(prior, splits["test"], num_samples=0)
    assert result["nll"] == pytest.approx(-96.75, abs=0.1)
    assert result["nll_rotvec"] == pytest.approx(-16.80, abs=0.1)
    assert result["num_poses"] == 16807
