"""Cameras and targets: projection against a matrix, energies in nats, missing points, error texts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from poseprior.fitting import Camera, Joints3D, Keypoints2D, Markers
from poseprior.rotations import random_rotvec, rotvec_to_rotmat

_CAMERA = Camera(1000.0, (500.0, 400.0))


def _points(*shape: int) -> Tensor:
    points = torch.randn(*shape, 3, generator=torch.Generator().manual_seed(0))
    points[..., 2] = points[..., 2].abs() + 3.0
    return points


def test_projection_is_the_pinhole_s() -> None:
    import roma

    rotation = roma.rotvec_to_rotmat(random_rotvec(2, generator=torch.Generator().manual_seed(1)) * 0.1)
    shift = torch.tensor([0.1, -0.2, 0.5])
    focal = torch.tensor([[900.0, 1000.0], [1100.0, 1200.0]])
    camera = Camera(focal, (320.0, 240.0), rotation=rotation, translation=shift)
    points = _points(3, 2, 7)
    for row in range(2):
        intrinsics = torch.tensor([[focal[row, 0], 0.0, 320.0], [0.0, focal[row, 1], 240.0], [0.0, 0.0, 1.0]])
        homogeneous = (points[:, row] @ rotation[row].T + shift) @ intrinsics.T
        expected = homogeneous[..., :2] / homogeneous[..., 2:]
        torch.testing.assert_close(camera.project(points)[:, row], expected, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(
        camera.select(torch.tensor([1])).project(points[:, 1:]), camera.project(points)[:, 1:]
    )  # fmt: skip


@pytest.mark.parametrize("batch", [(), (4,)])
def test_steps_of_a_camera_are_those_of_the_world(batch: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    rotation = rotvec_to_rotmat(random_rotvec(*batch, generator=generator, dtype=torch.float64))
    shift = torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
    camera = Camera(1000.0, (500.0, 500.0), rotation=rotation, translation=shift)
    here, there = torch.randn(2, 3, 4, 5, 3, generator=generator, dtype=torch.float64)
    found = camera.to_world_axes(camera.to_camera(there) - camera.to_camera(here))
    torch.testing.assert_close(found, there - here)
    assert torch.equal(Camera(1000.0, (500.0, 500.0)).to_world_axes(here), here)


def test_small_residuals_cost_a_gaussian_and_large_ones_the_cap() -> None:
    truth = _points(1, 55)
    target = Joints3D(truth, sigma=0.01, robust=4.5)
    near = target.energy(truth + torch.tensor([0.002, 0.0, 0.0]))
    torch.testing.assert_close(near, torch.full((1,), 55 * 0.5 * 0.2**2), rtol=0.01, atol=0)
    far = target.energy(truth + 100.0)
    torch.testing.assert_close(far, torch.full((1,), 55 * 0.5 * 4.5**2), rtol=0.01, atol=0)
    assert target.energy(truth + 100.0, outlier_scale=4.0) > 15 * far
    assert Joints3D(truth, sigma=0.01, robust=None).energy(truth + 100.0) > 1e8


def test_missing_points_cost_nothing() -> None:
    truth = _points(2, 55)
    measured, confidence = truth.clone(), torch.ones(2, 55)
    measured[0, 3], confidence[1, 4] = math.nan, 0.0
    target = Joints3D(measured, confidence=confidence)
    moved = truth.clone()
    moved[0, 3] += 9.0
    moved[1, 4] += 9.0
    assert target.energy(moved).abs().max() < 1e-6
    assert (target.confidence == 0).sum() == 2 and target.points.isfinite().all()
    half = Joints3D(truth, confidence=0.5 * torch.ones(2, 55))
    torch.testing.assert_close(2 * half.energy(truth + 0.01), Joints3D(truth).energy(truth + 0.01))


def test_points_without_a_joint_are_left_out() -> None:
    target = Keypoints2D(torch.full((1, 135, 2), 450.0), camera=_CAMERA, layout="openpose_135")
    assert len(target.joints) == 132  # no crown, no pupils
    assert len(target.parts) == 132 and target.points.shape == (1, 132, 2)
    target.without_joints_from(127)
    assert (target.confidence == 0).sum() == 17 and max(target.joints) < 127


def test_a_body_behind_the_camera_is_finite_and_pushed_out() -> None:
    target = Keypoints2D(torch.full((1, 25, 2), 450.0), camera=_CAMERA, layout="openpose_25")
    body = _points(1, 25)
    body[..., 2] -= 9.0
    leaf = body.requires_grad_()
    energy = target.energy(leaf)
    (gradient,) = torch.autograd.grad(energy.sum(), leaf)
    assert energy.isfinite().all() and gradient.isfinite().all() and (gradient[..., 2] < 0).all()


def test_confidences_in_per_cent_are_refused() -> None:
    joints = torch.zeros(2, 55, 3)
    over = torch.full((2, 55), 1.2)
    assert torch.equal(Joints3D(joints, confidence=over).confidence, torch.ones(2, 55))
    with pytest.raises(
        ValueError, match="confidence: expected numbers around 0 to 1, got up to 90; divide per cent by 100"
    ):
        Joints3D(joints, confidence=75 * over)
    Joints3D(joints, confidence=75 * over / 100)


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match="focal lengths above 0"):
        Camera(0.0, (1.0, 1.0))
    with pytest.raises(ValueError, match="finite numbers"):
        Camera(float("nan"), (1.0, 1.0))
    with pytest.raises(ValueError, match="not orthogonal"):
        Camera(1.0, (0.0, 0.0), rotation=2.0 * torch.eye(3))
    with pytest.raises(ValueError, match="layout"):
        Keypoints2D(torch.zeros(1, 24, 2), camera=_CAMERA, layout="openpose_25")
    with pytest.raises(ValueError, match="confidence: expected finite"):
        Joints3D(_points(1, 55), confidence=torch.full((1, 55), math.nan))
    with pytest.raises(ValueError, match="confidence: expected"):
        Joints3D(_points(1, 55), confidence=torch.ones(2, 54))
    with pytest.raises(ValueError, match="sigma: expected"):
        Joints3D(_points(1, 55), sigma=0.0)
    with pytest.raises(ValueError, match="points: expected floats"):
        Markers(torch.zeros(1, 3, 2), vertices=[1, 2, 3])
    with pytest.raises(ValueError, match="camera: expected focal for 2 frames"):
        Keypoints2D(torch.zeros(2, 25, 2), camera=Camera(torch.ones(3, 2), (0.0, 0.0)), layout="openpose_25")
