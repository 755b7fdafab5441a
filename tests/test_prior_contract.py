"""The promises of `PosePrior`, held by every prior of `prior_cases.CASES`."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prior_cases import CASES, fitted, training_poses

import poseprior
from poseprior import LatentPosePrior, PosePrior
from poseprior.rotations import geodesic_distance, random_rotvec, wrap_rotvec

NAMES = sorted(CASES)
SHOULDER = (16,)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _whole_poses(prior: PosePrior, count: int) -> torch.Tensor:
    """Training poses that observe all of the prior's joints."""
    poses, observed = training_poses().all_poses()
    return poses[observed[:, list(prior.joints)].all(1)][:count]


def _can_complete(prior: PosePrior, poses: torch.Tensor, observed: torch.Tensor) -> bool:
    """Whether `complete` takes this mask; a prior that cannot must say so, and name one that can."""
    try:
        prior.complete(poses, observed, generator=_generator())
    except ValueError as error:
        if not re.search(r"no exact conditional.*GaussianPrior", str(error)):
            raise
        return False
    return True


@pytest.fixture(params=NAMES)
def prior(request: pytest.FixtureRequest) -> PosePrior:
    return fitted(request.param)


def test_shapes_and_unmodelled_joints(prior: PosePrior) -> None:
    poses = _whole_poses(prior, 6)
    flat = prior.log_prob(poses)
    assert flat.shape == (6,)
    assert prior.log_prob(poses[0]).shape == ()
    torch.testing.assert_close(prior.log_prob(poses.reshape(2, 3, 55, 3)), flat.reshape(2, 3), rtol=1e-4, atol=1e-3)
    samples = prior.sample((2, 4), generator=_generator())
    assert samples.shape == (2, 4, 55, 3)
    assert prior.sample(generator=_generator()).shape == (55, 3)
    assert float(samples.norm(dim=-1).max()) <= math.pi + 1e-5
    others = [j for j in range(55) if j not in prior.joints]
    assert not samples[..., others, :].any()
    changed = poses.clone()
    changed[:, others] += 0.5
    torch.testing.assert_close(prior.log_prob(changed), flat, rtol=1e-5, atol=1e-4)


def test_joints_never_observed_are_not_modelled(prior: PosePrior) -> None:
    assert prior.joints == tuple(j for j in range(1, 22) if j in training_poses().observed_joints)


