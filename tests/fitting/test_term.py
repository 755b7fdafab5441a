"""`PosePriorTerm` and `PoseAnchor`: what goes to smplx comes in, and nats come out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior import params
from poseprior.fitting.anchor import PoseAnchor
from poseprior.fitting.energy import EnergySum
from poseprior.fitting.term import PosePriorTerm, factor_at
from poseprior.rotations import random_rotvec


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _prior(joints: str = "whole_body", covariance: str = "full") -> poseprior.GaussianPrior:
    prior = poseprior.GaussianPrior(joints, covariance=covariance)  # type: ignore[arg-type]
    prior.fit(0.3 * torch.randn(600, 55, 3, generator=_generator()))
    return prior


def _pose(batch: int = 4) -> Tensor:
    return 0.3 * torch.randn(batch, 55, 3, generator=_generator(1))


class _HandModel(nn.Module):
    """What `HandConvention.of` reads of an SMPL-X model."""

    def __init__(self, *, use_pca: bool, flat: bool, num: int = 12) -> None:
        super().__init__()
        basis = torch.linalg.qr(torch.randn(45, 45, generator=_generator(2)))[0]
        self.use_pca, self.flat_hand_mean, self.num_pca_comps = use_pca, flat, num
        for name in ("J_regressor", "lbs_weights", "expr_dirs"):
            self.register_buffer(name, torch.zeros(1))
        if use_pca:
            self.register_buffer("left_hand_components", basis[:num])
            self.register_buffer("right_hand_components", basis[:num].flip(0))
        mean = 0.0 if flat else 0.2
        self.register_buffer("left_hand_mean", torch.full((45,), mean))
        self.register_buffer("right_hand_mean", torch.full((45,), -mean))


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("shaped", [True, False])
def test_energy_is_the_negative_log_density_per_joint(flat: bool, shaped: bool) -> None:
    prior, pose = _prior(), _pose()
    model = _HandModel(use_pca=False, flat=flat)
    mean = None if flat else (model.left_hand_mean, model.right_hand_mean)
    keywords = params.pose_to_smplx(pose, flat=not shaped, hands_mean=mean, flat_hand_mean=flat)  # type: ignore[arg-type]
    energy = PosePriorTerm(prior, model=model)({**keywords, "betas": torch.zeros(4, 10), "transl": None})
    torch.testing.assert_close(energy, -prior.log_prob(pose) / len(prior.joints), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("flat", [True, False])
def test_pca_hands_use_the_model_s_components_and_mean(flat: bool) -> None:
    prior = _prior()
    model = _HandModel(use_pca=True, flat=flat)
    coefficients = {side: 0.4 * torch.randn(4, 12, generator=_generator(3)) for side in ("left", "right")}
    keywords: dict[str, Tensor] = {"body_pose": _pose()[:, 1:22].flatten(1)}
    pose = torch.zeros(4, 55, 3)
    pose[:, 1:22] = _pose()[:, 1:22]
    for side, start in (("left", 25), ("right", 40)):
        keywords[f"{side}_hand_pose"] = coefficients[side]
        hand = coefficients[side] @ getattr(model, f"{side}_hand_components") + getattr(model, f"{side}_hand_mean")
        pose[:, start : start + 15] = hand.unflatten(-1, (15, 3))
    observed = torch.ones(55, dtype=torch.bool)
    observed[[0, 22, 23, 24]] = False
    energy = PosePriorTerm(prior, model=model, reduction="sum")(keywords)
    torch.testing.assert_close(energy, -prior.log_prob(pose, observed=observed), rtol=1e-4, atol=1e-3)


def test_what_is_left_out_is_integrated_out() -> None:
    prior, pose = _prior(), _pose()
    observed = torch.zeros(55, dtype=torch.bool)
    observed[1:22] = True
    energy = PosePriorTerm(prior)({"body_pose": pose[:, 1:22].flatten(1), "left_hand_pose": None})
    torch.testing.assert_close(energy, -prior.log_prob(pose, observed=observed) / 21, rtol=1e-4, atol=1e-4)
    arm = PosePriorTerm(prior, joints=["left_elbow", "left_wrist"], reduction="sum")(pose)
    observed[:] = False
    observed[[18, 20]] = True
    torch.testing.assert_close(arm, -prior.log_prob(pose, observed=observed))


def test_joint_weights_of_a_diagonal_gaussian_weigh_its_joints() -> None:
    """Where joints are independent the levels must reduce to a weighted sum of the joints' own energies."""
    prior, pose = _prior("body", "diagonal"), _pose()
    alone = []
    for joint in prior.joints:
        observed = torch.zeros(55, dtype=torch.bool)
        observed[joint] = True
        alone.append(-prior.log_prob(pose, observed=observed))
    weight = torch.ones(len(prior.joints))
    weight[prior.joints.index(18)], weight[prior.joints.index(5)], weight[prior.joints.index(1)] = 3.0, 0.25, 0.0
    term = PosePriorTerm(prior, joint_weights={"left_elbow": 3.0, "right_knee": 0.25, "left_hip": 0.0}, reduction="sum")
    torch.testing.assert_close(term(pose), (torch.stack(alone, -1) * weight).sum(-1), rtol=1e-4, atol=1e-3)


