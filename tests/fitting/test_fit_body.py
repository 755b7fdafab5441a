"""`fit_body` on bodies whose pose is known, and on what detectors really deliver."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import roma
import torch
from torch import Tensor, nn

import poseprior
from poseprior.fitting import (
    BodyFit,
    BodyPoints,
    Camera,
    EnergyTerm,
    FitBodyConfig,
    Joints3D,
    Keypoints2D,
    Markers,
    PoseAnchor,
    PosePriorTerm,
    fit_body,
    layout,
)
from poseprior.rotations import random_rotvec
from poseprior.viz.fits import upright

_CAMERA = Camera(1000.0, (500.0, 500.0))
_SHORT = FitBodyConfig(iterations=40)
JointsOf = Callable[..., Tensor]


def _error_mm(model: nn.Module, fit: BodyFit, truth: Tensor, *, root: bool = True) -> Tensor:
    """(B,) mean distance of the 22 body joints, through smplx's own forward pass; `root` leaves the position in."""
    output = model(**fit.params)
    found, truth = output.joints[:, :22].detach(), truth[:, :22]
    if not root:
        found, truth = found - found[:, :1], truth - truth[:, :1]
    return 1000.0 * (found - truth).norm(dim=-1).mean(-1)


def _pixels(truth: Tensor, name: str, sigma: float = 0.0) -> Tensor:
    joints = [0 if j is None or j > 126 else j for j in layout(name).joints]
    pixels = _CAMERA.project(truth[:, joints])
    return pixels + sigma * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(3))


def _layer(model: nn.Module) -> nn.Module:
    """The model as `smplx.build_layer` makes it."""
    layer = copy.copy(model)
    layer.__class__ = type("SMPLXLayer", (type(model),), {})
    return layer


@pytest.fixture
def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_joints_are_reached(model: nn.Module, people: Tensor, joints_of: JointsOf) -> None:
    truth = joints_of(model, people[:3])
    fit = fit_body(model, Joints3D(truth[:, :55], sigma=0.005), config=FitBodyConfig(rest_sigma=3.0))
    assert _error_mm(model, fit, truth).max() < 3.0
    assert fit.energies.keys() == {"joints", "rest", "shape"} and fit.energy.shape == (3,)
    assert (fit.num_observed == 55).all() and fit.weights.tolist() == [[1.0] * 3]
    torch.testing.assert_close(fit.pose[:, 1:22].flatten(1), fit.params["body_pose"])


def test_a_prior_fills_in_missing_and_noisy_joints(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior, noise: torch.Generator
) -> None:
    truth = joints_of(model, people)
    measured = truth[:, :55] + 0.02 * torch.randn(6, 55, 3, generator=noise)
    measured[torch.rand(6, 55, generator=noise) < 0.3] = math.nan
    target = Joints3D(measured, sigma=0.02)
    bare = fit_body(model, target, config=_SHORT)
    helped = fit_body(model, target, prior=body_prior, config=_SHORT)
    assert _error_mm(model, helped, truth).mean() < 0.8 * _error_mm(model, bare, truth).mean()
    assert "prior" in helped.energies


@pytest.mark.parametrize(
    "name",
    ["openpose_25", "coco_wholebody", *(pytest.param(n, marks=pytest.mark.slow) for n in ("openpose_135", "smplx"))],
)
def test_keypoints_of_every_layout(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior, name: str
) -> None:
    truth = joints_of(model, people[:2])
    target = Keypoints2D(_pixels(truth, name, 1.0), camera=_CAMERA, layout=name, sigma=2.0)
    fit = fit_body(model, target, prior=body_prior, config=_SHORT)
    assert _error_mm(model, fit, truth, root=False).mean() < 90.0
    reached = _CAMERA.project(model(**fit.params).joints.detach())
    used = [j for j in target.joints if j < 127]
    kept = [k for k, j in enumerate(target.joints) if j < 127]
    assert (reached[:, used] - target.points[:, kept]).norm(dim=-1).mean() < 6.0