def test_log_prob_is_a_function_of_the_rotation(prior: PosePrior) -> None:
    poses = _whole_poses(prior, 20)
    angle = poses.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    for turns in (-1, 1, 2):
        again = torch.where(poses.norm(dim=-1, keepdim=True) > 1e-3, poses * (1 + 2 * math.pi * turns / angle), poses)
        torch.testing.assert_close(prior.log_prob(again), prior.log_prob(poses), rtol=1e-3, atol=5e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_with_finite_gradients_everywhere(prior: PosePrior, dtype: torch.dtype) -> None:
    poses = random_rotvec(400, 55, generator=_generator(), dtype=dtype)
    axis = poses[:8] / poses[:8].norm(dim=-1, keepdim=True)
    special = torch.cat([axis * angle for angle in (0.0, 1e-7, 1e-3, math.pi, 2 * math.pi, 50.0)])
    poses = torch.cat([poses, special]).requires_grad_()
    value = prior.log_prob(poses)
    assert value.dtype == dtype
    assert torch.isfinite(value).all()
    (gradient,) = torch.autograd.grad(value.sum(), poses)
    assert torch.isfinite(gradient).all()


def test_far_away_poses_are_pulled_back(prior: PosePrior) -> None:
    pose = random_rotvec(24, 55, generator=_generator(1))
    start = prior.log_prob(pose).mean()
    step = 0.02
    for _ in range(150):
        pose = pose.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(prior.log_prob(pose).sum(), pose)
        length = gradient.square().sum((-1, -2), keepdim=True).sqrt().clamp_min(1e-12)
        pose = wrap_rotvec(pose.detach() + step * math.sqrt(len(prior.joints)) * gradient / length)
    typical = prior.log_prob(prior.sample(64, generator=_generator())).mean()
    assert prior.log_prob(pose).mean() > start + 0.3 * (typical - start)


def test_nothing_observed_scores_zero_and_unobserved_values_are_ignored(prior: PosePrior) -> None:
    poses = _whole_poses(prior, 5)
    nothing = torch.zeros(55, dtype=torch.bool)
    if not prior.can_marginalise:
        with pytest.raises(ValueError, match=r"observed: .* cannot marginalise.*GaussianPrior"):
            prior.log_prob(poses, observed=nothing)
        return
    torch.testing.assert_close(prior.log_prob(poses, observed=nothing), torch.zeros(5), rtol=0, atol=1e-5)
    mask = torch.ones(55, dtype=torch.bool)
    mask[[4, 16]] = False
    broken = poses.clone()
    broken[:, [4, 16]] = math.nan
    torch.testing.assert_close(prior.log_prob(broken, observed=mask), prior.log_prob(poses, observed=mask))


def test_masks_of_a_batch_are_taken_row_by_row(prior: PosePrior) -> None:
    if not prior.can_marginalise:
        pytest.skip(f"{type(prior).__name__} needs all its joints")
    poses = _whole_poses(prior, 6)
    masks = torch.rand(6, 55, generator=_generator()) < 0.7
    together = prior.log_prob(poses, observed=masks)
    alone = torch.stack([prior.log_prob(p, observed=m) for p, m in zip(poses, masks, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_mass_of_one_joint_is_one(name: str) -> None:
    prior = fitted(name, SHOULDER)
    if prior.log_prob_kind != "exact":
        pytest.skip("a lower bound integrates to less than one")
    rotvec = torch.zeros(400_000, 55, 3)
    rotvec[:, 16] = random_rotvec(400_000, generator=_generator())
    density = prior.log_prob(rotvec).double().exp()
    error = float(density.std()) / math.sqrt(len(density))
    assert error < 0.05
    assert float(density.mean()) < 1.0 + 5 * error + 2e-3
    if CASES[name].whole_mass:
        assert float(density.mean()) > 1.0 - 5 * error - 2e-3


def test_samples_score_like_training_poses(prior: PosePrior) -> None:
    samples = prior.log_prob(prior.sample(300, generator=_generator()))
    random = prior.log_prob(random_rotvec(300, 55, generator=_generator()))
    assert float(samples.median()) > float(random.max())


def test_draws_come_from_the_generator_alone(prior: PosePrior) -> None:
    state = torch.get_rng_state()
    first = prior.sample(3, generator=_generator(5))
    second = prior.sample(3, generator=_generator(5))
    other = prior.sample(3, generator=_generator(6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_complete_keeps_what_is_observed(prior: PosePrior) -> None:
    poses = _whole_poses(prior, 4)
    observed = torch.ones(55, dtype=torch.bool)
    hidden = [16, 18]
    observed[hidden] = False
    if not _can_complete(prior, poses, observed):
        return
    filled = prior.complete(poses, observed, num_samples=5, generator=_generator())
    assert filled.shape == (5, 4, 55, 3)
    keep = [j for j in range(55) if j not in hidden]
    assert torch.equal(filled[:, :, keep], poses[:, keep].expand(5, -1, -1, -1))
    assert float(geodesic_distance(filled[0, :, hidden], filled[1, :, hidden]).max()) > 1e-4
    assert torch.isfinite(filled).all()


def test_complete_of_nothing_is_sample(prior: PosePrior) -> None:
    poses = torch.zeros(1, 55, 3)
    nothing = torch.zeros(55, dtype=torch.bool)
    if not _can_complete(prior, poses, nothing):
        return
    filled = prior.complete(poses, nothing, num_samples=2000, generator=_generator(1))[:, 0]
    drawn = prior.sample(2000, generator=_generator(2))
    index = list(prior.joints)
    # Quantiles, not moments: a rare draw from a broad component may turn a joint by pi, and alone decide a variance.
    levels = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    expected, found = drawn[:, index].quantile(levels, 0), filled[:, index].quantile(levels, 0)
    # Two sets of samples of one prior differ by up to 0.06 here.
    assert float(((found - expected)[1:4].abs() / (expected[-1] - expected[0])).max()) < 0.1


def test_save_and_load_are_equal(prior: PosePrior, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    prior.save(path)
    again = poseprior.load(path)
    assert type(again) is type(prior)
    assert again.joints == prior.joints
    assert again.get_config() == prior.get_config()
    poses = _whole_poses(prior, 8)
    assert torch.equal(again.log_prob(poses), prior.log_prob(poses))
    assert torch.equal(again.sample(3, generator=_generator()), prior.sample(3, generator=_generator()))


def test_double_precision_agrees(prior: PosePrior, tmp_path: Path) -> None:
    prior.save(tmp_path / "prior.safetensors")
    double = poseprior.load(tmp_path / "prior.safetensors").double()
    poses = _whole_poses(prior, 8)
    torch.testing.assert_close(double.log_prob(poses.double()).float(), prior.log_prob(poses), rtol=1e-3, atol=2e-2)


def test_gradient_agrees_with_finite_differences(prior: PosePrior, tmp_path: Path) -> None:
    prior.save(tmp_path / "prior.safetensors")
    double = poseprior.load(tmp_path / "prior.safetensors").double()
    pose = _whole_poses(prior, 1)[0].double().requires_grad_()
    (gradient,) = torch.autograd.grad(double.log_prob(pose), pose)
    direction = torch.randn(pose.shape, generator=_generator(), dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = double.log_prob(pose + step * direction), double.log_prob(pose - step * direction)
    numeric = (ahead - behind) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-4, atol=1e-4)


def test_latent_round_trip(prior: PosePrior) -> None:
    if not isinstance(prior, LatentPosePrior) or prior.log_prob_kind != "exact":
        pytest.skip("no invertible latent space")
    poses = _whole_poses(prior, 32)
    latent = prior.encode(poses)
    assert latent.shape == (32, prior.latent_dim)
    index = list(prior.joints)
    assert float(geodesic_distance(prior.decode(latent)[:, index], poses[:, index]).max()) < 1e-4


def test_no_pose_is_a_batch_too(prior: PosePrior) -> None:
    seen = torch.ones(55, dtype=torch.bool)
    for batch in ((0,), (0, 3), (2, 0)):
        poses = torch.zeros(*batch, 55, 3, requires_grad=True)
        value = prior.log_prob(poses)
        assert value.shape == batch
        assert torch.autograd.grad(value.sum(), poses)[0].shape == poses.shape
        assert prior.sample(batch).shape == (*batch, 55, 3)
        assert prior.complete(poses, seen, num_samples=2).shape == (2, *batch, 55, 3)
        if isinstance(prior, LatentPosePrior):
            assert prior.encode(poses).shape == (*batch, prior.latent_dim)
            assert prior.decode(torch.zeros(*batch, prior.latent_dim)).shape == (*batch, 55, 3)


def test_half_precision_around_it_changes_nothing(prior: PosePrior, tmp_path: Path) -> None:
    prior.save(tmp_path / "p.safetensors")
    fresh, poses = poseprior.load(tmp_path / "p.safetensors"), _whole_poses(prior, 4)
    torch.manual_seed(0)  # a lower bound draws
    expected = prior.log_prob(poses)
    for _ in range(2):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(fresh.log_prob(poses), expected)
    torch.manual_seed(0)
    torch.testing.assert_close(fresh.log_prob(poses), expected)


def test_second_derivatives_agree_with_finite_differences(prior: PosePrior, tmp_path: Path) -> None:
    """Along a line, at the pose of zeros (where maps of rotations are series) and at another."""
    prior.save(tmp_path / "p.safetensors")
    double = poseprior.load(tmp_path / "p.safetensors").double()
    if prior.log_prob_kind == "lower_bound":
        pytest.skip("the bound is of random draws, and its second derivative is not used")
    along = torch.randn(55, 3, generator=_generator(), dtype=torch.double)
    for base in (torch.zeros(55, 3, dtype=torch.double), _whole_poses(prior, 1)[0].double()):
        step = torch.zeros((), dtype=torch.double, requires_grad=True)
        (slope,) = torch.autograd.grad(double.log_prob(base + step * along), step, create_graph=True)
        (bend,) = torch.autograd.grad(slope, step)

        def slope_at(t: float, base: torch.Tensor = base) -> float:
            leaf = torch.tensor(t, dtype=torch.double, requires_grad=True)
            return float(torch.autograd.grad(double.log_prob(base + leaf * along), leaf)[0])

        numeric = (slope_at(1e-5) - slope_at(-1e-5)) / 2e-5
        assert float(bend) == pytest.approx(numeric, rel=2e-3, abs=1e-2)


def test_bad_input_has_one_clear_error(prior: PosePrior) -> None:
    poses = _whole_poses(prior, 2)
    with pytest.raises(ValueError, match=r"pose: expected shape \(\*batch, 55, 3\), got \(2, 53, 3\).*joints53"):
        prior.log_prob(poses[:, :53])
    with pytest.raises(ValueError, match=r"pose: expected shape .* got \(2, 165\).*pose_from_vector"):
        prior.log_prob(poses.flatten(1))
    with pytest.raises(ValueError, match=r"pose: expected a floating-point tensor"):
        prior.log_prob(poses.long())
    broken = poses.clone()
    broken[1, 4, 2] = math.nan
    with pytest.raises(ValueError, match=r"NaN or infinity at left_knee of pose 1; mark missing"):
        prior.log_prob(broken)
    with pytest.raises(ValueError, match=r"observed: expected a bool tensor"):
        prior.log_prob(poses, observed=torch.ones(55))
    with pytest.raises(ValueError, match=r"observed: shape \(3, 55\) does not broadcast"):
        prior.log_prob(poses, observed=torch.ones(3, 55, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"num_samples: expected a whole number of 1 or more"):
        prior.complete(poses, torch.ones(55, dtype=torch.bool), num_samples=0)
    with pytest.raises(ValueError, match=r"sample_shape: expected whole sizes of 0 or more"):
        prior.sample(-1)
    if not prior.context_dim:
        with pytest.raises(ValueError, match=r"context: .* built without context_dim"):
            prior.log_prob(poses, context=torch.zeros(2, 3))


def test_fit_errors_name_the_argument(prior: PosePrior) -> None:
    fresh = type(prior)(**prior.get_config())
    with pytest.raises(ValueError, match=r"train: expected a PoseDataset or a \(N, 55, 3\) tensor, got list"):
        fresh.fit([1, 2])
    hidden = poseprior.PoseDataset(torch.zeros(4, 55, 3), torch.zeros(4, 55, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"train: none of the prior's joints .* is observed"):
        fresh.fit(hidden)


@pytest.mark.slow
def test_a_million_random_rotations(prior: PosePrior) -> None:
    generator = _generator(3)
    rows = math.ceil(1_000_000 / len(prior.joints))
    for start in range(0, rows, 5000):
        pose = random_rotvec(min(5000, rows - start), 55, generator=generator).requires_grad_()
        value = prior.log_prob(pose)
        (gradient,) = torch.autograd.grad(value.sum(), pose)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_double_priors_are_fitted_in_double(name: str) -> None:
    case = CASES[name]
    config = replace(case.config, max_steps=min(case.config.max_steps, 2), eval_every=2)
    train = training_poses().random_subset(300, seed=0)
    prior = case.build("body").double()
    for _ in range(2):  # from nothing, and fitted again
        prior.fit(train, val=train, config=config)
        assert {t.dtype for t in prior.state_dict().values() if t.is_floating_point()} == {torch.float64}
    single = case.build("body")
    single.fit(train, config=config)
    single.double().fit(train, config=config)
    assert prior.dtype == single.dtype == torch.float64
    assert prior.sample(2, generator=_generator()).dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_fit_under_a_double_default(name: str) -> None:
    case = CASES[name]
    train = training_poses().random_subset(300, seed=0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        prior = case.build("body")
        prior.fit(train, val=train, config=replace(case.config, max_steps=min(case.config.max_steps, 2), eval_every=2))
    finally:
        torch.set_default_dtype(default)
    assert prior.dtype == torch.float64
    assert bool(prior.log_prob(_whole_poses(prior, 2)).isfinite().all())
