"""Fits reach exact points in 3D, from any start and on any processor, and say so when they do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior import read_poses
from poseprior.fitting import (
    BodyFit,
    BodyPoints,
    Camera,
    FitBodyConfig,
    Joints3D,
    Keypoints2D,
    Markers,
    fit_body,
    layout,
)
from poseprior.io.synthetic import synthetic_poses

JointsOf = Callable[..., Tensor]
Optimizer = Literal["lbfgs", "adam"]


def _off(model: nn.Module, fit: BodyFit, truth: Tensor) -> Tensor:
    """(B,) mean distance of the 22 body joints, mm."""
    points = BodyPoints(model, joints=range(22))
    found = points(fit.pose, betas=fit.params["betas"], transl=fit.params["transl"])
    return 1000.0 * (found - truth[:, :22]).norm(dim=-1).mean(-1)


def _bodies(model: nn.Module, pose: Tensor) -> Tensor:
    betas = 0.5 * torch.randn(len(pose), 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return BodyPoints(model, joints=range(55))(pose, betas=betas)


def _wild(count: int, stretch: float = 1.5) -> Tensor:
    """Synthetic poses, farther from rest than people go, seen from any side."""
    generator = torch.Generator().manual_seed(2)
    pose = synthetic_poses(60, seed=3).poses[:: 60 // count][:count].clone()
    pose[:, 1:22] *= stretch
    pose[:, 0] = 2.0 * torch.randn(count, 3, generator=generator)
    pose[:, 22:] = 0.0
    return pose


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("rest_sigma", [None, 0.3])
def test_exact_joints_are_reached_without_a_prior(
    model: nn.Module, optimizer: Optimizer, rest_sigma: float | None
) -> None:
    truth = _bodies(model, _wild(12))
    for points in (truth, torch.cat((truth[:, :22], torch.full((12, 33, 3), math.nan)), 1)):
        config = FitBodyConfig(optimizer=optimizer, rest_sigma=rest_sigma)
        fit = fit_body(model, Joints3D(points, sigma=0.001), config=config)
        assert _off(model, fit, truth).max() < 3.0
        assert not fit.num_outliers.any()


@pytest.mark.parametrize(("num_starts", "num_hypotheses"), [(3, 1), (None, 2)])
def test_more_starts_reach_exact_joints_too(
    model: nn.Module, body_prior: poseprior.PosePrior, num_starts: int | None, num_hypotheses: int
) -> None:
    truth = _bodies(model, _wild(3, 1.0))
    target = Joints3D(torch.cat((truth[:, :22], torch.full((3, 33, 3), math.nan)), 1), sigma=0.001)
    one = fit_body(model, target, prior=body_prior)
    config = FitBodyConfig(num_starts=num_starts)
    more = fit_body(model, target, prior=body_prior, config=config, num_hypotheses=num_hypotheses)
    assert _off(model, more, truth).max() < 3.0 and not more.num_outliers.any() and more.converged.all()
    assert more.weights.shape[0] == num_hypotheses
    if num_hypotheses == 1:
        assert (more.energy < one.energy + 0.1).all()


def test_bodies_far_from_the_mean_are_reached_with_a_prior(model: nn.Module, body_prior: poseprior.PosePrior) -> None:
    truth = _bodies(model, _wild(12, 1.0))
    fit = fit_body(model, Joints3D(truth, sigma=0.001), prior=body_prior)
    assert _off(model, fit, truth).max() < 3.0


def test_points_that_were_left_out_are_tried_again(model: nn.Module) -> None:
    """With a larger sigma bodies go through the stages; those that leave points out start again from inverse kinematics."""
    truth = _bodies(model, _wild(20))
    fit = fit_body(model, Joints3D(truth, sigma=0.006), config=FitBodyConfig(rest_sigma=None))
    assert _off(model, fit, truth).max() < 3.0 and not fit.num_outliers.any()


@pytest.mark.parametrize("with_prior", [False, True])
def test_no_fit_that_converged_is_clearly_above_one_from_the_truth(
    model: nn.Module, body_prior: poseprior.PosePrior, with_prior: bool
) -> None:
    pose = _wild(12)
    target = Joints3D(_bodies(model, pose), sigma=0.001)
    config = FitBodyConfig(rest_sigma=None)
    prior = body_prior if with_prior else None
    fit = fit_body(model, target, prior=prior, config=config)
    reference = fit_body(model, target, prior=prior, config=config, start=pose)
    assert not (fit.converged & (fit.energy > reference.energy + 1.0)).any()
    assert fit.converged.float().mean() > 0.8


def test_of_several_modes_of_a_prior_the_lowest_is_found(model: nn.Module) -> None:
    """Of these draws, the mean pose and the rest pose lead to a mode 6 nats above that of the true pose."""
    prior = poseprior.load("body-mixture")
    rows = torch.tensor([7, 8])
    pose = prior.sample(80, generator=torch.Generator().manual_seed(0))[rows]
    betas = 0.5 * torch.randn(80, 10, generator=torch.Generator().manual_seed(0))[rows]
    with torch.no_grad():
        truth = BodyPoints(model, joints=range(22))(pose, betas=betas)
    target = Joints3D(torch.cat((truth, torch.full((2, 33, 3), math.nan)), 1), sigma=0.001)
    fit = fit_body(model, target, prior=prior)
    reference = fit_body(model, target, prior=prior, start=pose)
    assert fit.converged.all() and (fit.energy < reference.energy + 1.0).all()


def test_a_start_that_reaches_every_point_wins_though_the_regulariser_costs_more(
    model: nn.Module, joints_of: JointsOf
) -> None:
    """A leg folded under the body costs the rest regulariser more than three outliers."""
    pose = torch.zeros(2, 55, 3)
    pose[:, 1], pose[:, 4] = torch.tensor([-2.2, 0.0, 0.0]), torch.tensor([2.4, 0.0, 0.0])
    truth = joints_of(model, pose)[:, :55].clone()
    truth[:, 22:] = math.nan
    fit = fit_body(model, Joints3D(truth, sigma=0.005))
    assert not fit.num_outliers.any() and _off(model, fit, truth).max() < 5.0


def test_true_outliers_are_still_let_go(model: nn.Module, people: Tensor, joints_of: JointsOf) -> None:
    truth = joints_of(model, people)[:, :55].clone()
    truth[:, 22:] = math.nan
    measured = truth.clone()
    measured[:, 20] += torch.tensor([0.0, -0.9, 0.6])  # a wrist where no wrist can be
    fit = fit_body(model, Joints3D(measured, sigma=0.005), config=FitBodyConfig(rest_sigma=3.0))
    assert (fit.num_outliers == 1).all()
    others = [j for j in range(22) if j not in (20,)]
    found = BodyPoints(model, joints=range(22))(fit.pose, betas=fit.params["betas"], transl=fit.params["transl"])
    assert (found - truth[:, :22])[:, others].norm(dim=-1).max() < 0.01


def test_exact_markers_are_reached(model: nn.Module) -> None:
    pose = _wild(8)
    vertices = torch.randperm(10000, generator=torch.Generator().manual_seed(0))[:120].tolist()
    with torch.no_grad():
        points = BodyPoints(model, vertices=vertices)(pose)
        truth = BodyPoints(model, joints=range(22))(pose)
    fit = fit_body(model, Markers(points, vertices=vertices, sigma=0.002), config=FitBodyConfig(rest_sigma=3.0))
    assert _off(model, fit, truth).max() < 5.0


def test_a_fit_of_which_most_points_are_outliers_says_so(model: nn.Module, people: Tensor, joints_of: JointsOf) -> None:
    """Points of another layout, and pixels of two people."""
    generator = torch.Generator().manual_seed(0)
    truth = joints_of(model, people)[:, :55]
    mixed = truth.clone()
    mixed[3:] = truth[3:, torch.randperm(55, generator=generator)] * 1.5
    fit = fit_body(model, Joints3D(mixed, sigma=0.005), config=FitBodyConfig(iterations=30))
    assert not fit.num_outliers[:3].any() and (2 * fit.num_outliers[3:] > fit.num_observed[3:]).all()
    assert not fit.converged[3:].any()
    assert "Of 3 bodies (first: 3) most points are outliers" in fit.summary() and "layout" in fit.summary()
    camera = Camera(1000.0, (500.0, 500.0))
    pixels = camera.project(truth[:, [j if j is not None and j < 55 else 0 for j in layout("openpose_25").joints]])
    pixels = pixels[:, torch.randperm(25, generator=generator)]
    flat = fit_body(
        model, Keypoints2D(pixels, camera=camera, layout="openpose_25", sigma=1.0), config=FitBodyConfig(iterations=10)
    )
    lost = 2 * flat.num_outliers > flat.num_observed
    assert lost.any() and not (flat.converged & lost).any()


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize(
    "name",
    [
        "none", "rest", "body-gaussian", "body-mixture", "body-joint-flow", "body-global-flow", "body-order-agnostic",
        "body-vae", "whole-body",
    ],
)  # fmt: skip
def test_real_poses_are_reached(model: nn.Module, real_data_dir: Path, name: str, optimizer: Optimizer) -> None:
    dataset = read_poses(real_data_dir / "smplx_body" / "val_poses.npz")
    rows = torch.randperm(len(dataset.poses), generator=torch.Generator().manual_seed(0))[:60]
    pose = torch.where(dataset.observed[rows][..., None], dataset.poses[rows], 0.0)
    truth = _bodies(model, pose)
    config = FitBodyConfig(optimizer=optimizer, rest_sigma=None if name == "none" else 0.3)
    prior = None if name in ("none", "rest") else poseprior.load(name)
    target = Joints3D(truth, sigma=0.001)
    fit = fit_body(model, target, prior=prior, config=config)
    assert _off(model, fit, truth).max() < 3.0
    reference = fit_body(model, target, prior=prior, config=config, start=pose)
    assert not (fit.converged & (fit.energy > reference.energy + 1.0)).any()