def test_cap_lets_an_outlier_go_and_leaves_the_rest() -> None:
    prior = _prior("body")
    near, far = prior.sample(64, generator=_generator()), random_rotvec(64, 55, generator=_generator(4))
    plain = PosePriorTerm(prior)
    capped = PosePriorTerm(prior, robust=2.0)
    assert (plain(near) - capped(near)).abs().max() < 0.05
    assert capped(far).max() <= plain(near).mean() + 2.3 and plain(far).min() > capped(far).max()
    leaf = far.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(capped(leaf).sum(), leaf)
    assert gradient.isfinite().all() and gradient.abs().max() < 1e-3


def test_weight_schedule_and_latent() -> None:
    prior = poseprior.GlobalFlow("body")
    prior.fit(0.3 * torch.randn(400, 55, 3, generator=_generator()), config=poseprior.FitConfig(max_steps=2))
    pose, z = _pose(), torch.randn(4, prior.latent_dim, generator=_generator())
    term = PosePriorTerm(prior, weight=2.0, schedule=(100.0, 1.0))
    ratio = term(pose, progress=0.0) / term(pose, progress=1.0)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 100.0))
    torch.testing.assert_close(term(pose, progress=0.5) / term(pose), torch.full_like(ratio, 10.0))
    energy = PosePriorTerm(prior, reduction="sum")(latent=z)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(energy, -normal)
    assert factor_at(lambda t: 1.0 - 0.5 * t, 1.0) == 0.5


def test_terms_add_and_gradients_reach_the_user_s_parameters() -> None:
    prior, pose = _prior("body"), _pose()
    prior_term, anchor = PosePriorTerm(prior, reduction="sum"), PoseAnchor(pose, sigma=0.2, reduction="sum")
    total = prior_term + anchor + PosePriorTerm(prior, weight=0.5, name="again")
    assert isinstance(total, EnergySum) and len(total.terms) == 3
    body = pose[:, 1:22].flatten(1).clone().requires_grad_()
    keywords = {"body_pose": body, "global_orient": pose[:, 0]}
    torch.testing.assert_close(total(keywords), sum(term(keywords) for term in total.terms), check_dtype=False)
    total(keywords).sum().backward()
    assert body.grad is not None and body.grad.isfinite().all() and (body.grad != 0).any(1).all()


def test_anchor_is_a_normalised_density_on_rotations() -> None:
    """Uniform rotations integrate exp(-energy) to one."""
    uniform = torch.zeros(200_000, 55, 3)
    uniform[:, 4] = random_rotvec(200_000, generator=_generator(5))
    for dof in (None, 5.0):
        sigma = torch.full((55,), math.inf)
        sigma[4] = 0.5
        anchor = PoseAnchor(0.4 * torch.ones(55, 3), sigma=sigma, reduction="sum", dof=dof)
        mass = float((-anchor(uniform)).exp().mean())
        assert 0.97 < mass < 1.03 if dof is None else 0.8 < mass < 1.03  # Student-t tails leave the ball


def test_anchor_wants_the_estimate_where_the_regressor_is_sure() -> None:
    pose = _pose(2)
    sigma = torch.ones(2, 55)
    sigma[:, 3], sigma[1] = 0.05, math.inf
    energy = PoseAnchor({"body_pose": pose[:, 1:22]}, sigma=sigma, reduction="sum")
    moved = pose.clone()
    moved[:, 3] += 0.1
    cost = energy(moved) - energy(pose)
    assert 5.0 < float(cost[0]) < 7.0 and float(cost[1]) == 0.0  # 3 (0.1 / 0.05)^2 / 2 = 6


