"""`JointFlow`: exact densities, both directions, graph and mirror, completion against a Gaussian oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from sample_poses import all_but as _hidden
from sample_poses import bent_poses as _poses
from sample_poses import seeded as _generator
from torch import Tensor, nn

import poseprior
from poseprior import FitConfig, JointFlow, PoseDataset, skeleton
from poseprior.models.charts.compact import CompactChart
from poseprior.models.joint_flow.graph import depth_levels, parent_joints
from poseprior.models.joint_flow.mixture_flow import JointMixtureFlow
from poseprior.models.joint_flow.realnvp import JointRealNVP
from poseprior.models.shared.mirror import mirror_views
from poseprior.rotations import geodesic_distance, random_rotvec

_CONFIG = FitConfig(max_steps=40, batch_size=128, warmup_steps=5, eval_every=20, progress=False)
_ARM = (16, 18, 20)


def _build(architecture: str, joints: str | tuple[int, ...]) -> JointFlow:
    return JointFlow.published(joints) if architecture == "published" else JointFlow(joints)


@cache
def _fitted(architecture: str, joints: str | tuple[int, ...] = _ARM) -> JointFlow:
    prior = _build(architecture, joints)
    prior.fit(_poses(600), config=_CONFIG)
    return prior


ARCHITECTURES = pytest.mark.parametrize("architecture", ["default", "published"])


def test_parameter_counts() -> None:
    assert JointFlow.published("all").num_parameters == 517_770
    assert JointFlow("all").num_parameters < 600_000
    assert JointFlow("body").num_parameters < 600_000


@ARCHITECTURES
def test_log_prob_is_the_jacobian_of_encode(architecture: str) -> None:
    prior = _build(architecture, _ARM)
    prior.load_state_dict(_fitted(architecture).state_dict())
    prior = prior.double().eval().requires_grad_(False)
    for w in 0.5 * torch.randn(4, 9, generator=_generator(), dtype=torch.float64):

        def latents(flat: Tensor, prior: JointFlow = prior) -> Tensor:
            return prior._encode(prior.chart.inverse(flat.view(1, 3, 3)), None)[0]

        jacobian = torch.autograd.functional.jacobian(latents, w)
        assert isinstance(jacobian, Tensor)
        z = latents(w)
        expected = jacobian.slogdet().logabsdet - 0.5 * z.square().sum() - 4.5 * math.log(2 * math.pi)
        rotvec = prior.chart.inverse(w.view(1, 3, 3))
        seen = torch.ones(1, 3, dtype=torch.bool)
        volume = prior.chart(rotvec, seen)[1][0]
        torch.testing.assert_close(prior._log_prob(rotvec, seen, None)[0] + volume, expected, rtol=1e-6, atol=1e-6)


@ARCHITECTURES
def test_round_trip(architecture: str) -> None:
    prior = _fitted(architecture)
    poses = _poses(200, seed=1)
    again = prior.decode(prior.encode(poses))
    assert float(geodesic_distance(again[:, _ARM], poses[:, _ARM]).max()) < 1e-4
    latent = torch.randn(200, 9, generator=_generator())
    there = prior.encode(prior.decode(latent))
    if architecture == "default":  # the published flow may decode beyond pi, where rotvecs wrap
        torch.testing.assert_close(there, latent, rtol=1e-3, atol=2e-3)


def test_round_trip_of_any_rotation_in_double_precision() -> None:
    prior = JointFlow(_ARM)
    prior.load_state_dict(_fitted("default").state_dict())
    prior = prior.double().eval().requires_grad_(False)
    poses = random_rotvec(100, 55, generator=_generator(), dtype=torch.float64)
    again = prior.decode(prior.encode(poses))
    assert float(geodesic_distance(again[:, _ARM], poses[:, _ARM]).median()) < 1e-6


@ARCHITECTURES
def test_decode_has_the_gradient_of_the_inverse(architecture: str) -> None:
    prior = _build(architecture, _ARM)
    prior.load_state_dict(_fitted(architecture).state_dict())
    prior = prior.double().eval().requires_grad_(False)
    latent = 0.7 * torch.randn(9, generator=_generator(), dtype=torch.float64)
    back = torch.autograd.functional.jacobian(lambda z: prior.decode(z)[list(_ARM)].flatten(), latent)

    def encode(flat: Tensor) -> Tensor:
        pose = torch.zeros(55, 3, dtype=torch.float64)
        return prior.encode(pose.index_put((torch.tensor(_ARM),), flat.view(3, 3)))

    there = torch.autograd.functional.jacobian(encode, prior.decode(latent)[list(_ARM)].flatten())
    torch.testing.assert_close(there @ back, torch.eye(9, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_decode_has_the_second_derivatives_of_the_inverse() -> None:
    """They are those that differences of the first derivatives give."""
    prior = JointFlow((16, 18), hidden=8)
    prior.fit(_poses(600), config=_CONFIG)
    prior = prior.double().eval().requires_grad_(False)
    latent = torch.tensor([0.7, -0.4, 1.3, -2.1, 0.2, 0.9], dtype=torch.float64)
    toward = torch.linspace(-1.0, 1.0, 55 * 3, dtype=torch.float64).view(55, 3)

    def decoded(z: Tensor) -> Tensor:
        return (prior.decode(z) * toward).sum()

    step = 1e-4 * torch.eye(6, dtype=torch.float64)
    slopes = torch.func.vmap(torch.func.grad(decoded))(torch.cat([latent + step, latent - step]))
    expected = (slopes[:6] - slopes[6:]) / 2e-4
    torch.testing.assert_close(torch.func.jacrev(torch.func.grad(decoded))(latent), expected, rtol=1e-5, atol=1e-6)
    by_autograd = torch.autograd.functional.hessian(decoded, latent)
    assert isinstance(by_autograd, Tensor)
    torch.testing.assert_close(by_autograd, expected, rtol=1e-5, atol=1e-6)


def test_decode_of_latents_far_out_is_finite() -> None:
    prior = _fitted("default")
    latent = torch.stack([torch.full((9,), size) for size in (-300.0, -40.0, 40.0, 300.0)]).requires_grad_()
    pose = prior.decode(latent)
    (slope,) = torch.autograd.grad(pose.sum(), latent)
    assert torch.isfinite(pose).all() and torch.isfinite(slope).all()


@ARCHITECTURES
def test_samples_encode_to_standard_normal(architecture: str) -> None:
    prior = _fitted(architecture)
    latent = prior.encode(prior.sample(4000, generator=_generator()))
    assert float(latent.mean(0).abs().max()) < 0.08
    assert float((latent.T.cov() - torch.eye(9)).abs().max()) < (0.12 if architecture == "default" else 0.2)


def test_dropping_leaves_is_the_exact_marginal() -> None:
    prior = _fitted("default")
    pose = _poses(1, seed=2).expand(200_000, -1, -1).clone()
    pose[:, 20] = random_rotvec(len(pose), generator=_generator())
    # p(pose) / p(pose without the wrist) is a density of the wrist: it integrates to one.
    ratio = (prior.log_prob(pose) - prior.log_prob(pose[:1], observed=_hidden(20))).double().exp()
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert abs(float(ratio.mean()) - 1.0) < 5 * error + 2e-3


def test_networks_learn_what_an_unobserved_parent_means() -> None:
    prior = _fitted("default")
    poses = _poses(5, seed=3)
    given = prior.log_prob(poses, observed=_hidden(16, 20)) - prior.log_prob(poses, observed=_hidden(16, 18, 20))
    assert torch.isfinite(given).all() and given.abs().min() > 0
    changed = poses.clone()
    changed[:, 16] = math.nan
    torch.testing.assert_close(
        prior.log_prob(changed, observed=_hidden(16)), prior.log_prob(poses, observed=_hidden(16))
    )


def test_frozen_published_networks_have_second_derivatives() -> None:
    prior = JointFlow.published(_ARM)
    prior.load_state_dict(_fitted("published").state_dict())
    prior = prior.double().eval().requires_grad_(False)
    # Away from zero, where the networks' ReLU has a kink.
    pose, direction = (0.3 * torch.randn(2, 55, 3, generator=_generator(4), dtype=torch.float64)).unbind()

    def slope(step: Tensor, *, again: bool = False) -> Tensor:
        return torch.autograd.grad(prior.log_prob(pose + step * direction), step, create_graph=again)[0]

    at = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (curvature,) = torch.autograd.grad(slope(at, again=True), at)
    ahead, behind = (slope(torch.full_like(at, h).requires_grad_()) for h in (1e-6, -1e-6))
    torch.testing.assert_close(curvature, (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 7, 200])
def test_frozen_published_networks_give_the_same_numbers(batch: int) -> None:
    prior = JointFlow.published("all").eval()
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.2)
    pose = _poses(batch, seed=4).requires_grad_()
    observed = torch.rand(batch, 55, generator=_generator(5)) < 0.8
    upstream = torch.randn(batch, generator=_generator(6))
    slow = prior.log_prob(pose, observed=observed)
    (slow_gradient,) = torch.autograd.grad(slow @ upstream, pose)
    prior.requires_grad_(False)
    fast = prior.log_prob(pose, observed=observed)
    (fast_gradient,) = torch.autograd.grad(fast @ upstream, pose)
    with torch.no_grad():
        torch.testing.assert_close(prior.log_prob(pose, observed=observed), fast)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-4, atol=1e-3)


def test_published_couplings_are_what_the_issue_says() -> None:
    flow = JointRealNVP([-1, 0])
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.3)
    own, context = torch.randn(2, 5, 3, generator=_generator()), torch.randn(2, 5, 3, generator=_generator(1))

    def network(coupling: nn.Module, x: Tensor, joint: int) -> tuple[Tensor, Tensor]:
        for k, layer in enumerate(coupling.layers):  # type: ignore[union-attr,arg-type]
            x = x @ layer.weight[joint] + layer.bias[joint]
            x = torch.relu(x) if k < 2 else x
        half = x.shape[-1] // 2
        return x[:, :half], torch.tanh(x[:, half:])

    for joint in range(2):
        r, parent = own[joint], context[joint]
        shift, log_scale = network(flow.first, torch.cat([r[:, [0, 2]], parent], 1), joint)
        middle = r[:, [1]] * log_scale.exp() + shift
        shift2, log_scale2 = network(flow.second, torch.cat([middle, parent], 1), joint)
        outer = r[:, [0, 2]] * log_scale2.exp() + shift2
        z = torch.cat([outer[:, :1], middle, outer[:, 1:]], 1)
        torch.testing.assert_close(flow.encode(own, context, None)[joint], z)
        log_det = log_scale.sum(1) + log_scale2.sum(1)
        expected = log_det - 0.5 * z.square().sum(1) - 1.5 * math.log(2 * math.pi)
        torch.testing.assert_close(flow.log_prob(own, context, None)[joint], expected)


def test_graph_is_acyclic_and_kinematic_without_extra_parents() -> None:
    for joints in (skeleton.JOINT_SETS["all"], skeleton.JOINT_SETS["body"], (2, 5, 11, 17), (31, 34, 28)):
        for extra in (False, True):
            parents = parent_joints(joints, extra=extra)
            assert sorted(j for level in depth_levels(parents) for j in level) == sorted(joints)
            assert all(set(c) <= set(joints) and j not in c for j, c in parents.items())
    plain = parent_joints(skeleton.JOINT_SETS["all"], extra=False)
    assert all(c == ((skeleton.PARENTS[j],) if skeleton.PARENTS[j] >= 0 else ()) for j, c in plain.items())
    assert parent_joints((9, 16), extra=False) == {9: (), 16: (9,)}


@ARCHITECTURES
def test_joints_recorded_apart_are_independent(architecture: str) -> None:
    """Fingers have the wrist as context only where some pose shows both."""
    arm, fingers = (16, 18, 20), (25, 26, 27)
    shows_arm = torch.arange(600) < 300
    observed = torch.zeros(600, 55, dtype=torch.bool)
    observed[:, arm], observed[:, fingers] = shows_arm[:, None], ~shows_arm[:, None]
    prior = _build(architecture, (*arm, *fingers))
    prior.fit(PoseDataset(_poses(600), observed), config=replace(_CONFIG, mirror=False))
    assert prior.groups == [list(arm), list(fingers)]
    poses = _poses(20, seed=5)
    parts = [prior.log_prob(poses, observed=_hidden(*other)) for other in (arm, fingers)]
    torch.testing.assert_close(prior.log_prob(poses), parts[0] + parts[1])


def test_hands_share_networks_through_the_mirror() -> None:
    hands = skeleton.JOINT_SETS["hands"]
    parents = parent_joints(hands, extra=True)
    views = mirror_views([[j] for j in hands], hands, parents=parents)
    assert [view.network for view in views] == [*range(15), *range(15)]
    assert [view.mirrored for view in views] == [False] * 15 + [True] * 15
    prior = JointFlow((16, 17, 18, 19), extra_parents=False).eval()
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.2)
    poses = _poses(20)
    torch.testing.assert_close(prior.log_prob(skeleton.mirror(poses)), prior.log_prob(poses), rtol=1e-4, atol=1e-3)


def _linear_gaussian() -> tuple[JointFlow, Tensor, Tensor]:
    """A prior over shoulder and elbow that is exactly Gaussian in chart coordinates, with its mean and covariance."""
    prior = JointFlow((16, 18), extra_parents=False, num_components=1, broad_weight=1e-6, num_particles=4096).eval()
    flow, chart = prior.conditionals, prior.chart
    assert isinstance(flow, JointMixtureFlow) and isinstance(chart, CompactChart)
    chart.scale.fill_(0.2)
    generator = _generator(7)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
        flow.regression.weight[1, :3] = 0.6 * torch.randn(3, 3, generator=generator)
        flow.regression.bias[1, 0] = torch.tensor([0.3, -0.2, 0.5])
        flow.log_diagonal.copy_(0.3 * torch.randn(2, 1, 3, generator=generator) + 0.4)
        flow.lower.copy_(0.3 * torch.randn(2, 3, 3, generator=generator).tril(-1))
        t = flow.lower.tril(-1) + torch.diag_embed(flow.log_diagonal[:, 0].exp())
        noise = torch.linalg.inv(t.transpose(1, 2) @ t)
        a = flow.regression.weight[1, :3].T
        covariance = torch.cat([
            torch.cat([noise[0], noise[0] @ a.T], 1), torch.cat([a @ noise[0], a @ noise[0] @ a.T + noise[1]], 1),
        ])  # fmt: skip
        mean = torch.cat([torch.zeros(3), flow.regression.bias[1, 0]])
    return prior, mean, covariance


@pytest.mark.parametrize("hidden", [16, 18])
def test_complete_equals_the_gaussian_conditional(hidden: int) -> None:
    prior, mean, covariance = _linear_gaussian()
    w = torch.tensor([[0.8, -0.4, 0.3], [-0.5, 0.9, 1.0]])
    pose = torch.zeros(55, 3)
    pose[[16, 18]] = prior.chart.inverse(w)
    drawn = prior.complete(pose, _hidden(hidden), num_samples=2000, generator=_generator())
    both = prior.chart(drawn[:, [16, 18]], torch.ones(2000, 2, dtype=torch.bool))[0]
    miss, have = (slice(0, 3), slice(3, 6)) if hidden == 16 else (slice(3, 6), slice(0, 3))
    gain = covariance[miss, have] @ torch.linalg.inv(covariance[have, have])
    expected = mean[miss] + gain @ (w.flatten()[have] - mean[have])
    spread = covariance[miss, miss] - gain @ covariance[have, miss]
    got = both.flatten(1)[:, miss]
    assert float(((got.mean(0) - expected) / spread.diagonal().sqrt()).abs().max()) < 0.12
    assert float((got.T.cov() - spread).abs().max() / spread.abs().max()) < 0.15


def test_complete_is_ancestral_where_that_is_exact() -> None:
    prior = _fitted("default")
    poses = _poses(3, seed=5)
    few = prior.complete(poses, _hidden(18, 20), num_samples=2, generator=_generator())
    prior_particles, prior.num_particles = prior.num_particles, 8192
    many = prior.complete(poses, _hidden(18, 20), num_samples=2, generator=_generator())
    prior.num_particles = prior_particles
    assert torch.equal(few, many)


@ARCHITECTURES
def test_gradients_are_finite_everywhere(architecture: str) -> None:
    prior = _fitted(architecture, "body")
    axis = random_rotvec(8, 55, generator=_generator())
    axis = axis / axis.norm(dim=-1, keepdim=True)
    poses = torch.cat([axis * t for t in (0.0, 1e-7, math.pi, 2 * math.pi)] + [random_rotvec(500, 55)]).requires_grad_()
    value = prior.log_prob(poses)
    (gradient,) = torch.autograd.grad(value.sum(), poses)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    latent = prior.encode(poses)
    assert torch.isfinite(latent).all()


@ARCHITECTURES
def test_save_and_load(architecture: str, tmp_path: Path) -> None:
    prior = _fitted(architecture)
    prior.save(tmp_path / "prior.safetensors")
    again = poseprior.load(tmp_path / "prior.safetensors")
    poses = _poses(5)
    assert isinstance(again, JointFlow)
    assert torch.equal(again.log_prob(poses), prior.log_prob(poses))
    assert torch.equal(again.sample(3, generator=_generator()), prior.sample(3, generator=_generator()))


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"hidden: expected a whole number of 1 or more and at most 2048, got 0"):
        JointFlow(hidden=0)
    with pytest.raises(ValueError, match=r"broad_weight: expected a finite number above 0 and below 1, got 0.0"):
        JointFlow(broad_weight=0.0)


def test_far_parents_do_not_run_away_along_a_limb() -> None:
    """Trained networks extrapolate from a draw of a broad component; 60,000 samples of a steep network stay finite."""
    prior = JointFlow("body")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in prior.conditionals.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    prior.eval()
    samples = prior.sample(60_000, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(samples).all()
    assert torch.isfinite(prior.log_prob(samples)).all()


def test_gradients_of_weights_are_those_that_autograd_derives() -> None:
    """First and second derivatives of training's path, whose components have a hand-written gradient."""
    prior = JointFlow("body", hidden=8, num_components=3).double().eval()
    pose = prior.sample(5, generator=torch.Generator().manual_seed(0))
    names, weights = zip(*prior.named_parameters(), strict=True)

    def score_matching(log_prob: Callable[[Tensor], Tensor]) -> Tensor:
        x = pose.clone().requires_grad_(True)
        value = log_prob(x).sum()
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        return value + 0.5 * gradient.square().sum()

    ours = torch.autograd.grad(score_matching(prior.log_prob), weights, allow_unused=True)

    def traced(x: Tensor) -> Tensor:
        return torch.func.vmap(prior.log_prob)(x)  # eager operations alone

    expected = torch.autograd.grad(score_matching(traced), weights, allow_unused=True)
    for name, own, other in zip(names, ours, expected, strict=True):
        assert (own is None) == (other is None), name
        if own is not None:
            torch.testing.assert_close(own, other, msg=lambda text, name=name: f"{name}: {text}")
