"""`OrderAgnosticPrior`: exact chains in any order, a Gaussian oracle, independent groups, tails."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from sample_poses import bent_poses as _poses
from sample_poses import seeded as _generator
from torch import Tensor

import poseprior
from poseprior import FitConfig, PoseDataset, checkpoint, skeleton
from poseprior.models.order_agnostic import OrderAgnosticPrior
from poseprior.models.order_agnostic.ordered_gaussian import OrderedGaussian
from poseprior.models.shared.near_joints import near_joints
from poseprior.rotations import haar_log_density, random_rotvec, rotvec_to_tangent

_CONFIG = FitConfig(max_steps=30, batch_size=128, warmup_steps=5, eval_every=30, progress=False)
_LEFT, _RIGHT = skeleton.JOINT_SETS["left_hand"], skeleton.JOINT_SETS["right_hand"]
_ARM = (16, 18, 20)


def _mask(*joints: int) -> Tensor:
    observed = torch.zeros(55, dtype=torch.bool)
    observed[list(joints)] = True
    return observed


@cache
def _fitted(joints: tuple[int, ...] = tuple(range(1, 8))) -> OrderAgnosticPrior:
    prior = OrderAgnosticPrior(joints, hidden=16, num_components=4, num_orders=4)
    prior.fit(_poses(1500), config=_CONFIG)
    return prior


@cache
def _gaussian() -> OrderAgnosticPrior:
    """No residual and next to no other component: nothing but the Gaussian start."""
    shares = {"base_weight": 0.0, "own_weight": 0.0, "broad_weight": 1e-9, "near_weight": 0.0}
    prior = OrderAgnosticPrior(range(1, 8), hidden=4, num_components=1, dof=None, num_orders=3, **shares)
    prior.fit(_poses(1500), config=FitConfig(max_steps=0, progress=False))
    for part, _ in prior.groups.each():
        part.net.out.weight.zero_()
        part.net.out.bias.zero_()
    return prior.double()


@cache
def _two_sided() -> OrderAgnosticPrior:
    """Body rows without fingers, hand rows without a body."""
    observed = torch.zeros(900, 55, dtype=torch.bool)
    observed[:300, list(_ARM)] = True
    observed[300:700, list(_RIGHT)] = True
    observed[700:, list(_LEFT)] = True
    prior = OrderAgnosticPrior((*_ARM, *_LEFT, *_RIGHT), hidden=8, num_components=2, num_orders=2)
    prior.fit(PoseDataset(_poses(900), observed), config=_CONFIG)
    return prior


def _oracle(prior: OrderAgnosticPrior, pose: Tensor, joints: list[int]) -> Tensor:
    """Marginal log-density of the Gaussian start over `joints`, by torch.distributions."""
    part = prior.groups.each()[0][0]
    place = [prior.joints.index(j) for j in joints]
    dims = [3 * k + c for k in place for c in range(3)]
    chart = prior.groups.chart
    tangent = rotvec_to_tangent(pose[:, joints], chart.mean[place])
    z = (tangent / chart.scale[place]).flatten(1)
    normal = torch.distributions.MultivariateNormal(part.base.mean[dims], part.base.covariance[dims][:, dims])
    return normal.log_prob(z) - chart.scale[place].log().sum() - haar_log_density(tangent).sum(-1)


def test_without_a_residual_it_is_the_gaussian_on_every_subset() -> None:
    prior, pose = _gaussian(), _poses(20, seed=1).double()
    for joints in ([1, 2, 3, 4, 5, 6, 7], [2, 5], [7], [1, 3, 4, 6]):
        value = prior.log_prob(pose, observed=_mask(*joints))
        torch.testing.assert_close(value, _oracle(prior, pose, joints), rtol=1e-5, atol=1e-4)
    assert float(prior.order_spread(pose).max()) < 1e-4


def test_without_a_residual_conditionals_are_the_gaussians() -> None:
    prior, pose = _gaussian(), _poses(20, seed=1).double()
    value = prior.conditional_log_prob(pose, _mask(1, 4, 6))
    expected = _oracle(prior, pose, [1, 2, 3, 4, 5, 6, 7]) - _oracle(prior, pose, [1, 4, 6])
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)


def test_completions_have_the_gaussian_conditional_moments() -> None:
    prior, pose = _gaussian(), _poses(1, seed=2).double()
    given, hidden = [1, 4, 6], [2, 3, 5, 7]
    drawn = prior.complete(pose, _mask(*given), num_samples=20_000, generator=_generator())[:, 0]
    part, chart = prior.groups.each()[0][0], prior.groups.chart
    place = [prior.joints.index(j) for j in hidden]
    z = (rotvec_to_tangent(drawn[:, hidden], chart.mean[place]) / chart.scale[place]).flatten(1)
    dims = [3 * prior.joints.index(j) + c for j in hidden for c in range(3)]
    known = [3 * prior.joints.index(j) + c for j in given for c in range(3)]
    seen = (prior.groups.chart(pose[:, list(prior.joints)], torch.ones(1, 7, dtype=torch.bool))[0]).flatten(1)[0]
    covariance = part.base.covariance
    gain = torch.linalg.solve(covariance[known][:, known], covariance[known][:, dims]).mT
    mean = part.base.mean[dims] + gain @ (seen[known] - part.base.mean[known])
    rest = covariance[dims][:, dims] - gain @ covariance[known][:, dims]
    assert float((z.mean(0) - mean).abs().max()) < 0.05
    assert float((z.T.cov() - rest).abs().max()) < 0.06


def test_chain_rule_holds_exactly_in_the_order_used() -> None:
    prior, pose = _fitted(), _poses(30, seed=3)
    first, order = [4, 2, 7], [4, 2, 7, 1, 6, 3, 5]
    whole = prior.order_log_prob(pose, order=order)[0]
    marginal = prior.order_log_prob(pose, observed=_mask(*first), order=order)[0]
    one = OrderAgnosticPrior(**{**prior.get_config(), "num_orders": 1})
    one.load_state_dict(prior.state_dict())
    one.eval()
    torch.testing.assert_close(whole - marginal, _chain_after(prior, pose, first, order), rtol=1e-4, atol=1e-3)
    # The same identity for the fixed order itself: its own prefix as the condition.
    own = [prior.joints[k] for k in one.groups.ranks(7)[0].argsort().tolist()]
    prefix = _mask(*own[:3])
    split = one.log_prob(pose, observed=prefix) + one.conditional_log_prob(pose, prefix)
    torch.testing.assert_close(one.log_prob(pose), split, rtol=1e-4, atol=1e-3)


def _chain_after(prior: OrderAgnosticPrior, pose: Tensor, first: list[int], order: list[int]) -> Tensor:
    """Sum of one-joint conditionals after `first`, each from a call of its own."""
    total, known = torch.zeros(len(pose)), list(first)
    for joint in order[len(first) :]:
        total = total + prior.conditional_log_prob(pose, _mask(*known), observed=_mask(*known, joint))
        known.append(joint)
    return total


def test_log_prob_is_the_mixture_of_its_orders() -> None:
    prior, pose = _fitted(), _poses(10, seed=4)
    orders = prior.order_log_prob(pose)
    assert orders.shape == (4, 10)
    torch.testing.assert_close(prior.log_prob(pose), orders.logsumexp(0) - math.log(4))
    torch.testing.assert_close(prior.order_spread(pose), orders.std(0, correction=0))


def test_more_orders_keep_the_earlier_ones() -> None:
    prior, pose = _fitted(), _poses(5, seed=4)
    few = prior.order_log_prob(pose)
    prior.num_orders = 6
    try:
        torch.testing.assert_close(prior.order_log_prob(pose)[:4], few, rtol=1e-4, atol=1e-3)
    finally:
        prior.num_orders = 4


def test_conditional_mass_of_one_joint_is_one() -> None:
    """Importance sampling: half of the rotations are uniform, half near the mean pose."""
    prior, generator, near = _fitted(), _generator(), 0.4
    pose = _poses(1, seed=5).repeat(20_000, 1, 1)
    pose[::2, 3] = random_rotvec(10_000, generator=generator)
    pose[1::2, 3] = near * torch.randn(10_000, 3, generator=generator)
    rotvec = pose[:, 3].double()
    log_near = torch.distributions.Normal(0.0, near).log_prob(rotvec).sum(-1) - haar_log_density(rotvec)
    proposal = 0.5 + 0.5 * log_near.exp()
    ratio = prior.conditional_log_prob(pose, _mask(1, 2, 4, 5, 6, 7)).double().exp() / proposal
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert error < 0.03
    assert abs(float(ratio.mean()) - 1.0) < 5 * error + 2e-3


def test_near_conditionals_are_the_gaussians_given_near_joints() -> None:
    """Against conditionals of the joint Gaussian by the textbook formula, in one order."""
    joints = (3, 6, 9, 13, 14, 16)  # spine, chest, both collars, a shoulder
    base = OrderedGaussian(len(joints), near_joints(joints))
    mixing = torch.randn(18, 18, generator=_generator())
    base.covariance.copy_(mixing @ mixing.T + torch.eye(18))
    base.mean.copy_(torch.randn(18, generator=_generator(1)))
    z = torch.randn(1, len(joints), 3, generator=_generator(2))
    order = [2, 5, 0, 4, 1, 3]  # places; the chest (9) first, the spine's middle (6) after both ends of it
    arranged = base.arrangement(torch.tensor([order]))
    assert arranged.near is not None
    residual = base.whiten(z, arranged.near.whitener, None)
    log_prob = -0.5 * (residual.square() + math.log(2 * math.pi)).sum(-1) - arranged.near.log_diagonal
    for place, near in enumerate(near_joints(joints)):
        known = [k for k in near if order.index(k) < order.index(place)]
        expected = _gaussian_conditional(base.mean, base.covariance, place, known, z[0])
        torch.testing.assert_close(log_prob[0, place], expected, rtol=1e-4, atol=1e-4)


def _gaussian_conditional(mean: Tensor, covariance: Tensor, place: int, known: list[int], z: Tensor) -> Tensor:
    own = [3 * place + c for c in range(3)]
    given = [3 * k + c for k in known for c in range(3)]
    gain = covariance[own][:, given] @ torch.linalg.pinv(covariance[given][:, given])
    centre = mean[own] + gain @ (z.flatten() - mean)[given]
    spread = covariance[own][:, own] - gain @ covariance[given][:, own]
    return torch.distributions.MultivariateNormal(centre, spread).log_prob(z[place])


def test_near_joints_are_neighbours_on_the_skeleton() -> None:
    body = skeleton.JOINT_SETS["body"]
    names = {
        skeleton.JOINT_NAMES[j]: {skeleton.JOINT_NAMES[body[k]] for k in near}
        for j, near in zip(body, near_joints(body), strict=True)
    }
    assert names["left_elbow"] == {"left_shoulder", "left_wrist", "left_collar", "right_elbow"}
    assert names["left_hip"] == {"left_knee", "spine1", "right_hip"}
    assert near_joints((1, 21)) == [[], []]


def test_far_joints_leave_the_share_of_near_networks_to_the_others() -> None:
    prior = OrderAgnosticPrior((1, 21), hidden=4, num_components=1)
    part = prior.groups.each()[0][0]
    assert part.near_net is None and math.isclose(sum(math.exp(s) for s in part.log_weights), 1.0)


@pytest.mark.parametrize("near_weight", [0.0, 0.3])
def test_draws_of_one_joint_have_the_density_that_is_evaluated(near_weight: float) -> None:
    """E over draws of q / p is the mass of q, for the broad q that the test knows, if the draws are of p."""
    prior = OrderAgnosticPrior(range(1, 8), hidden=16, num_components=4, num_orders=2, near_weight=near_weight)
    config = FitConfig(max_steps=60, batch_size=128, warmup_steps=5, learning_rate=5e-3, progress=False)
    prior.fit(_poses(1500, seed=0), config=config)
    pose, given = _poses(1, seed=3), _mask(1, 2, 3, 5, 6, 7)
    drawn = prior.complete(pose, given, num_samples=20_000, generator=_generator())[:, 0]
    p = prior.conditional_log_prob(drawn, given).double()
    centre, spread = drawn[:, 4].double().mean(0), 0.7 * drawn[:, 4].double().std(0)
    q = torch.distributions.Normal(centre, spread).log_prob(drawn[:, 4].double()).sum(-1)
    ratio = (q - haar_log_density(drawn[:, 4].double()) - p).exp()
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert error < 0.02
    assert abs(float(ratio.mean()) - 1.0) < 5 * error


def test_draws_follow_the_density() -> None:
    prior = _fitted()
    pose = _poses(2, seed=6)
    given = _mask(1, 2, 5)
    drawn = prior.complete(pose, given, num_samples=2000, generator=_generator())
    own = prior.conditional_log_prob(drawn, given).mean(0)
    # E_p[log p] beats E_p[log q] for any other q: here the conditional given the other pose.
    other = drawn.clone()
    other[..., [1, 2, 5], :] = pose.flip(0)[:, [1, 2, 5]]
    assert (own > prior.conditional_log_prob(other, given).mean(0)).all()


def test_far_away_poses_are_finite_and_pulled_back() -> None:
    prior = _fitted()
    pose = random_rotvec(500, 55, generator=_generator(), dtype=torch.float64).requires_grad_()
    value = prior.log_prob(pose)
    (gradient,) = torch.autograd.grad(value.sum(), pose)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    index = list(prior.joints)
    alone = pose.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(prior.log_prob(alone, observed=_mask(3)).sum(), alone)
    tangent = rotvec_to_tangent(alone[:, 3].detach().float(), prior.groups.chart.mean[index.index(3)])
    nearer = alone.detach().clone()
    nearer[:, 3] += 1e-3 * slope[:, 3] / slope[:, 3].norm(dim=-1, keepdim=True)
    moved = rotvec_to_tangent(nearer[:, 3].float(), prior.groups.chart.mean[index.index(3)])
    far = (tangent.norm(dim=-1) > 2.0) & (alone[:, 3].norm(dim=-1) < 3.1) & (tangent.norm(dim=-1) < 3.1)
    assert int(far.sum()) > 100
    assert (moved.norm(dim=-1) < tangent.norm(dim=-1))[far].float().mean() > 0.99


def test_groups_never_shown_together_are_independent() -> None:
    prior = _two_sided()
    assert prior.groups.members == [list(_ARM), list(_LEFT), list(_RIGHT)]
    pose = _poses(8, seed=7)
    parts = [prior.log_prob(pose, observed=_mask(*group)) for group in (_ARM, _LEFT, _RIGHT)]
    torch.testing.assert_close(prior.log_prob(pose), sum(parts, torch.zeros(8)), rtol=1e-4, atol=1e-3)
    other = pose.clone()
    other[:, list(_LEFT)] *= -0.5
    hidden = _mask(*_LEFT, *_ARM)
    same = prior.complete(pose, hidden, generator=_generator(1))[..., _RIGHT, :]
    torch.testing.assert_close(prior.complete(other, hidden, generator=_generator(1))[..., _RIGHT, :], same)


def test_hands_share_networks_through_the_mirror() -> None:
    prior = _two_sided()
    assert len(prior.groups.parts) == 2
    pose = _poses(8, seed=8)
    left = prior.log_prob(pose, observed=_mask(*_LEFT))
    right = prior.log_prob(skeleton.mirror(pose), observed=_mask(*_RIGHT))
    torch.testing.assert_close(right, left, rtol=1e-4, atol=1e-3)


def test_save_and_load_are_equal(tmp_path: Path) -> None:
    prior = _two_sided()
    prior.save(tmp_path / "prior.safetensors")
    again = poseprior.load(tmp_path / "prior.safetensors")
    assert isinstance(again, OrderAgnosticPrior) and again.get_config() == prior.get_config()
    pose = _poses(5, seed=9)
    observed = torch.rand(5, 55, generator=_generator()) < 0.6
    assert torch.equal(again.log_prob(pose, observed=observed), prior.log_prob(pose, observed=observed))
    assert torch.equal(again.sample(3, generator=_generator()), prior.sample(3, generator=_generator()))


def test_files_from_before_near_networks_load_without_them(tmp_path: Path) -> None:
    prior = OrderAgnosticPrior(range(1, 8), hidden=8, num_components=2, num_orders=2, near_weight=0.0)
    prior.fit(_poses(300), config=_CONFIG)
    prior.save(tmp_path / "new.safetensors")
    tensors, meta = checkpoint.read(tmp_path / "new.safetensors")
    del meta["config"]["near_weight"]
    checkpoint.write(tmp_path / "old.safetensors", tensors, meta)
    old = poseprior.load(tmp_path / "old.safetensors")
    torch.testing.assert_close(old.log_prob(_poses(4)), prior.log_prob(_poses(4)))


def test_training_beats_its_gaussian_start() -> None:
    poses = _poses(4000, seed=10)
    bent = poses.clone()
    bent[:, 2] = poses[:, 1].square() * 3.0 + 0.05 * poses[:, 2]
    config = FitConfig(max_steps=150, batch_size=256, warmup_steps=10, learning_rate=3e-3, progress=False, mirror=False)
    start = OrderAgnosticPrior((1, 2, 3), hidden=32, num_components=4)
    start.fit(bent, config=FitConfig(max_steps=0, progress=False, mirror=False))
    trained = OrderAgnosticPrior((1, 2, 3), hidden=32, num_components=4)
    trained.fit(bent, config=config)
    held_out = bent[:500]
    assert trained.log_prob(held_out).mean() > start.log_prob(held_out).mean() + 0.5


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_orders: expected a whole number of 1 or more and at most 4096, got 0"):
        OrderAgnosticPrior("body", num_orders=0)
    with pytest.raises(
        ValueError, match=r"near_weight: expected weights .* below 1, got \(0.9, 0.2, 1e-05, 0.3\); the defaults"
    ):
        OrderAgnosticPrior("body", base_weight=0.9, own_weight=0.2)
    with pytest.raises(ValueError, match=r"near_weight: expected a finite number .* got nan"):
        OrderAgnosticPrior("body", near_weight=math.nan)
    with pytest.raises(ValueError, match=r"groups: expected a partition of the joints \[1, 2\]"):
        OrderAgnosticPrior((1, 2), groups=[[1]])
    with pytest.raises(ValueError, match=r"order: expected distinct joint indices"):
        _fitted().order_log_prob(_poses(1), order=[1, 1])


def test_orders_and_conditionals_of_no_pose_and_under_autocast() -> None:
    prior = _fitted()
    nothing = _poses(4).new_zeros(0, 3, 55, 3)
    assert prior.order_log_prob(nothing).shape == (prior.num_orders, 0, 3)
    assert prior.conditional_log_prob(nothing, _mask(1)).shape == (0, 3)
    pose = _poses(3)
    plain = prior.order_log_prob(pose), prior.conditional_log_prob(pose, _mask(1, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prior.order_log_prob(pose), plain[0])
        assert torch.equal(prior.conditional_log_prob(pose, _mask(1, 2)), plain[1])