def test_clear_errors() -> None:
    prior, pose = _prior("body"), _pose()
    with pytest.raises(ValueError, match="fitted prior"):
        PosePriorTerm(poseprior.GaussianPrior("body"))
    with pytest.raises(ValueError, match="weight: expected"):
        PosePriorTerm(prior, weight=float("nan"))
    with pytest.raises(ValueError, match="joints: expected joints that the prior models, got left_hand; leave it out"):
        PosePriorTerm(prior, joints="left_hand")
    with pytest.raises(ValueError, match="term\\(params\\)"):
        PosePriorTerm(prior)(None)
    with pytest.raises(ValueError, match="got none of them"):
        PosePriorTerm(prior)({"left_hand_pose": torch.zeros(2, 45)})
    with pytest.raises(ValueError, match="no latent space"):
        PosePriorTerm(prior)(latent=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="NaN or infinity"):
        PosePriorTerm(prior)(pose * math.nan)
    with pytest.raises(ValueError, match="hands_components"):
        PosePriorTerm(_prior())({"left_hand_pose": torch.zeros(2, 6)})
    with pytest.raises(ValueError, match="SMPL-X model"):
        PosePriorTerm(prior, model=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="sigma: expected"):
        PoseAnchor(pose, sigma=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"joints": ["left_elbow", "left_index1"]}, "joints: expected joints that the prior models, got left_index1"),
        ({"joints": "left_elbow,left_index1"}, "joints: expected joints that the prior models, got left_index1"),
        ({"joints": [18, 25]}, "joints: expected joints that the prior models, got left_index1"),
        ({"joints": True}, "joints: expected names or indices of joints"),
        ({"joints": 1.5}, "joints: expected names or indices of joints"),
        ({"joints": []}, "joints: expected at least one joint"),
        ({"joints": 99}, "joints: .*99"),
        ({"joint_weights": {"left_elbow,jaw": 2.0}}, "joint_weights: expected joints that are scored, got jaw"),
        ({"joint_weights": {"elbow_": 2.0}}, "joint_weights: unknown name 'elbow_'"),
        ({"joint_weights": False}, "joint_weights: expected a mapping"),
        (
            {"joint_weights": {"left_elbow": 1e300}},
            r"joint_weights\['left_elbow'\]: expected a finite number of 0 or more",
        ),
    ],
)
def test_joints_that_cannot_be_scored_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        PosePriorTerm(_prior("body"), **options)


def test_of_a_set_the_joints_that_are_modelled_are_scored() -> None:
    prior = _prior("body")
    assert PosePriorTerm(prior, joints="whole_body").joints == prior.joints
    assert PosePriorTerm(prior, joints=["right_elbow", 18]).joints == (18, 19)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda _: None, lambda _: "a", lambda _: math.nan, lambda _: math.inf, lambda _: -1.0, lambda _: True,
        lambda _: 1e300, lambda _: torch.tensor([1.0, 2.0]), (1e300, 1.0), {2.0: 1.0}, {2.0, 1.0}, b"ab", iter((2.0, 1.0)),
        lambda progress: 1.0 if progress == 0.0 else math.nan, lambda progress: 1.0 - 2.0 * progress,
    ],
)  # fmt: skip
def test_schedules_that_give_no_factor_are_refused(schedule: Any) -> None:
    pose = _pose()
    with pytest.raises(ValueError, match=r"^schedule(\([01]\))?: expected"):
        PosePriorTerm(_prior("body"), schedule=schedule)(pose)
    with pytest.raises(ValueError, match=r"^schedule(\([01]\))?: expected"):
        PoseAnchor(pose, sigma=0.1, schedule=schedule)(pose)


@pytest.mark.parametrize("schedule", [None, (2.0, 1.0), lambda progress: 2.0 - progress])
@pytest.mark.parametrize("progress", [None, "a", math.nan, -0.1, 1.1, True])
def test_progress_is_from_0_to_1(progress: Any, schedule: Any) -> None:
    with pytest.raises(ValueError, match=r"^progress: expected a finite number of 0 or more and at most 1, got"):
        PosePriorTerm(_prior("body"), schedule=schedule)(_pose(), progress=progress)
    with pytest.raises(ValueError, match=r"^progress: expected a finite number of 0 or more and at most 1, got"):
        PoseAnchor(_pose(), sigma=0.1, schedule=schedule)(_pose(), progress=progress)


