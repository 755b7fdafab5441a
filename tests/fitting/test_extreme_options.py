"""Options of fits that no fit can use: one error, before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poseprior import PosePrior, load
from poseprior.fitting import Camera, FitBodyConfig, Joints3D, Keypoints2D, PoseAnchor, PosePriorTerm, fit_body

_HUGE = 10**400


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"focal": 1e30}, "focal"), ({"focal": float("inf")}, "focal"), ({"focal": _HUGE}, "focal"),
        ({"focal": "1000"}, "focal"), ({"focal": None}, "focal"), ({"focal": 1j}, "focal"), ({"focal": True}, "focal"),
        ({"focal": torch.tensor([1e30, 1000.0])}, "focal"), ({"focal": 0.0}, "focal"),
        ({"center": (1e30, 0.0)}, "center"), ({"center": (float("nan"), 0.0)}, "center"), ({"center": "ab"}, "center"),
        ({"center": 5.0}, "focal, center"), ({"translation": torch.tensor([0, 0, 1e30])}, "translation"),
        ({"translation": [0.0, 0.0]}, "translation"), ({"rotation": 2 * torch.eye(3)}, "rotation"),
        ({"rotation": "eye"}, "rotation"),
    ],
)  # fmt: skip
def test_cameras(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        Camera(**({"focal": 1000.0, "center": (500.0, 500.0)} | options))


def test_numbers_of_a_camera_keep_their_digits() -> None:
    camera = Camera(1234.1, (0.1, 0.2))
    assert camera.focal.tolist() == [1234.1, 1234.1] and camera.center.tolist() == [0.1, 0.2]


def test_two_focal_lengths_are_those_of_x_and_y() -> None:
    pair = torch.tensor([1000.0, 2000.0])
    assert Camera(pair, (0.0, 0.0)).focal.tolist() == [1000.0, 2000.0]
    assert Camera(pair[:, None], (0.0, 0.0)).focal.tolist() == [[1000.0, 1000.0], [2000.0, 2000.0]]


@pytest.mark.parametrize("size", [(1e30, 1.0), (1.0, 0.0), (float("nan"), 1.0), ("640", 480)])
def test_images(size: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="expected a finite number above 0 and at most 1e"):
        Camera.of_image(*size)


@pytest.mark.parametrize("focal", [1e5, 250.0])
def test_long_and_short_focal_lengths_end_in_finite_bodies(
    focal: float, model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]
) -> None:
    pixels = Camera(1000.0, (500.0, 500.0)).project(joints_of(model, people[:1]))
    target = Keypoints2D(pixels, camera=Camera(focal, (500.0, 500.0)), layout="smplx")
    fit = fit_body(model, target, config=FitBodyConfig(iterations=3))
    assert all(bool(value.isfinite().all()) for value in (*fit.params.values(), fit.energy))


@pytest.mark.parametrize("focal", [1e8, 35.0, 1e-9])
def test_focal_lengths_that_are_not_in_pixels_are_refused(
    focal: float, model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]
) -> None:
    pixels = Camera(1000.0, (500.0, 500.0)).project(joints_of(model, people[:1]))
    with pytest.raises(
        ValueError, match=r"^focal: expected a focal length in pixels, got .*image width / sensor width"
    ):
        Keypoints2D(pixels, camera=Camera(focal, (500.0, 500.0)), layout="smplx")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"num_starts": 10**12}, "num_starts"), ({"iterations": 10**30}, "iterations"), ({"iterations": 1.5}, "iterations"),
        ({"rest_sigma": 1e-30}, "rest_sigma"), ({"rest_sigma": 1e300}, "rest_sigma"), ({"smooth_sigma": 1e-30}, "smooth_sigma"),
        ({"smooth_sigma": "0.1"}, "smooth_sigma"), ({"learning_rate": 1e30}, "learning_rate"), ({"seed": -1}, "seed"),
        ({"tolerance": 0.0}, "tolerance"), ({"optimizer": ["adam"]}, "optimizer"), ({"space": None}, "space"),
        ({"fit_shape": 1}, "fit_shape"),
    ],
)  # fmt: skip
def test_configs(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        FitBodyConfig(**options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"num_hypotheses": 10**12}, "num_hypotheses"), ({"betas": torch.full((1, 10), 1e30)}, "betas"),
        ({"betas": torch.full((1, 10), float("nan"))}, "betas"), ({"start": torch.full((1, 55, 3), 1e30)}, "start"),
    ],
)  # fmt: skip
def test_calls(options: dict[str, Any], name: str, model: nn.Module) -> None:
    target = Joints3D(model().joints[:, :55].detach())
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        fit_body(model, target, **options)


def test_terms(body_prior: PosePrior) -> None:
    points = torch.zeros(1, 55, 3)
    for robust in (1e30, 0.0, float("nan"), "4"):
        with pytest.raises(ValueError, match=r"^robust: expected a finite number above 0"):
            Joints3D(points, robust=robust)  # type: ignore[arg-type]
    for weight in (1e30, -1.0, float("nan"), "1", None):
        with pytest.raises(ValueError, match=r"^weight: expected a finite number of 0 or more"):
            PosePriorTerm(body_prior, weight=weight)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^weight: expected a finite number of 0 or more"):
            PoseAnchor(points, sigma=0.1, weight=weight)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (torch.zeros(3, 55, 3), "start: expected 1 or 2 bodies, got 3"),
        (torch.zeros(0, 55, 3), "start: expected 1 or 2 bodies, got 0"),
        (torch.full((2, 55, 3), torch.nan), "start: expected finite rotations"),
        ({"body_pose": torch.zeros(3, 63)}, "start: expected 1 or 2 bodies, got 3"),
        (
            {"body_pose": torch.zeros(2, 63), "betas": torch.zeros(3, 10)},
            r"start: betas: expected \(10,\) or \(2, 10\)",
        ),
        (
            {"body_pose": torch.zeros(2, 63), "expression": torch.full((10,), torch.nan)},
            "start: expression: expected finite",
        ),
    ],
)
@pytest.mark.parametrize("space", ["pose", "latent"])
def test_starts(
    start: Any, text: str, space: Any, model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]
) -> None:
    target = Joints3D(joints_of(model, people[:2], range(55)))
    config = FitBodyConfig(space=space, iterations=1)
    with pytest.raises(ValueError, match=f"^{text}"):
        fit_body(model, target, prior=load("body-vae"), start=start, config=config)


def test_a_shape_without_coefficients(model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"^betas: expected \(10,\) or \(2, 10\), got \(\)"):
        fit_body(model, Joints3D(joints_of(model, people[:2], range(55))), betas=torch.tensor(0.0))


def test_shape_and_expression_of_a_start_are_used(
    model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]
) -> None:
    betas, expression = torch.full((2, 10), 0.5), torch.full((10,), 0.2)
    start = {"body_pose": people[:2, 1:22].flatten(1), "betas": betas, "expression": expression}
    target = Joints3D(joints_of(model, people[:2], range(55)))
    config = FitBodyConfig(iterations=2, fit_shape=False, fit_expression=False)
    fit = fit_body(model, target, start=start, config=config)
    torch.testing.assert_close(fit.params["betas"], betas)
    torch.testing.assert_close(fit.params["expression"], expression.expand(2, 10))
    known = fit_body(model, target, start=start, betas=-betas, config=config)
    torch.testing.assert_close(known.params["betas"], -betas)


def test_starts_may_be_arrays_of_numpy(model: nn.Module, people: Tensor) -> None:
    target, config = Joints3D(model().joints[:, :55].detach()), FitBodyConfig(iterations=2)
    body = people[:1, 1:22]
    expected = fit_body(model, target, start={"body_pose": body}, config=config).pose
    assert torch.equal(fit_body(model, target, start={"body_pose": body.numpy()}, config=config).pose, expected)  # type: ignore[dict-item]
    whole = fit_body(model, target, start=people[:1], config=config).pose
    assert torch.equal(fit_body(model, target, start=people[:1].numpy(), config=config).pose, whole)  # type: ignore[arg-type]
    for wrong in ("pose", people[:1, :22], {"body_pose": "x"}, {}):
        with pytest.raises(ValueError, match=r"^start: ") as caught:
            fit_body(model, target, start=wrong, config=config)  # type: ignore[arg-type]
        assert "params" not in str(caught.value) and "term(" not in str(caught.value)