def test_a_camera_that_turns_from_frame_to_frame(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    """The starts of every frame face its own camera."""
    truth = joints_of(model, people[:1])
    turn = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, math.pi], [0.0, 1.5, 0.0], [1.2, 0.0, 0.5]])
    rotation = roma.rotvec_to_rotmat(turn)
    centre = truth[:, :1].mT
    camera = Camera(1000.0, (500.0, 500.0), rotation=rotation,
                    translation=torch.tensor([0.0, 0.0, 3.0]) - (rotation @ centre)[..., 0])  # fmt: skip
    pixels = camera.project(truth[:, [j or 0 for j in layout("openpose_25").joints]].expand(4, -1, -1))
    target = Keypoints2D(pixels, camera=camera, layout="openpose_25", sigma=2.0)
    fit = fit_body(model, target, prior=body_prior, config=_SHORT)
    assert _error_mm(model, fit, truth.expand(4, -1, -1), root=False).max() < 120.0


def test_a_hidden_arm_comes_from_the_prior_and_outliers_are_let_go(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior, noise: torch.Generator
) -> None:
    truth = joints_of(model, people)
    pixels, confidence = _pixels(truth, "openpose_25", 3.0), torch.ones(6, 25)
    names = layout("openpose_25").names
    confidence[:, [names.index("left_elbow"), names.index("left_wrist")]] = 0.0
    wild = torch.rand(6, 25, generator=noise) < 0.1
    pixels[wild] += 300.0
    target = Keypoints2D(pixels, camera=_CAMERA, layout="openpose_25", confidence=confidence, sigma=3.0)
    bare = fit_body(model, target, config=_SHORT)
    helped = fit_body(model, target, prior=body_prior, config=_SHORT)
    error = _error_mm(model, helped, truth, root=False)
    assert error.mean() < 0.75 * _error_mm(model, bare, truth, root=False).mean()
    assert (helped.num_observed == 23).all()


def test_markers(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior, noise: torch.Generator
) -> None:
    vertices = torch.randperm(10000, generator=noise)[:41].tolist()
    truth = joints_of(model, people)
    place = torch.tensor([0.1, 0.0, 3.5]).expand(6, 3)
    points = BodyPoints(model, vertices=vertices)(people, transl=place)
    target = Markers(points + 0.005 * torch.randn(6, 41, 3, generator=noise), vertices=vertices, sigma=0.005)
    fit = fit_body(model, target, prior=body_prior, config=FitBodyConfig(iterations=60))
    assert _error_mm(model, fit, truth).mean() < 35.0


@pytest.mark.parametrize("flat", [pytest.param(True, marks=pytest.mark.slow), False])
def test_pca_hands_are_fitted_in_the_model_s_coefficients(
    make_model: Callable[..., nn.Module], people: Tensor, joints_of: JointsOf, flat: bool
) -> None:
    model = make_model(use_pca=True, num_pca_comps=12, flat_hand_mean=flat)
    coefficients = 0.5 * torch.randn(2, 2, 12, generator=torch.Generator().manual_seed(0))
    pose = people[:2].clone()
    for side, part in ((0, slice(25, 40)), (1, slice(40, 55))):
        name = ("left", "right")[side]
        hand = coefficients[:, side] @ getattr(model, f"{name}_hand_components") + getattr(model, f"{name}_hand_mean")
        pose[:, part] = hand.unflatten(-1, (15, 3))
    truth = joints_of(model, pose, range(76))
    target = Joints3D(torch.cat((truth, torch.full((2, 51, 3), math.nan)), 1), layout="smplx", sigma=0.002)
    fit = fit_body(model, target, config=FitBodyConfig(rest_sigma=2.0, iterations=200))
    assert fit.params["left_hand_pose"].shape == (2, 12)
    joints = model(**fit.params).joints[:, :76]
    assert 1000 * (joints - truth).norm(dim=-1)[:, 22:].mean() < 6.0