def test_numbers_in_tensors_are_factors() -> None:
    assert factor_at(lambda _: torch.tensor(2.0), 0.5) == 2.0  # type: ignore[arg-type]
    assert factor_at((2.0, 1.0), torch.tensor(1.0)) == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize("robust", [1e300, 1e30])
def test_caps_that_no_pose_reaches_are_refused(robust: float) -> None:
    with pytest.raises(ValueError, match=r"^robust: expected a finite number above 0 and at most 1e\+09"):
        PosePriorTerm(_prior("body"), robust=robust)
    assert PosePriorTerm(_prior("body"), robust=1e9)(_pose()).isfinite().all()


@pytest.mark.parametrize(
    "latent", [torch.zeros(2, 32).numpy(), [0.0] * 32, "a", torch.zeros(2, 32) * math.nan, torch.full((2, 32), 1e30),
               torch.zeros(2, 3), torch.zeros(()), torch.zeros(2, 32).bool()],
)  # fmt: skip
def test_latents_that_cannot_be_scored_are_refused(latent: Any) -> None:
    term = PosePriorTerm(poseprior.load("body-vae"))
    for energy in (term, term + PoseAnchor(_pose(2), sigma=0.1)):
        with pytest.raises(ValueError, match=r"^latent: expected"):
            energy(_pose(2), latent=latent)


def test_a_pose_beside_a_latent_is_read_or_refused() -> None:
    term, pose, latent = PosePriorTerm(poseprior.load("body-vae")), _pose(2), torch.ones(2, 32)
    body = {"body_pose": pose[:, 1:22].flatten(1)}
    with pytest.raises(
        ValueError, match=r"^params: expected no joints of the prior beside latent.*got body_pose; leave out"
    ):
        term(body, latent=latent)
    with pytest.raises(ValueError, match=r"^params: .* got a whole pose; leave out params, or latent"):
        term(pose, latent=latent)
    others = {"betas": torch.zeros(2, 10), "left_hand_pose": torch.zeros(2, 45)}
    torch.testing.assert_close(term(others, latent=latent), term(latent=latent))
    hand = PosePriorTerm(poseprior.load("hand-order-agnostic"))
    with pytest.raises(ValueError, match=r"^params: expected no joints of the prior beside latent"):
        (term + hand)({**body, **others}, latent=latent)
    anchor = PoseAnchor(body, sigma=0.1)
    torch.testing.assert_close((term + anchor)(body, latent=latent), term(latent=latent) + anchor(body))


def test_joints_of_which_an_anchor_knows_nothing_may_hold_anything() -> None:
    pose, sigma = _pose(2), torch.full((2, 55), 0.1)
    sigma[0, 4] = math.inf
    anchor = PoseAnchor(pose, sigma=sigma)
    broken = pose.clone()
    broken[0, 4] = math.nan
    torch.testing.assert_close(PoseAnchor(broken, sigma=sigma)(pose + 0.1), anchor(pose + 0.1))
    torch.testing.assert_close(anchor(broken), anchor(pose))
    broken[1, 4] = math.nan
    with pytest.raises(
        ValueError, match=r"^params: expected finite rotvecs, got a NaN or infinity at left_knee of pose 1"
    ):
        anchor(broken)


def test_switches_of_smplx_are_no_rotations() -> None:
    term = PosePriorTerm(poseprior.load("body-gaussian"))
    params: dict[str, Any] = {"body_pose": torch.zeros(2, 63)}
    torch.testing.assert_close(term({**params, "return_full_pose": True, "pose2rot": True}), term(params))
    with pytest.raises(ValueError, match="pose2rot=False"):
        term({**params, "pose2rot": False})
    with pytest.raises(ValueError, match="empty batch"):
        term({"body_pose": torch.zeros(0, 63)})


def test_a_latent_in_a_sum_goes_to_the_term_that_has_one() -> None:
    body, hand = PosePriorTerm(poseprior.load("body-vae")), PosePriorTerm(poseprior.load("hand-order-agnostic"))
    pose, latent = poseprior.load("whole-body").sample(2, generator=torch.Generator().manual_seed(0)), torch.ones(2, 32)
    torch.testing.assert_close((body + hand)(pose, latent=latent), body(latent=latent) + hand(pose))
    with pytest.raises(ValueError, match="latent: expected one term"):
        (hand + hand)(pose, latent=latent)
