"""Points, cameras and images that cannot belong together are refused, and usual ones are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from poseprior.fitting import Camera, Keypoints2D, layout
from poseprior.fitting.camera_checks import image_notes

_CAMERA, _SIZE = Camera(1500.0, (960.0, 540.0)), (1920.0, 1080.0)


@pytest.fixture
def pixels(model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]) -> Tensor:
    return _CAMERA.project(joints_of(model, people[:3])[:, [j or 0 for j in layout("openpose_25").joints]])


def _target(points: Tensor, camera: Camera = _CAMERA, **more: float) -> Keypoints2D:
    return Keypoints2D(points, camera=camera, layout="openpose_25", **more)


def test_normalised_points_are_refused_beside_a_camera_in_pixels(pixels: Tensor) -> None:
    size = torch.tensor(_SIZE)
    with pytest.raises(
        ValueError, match=r"^points: expected pixels, got .*; multiply points .* by the image's \(width"
    ):
        _target(pixels / size)
    with pytest.raises(ValueError, match=r"^points: expected pixels"):
        _target(2 * pixels / size - 1)
    mixed = torch.cat((pixels, pixels[:1] / size))
    with pytest.raises(ValueError, match=r"^points: expected pixels in every frame, got 1 of 4 frames"):
        _target(mixed)
    assert torch.equal(_target(pixels / size * size).points, pixels / size * size), "the remedy works"


def test_points_and_a_camera_in_other_units_than_pixels_are_taken(pixels: Tensor) -> None:
    flat = (pixels - torch.tensor([960.0, 540.0])) / 1500.0
    assert len(_target(flat, Camera(1.0, (0.0, 0.0)), sigma=0.003).points) == 3
    with pytest.raises(ValueError, match=r"^sigma: expected less than a person spans, got 5 "):
        _target(flat, Camera(1.0, (0.0, 0.0)))


@pytest.mark.parametrize("focal", [35.0, 1500 / 1920, 1e7])
def test_focal_lengths_in_other_units_are_refused(pixels: Tensor, focal: float) -> None:
    with pytest.raises(ValueError, match=r"^focal: expected a focal length in pixels, got"):
        _target(pixels, Camera(focal, (960.0, 540.0)))


def test_a_normalised_centre_is_refused(pixels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^center: expected the principal point in pixels, .*\(0.5, 0.5\); multiply"):
        _target(pixels, Camera(1500.0, (0.5, 0.5)))
    centred = pixels - torch.tensor([960.0, 540.0])
    assert len(_target(centred, Camera(1500.0, (0.0, 0.0))).points) == 3


def test_images_that_hold_the_points_need_no_note(pixels: Tensor) -> None:
    assert image_notes(pixels, torch.ones(3, 25), _CAMERA, _SIZE) == []
    confidence = torch.ones(3, 25)
    confidence[:, 3] = 0.0
    lost = pixels.clone()
    lost[:, 3] = torch.nan
    assert image_notes(lost, confidence, _CAMERA, _SIZE) == []


def test_images_that_cannot_be_those_of_the_points(pixels: Tensor) -> None:
    seen = torch.ones(3, 25)
    with pytest.raises(
        ValueError, match=r"^image_size: expected an image that holds most points, .* 640 x 360 .*: FIX\.$"
    ):
        image_notes(pixels, seen, _CAMERA, (640.0, 360.0), "FIX")
    beside = pixels + torch.tensor([700.0, 0.0])
    with pytest.raises(ValueError, match="with width and height swapped, 1920 x 1080, they fit"):
        image_notes(beside, seen, _CAMERA, (1080.0, 1920.0))
    (note,) = image_notes(pixels - torch.tensor([20.0, 0.0]), seen, _CAMERA, (1080.0, 1920.0))
    assert "with width and height swapped, 1920 x 1080, they fit" in note
    (note,) = image_notes(pixels, seen, _CAMERA, (3840.0, 2160.0))
    assert "upper left quarter" in note
    with pytest.raises(
        ValueError, match=r"^focal: expected a focal length in pixels, got 35, with which an image of 1920 x"
    ):
        image_notes(pixels, seen, Camera(35.0, (960.0, 540.0)), _SIZE)
    (note,) = image_notes(pixels, seen, Camera(1e5, (960.0, 540.0)), _SIZE)
    assert "focal length, 100000, is more than 20 diagonals" in note
    (note,) = image_notes(pixels, seen, Camera(1500.0, (2500.0, 540.0)), _SIZE)
    assert "principal point, (2500, 540), is outside" in note