def test_unmeasured_pca_hands_are_the_model_s_own_at_rest(
    make_model: Callable[..., nn.Module], people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    model = make_model(use_pca=True, num_pca_comps=6, flat_hand_mean=False)
    measured = joints_of(model, people[:2])[:, :55].clone()
    measured[:, 22:] = math.nan
    fit = fit_body(model, Joints3D(measured), prior=body_prior, config=FitBodyConfig(iterations=10))
    assert not fit.params["left_hand_pose"].any() and not fit.params["right_hand_pose"].any()
    mean = torch.cat((model.left_hand_mean, model.right_hand_mean)).view(30, 3)  # type: ignore[list-item]
    torch.testing.assert_close(fit.pose[:, 25:], mean.expand(2, -1, -1))


def test_hypotheses_of_3d_joints_come_from_several_starts(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    measured = torch.full((1, 55, 3), math.nan)
    measured[:, :3] = joints_of(model, people[:1])[:, :3]
    fit = fit_body(model, Joints3D(measured), prior=body_prior, num_hypotheses=2, config=FitBodyConfig(iterations=10))
    assert fit.num_hypotheses == 2
    torch.testing.assert_close(fit.weights.sum(0), torch.ones(1))


def test_float64_batch_of_one_and_a_known_shape(
    make_model: Callable[..., nn.Module], people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    model = make_model(dtype=torch.float64)
    betas = torch.linspace(-1, 1, 10, dtype=torch.float64)
    truth = joints_of(model, people[:1].double(), betas=betas[None])
    target = Joints3D(truth[0, :55], sigma=0.005)
    fit = fit_body(model, target, prior=body_prior, betas=betas, config=_SHORT)
    assert fit.params["body_pose"].dtype == torch.float64
    torch.testing.assert_close(fit.params["betas"], betas[None])
    assert _error_mm(model, fit, truth).max() < 10.0


@pytest.mark.slow
def test_many_frames_at_once_are_fitted_one_by_one(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    truth = joints_of(model, people)[:, :55]
    config = FitBodyConfig(iterations=20)
    many = fit_body(model, Joints3D(truth.repeat(86, 1, 1)), prior=body_prior, config=config)
    few = fit_body(model, Joints3D(truth), prior=body_prior, config=config)
    assert many.params["body_pose"].shape == (516, 63)
    distance = (model(**few.params).joints - model(**{k: v[:6] for k, v in many.params.items()}).joints).norm(dim=-1)
    assert distance[:, :22].mean() < 0.005


def test_latents(model: nn.Module, people: Tensor, joints_of: JointsOf) -> None:
    prior = poseprior.GlobalFlow("body")
    from poseprior.io.synthetic import synthetic_poses

    prior.fit(synthetic_poses(800, seed=1), config=poseprior.FitConfig(max_steps=20, warmup_steps=1))
    truth = joints_of(model, people)
    fit = fit_body(
        model, Joints3D(truth[:, :55], sigma=0.01), prior=prior, config=FitBodyConfig(space="latent", iterations=60)
    )
    assert fit.state.latent is not None
    decoded = prior.decode(fit.state.latent[0])[:, list(prior.joints)]
    torch.testing.assert_close(decoded, fit.pose[:, list(prior.joints)], atol=1e-4, rtol=0)
    assert _error_mm(model, fit, truth).mean() < 60.0
    with pytest.raises(ValueError, match="latent space"):
        fit_body(model, Joints3D(truth[:, :55]), config=FitBodyConfig(space="latent"))


def test_a_sequence_is_smooth_and_one_person(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior, noise: torch.Generator
) -> None:
    share = torch.linspace(0, 1, 12)[:, None, None]
    walk = people[:1] + share * 0.3 * (people[1:2] - people[:1])
    walk[:, 0] = people[0, 0]
    truth = joints_of(model, walk)
    target = Joints3D(truth[:, :55] + 0.03 * torch.randn(12, 55, 3, generator=noise), sigma=0.03)
    alone = fit_body(model, target, prior=body_prior, config=_SHORT)
    together = fit_body(model, target, prior=body_prior, config=FitBodyConfig(iterations=40, smooth_sigma=0.02))

    def jerk(fit: BodyFit) -> Tensor:
        joints = model(**fit.params).joints.detach()[:, :22]
        return (joints[2:] - 2 * joints[1:-1] + joints[:-2]).norm(dim=-1).mean()

    assert jerk(together) < 0.5 * jerk(alone)
    assert _error_mm(model, together, truth).mean() < _error_mm(model, alone, truth).mean()
    assert together.params["betas"].unique(dim=0).shape[0] == 1 and "smoothness" in together.energies


def test_hypotheses_of_an_ambiguous_view_have_weights(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    truth = joints_of(model, people[:2])
    confidence = torch.zeros(25)
    confidence[[1, 2, 5, 8, 9, 12]] = 1.0  # a torso, seen flat
    target = Keypoints2D(
        _pixels(truth, "openpose_25"), camera=_CAMERA, layout="openpose_25", confidence=confidence, sigma=15.0
    )
    fit = fit_body(model, target, prior=body_prior, num_hypotheses=3, config=_SHORT)
    assert fit.weights.shape[0] == fit.num_hypotheses > 1
    torch.testing.assert_close(fit.weights.sum(0), torch.ones(2))
    assert (fit.weights[:-1] >= fit.weights[1:]).all()
    assert fit.hypothesis(1)["body_pose"].shape == (2, 63)
    with pytest.raises(ValueError, match="number: expected"):
        fit.hypothesis(fit.num_hypotheses)


def test_without_a_prior_more_starts_are_draws_around_rest(
    model: nn.Module, people: Tensor, joints_of: JointsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the starts that are asked for differ: more of them find other minima, and lower ones on average."""
    monkeypatch.setattr("poseprior.fitting.solver.run.lowest_mode", lambda problem, found, *_: found)
    target = Keypoints2D(
        _pixels(joints_of(model, people), "openpose_25", 3.0), camera=_CAMERA, layout="openpose_25", sigma=3.0
    )
    few, many = (fit_body(model, target, config=FitBodyConfig(iterations=40, num_starts=n)) for n in (4, 32))
    assert (few.energy - many.energy).abs().max() > 1.0
    assert many.energy.mean() < few.energy.mean()


def test_anchors_and_terms_take_part(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    truth = joints_of(model, people)
    measured = truth[:, :55].clone()
    measured[:, [18, 20, *range(25, 40)]] = math.nan  # elbow, wrist and hand
    sigma = torch.full((55,), math.inf)
    sigma[[16, 18]] = 0.05
    anchor = PoseAnchor(people, sigma=sigma, reduction="sum")
    fit = fit_body(model, Joints3D(measured, sigma=0.005), prior=body_prior, terms=[anchor], config=_SHORT)
    assert (fit.pose[:, 18] - people[:, 18]).norm(dim=-1).max() < 0.15
    assert {"prior", "anchor", "joints"} <= fit.energies.keys()


def test_terms_of_one_name_all_count(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    target = Joints3D(joints_of(model, people[:2])[:, :55])
    hand = PosePriorTerm(poseprior.load("hand-vae"), reduction="sum", joints="left_hand")
    anchor = PoseAnchor(people[:2], sigma=0.2, reduction="sum", name="joints")
    fit = fit_body(model, target, prior=body_prior, terms=[hand, anchor], config=_SHORT)
    assert {"prior", "prior_2", "joints", "joints_2"} <= fit.energies.keys()
    torch.testing.assert_close(fit.energies["prior"], -body_prior.log_prob(fit.pose), atol=1e-3, rtol=0)
    torch.testing.assert_close(fit.energies["joints_2"], anchor(fit.pose), atol=1e-3, rtol=0)


def test_a_latent_of_the_body_beside_a_prior_of_the_hands(
    model: nn.Module, people: Tensor, joints_of: JointsOf
) -> None:
    target = Joints3D(joints_of(model, people[:2])[:, :55])
    config = FitBodyConfig(iterations=10, space="latent")
    body, hand = poseprior.load("body-vae"), poseprior.load("hand-order-agnostic")
    hand.num_orders = 1  # type: ignore[attr-defined]
    fit = fit_body(model, target, prior=body, terms=[PosePriorTerm(hand, reduction="sum")], config=config)
    torch.testing.assert_close(fit.energies["prior_2"], -hand.log_prob(fit.pose), atol=1e-2, rtol=0)
    assert fit.state.latent is not None
    standard = 0.5 * (fit.state.latent[0].square() + math.log(2.0 * math.pi)).sum(-1)
    torch.testing.assert_close(fit.energies["prior"], standard, atol=1e-3, rtol=0)


def test_an_anchor_moves_what_nothing_else_judges(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    estimate = people[:2].clone()
    estimate[:, 25:40, 2] = 0.6  # fingers, of which no point is measured
    measured = joints_of(model, people[:2])[:, :55].clone()
    measured[:, 22:] = math.nan
    anchor = PoseAnchor(estimate, sigma=0.1, reduction="sum")
    both = PosePriorTerm(body_prior, reduction="sum") + anchor
    for terms in ([PosePriorTerm(body_prior, reduction="sum"), anchor], [both]):
        fit = fit_body(model, Joints3D(measured), terms=terms, config=_SHORT)
        assert (fit.pose[:, 25:40] - estimate[:, 25:40]).abs().max() < 0.02
        collars = 0.5 * fit.pose[:, [j for j in range(1, 22) if j not in anchor.joints]].square().sum((-1, -2)) / 0.09
        assert (fit.energies.get("rest", torch.zeros(2)) <= collars + 1e-3).all()


def test_joints_that_a_term_leaves_out_stay_near_rest(
    model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
) -> None:
    noisy = joints_of(model, people[:2])[:, :55]
    noisy = noisy + 0.02 * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(0))
    legs = PosePriorTerm(body_prior, joints=["left_hip", "left_knee"], reduction="sum")
    fit = fit_body(model, Joints3D(noisy), prior=legs, config=_SHORT)
    others = [j for j in range(1, 55) if j not in (1, 4, 10, 11, 23, 24)]  # no joint hangs from the feet
    expected = 0.5 * fit.pose[:, others].square().sum((-1, -2)) / 0.3**2
    torch.testing.assert_close(fit.energies["rest"], expected, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("flat", [False, True])
def test_a_gap_in_a_sequence_is_bridged(model: nn.Module, body_prior: poseprior.PosePrior, flat: bool) -> None:
    frames = torch.arange(16.0)
    pose = torch.zeros(16, 55, 3)
    pose[:, 0, 0] = math.pi
    pose[:, 18, 1] = -0.05 * frames
    place = torch.stack((0.05 * frames - 0.4, torch.zeros(16), torch.full((16,), 5.0)), -1)
    with torch.no_grad():
        truth = BodyPoints(model, joints=range(55))(pose, transl=place)
    camera = Camera(1000.0, (500.0, 500.0), rotation=torch.eye(3), translation=torch.tensor([0.0, 0.0, 2.0]))
    points = camera.project(truth).clone() if flat else truth.clone()
    points[6:10] = math.nan
    target = Keypoints2D(points, camera=camera, layout="smplx_55") if flat else Joints3D(points)
    fit = fit_body(
        model, target, prior=body_prior, config=FitBodyConfig(iterations=20, smooth_sigma=0.05, num_starts=4)
    )
    off = fit.params["transl"] - place  # the size of the body and its depth are one unknown in 2D
    around = torch.stack((off[5], off[10])).mean(0)
    assert (off[6:10] - around).norm(dim=-1).max() < 0.05


class TestRobustness:
    """A finite fit or a clear error, whatever comes in."""

    def finite(self, fit: BodyFit) -> None:
        for value in (*fit.params.values(), *fit.energies.values(), fit.weights):
            assert value.isfinite().all()

    def test_a_frame_without_points(
        self, model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior
    ) -> None:
        pixels = _pixels(joints_of(model, people), "openpose_25")
        pixels[2] = math.nan
        target = Keypoints2D(pixels, camera=_CAMERA, layout="openpose_25")
        fit = fit_body(model, target, prior=body_prior, config=FitBodyConfig(iterations=10))
        self.finite(fit)
        assert fit.num_observed.tolist() == [25, 25, 0, 25, 25, 25]
        assert not fit.converged[2] and fit.measured.any(1).tolist() == [True, True, False, True, True, True]

    def test_no_point_at_all(self, model: nn.Module) -> None:
        for target in (
            Joints3D(torch.full((2, 55, 3), math.nan)),
            Keypoints2D(torch.zeros(1, 25, 2), camera=_CAMERA, layout="openpose_25", confidence=torch.zeros(25)),
        ):
            with pytest.raises(ValueError, match="expected a measured point"):
                fit_body(model, target)

    @pytest.mark.parametrize("dimensions", [2, 3])
    def test_one_point(
        self, model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior, dimensions: int
    ) -> None:
        truth = joints_of(model, people[:1])
        confidence = torch.zeros(25)
        confidence[4] = 1.0
        if dimensions == 2:
            target: Joints3D | Keypoints2D = Keypoints2D(
                _pixels(truth, "openpose_25"), camera=_CAMERA, layout="openpose_25", confidence=confidence
            )
        else:
            joints = [j or 0 for j in layout("openpose_25").joints]
            target = Joints3D(truth[:, joints], layout="openpose_25", confidence=confidence)
        self.finite(fit_body(model, target, prior=body_prior, config=FitBodyConfig(iterations=10)))

    @pytest.mark.parametrize("with_prior", [True, False])
    def test_started_behind_the_camera_and_from_random_rotations(
        self, model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior, with_prior: bool
    ) -> None:
        truth = joints_of(model, people)
        start = random_rotvec(6, 55, generator=torch.Generator().manual_seed(0))
        prior = body_prior if with_prior else None
        for target in (
            Joints3D(truth[:, :55] - torch.tensor([0.0, 0.0, 8.0])),
            Keypoints2D(_pixels(truth, "openpose_25"), camera=_CAMERA, layout="openpose_25"),
        ):
            fit = fit_body(model, target, prior=prior, start=start, config=FitBodyConfig(iterations=15))
            self.finite(fit)

    def test_adam(self, model: nn.Module, people: Tensor, joints_of: JointsOf, body_prior: poseprior.PosePrior) -> None:
        truth = joints_of(model, people)
        target = Joints3D(truth[:, :55], sigma=0.01)
        fit = fit_body(model, target, prior=body_prior, config=FitBodyConfig(optimizer="adam", iterations=60))
        self.finite(fit)
        assert _error_mm(model, fit, truth).mean() < 30.0

    def test_clear_errors(self, model: nn.Module, people: Tensor, body_prior: poseprior.PosePrior) -> None:
        joints = Joints3D(torch.zeros(2, 55, 3))
        with pytest.raises(ValueError, match="same number of frames"):
            fit_body(model, [joints, Joints3D(torch.zeros(3, 55, 3), name="more")])
        with pytest.raises(ValueError, match="different names"):
            fit_body(model, [joints, joints])
        with pytest.raises(ValueError, match="targets: expected Joints3D"):
            fit_body(model, [])
        with pytest.raises(ValueError, match="SMPL-X model"):
            fit_body(nn.Linear(2, 2), joints)
        with pytest.raises(ValueError, match="reduction='sum'"):
            fit_body(model, joints, prior=PosePriorTerm(body_prior))
        with pytest.raises(ValueError, match="prior_weight: expected a weight in the PosePriorTerm"):
            fit_body(model, joints, prior=PosePriorTerm(body_prior, reduction="sum"), prior_weight=3.0)
        with pytest.raises(ValueError, match=r"^prior_weight: expected a finite number of 0 or more"):
            fit_body(model, joints, prior=body_prior, prior_weight=-1.0)
        with pytest.raises(ValueError, match="which takes rotvecs, got SMPLXLayer"):
            fit_body(_layer(model), joints)
        with pytest.raises(ValueError, match="fitted prior"):
            fit_body(model, joints, prior=poseprior.GaussianPrior("body"))
        with pytest.raises(ValueError, match="betas: expected"):
            fit_body(model, joints, betas=torch.zeros(16))
        with pytest.raises(ValueError, match="start: expected"):
            fit_body(model, joints, start=people)
        with pytest.raises(ValueError, match="num_hypotheses: expected 1 with smooth_sigma"):
            fit_body(model, joints, num_hypotheses=2, config=FitBodyConfig(smooth_sigma=0.1))
        with pytest.raises(ValueError, match="terms: expected reduction='sum' in PoseAnchor"):
            fit_body(model, joints, terms=[PoseAnchor(people[:2], sigma=0.1)])
        with pytest.raises(ValueError, match="terms: expected a list"):
            fit_body(model, joints, terms=PoseAnchor(people[:2], sigma=0.1, reduction="sum"))  # type: ignore[arg-type]
        for others in (3, 5):
            anchor = PoseAnchor(torch.zeros(others, 55, 3), sigma=0.1, reduction="sum")
            with pytest.raises(ValueError, match=rf"the batch of the anchor's estimate, \({others},\), got"):
                fit_body(model, joints, terms=[anchor], config=_SHORT)
        with pytest.raises(ValueError, match="betas: expected finite"):
            fit_body(model, joints, betas=torch.full((10,), math.nan))
        with pytest.raises(ValueError, match="points: expected metres within"):
            Joints3D(torch.full((1, 55, 3), 1e20))
        with pytest.raises(ValueError, match="sigma: expected finite metres"):
            Joints3D(torch.zeros(1, 55, 3), sigma=1e-18)

        class Broken(EnergyTerm):
            name = "broken"

            def __call__(self, params: Any = None, *, latent: Tensor | None = None, progress: float = 1.0) -> Tensor:
                return torch.full(params.shape[:2], math.nan) * params.sum((-1, -2))

        with pytest.raises(ValueError, match="broken: expected finite energies, got nan for body 0"):
            fit_body(model, joints, prior=body_prior, terms=[Broken()], config=_SHORT)
        with pytest.raises(ValueError, match="iterations: expected a whole number"):
            FitBodyConfig(iterations=0)


@pytest.mark.parametrize(
    "root", [(0.0, 0.0, 0.0), (math.pi, 0.0, 0.0), (math.pi / 2, 0.0, 0.0), (0.0, 0.0, -math.pi / 2)]
)
def test_pictures_stand_bodies_up_whatever_axis_is_up(
    model: nn.Module, people: Tensor, joints_of: JointsOf, root: tuple[float, float, float]
) -> None:
    pose = people[:2].clone()
    pose[:, 0] = torch.tensor(root)
    fit = fit_body(model, Joints3D(joints_of(model, pose)[:, :55]), config=FitBodyConfig(iterations=5))
    turn = torch.from_numpy(upright(fit)).float()
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3))
    assert torch.linalg.det(turn) > 0
    joints = model(**fit.params).joints @ turn.mT
    assert (joints[:, 15, 1] > joints[:, 0, 1] + 0.4).all()  # the head above the pelvis
