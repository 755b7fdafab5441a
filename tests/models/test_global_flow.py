"""`GlobalFlow`: exact densities, both directions, blocks of joints, conditioning."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from sample_poses import all_but as _hidden
from sample_poses import bent_poses as _poses
from sample_poses import seeded as _generator
from torch import Tensor

import poseprior
from poseprior import FitConfig, GlobalFlow, PoseDataset
from poseprior.models.global_flow.blocks import blocks_from_masks
from poseprior.models.global_flow.realnvp import GlobalRealNVP
from poseprior.models.global_flow.residual_flow import BlockWhitening, RadialTails
from poseprior.rotations import geodesic_distance, random_rotvec
from poseprior.training.config import FitOptions
from poseprior.training.initial_poses import InitialPoses

_CONFIG = FitConfig(max_steps=40, batch_size=128, warmup_steps=5, eval_every=20, progress=False)
_ARM = (16, 18, 20)
ARCHITECTURES = pytest.mark.parametrize("architecture", ["default", "published"])


def _suits() -> PoseDataset:
    """Poses where some takes lack toes, some wrists, some both, and a few one toe."""
    observed = torch.ones(900, 55, dtype=torch.bool)
    observed[100:250, [10, 11]] = False
    observed[200:350, [20, 21]] = False
    observed[350:356, 11] = False
    return PoseDataset(_poses(900), observed)


def _build(architecture: str, joints: str | tuple[int, ...]) -> GlobalFlow:
    return GlobalFlow.published(joints) if architecture == "published" else GlobalFlow(joints)


@cache
def _fitted(architecture: str, joints: str | tuple[int, ...] = _ARM) -> GlobalFlow:
    prior = _build(architecture, joints)
    prior.fit(_poses(600), config=_CONFIG)
    return prior


@cache
def _fitted_suits() -> GlobalFlow:
    prior = GlobalFlow("body")
    prior.fit(_suits(), config=_CONFIG)
    return prior


def _double(prior: GlobalFlow) -> GlobalFlow:
    again = GlobalFlow.from_config(prior.get_config())
    again.load_state_dict(prior.state_dict())
    return again.double().eval().requires_grad_(False)


def test_parameter_counts() -> None:
    assert GlobalFlow.published("all").num_parameters == 343_950
    assert GlobalFlow("all").num_parameters < 500_000


@ARCHITECTURES
def test_log_prob_is_the_jacobian_of_encode(architecture: str) -> None:
    prior = _double(_fitted(architecture))
    for w in 0.5 * torch.randn(4, 9, generator=_generator(), dtype=torch.float64):

        def latents(flat: Tensor) -> Tensor:
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
    prior = _fitted(architecture, "body")
    index = list(prior.joints)
    poses = _poses(200, seed=1)
    again = prior.decode(prior.encode(poses))
    assert float(geodesic_distance(again[:, index], poses[:, index]).max()) < 1e-4
    anything = random_rotvec(200, 55, generator=_generator(), dtype=torch.float64)
    double = _double(prior)
    back = double.decode(double.encode(anything))
    assert float(geodesic_distance(back[:, index], anything[:, index]).max()) < 1e-4


def test_decode_is_differentiable() -> None:
    prior = _fitted("default", "body")
    latent = torch.randn(3, prior.latent_dim, generator=_generator()).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.decode(latent).square().sum(), latent)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_radial_tails_are_bijections_with_their_log_dets() -> None:
    tails = RadialTails([4, 3]).double().requires_grad_(False)
    tails.log_scale.copy_(torch.tensor([0.3, -0.2]))
    for length in (1e-9, 1e-3, 1.0, 30.0, 1e4):
        u = torch.randn(7, generator=_generator(), dtype=torch.float64)
        u = u / u.norm() * length
        v, log_det = tails(u[None])
        torch.testing.assert_close(tails.inverse(v)[0], u, rtol=1e-9, atol=1e-18)
        jacobian = torch.autograd.functional.jacobian(lambda x: tails(x[None])[0][0], u)
        assert isinstance(jacobian, Tensor)
        torch.testing.assert_close(jacobian[:4, :4].slogdet().logabsdet, log_det[0, 0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(jacobian[4:, 4:].slogdet().logabsdet, log_det[0, 1], rtol=1e-6, atol=1e-6)


def test_whitening_starts_as_the_gaussian_of_each_block_given_others() -> None:
    generator = _generator()
    w = torch.randn(5000, 9, generator=generator) @ torch.randn(9, 9, generator=generator) + 1.0
    there = torch.ones(5000, 3, dtype=torch.bool)
    there[:1000, 1] = False
    whitening = BlockWhitening([4, 2, 3], [[], [0], [0]]).requires_grad_(False)
    whitening.fit(w, there)
    u = whitening(w)
    torch.testing.assert_close(whitening.inverse(u), w, rtol=1e-3, atol=1e-3)
    assert float(u[:, :4].mean(0).abs().max()) < 1e-3
    for part in (slice(0, 4), slice(4, 6), slice(6, 9)):
        rows = u[1000:] if part.start == 4 else u
        torch.testing.assert_close(rows[:, part].T.cov(), torch.eye(part.stop - part.start), rtol=0, atol=2e-2)
        if part.start:
            assert float((rows[:, part].T @ rows[:, :4]).abs().max()) / len(rows) < 1e-2


def test_blocks_follow_the_masks() -> None:
    body = tuple(range(1, 22))
    blocks = blocks_from_masks(torch.as_tensor(_suits().observed), body, mirror=True)
    assert blocks[0] == ([j for j in body if j not in (10, 11, 20, 21)], [])
    assert sorted(blocks[1:]) == [([10, 11], [0]), ([20, 21], [0])]
    assert blocks_from_masks(torch.ones(3, 55, dtype=torch.bool), body, mirror=True) == [(list(body), [])]
    apart = torch.zeros(4, 55, dtype=torch.bool)
    apart[:3, 16] = True
    apart[3, 25:40] = True
    assert blocks_from_masks(apart, (16, *range(25, 40)), mirror=False) == [([16], []), (list(range(25, 40)), [])]


def test_trailing_blocks_drop_out_exactly() -> None:
    prior = _fitted_suits()
    pose = _poses(1, seed=2).expand(20_000, -1, -1).clone()
    spread = _poses(20_000, seed=3)
    drawn = prior.complete(pose[:1], _hidden(10, 11), num_samples=20_000, generator=_generator())[:, 0]
    # Importance sampling of the toes from the prior's own conditional: the ratio of densities has mean one.
    ratio = prior.log_prob(drawn) - prior.log_prob(drawn, observed=_hidden(10, 11))
    wide = prior.log_prob(torch.where(_hidden(10, 11)[:, None], pose, spread))
    assert float(ratio.mean()) > float((wide - prior.log_prob(pose[:1], observed=_hidden(10, 11))).mean())
    latent = prior.encode(drawn)
    start = sum(3 * len(m) for m, _ in prior.blocks[: [m for m, _ in prior.blocks].index([10, 11])])
    toes = latent[:, start : start + 6]
    assert float(toes.mean(0).abs().max()) < 0.05
    assert float((toes.T.cov() - torch.eye(6)).abs().max()) < 0.06


def test_a_missing_block_is_a_density_of_the_rest() -> None:
    prior = GlobalFlow((18, 20), blocks=[([18], []), ([20], [0])])
    prior.fit(_poses(400), config=_CONFIG)
    assert len(prior.blocks) == 1  # fit learns blocks: all joints are always observed here
    observed = torch.ones(400, 55, dtype=torch.bool)
    observed[:100, 20] = False
    prior = GlobalFlow((18, 20))
    prior.fit(PoseDataset(_poses(400), observed), config=_CONFIG)
    pose = _poses(1).expand(200_000, -1, -1).clone()
    pose[:, 20] = random_rotvec(len(pose), generator=_generator())
    ratio = (prior.log_prob(pose) - prior.log_prob(pose[:1], observed=_hidden(20))).double().exp()
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert abs(float(ratio.mean()) - 1.0) < 5 * error + 2e-3


def test_ragged_masks_are_refused() -> None:
    prior = _fitted_suits()
    poses = _poses(3)
    good = torch.stack([_hidden(), _hidden(10, 11), _hidden(10, 11, 20, 21)])
    bad = torch.stack([_hidden(10), _hidden(16), torch.zeros(55, dtype=torch.bool)])
    assert prior.can_score(good).tolist() == [True, True, True]
    assert prior.can_score(bad).tolist() == [False, False, False]
    prior.log_prob(poses, observed=good)
    with pytest.raises(
        ValueError, match=r"observed: GlobalFlow cannot marginalise \(it can only leave out .*left_foot"
    ):
        prior.log_prob(poses, observed=bad)
    with pytest.raises(
        ValueError, match=r"observed: GlobalFlow cannot marginalise, and pose 0 leaves out .*GaussianPrior"
    ):
        _fitted("default").log_prob(poses, observed=_hidden(18))
    with pytest.raises(ValueError, match=r"complete: GlobalFlow has no exact conditional .*OrderAgnosticPrior"):
        prior.complete(poses, _hidden(16))


def test_context_changes_the_density_and_may_be_left_out() -> None:
    prior = GlobalFlow(_ARM, context_dim=1)
    prior._initialise(InitialPoses(PoseDataset(_poses(600)), _CONFIG.resolve({})))
    optimiser = torch.optim.Adam(prior.parameters(), lr=3e-3)
    generator = _generator()
    poses = _poses(600)
    label = torch.where(poses[:, 16, :1] > 0, 1.0, -1.0)
    prior.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(150):
            rows = torch.randint(600, (128,), generator=generator)
            seen = torch.ones(128, 3, dtype=torch.bool)
            loss = prior.training_loss(poses[rows][:, list(_ARM)], seen, label[rows], step)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    prior.eval().requires_grad_(False)
    right, none, wrong = (prior.log_prob(poses, context=c).mean() for c in (label, None, -label))
    assert float(right) > float(none) > float(wrong)
    torch.testing.assert_close(
        prior.decode(prior.encode(poses, context=label), context=label)[:, _ARM], poses[:, _ARM], rtol=0, atol=1e-4
    )
    drawn = prior.sample(500, generator=generator, context=torch.ones(1))
    assert float((drawn[:, 16, 0] > 0).float().mean()) > 0.7


def test_published_act_norms_start_from_data() -> None:
    prior = GlobalFlow.published(_ARM).requires_grad_(False)
    prior._initialise(InitialPoses(PoseDataset(_poses(600)), FitOptions(mirror=False, jitter=0.0)))
    assert isinstance(prior.flow, GlobalRealNVP)
    latent = prior.encode(_poses(600))
    assert float(latent.mean(0).abs().max()) < 0.05
    assert float((latent.std(0) - 1).abs().max()) < 0.05


@ARCHITECTURES
def test_save_and_load(architecture: str, tmp_path: Path) -> None:
    prior = _fitted(architecture) if architecture == "published" else _fitted_suits()
    prior.save(tmp_path / "prior.safetensors")
    again = poseprior.load(tmp_path / "prior.safetensors")
    poses = _poses(5)
    assert isinstance(again, GlobalFlow)
    assert again.blocks == prior.blocks
    assert torch.equal(again.log_prob(poses), prior.log_prob(poses))
    assert torch.equal(again.encode(poses), prior.encode(poses))


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"blocks: expected \(joints, given\) pairs that partition \[16, 18\]"):
        GlobalFlow((16, 18), blocks=[([16], [])])
    with pytest.raises(ValueError, match=r"blocks: block 0 is given \[1\]; expected positions of earlier blocks"):
        GlobalFlow((16, 18), blocks=[([16], [1]), ([18], [])])
    with pytest.raises(ValueError, match=r"context_dropout: has no effect with context_dim=0, got 0.5"):
        GlobalFlow(context_dropout=0.5)
    for off in (0, 0.0):  # nothing is withheld of what is not there
        assert GlobalFlow((16, 18), context_dropout=off).context_dropout is None
    with pytest.raises(ValueError, match=r"context_dropout: has no effect with context_dim=0, got ''"):
        GlobalFlow(context_dropout="")  # type: ignore[arg-type]
    observed = torch.ones(4, 55, dtype=torch.bool)
    observed[:2, 18], observed[2:, 20] = False, False
    with pytest.raises(
        ValueError, match=r"train: no pose observes all .*GlobalFlow.published needs; use GlobalFlow\(\)"
    ):
        GlobalFlow.published(_ARM).fit(PoseDataset(torch.zeros(4, 55, 3), observed), config=_CONFIG)
