"""Variational autoencoders: the likelihood, the bound, latents, marginals, completion, both hands."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import poseprior
from poseprior import FitConfig, GaussianPrior, PoseDataset
from poseprior.io import read_poses
from poseprior.models.vae import BodyVAE, HandVAE, VAEPrior
from poseprior.models.vae.layers import LatentFlow, normal_points
from poseprior.models.vae.rotation_likelihood import RotationNoise
from poseprior.rotations import geodesic_distance, haar_log_density, random_rotvec, tangent_to_rotvec
from poseprior.training.validation import mean_selection_penalty

RIGHT = slice(40, 55)
SMALL: dict[str, Any] = {
    "latent_dim": 4, "hidden": 32, "depth": 1, "flow_layers": 2, "flow_hidden": 16, "dropout": 0.0, "train_samples": 2,
}  # fmt: skip
SHORT = FitConfig(max_steps=120, batch_size=128, warmup_steps=10, eval_every=60, learning_rate=3e-3, progress=False)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _hands(count: int, *, seed: int, both: bool = False) -> PoseDataset:
    """Five curls a hand, bent nonlinearly: an intrinsic dimension of 5 in 45 numbers."""
    generator = _generator(seed)
    hand = torch.zeros(count, 2, 5, 3, 3)
    curl = torch.rand(count, 2, 5, generator=generator)
    curl = 0.5 * curl + 0.5 * curl.mean(-1, keepdim=True)
    hand[..., 0, 2] = 1.4 * curl
    hand[..., 1, 2] = 1.8 * curl.square()
    hand[..., 2, 2] = 1.0 * curl.square()
    hand[..., 0, 1] = 0.3 * torch.sin(3.0 * curl)
    pose = torch.zeros(count, 55, 3)
    observed = torch.zeros(count, 55, dtype=torch.bool)
    pose[:, RIGHT], observed[:, RIGHT] = hand[:, 0].flatten(1, 2), True
    if both:
        pose[:, 25:40] = hand[:, 1].flatten(1, 2) * torch.tensor([1.0, -1.0, -1.0])
        observed[:, 25:40] = True
    return PoseDataset(pose, observed)


@cache
def _fitted(joints: str = "right_hand") -> HandVAE:
    prior = HandVAE(joints, **SMALL)
    prior.fit(_hands(1500, seed=0), config=SHORT)
    return prior


def _noisy_hands(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    pose, observed = _hands(count, seed=seed).all_poses()
    noise = 0.02 * torch.randn(count, 15, 3, generator=_generator(seed))
    pose = pose.clone()
    pose[:, RIGHT] = tangent_to_rotvec(noise, pose[:, RIGHT])
    return pose, observed


# ---------------------------------------------------------------------- the likelihood


def test_rotation_noise_integrates_to_one() -> None:
    noise = RotationNoise(3)
    torch.manual_seed(0)
    with torch.no_grad():
        noise.log_scale.copy_(torch.tensor([[-3.0, -2.5, -2.0], [-2.0, -2.0, -2.0], [0.5, 0.5, 0.5]]))
        noise.tilt.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [3.0, 3.0, 3.0]]))
        noise.logits.copy_(torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 3.0], [0.0, 2.0, 0.0]]))
    scales = torch.tensor([0.02, 0.08, 0.3, 1.0], dtype=torch.float64)
    count = 200_000
    kind = torch.randint(4, (count,), generator=_generator())
    point = torch.randn(count, 3, generator=_generator(1), dtype=torch.float64) * scales[kind, None]
    squared = point.square().sum(-1)
    log_proposal = torch.logsumexp(
        -0.5 * squared[:, None] / scales**2 - 3.0 * scales.log() - 1.5 * math.log(2 * math.pi), dim=-1
    ) - math.log(4)
    inside = squared < math.pi**2
    point = torch.where(inside[:, None], point, torch.zeros_like(point))
    with torch.no_grad():
        density = noise.double()(point[:, None].expand(-1, 3, -1)) + haar_log_density(point)[:, None]
    weight = torch.where(inside[:, None], (density - log_proposal[:, None]).exp(), 0.0)
    error = weight.std(0) / math.sqrt(count)
    assert float(error.max()) < 0.02
    assert float(((weight.mean(0) - 1.0).abs() / error).max()) < 4.0


def test_rotation_noise_draws_follow_the_density() -> None:
    noise = RotationNoise(1)
    with torch.no_grad():
        noise.log_scale.copy_(torch.tensor([[-3.0, -2.5, -2.0]]))
        noise.tilt.copy_(torch.tensor([[0.7, -0.5, 0.3]]))
        noise.logits.copy_(torch.tensor([[9.0, -9.0, -9.0]]))
    lower = noise.factor(None)
    drawn = noise.draw(lower.expand(20_000, 1, 3, 3), _generator())[:, 0]
    torch.testing.assert_close(drawn.T.cov(), (lower @ lower.mT)[0].detach(), rtol=0.05, atol=1e-4)


def test_rotation_noise_is_finite_at_the_antipode() -> None:
    noise = RotationNoise(1)
    residual = torch.tensor([[[math.pi, 0.0, 0.0]], [[0.0, 0.0, 0.0]], [[1e-7, 0.0, 0.0]]], requires_grad=True)
    value = noise(residual)
    (gradient,) = torch.autograd.grad(value.sum(), residual)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    assert gradient[0, 0, 0] < 0  # points back


# ---------------------------------------------------------------------- layers


def test_flow_is_inverted_and_its_log_det_is_the_jacobian() -> None:
    torch.manual_seed(0)
    flow = LatentFlow(5, layers=3, hidden=16).double()
    for parameter in flow.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    z = torch.randn(7, 5, dtype=torch.float64, generator=_generator())
    u, log_det = flow(z)
    torch.testing.assert_close(flow.inverse(u), z, rtol=0, atol=1e-5)
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda x: flow(x)[0], row) for row in z])
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dim", [4, 5])
def test_the_inverse_of_a_frozen_flow_has_the_right_derivatives(dim: int) -> None:
    torch.manual_seed(0)
    flow = LatentFlow(dim, layers=3, hidden=16).double()
    for parameter in flow.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    u = torch.randn(2, 3, dim, dtype=torch.float64, generator=_generator()).requires_grad_()
    (trained,) = torch.autograd.grad(flow.inverse(u).square().sum(), u)  # by autograd
    flow.eval().requires_grad_(False)
    (frozen,) = torch.autograd.grad(flow.inverse(u).square().sum(), u)
    torch.testing.assert_close(frozen, trained, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(flow.inverse, u)
    assert torch.autograd.gradgradcheck(flow.inverse, u)
    with FlopCounterMode(display=False) as counter:  # it follows the modules that are called inside
        flow.inverse(u).sum().backward()
    assert counter.get_total_flops() > 0


def test_normal_points_are_fixed_nested_and_normal() -> None:
    state = torch.get_rng_state()
    points = normal_points(4096, 6)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(points[:64], normal_points(64, 6))
    assert float(points.mean(0).abs().max()) < 0.02
    torch.testing.assert_close(points.T.cov(), torch.eye(6, dtype=torch.float64), rtol=0, atol=0.05)


# ---------------------------------------------------------------------- the bound


def test_the_bound_rises_with_the_number_of_samples() -> None:
    prior = _fitted()
    pose, observed = _noisy_hands(150)
    values = [float(prior.bound(pose, observed=observed, num_samples=k).mean()) for k in (1, 4, 16, 64, 256)]
    assert values == sorted(values)
    assert values[-1] - values[-2] < values[1] - values[0]  # and converges
    assert prior.log_prob_kind == "lower_bound"


def test_elbo_is_below_the_bound_and_log_prob_is_deterministic() -> None:
    prior = _fitted()
    pose, observed = _noisy_hands(50)
    assert (prior.elbo(pose, observed=observed) <= prior.log_prob(pose, observed=observed)).all()
    assert torch.equal(prior.log_prob(pose, observed=observed), prior.log_prob(pose, observed=observed))
    prior.bound_samples = 32
    again = prior.log_prob(pose, observed=observed)
    prior.bound_samples = 16
    torch.testing.assert_close(again, prior.bound(pose, observed=observed, num_samples=32))


def test_mass_of_one_joint_is_one() -> None:
    prior = HandVAE(
        "right_index1", latent_dim=2, hidden=16, depth=1, flow_layers=2, flow_hidden=8, mask_fraction=0.0
    )  # fmt: skip
    prior.fit(_hands(1000, seed=3), config=SHORT)
    gauss = GaussianPrior("right_index1")
    gauss.fit(_hands(1000, seed=3), config=FitConfig(max_steps=0, jitter=0.06, progress=False))
    draws = gauss.sample(40_000, generator=_generator())
    draws[::10, 40] = random_rotvec(4000, generator=_generator(1))
    log_q = torch.logaddexp(gauss.log_prob(draws) + math.log(0.9), torch.tensor(math.log(0.1)))
    value = torch.cat([prior.bound(part, num_samples=64) for part in draws.split(4000)])
    weight = (value - log_q).exp()
    error = float(weight.std()) / math.sqrt(len(weight))
    assert error < 0.02
    assert 0.9 < float(weight.mean()) < 1.0 + 4 * error


def test_fewer_observed_joints_give_the_marginal() -> None:
    prior = _fitted()
    proposal = GaussianPrior("right_hand", covariance="full")
    proposal.fit(_hands(1500, seed=0), config=FitConfig(max_steps=0, jitter=0.04, progress=False))
    pose, observed = _noisy_hands(4)
    hidden = observed.clone()
    hidden[:, 42] = False
    num = 1000
    drawn = proposal.complete(pose, hidden, num_samples=num, generator=_generator())
    whole = prior.bound(drawn.flatten(0, 1), observed=observed.repeat(num, 1), num_samples=32).reshape(num, 4)
    joint = proposal.log_prob(drawn, observed=observed)
    log_q = joint - proposal.log_prob(pose, observed=hidden)
    integral = torch.logsumexp(whole - log_q, dim=0) - math.log(num)
    marginal = prior.bound(pose, observed=hidden, num_samples=512)
    torch.testing.assert_close(integral, marginal, rtol=0, atol=0.5)


def test_gradient_is_that_of_the_value() -> None:
    prior = HandVAE("right_hand", **SMALL)
    prior.load_state_dict(_fitted().state_dict())
    prior = prior.double().eval().requires_grad_(False)
    pose = _noisy_hands(1)[0].double().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(pose).sum(), pose)
    direction = torch.randn(pose.shape, dtype=torch.float64, generator=_generator())
    step = 1e-6
    ahead, behind = prior.log_prob(pose + step * direction), prior.log_prob(pose - step * direction)
    torch.testing.assert_close(
        (gradient * direction).sum(), ((ahead - behind) / (2 * step)).sum(), rtol=1e-5, atol=1e-5
    )


# ---------------------------------------------------------------------- latents


def test_posterior_is_the_one_the_bound_uses() -> None:
    prior = _fitted()
    pose, observed = _noisy_hands(5)
    posterior = prior.posterior(pose, observed=observed)
    latent = posterior.rsample(1000, generator=_generator())
    log_prior = -0.5 * latent.square().sum(-1) - 0.5 * prior.latent_dim * math.log(2 * math.pi)
    log_q = torch.stack([posterior.log_prob(u) for u in latent])
    core = prior._core(0)
    z = core.flow.inverse(latent)
    likelihood = torch.stack(
        [core.log_likelihood(pose[:, RIGHT], observed[:, RIGHT], part[:, None])[0][:, 0] for part in z]
    )
    elbo = (likelihood + log_prior - log_q).mean(0)
    torch.testing.assert_close(elbo, prior.elbo(pose, observed=observed, num_samples=1024), rtol=0, atol=0.3)
    assert posterior.mean.shape == posterior.stddev.shape == (5, 4)


def test_encoding_finds_nearer_poses_than_the_posterior_mean() -> None:
    prior = _fitted()
    pose, _ = _hands(200, seed=5).all_poses()
    direct = prior.decode(prior.posterior(pose).mean)[:, RIGHT]
    refined = prior.decode(prior.encode(pose))[:, RIGHT]
    before, after = (float(geodesic_distance(x, pose[:, RIGHT]).mean()) for x in (direct, refined))
    assert after < before
    assert after < math.radians(4.0)


def test_weights_are_selected_by_what_they_are_trained_for() -> None:
    pose, observed = _noisy_hands(20)
    observed[3] = False
    index = list(_fitted().joints)
    assert _fitted().selection_penalty(pose[:, index], observed[:, index]) is None
    prior = HandVAE("right_hand", **{**SMALL, "reconstruction_weight": 5.0})
    prior.fit(_hands(200, seed=0), config=replace(SHORT, max_steps=2))
    penalty = prior.selection_penalty(pose[:, index], observed[:, index])
    angle = geodesic_distance(prior.decode(prior.encode(pose))[:, RIGHT], pose[:, RIGHT]).sum(1)
    expected = 5.0 * angle
    expected[3] = 0.0
    assert penalty is not None
    torch.testing.assert_close(penalty, expected, rtol=1e-3, atol=1e-3)
    in_double = mean_selection_penalty(prior.double(), pose, observed)
    assert in_double == pytest.approx(float(penalty.mean()), rel=1e-3)


def test_more_starts_find_poses_at_least_as_near() -> None:
    data = _hands(300, seed=0)
    errors = []
    for starts in (1, 6):
        prior = HandVAE("right_hand", **{**SMALL, "latent_dim": 2, "encode_starts": starts, "encode_steps": 5})
        prior.fit(data, config=replace(SHORT, max_steps=60))
        pose, _ = _hands(100, seed=5).all_poses()
        errors.append(geodesic_distance(prior.decode(prior.encode(pose))[:, RIGHT], pose[:, RIGHT]).sum(1))
        alone = prior.encode(pose[:1])
        torch.testing.assert_close(alone, prior.encode(pose)[:1], rtol=1e-3, atol=1e-3)  # a function of the pose
    assert (errors[1] <= errors[0] + 1e-3).all()
    assert float(errors[1].mean()) < float(errors[0].mean()) - 1e-3


def test_refined_latents_join_the_objective() -> None:
    pose, observed = _noisy_hands(20)
    options = {**SMALL, "reconstruction_weight": 5.0, "mask_fraction": 0.0, "encode_steps": 2}
    losses = []
    for steps in (0, 2):
        prior = HandVAE("right_hand", **options, refine_steps=steps)
        prior.fit(_hands(200, seed=0), config=replace(SHORT, max_steps=2))
        prior.load_state_dict(losses[0][1] if losses else prior.state_dict())
        index = list(prior.joints)
        torch.manual_seed(0)
        losses.append((prior.training_loss(pose[:, index], observed[:, index], None, 0), prior.state_dict()))
    angle = geodesic_distance(prior.decode(prior.encode(pose))[:, RIGHT], pose[:, RIGHT]).sum(1)
    torch.testing.assert_close(losses[1][0] - losses[0][0], 5.0 * angle.mean(), rtol=1e-3, atol=1e-2)


def test_encode_is_differentiable() -> None:
    pose = _noisy_hands(2)[0].requires_grad_()
    (gradient,) = torch.autograd.grad(_fitted().encode(pose).sum(), pose)
    assert torch.isfinite(gradient).all() and bool(gradient[:, RIGHT].any())


def test_all_latents_are_used() -> None:
    pose, _ = _hands(400, seed=6).all_poses()
    assert _fitted().active_units(pose) == 4


# ---------------------------------------------------------------------- completion


def test_completion_draws_from_the_conditional() -> None:
    prior = _fitted()
    pose, observed = _noisy_hands(3)
    hidden = observed.clone()
    hidden[:, 40:43] = False
    drawn = prior.complete(pose, hidden, num_samples=1500, generator=_generator())[:, :, 40, 2]
    # Oracle: many prior latents, weighted by what is observed.
    core = prior._core(0)
    u = torch.randn(60_000, 4, generator=_generator(1))
    z = core.flow.inverse(u)
    rotmat, _ = core.matrices(z)
    decoded = core.to_rotvec(rotmat)[:, 0, 2]
    for row in range(3):
        rows = pose[row : row + 1, RIGHT], hidden[row : row + 1, RIGHT]
        log_weight = torch.cat([core.log_likelihood(*rows, part[None])[0][0] for part in z.split(20_000)])
        weight = torch.softmax(log_weight, dim=0)
        mean = float((weight * decoded).sum())
        spread = float((weight * (decoded - mean).square()).sum().sqrt())
        assert abs(float(drawn[:, row].median()) - mean) < 0.5 * spread + 0.02


# ---------------------------------------------------------------------- one hand, both hands


def test_one_model_serves_both_hands_when_they_are_never_shown_together() -> None:
    prior = _fitted("hands")
    assert prior.groups == [list(range(25, 40)), list(range(40, 55))]
    assert len(prior.cores) == 1 and prior.latent_dim == 8
    pose, observed = _noisy_hands(20)
    left = poseprior.skeleton.mirror(pose)
    left_observed = poseprior.skeleton.mirror_observed(observed)
    torch.testing.assert_close(
        prior.log_prob(left, observed=left_observed), prior.log_prob(pose, observed=observed), rtol=1e-4, atol=1e-2
    )
    both = pose + left
    torch.testing.assert_close(prior.log_prob(both), 2 * prior.log_prob(pose, observed=observed), rtol=1e-4, atol=1e-2)
    sample = prior.sample(50, generator=_generator())
    assert float(sample[:, RIGHT, 2].mean()) > 0.2 and float(sample[:, 25:40, 2].mean()) < -0.2


def test_hands_shown_together_are_one_model() -> None:
    prior = HandVAE("hands", **SMALL)
    prior.fit(_hands(400, seed=0, both=True), config=FitConfig(max_steps=5, batch_size=64, progress=False))
    assert len(prior.groups) == 1 and prior.latent_dim == 4
    assert prior.sample(2, generator=_generator()).shape == (2, 55, 3)


def test_save_and_load_keep_both_hands(tmp_path: Path) -> None:
    prior = _fitted("hands")
    prior.save(tmp_path / "hands.safetensors")
    again = poseprior.load(tmp_path / "hands.safetensors")
    assert isinstance(again, HandVAE) and again.options == prior.options and again.groups == prior.groups
    pose, observed = _noisy_hands(5)
    assert torch.equal(again.log_prob(pose, observed=observed), prior.log_prob(pose, observed=observed))


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("prior", "latent_dim"),
    [
        (lambda: HandVAE.published("hands"), 24),
        (lambda: HandVAE.published("left_hand"), 24),
        (lambda: BodyVAE.published(), 32),
    ],
)
def test_published_architecture_has_two_million_parameters(prior: object, latent_dim: int) -> None:
    built = prior()
    assert abs(built.num_parameters - 2e6) < 0.15 * 2e6
    assert built.latent_dim == latent_dim


def test_published_architecture_trains_without_collapse() -> None:
    prior = HandVAE(
        "right_hand", latent_dim=4, hidden=64, depth=1, linear_path=False, posterior="diagonal", flow_layers=0,
        adaptive_noise=False, train_samples=1, kl_warmup=50, free_bits=0.1, encode_steps=0, reconstruction_weight=1.0,
    )  # fmt: skip
    prior.fit(_hands(1000, seed=0), config=SHORT)
    pose, observed = _noisy_hands(200)
    assert prior.active_units(pose) >= 1
    random = random_rotvec(200, 55, generator=_generator())
    assert prior.log_prob(pose, observed=observed).mean() > prior.log_prob(random, observed=observed).mean() + 20


def test_errors_say_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"joints: HandVAE takes joints of 'hands', got left_knee; use VAEPrior"):
        HandVAE("left_knee")
    with pytest.raises(ValueError, match=r"joints: BodyVAE takes joints of 'body', got jaw"):
        BodyVAE("jaw")
    with pytest.raises(ValueError, match=r"flow_hidden: has no effect with flow_layers=0, got 8; leave it out"):
        HandVAE(flow_layers=0, flow_hidden=8)
    with pytest.raises(ValueError, match=r"encode_starts: has no effect with encode_steps=0, got 2"):
        HandVAE(encode_steps=0, encode_starts=2)
    with pytest.raises(ValueError, match=r"refine_steps: has no effect with reconstruction_weight=0, got 3"):
        HandVAE(refine_steps=3)
    with pytest.raises(ValueError, match=r"groups: expected a partition"):
        HandVAE(groups=[[25, 26]])
    with pytest.raises(ValueError, match=r"latent_dim: expected a whole number of 1 or more and at most 1024, got 0"):
        VAEPrior(latent_dim=0)
    with pytest.raises(ValueError, match=r"posterior: expected one of 'full', 'diagonal', got 'mean-field'"):
        VAEPrior(posterior="mean-field")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"coupling layers need latent_dim of 2"):
        VAEPrior(latent_dim=1)
    with pytest.raises(ValueError, match=r"num_samples: expected a whole number of 1 or more"):
        _fitted().bound(torch.zeros(55, 3), num_samples=0)


def test_bounds_of_no_pose_and_under_autocast() -> None:
    prior, poses = _fitted(), 0.1 * torch.randn(3, 55, 3, generator=torch.Generator().manual_seed(0))
    assert prior.bound(poses[:0], num_samples=2).shape == (0,)
    assert prior.posterior(poses[:0]).mean.shape == (0, prior.latent_dim)
    outside = prior.bound(poses, num_samples=2), prior.energy(poses), prior.posterior(poses).mean
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = prior.bound(poses, num_samples=2), prior.energy(poses), prior.posterior(poses).mean
    for value, expected in zip(inside, outside, strict=True):
        assert torch.equal(value, expected)


# ---------------------------------------------------------------------- files that are not what they should be


def _write(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_hand_file_without_side_is_refused(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.npz", hand_pose=np.zeros((4, 15, 3), np.float32))
    with pytest.raises(ValueError, match=r"key 'side': expected 0 \(left\) or 1 \(right\).*pass side="):
        read_poses(file)


def test_pca_coefficients_given_as_rotations_are_refused(tmp_path: Path) -> None:
    coefficients = np.random.default_rng(0).normal(0, 4, (20, 45)).astype(np.float32)
    file = _write(tmp_path / "a.npz", hand_pose=coefficients, side=np.ones(20))
    with pytest.raises(ValueError, match=r"PCA coefficients or.*num_pca_comps=45"):
        read_poses(file)


def test_nan_in_a_hand_is_refused(tmp_path: Path) -> None:
    hands = np.zeros((4, 15, 3), np.float32)
    hands[2, 3] = np.nan
    file = _write(tmp_path / "a.npz", hand_pose=hands, side=np.ones(4))
    with pytest.raises(ValueError, match=r"(?i)nan|finite"):
        read_poses(file)
    pose = torch.zeros(55, 3)
    pose[45] = math.nan
    with pytest.raises(ValueError, match=r"pose: expected finite rotvecs.*right_middle3|right_pinky"):
        _fitted().log_prob(pose)


def test_a_single_frame_is_one_hand(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.npz", hand_pose=np.zeros((15, 3), np.float32), side=np.asarray(1))
    data = read_poses(file)
    assert len(data) == 1
    assert _fitted().log_prob(data.poses, observed=data.observed).shape == (1,)
    lone = HandVAE("right_hand", **SMALL)
    lone.fit(data, config=FitConfig(max_steps=3, batch_size=8, progress=False))
    assert torch.isfinite(lone.log_prob(data.poses, observed=data.observed)).all()


# ---------------------------------------------------------------------- real hands


@pytest.mark.slow
@pytest.mark.real_data
def test_beats_pca_and_the_gaussian_on_an_unseen_sitting(real_data_dir: Path) -> None:
    train, test = (read_poses(real_data_dir / "hands" / f"hands_{s}.npz") for s in ("train", "test"))
    prior = HandVAE("hands", latent_dim=12)
    prior.fit(train, config=FitConfig(max_steps=300, batch_size=256, progress=False))
    gauss = GaussianPrior("right_hand", covariance="full")
    gauss.fit(train, config=FitConfig(max_steps=0, progress=False))
    pose, observed = test.all_poses()
    pose, observed = pose[observed[:, 40]][::10], observed[observed[:, 40]][::10]
    noisy = pose.clone()
    noisy[:, RIGHT] = tangent_to_rotvec(0.02 * torch.randn(len(pose), 15, 3, generator=_generator()), pose[:, RIGHT])
    assert prior.log_prob(noisy, observed=observed).mean() > gauss.log_prob(noisy, observed=observed).mean()
    error = geodesic_distance(prior.decode(prior.encode(pose))[:, RIGHT], pose[:, RIGHT]).mean()
    assert float(error) < math.radians(3.3)  # PCA of 12 components
