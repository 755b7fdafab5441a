"""Tasks against closed forms: Gaussian conditionals and posteriors, importance sampling, geodesics."""

import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from poseprior import FitConfig, GaussianMixturePrior, GaussianPrior, JointFlow, LatentPosePrior, PosePrior
from poseprior.rotations import (
    HAAR_LOG_DENSITY_AT_ZERO,
    add_tangent_noise,
    frechet_mean,
    geodesic_distance,
    haar_log_density,
    random_rotvec,
    tangent_to_rotvec,
)
from poseprior.tasks import denoise, interpolate, score

JOINTS = (4, 18, 19)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class _Small(LatentPosePrior):
    """N(0, C) on the rotvecs of three joints, scaled so that rotations nearly commute; refuses partial masks."""

    can_marginalise: ClassVar[bool] = False

    def __init__(self, scale: float = 0.05) -> None:
        super().__init__(JOINTS)
        self.latent_dim = 9
        mix = torch.randn(9, 9, generator=_generator(5)) / 3 + 0.3 * torch.eye(9)
        self.register_buffer("factor", torch.linalg.cholesky(scale**2 * (mix @ mix.T)))

    def get_config(self) -> dict[str, Any]:
        return {}

    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        z = torch.linalg.solve_triangular(self.factor, rotvec.flatten(1).T, upper=False)
        constant = self.factor.diagonal().log().sum() + 4.5 * math.log(2 * math.pi)
        return -0.5 * z.square().sum(0) - constant - haar_log_density(rotvec).sum(-1)

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        return self._decode(torch.randn(num, 9, generator=generator), None)

    def _encode(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        return torch.linalg.solve_triangular(self.factor, rotvec.flatten(1).T, upper=False).T

    def _decode(self, latent: Tensor, context: Tensor | None) -> Tensor:
        return (latent @ self.factor.T).unflatten(1, (3, 3))


def _fitted(scale: float = 0.05, seed: int = 1) -> tuple[GaussianPrior, Tensor]:
    """A full Gaussian fitted to draws of `_Small`, and those draws (N, 55, 3)."""
    data = _Small(scale).sample(4000, generator=_generator(seed))
    prior = GaussianPrior(JOINTS, covariance="full")
    prior.fit(data, config=FitConfig(max_steps=0, jitter=0.0, mirror=False, progress=False))
    return prior, data


def test_attribution_is_the_gaussian_conditional() -> None:
    prior, data = _fitted()
    pose = data[:20].clone()
    pose[:5, 18] += 0.3  # this elbow does not fit
    result = score(prior, pose, generator=_generator())
    x = data[:, list(JOINTS)].flatten(1)
    precision = torch.linalg.inv(x.T.cov())
    centred = pose[:, list(JOINTS)].flatten(1) - x.mean(0)
    for k, joint in enumerate(JOINTS):
        block = slice(3 * k, 3 * k + 3)
        # The residual of x_j given the rest is P_jj^-1 P_j x, with covariance P_jj^-1.
        pull = centred @ precision[:, block]
        squared = (pull @ torch.linalg.inv(precision[block, block]) * pull).sum(1)
        expected = 0.5 * (squared - 3)
        # 128 reference samples give the mean to about 0.1.
        torch.testing.assert_close(result.attribution[:, joint], expected, atol=0.45, rtol=0.05)
    assert (result.attribution[:5].argmax(1) == 18).all()
    assert result.attribution_kind == "conditional" and (result.attribution[:, 5] == 0).all()
    torch.testing.assert_close(result.log_prob, prior.log_prob(pose))


def test_percentile_is_uniform_on_own_samples_and_zero_on_nonsense() -> None:
    prior, _ = _fitted()
    own = score(prior, prior.sample(400, generator=_generator(3)), num_reference=2000, generator=_generator())
    levels = torch.linspace(0.05, 0.95, 19)
    torch.testing.assert_close(own.percentile.quantile(levels) / 100, levels, atol=0.09, rtol=0)
    broken = score(prior, random_rotvec(10, 55, generator=_generator()), generator=_generator())
    assert (broken.percentile == 0).all() and (broken.attribution[:, list(JOINTS)].amax(1) > 5).all()


def test_score_masks_the_reference_as_the_pose() -> None:
    prior, data = _fitted()
    pose = data[:6].reshape(2, 3, 55, 3).clone()
    observed = torch.ones(2, 3, 55, dtype=torch.bool)
    observed[0, :, 18] = False
    observed[1, 2] = False
    result = score(prior, pose, observed=observed, generator=_generator())
    assert result.percentile.shape == (2, 3) and result.attribution.shape == (2, 3, 55)
    assert (result.attribution[0, :, 18] == 0).all() and (result.attribution[1, 2] == 0).all()
    assert result.percentile[1, 2] == 50 and result.log_prob[1, 2] == 0
    pose[0, :, 18] = 2.0
    pose[1, 2] = -1.0
    again = score(prior, pose, observed=observed, generator=_generator())
    torch.testing.assert_close(again.percentile, result.percentile)
    alone = score(prior, pose[0, 1], observed=observed[0, 1], generator=_generator())
    torch.testing.assert_close(alone.attribution, result.attribution[0, 1], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("joints", "parts"),
    [
        ("body", ()),
        ("left_hand", ()),
        ("hands", ("left_hand", "right_hand")),
        ("whole_body", ("body", "left_hand", "right_hand")),
    ],
)
def test_parts_are_those_that_the_prior_models(joints: str, parts: tuple[str, ...]) -> None:
    result = score(GaussianPrior(joints), torch.zeros(2, 55, 3), num_reference=32)
    assert tuple(result.part_percentile) == parts
    assert all(part.isfinite().all() for part in result.part_percentile.values())


def test_score_without_marginals_finds_the_same_culprit() -> None:
    prior = _Small()
    pose = prior.sample(8, generator=_generator())
    pose[:, 19] += 0.5
    result = score(prior, pose, generator=_generator(1))
    assert result.attribution_kind == "replacement"
    assert (result.attribution.argmax(1) == 19).all() and (result.attribution[:, 19] > 5).all()
    usual = score(prior, prior.sample(300, generator=_generator(2)), generator=_generator(1))
    assert usual.attribution[:, list(JOINTS)].mean().abs() < 1.0
    with pytest.raises(ValueError, match="cannot marginalise"):
        score(prior, pose, observed=torch.zeros(8, 55, dtype=torch.bool))


def _posterior_mean(data: Tensor, noisy: Tensor, sigma: Tensor, joints: tuple[int, ...]) -> Tensor:
    """Small-angle closed form (C^-1 + S^-1)^-1 (C^-1 m + S^-1 y)."""
    x = data[:, list(joints)].flatten(1).double()
    precision = torch.linalg.inv(x.T.cov())
    weight = torch.diag(sigma[list(joints)].double().repeat_interleave(3) ** -2)
    y = noisy[:, list(joints)].flatten(1).double()
    mean = torch.linalg.solve(precision + weight, (precision @ x.mean(0)[:, None] + weight @ y.T)).T
    return mean.unflatten(1, (-1, 3)).float()


@pytest.mark.parametrize("method", ["map", "mean"])
@pytest.mark.parametrize("hidden", [None, 18])
def test_denoise_is_the_gaussian_posterior(method: str, hidden: int | None) -> None:
    prior, data = _fitted(0.02)
    noisy = add_tangent_noise(data[:6], 0.02, generator=_generator())
    sigma = torch.full((55,), 0.02)
    sigma[4] = 0.01
    observed = torch.ones(55, dtype=torch.bool)
    joints = tuple(j for j in JOINTS if j != hidden)
    if hidden is not None:
        observed[hidden] = False
    options: dict[str, Any] = {"num_samples": 1024, "generator": _generator()} if method == "mean" else {}
    got = denoise(prior, noisy, sigma, method=method, observed=observed, **options)  # type: ignore[arg-type]
    expected = _posterior_mean(data, noisy, sigma, joints)
    # Second order in angles of 0.05, and for "mean" a Monte Carlo error of about 0.014 / sqrt(1024).
    torch.testing.assert_close(got[:, list(joints)], expected, atol=2e-3, rtol=0)
    shift = (noisy[:, list(joints)] - expected).abs().max()
    assert shift > 0.015, "the test would not see a prior that does nothing"
    others = [j for j in range(55) if j not in joints]
    assert torch.equal(got[:, others], noisy[:, others])


def test_denoised_mean_at_large_angles_equals_importance_sampling() -> None:
    centre = torch.tensor([1.2, -1.5, 0.8])
    data = torch.zeros(3000, 55, 3)
    data[:, 18] = add_tangent_noise(centre.expand(3000, 3), 0.4, generator=_generator())
    data[:1000, 18] = add_tangent_noise(torch.tensor([1.2, -1.0, 0.2]).expand(1000, 3), 0.1, generator=_generator())
    prior = GaussianMixturePrior([18], num_components=2)
    prior.fit(data, config=FitConfig(max_steps=0, progress=False))
    noisy = torch.zeros(1, 55, 3)
    noisy[0, 18] = torch.tensor([0.6, -1.4, 0.9])
    u = 0.4 * torch.randn(200_000, 3, generator=_generator())
    around = torch.zeros(200_000, 55, 3)
    around[:, 18] = tangent_to_rotvec(u, noisy[0, 18])
    weight = prior.log_prob(around).detach().softmax(0)
    assert weight.square().sum() < 1e-3, "the oracle has thousands of effective samples"
    expected = frechet_mean(around[:, 18], weight).float()
    got = denoise(prior, noisy, 0.4, method="mean", num_samples=1024, generator=_generator(1))
    assert geodesic_distance(got[0, 18], expected) < 0.03
    assert geodesic_distance(got[0, 18], noisy[0, 18]) > 0.1


def test_denoise_rows_do_not_depend_on_their_batch() -> None:
    prior, data = _fitted(0.3)
    noisy = add_tangent_noise(data[:40], 0.3, generator=_generator())
    together = denoise(prior, noisy, 0.3)
    torch.testing.assert_close(together[7], denoise(prior, noisy[7], 0.3), atol=2e-3, rtol=0)
    assert torch.equal(together, denoise(prior, noisy, 0.3)), "deterministic"
    assert (prior.log_prob(together) > prior.log_prob(noisy)).all()
    error = geodesic_distance(together, data[:40])[:, list(JOINTS)].mean()
    assert error < 0.8 * geodesic_distance(noisy, data[:40])[:, list(JOINTS)].mean()
    assert all(p.grad is None for p in prior.parameters())


def test_denoise_pulls_random_rotations_back() -> None:
    prior, _ = _fitted()
    far = random_rotvec(16, 55, generator=_generator())
    clean = denoise(prior, far, 1.0)
    assert clean.isfinite().all() and (prior.log_prob(clean) > prior.log_prob(far)).all()
    assert denoise(prior, far[:0], 0.1).shape == (0, 55, 3)


def test_bare_geodesic_moves_evenly() -> None:
    prior, _ = _fitted()
    a, b = (random_rotvec(4, 55, generator=_generator(s)) for s in (0, 1))
    path = interpolate(prior, a, b, 5, method="geodesic", pull=0.0)
    assert path.shape == (5, 4, 55, 3) and torch.equal(path[0], a) and torch.equal(path[-1], b)
    steps = torch.stack([geodesic_distance(path[k], path[k + 1]) for k in range(4)])
    torch.testing.assert_close(steps, (geodesic_distance(a, b) / 4).expand(4, 4, 55), atol=2e-3, rtol=0)


def test_pulled_geodesic_keeps_the_ends_and_is_likelier() -> None:
    prior, data = _fitted(0.3)
    bare = interpolate(prior, data[:3], data[3:6], 7, pull=0.0)
    path = interpolate(prior, data[:3], data[3:6], 7, pull=0.2)
    assert torch.equal(path[[0, -1]], bare[[0, -1]])
    assert (prior.log_prob(path[1:-1]) > prior.log_prob(bare[1:-1])).all()
    assert torch.equal(path[:, :, 5], bare[:, :, 5]), "other joints follow the geodesic"


def test_latent_path_is_typical_and_ends_where_it_should() -> None:
    prior = _Small()
    a, b = prior.sample((2, 50), generator=_generator())
    a[:, 30], b[:, 30] = 0.1, 0.3
    path = interpolate(prior, a, b, 9)
    torch.testing.assert_close(path[0], a, atol=1e-5, rtol=0)
    torch.testing.assert_close(path[-1], b, atol=1e-5, rtol=0)
    torch.testing.assert_close(path[4, :, 30], torch.full((50, 3), 0.2))
    norms = prior.encode(path).norm(dim=-1)
    ends = norms[[0, -1]]
    assert (norms[4] - ends.mean(0)).abs().max() < 1e-3, "the norm changes evenly: no dip through the origin"
    same = interpolate(prior, a, a, 3)
    torch.testing.assert_close(same[1], a, atol=1e-4, rtol=0)
    assert not torch.equal(path[4], interpolate(prior, a, b, 9, method="geodesic", pull=0.0)[4])


def test_uniform_measure_constant_is_consistent() -> None:
    # score's masked values rest on the empty product being 1.
    assert pytest.approx(-math.log(8 * math.pi**2)) == HAAR_LOG_DENSITY_AT_ZERO


@pytest.mark.parametrize("prior", [GaussianPrior("body"), GaussianMixturePrior(JOINTS, num_components=3), _Small()])
def test_every_prior_does_every_task(prior: PosePrior) -> None:
    pose = prior.sample(3, generator=_generator())
    assert score(prior, pose, num_reference=32).attribution.isfinite().all()
    for method in ("map", "mean"):
        samples = 16 if method == "mean" else None
        clean = denoise(prior, pose, 0.1, method=method, num_samples=samples)  # type: ignore[arg-type]
        assert clean.shape == pose.shape and clean.isfinite().all()
    assert interpolate(prior, pose[0], pose[1], 4).isfinite().all()


def test_options_that_the_method_does_not_read_are_refused() -> None:
    prior, data = _fitted()
    remedy = "leave it out, or give method='mean'"
    for given in ({"num_samples": 16}, {"generator": _generator()}):
        with pytest.raises(ValueError, match=f"{next(iter(given))}: has no effect with method='map', got .*; {remedy}"):
            denoise(prior, data[:2], 0.1, **given)  # type: ignore[arg-type]
    flow = JointFlow("body", hidden=4)
    for method in ("auto", "latent"):
        with pytest.raises(
            ValueError, match=rf"pull: has no effect with method='{method}' and a .*; leave it out, or give"
        ):
            interpolate(flow, data[0], data[1], 3, method=method, pull=0.2)  # type: ignore[arg-type]
    assert interpolate(flow, data[0], data[1], 3, method="geodesic", pull=0.2).isfinite().all()


def test_errors() -> None:
    prior, data = _fitted()
    pose = data[:2]
    with pytest.raises(ValueError, match="num_reference: expected a whole number of 32 or more"):
        score(prior, pose, num_reference=3)
    with pytest.raises(ValueError, match="method: expected one of 'map', 'mean', got 'mode'"):
        denoise(prior, pose, 0.1, method="mode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigma: expected finite values above 0"):
        denoise(prior, pose, 0.0)
    with pytest.raises(ValueError, match="sigma: expected a number or a tensor"):
        denoise(prior, pose, torch.ones(3, 55))
    with pytest.raises(ValueError, match="num_samples"):
        denoise(prior, pose, 0.1, method="mean", num_samples=0)
    with pytest.raises(ValueError, match="num_samples"):
        denoise(prior, pose, 0.1, method="mean", num_samples=10**10)
    with pytest.raises(ValueError, match="no latent space; use method='geodesic'"):
        interpolate(prior, pose[0], pose[1], 3, method="latent")
    with pytest.raises(ValueError, match="steps"):
        interpolate(prior, pose[0], pose[1], 1)
    with pytest.raises(ValueError, match="end: expected the shape of start"):
        interpolate(prior, pose[0], pose, 3)
    with pytest.raises(ValueError, match="pull"):
        interpolate(prior, pose[0], pose[1], 3, pull=-1.0)
    with pytest.raises(ValueError, match="method: expected one of 'auto', 'latent', 'geodesic', got 'linear'"):
        interpolate(prior, pose[0], pose[1], 3, method="linear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pose: expected shape"):
        denoise(prior, torch.zeros(53, 3), 0.1)
