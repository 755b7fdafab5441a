"""Wrapping, tangent spaces, means and the Haar measure, against scipy and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from poseprior import rotations

transform = pytest.importorskip("scipy.spatial.transform")
DTYPES = [torch.float32, torch.float64]
#: Around these the formulas switch branch, or a naive formula divides by zero.
ANGLES = [0.0, 1e-7, 1e-4, 0.0999, 0.1001, 1.0, math.pi - 1e-3, math.pi, math.pi + 1e-3, 5.0]
AXIS = torch.tensor([0.36, -0.48, 0.8], dtype=torch.float64)


def _random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def _finite_difference(function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> Tensor:
    grad = torch.zeros_like(x)
    for k in range(x.numel()):
        e = torch.zeros_like(x)
        e[k] = step
        grad[k] = (function(x + e) - function(x - e)) / (2 * step)
    return grad


# -- the measure -----------------------------------------------------------------------------------------------------


def test_haar_density_integrates_to_one() -> None:
    """Radial quadrature of h(t) 4 pi t^2 over the ball of radius pi."""
    t = (torch.arange(20000, dtype=torch.float64) + 0.5) * math.pi / 20000
    density = rotations.haar_log_density(torch.stack([t, 0 * t, 0 * t], -1)).exp()
    assert float((density * 4 * math.pi * t**2).sum() * math.pi / 20000) == pytest.approx(1.0, abs=1e-8)


def test_haar_density_matches_scipy_random_rotations() -> None:
    """The share of uniform rotations within an angle is the integral of the density."""
    angle = torch.from_numpy(transform.Rotation.random(200000, rng=0).magnitude())
    t = (torch.arange(4000, dtype=torch.float64) + 0.5) * math.pi / 4000
    mass = (
        (rotations.haar_log_density(torch.stack([t, 0 * t, 0 * t], -1)).exp() * 4 * math.pi * t**2).cumsum(0)
        * math.pi
        / 4000
    )
    for k in (800, 1600, 2400, 3200):
        assert float((angle < t[k]).double().mean()) == pytest.approx(float(mass[k]), abs=5e-3)


def test_haar_density_at_zero() -> None:
    assert float(rotations.haar_log_density(torch.zeros(3))) == pytest.approx(-math.log(8 * math.pi**2))


def test_haar_density_is_the_jacobian_beyond_pi() -> None:
    """exp(rotvec) at t and at the wrapped vector 2 pi - t have the same 1 - cos t, over t^2."""
    t = torch.tensor(4.0, dtype=torch.float64)
    expected = torch.log((1 - torch.cos(t)) / (4 * math.pi**2 * t**2))
    torch.testing.assert_close(rotations.haar_log_density(t * AXIS), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES)
def test_haar_density_and_gradient(angle: float, dtype: torch.dtype) -> None:
    x = (angle * AXIS).to(dtype).requires_grad_()
    value = rotations.haar_log_density(x)
    (grad,) = torch.autograd.grad(value, x)
    expected = _finite_difference(rotations.haar_log_density, x.detach().double())
    tolerance = {"atol": 2e-6, "rtol": 2e-5} if dtype == torch.float32 else {"atol": 1e-8, "rtol": 1e-6}
    torch.testing.assert_close(grad.double(), expected, **tolerance)
    torch.testing.assert_close(value.double(), rotations.haar_log_density(x.detach().double()), atol=2e-6, rtol=0)


def test_haar_density_folds_at_two_pi() -> None:
    """The exponential map folds the sphere of radius 2 pi to a point: the density sinks towards -inf there."""
    near = rotations.haar_log_density(2 * math.pi * AXIS * (1 - 1e-6))
    assert float(near) < -25.0


# -- wrapping --------------------------------------------------------------------------------------------------------


def test_wrap_keeps_the_rotation_and_bounds_the_norm() -> None:
    x = _random(5000, scale=6.0)
    wrapped = rotations.wrap_rotvec(x)
    assert float(wrapped.norm(dim=-1).max()) <= math.pi + 1e-12
    error = transform.Rotation.from_rotvec(x.numpy()) * transform.Rotation.from_rotvec(wrapped.numpy()).inv()
    assert error.magnitude().max() < 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
def test_wrap_returns_legal_values_to_the_bit(dtype: torch.dtype) -> None:
    x = rotations.random_rotvec(1000, generator=torch.Generator().manual_seed(0), dtype=dtype) * 0.999
    assert torch.equal(rotations.wrap_rotvec(x), x)
    assert torch.equal(rotations.wrap_rotvec(torch.zeros(2, 3, dtype=dtype)), torch.zeros(2, 3, dtype=dtype))


@pytest.mark.parametrize("turns", [-2, -1, 1, 3])
def test_wrap_undoes_whole_turns(turns: int) -> None:
    x = rotations.wrap_rotvec(_random(200, seed=1, scale=0.8)) * 0.99
    angle = x.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(rotations.wrap_rotvec(x * (1 + 2 * math.pi * turns / angle)), x, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", [0.0, 1e-7, 1.0, 3.0, 3.3, 2 * math.pi, 7.0])
def test_wrap_gradient(angle: float, dtype: torch.dtype) -> None:
    x = (angle * AXIS).to(dtype).requires_grad_()
    weight = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64)
    (grad,) = torch.autograd.grad(rotations.wrap_rotvec(x) @ weight.to(dtype), x)
    expected = _finite_difference(lambda v: rotations.wrap_rotvec(v) @ weight, x.detach().double())
    torch.testing.assert_close(grad.double(), expected, atol=1e-5, rtol=1e-5)


# -- tangent spaces --------------------------------------------------------------------------------------------------


def test_tangent_agrees_with_scipy() -> None:
    x, mean = _random(500, scale=2.0), _random(500, seed=1)
    first, base = transform.Rotation.from_rotvec(x.numpy()), transform.Rotation.from_rotvec(mean.numpy())
    expected = torch.from_numpy((base.inv() * first).as_rotvec())
    torch.testing.assert_close(rotations.rotvec_to_tangent(x, mean), expected, atol=1e-10, rtol=1e-10)


def test_tangent_round_trip_and_broadcasting() -> None:
    x = rotations.random_rotvec(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = _random(7, seed=1)
    tangent = rotations.rotvec_to_tangent(x, mean)
    assert tangent.shape == x.shape
    torch.testing.assert_close(rotations.tangent_to_rotvec(tangent, mean), x, atol=1e-9, rtol=1e-9)


def test_tangent_does_not_see_whole_turns() -> None:
    x, mean = _random(300, seed=2, scale=0.9), _random(3, seed=3)[0]
    around = x * (1 + 2 * math.pi / x.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(
        rotations.rotvec_to_tangent(around, mean), rotations.rotvec_to_tangent(x, mean), atol=1e-10, rtol=1e-10
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, math.pi, 2 * math.pi])
@pytest.mark.parametrize("function", [rotations.rotvec_to_tangent, rotations.tangent_to_rotvec])
def test_tangent_gradient(function: Callable[[Tensor, Tensor], Tensor], angle: float, dtype: torch.dtype) -> None:
    mean = torch.tensor([0.5, 0.2, -0.4], dtype=torch.float64)
    weight = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64)
    x = (angle * AXIS).to(dtype).requires_grad_()
    (grad,) = torch.autograd.grad(function(x, mean.to(dtype)) @ weight.to(dtype), x)
    expected = _finite_difference(lambda v: function(v, mean) @ weight, x.detach().double())
    tolerance = 1e-4 if dtype == torch.float32 else 1e-6
    torch.testing.assert_close(grad.double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 0.1, math.pi - 1e-3, math.pi, 2 * math.pi - 1e-3, 2 * math.pi])
@pytest.mark.parametrize("mean", [[0.0, 0.0, 0.0], [0.5, 0.2, -0.4]])
@pytest.mark.parametrize("function", [rotations.rotvec_to_tangent, rotations.tangent_to_rotvec])
def test_tangent_has_finite_second_derivatives(
    function: Callable[[Tensor, Tensor], Tensor], mean: list[float], angle: float, dtype: torch.dtype
) -> None:
    base = torch.tensor(mean, dtype=dtype)
    at_rest = (angle * AXIS).to(dtype)
    for x in (at_rest, rotations.tangent_to_rotvec(at_rest, base)):
        hessian = torch.autograd.functional.hessian(lambda v: function(v, base).square().sum(), x)
        assert torch.isfinite(hessian).all()


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.05, 0.0999, 0.1001, 0.3, 2.0, 3.0])
def test_tangent_has_right_second_derivatives_around_the_mean(angle: float) -> None:
    mean = torch.tensor([0.5, 0.2, -0.4], dtype=torch.float64)
    x = rotations.tangent_to_rotvec(angle * AXIS, mean).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: rotations.rotvec_to_tangent(v, mean), x)
    assert torch.autograd.gradgradcheck(lambda v: rotations.rotvec_to_tangent(v, mean), x)


def test_logarithm_agrees_with_scipy_at_every_angle() -> None:
    angle = torch.cat(
        [torch.logspace(-9, 0, 40, dtype=torch.float64), torch.linspace(0.0, math.pi - 1e-6, 200).double()]
    )
    x = angle[:, None] * AXIS
    quat = torch.from_numpy(transform.Rotation.from_rotvec(x.numpy()).as_quat())
    for sign in (1.0, -1.0):
        found, ratio = rotations.unitquat_log(sign * quat)
        torch.testing.assert_close(found, x, atol=1e-13, rtol=1e-12)
        half = 0.5 * angle[angle > 0]
        torch.testing.assert_close(ratio[angle > 0, 0], angle[angle > 0] / half.sin(), atol=1e-12, rtol=1e-12)


def test_geodesic_path_goes_evenly_from_start_to_end() -> None:
    start, end = _random(5, seed=4), _random(5, seed=5)
    path = rotations.geodesic_path(start, end, torch.linspace(0.0, 1.0, 9, dtype=torch.float64))
    assert path.shape == (9, 5, 3)
    step = rotations.geodesic_distance(path[1:], path[:-1])
    torch.testing.assert_close(step, rotations.geodesic_distance(start, end).expand(8, 5) / 8, atol=1e-9, rtol=0)
    torch.testing.assert_close(rotations.geodesic_distance(path[-1], end), torch.zeros(5).double(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("angle", ANGLES)
def test_unit_quaternions_have_right_derivatives(angle: float) -> None:
    x = angle * AXIS
    expected = torch.from_numpy(transform.Rotation.from_rotvec(x.numpy()).as_quat())
    torch.testing.assert_close(rotations.rotvec_to_unitquat(x), expected, atol=1e-14, rtol=0)
    torch.testing.assert_close(
        rotations.rotvec_to_unitquat(x.float()), expected.float(), atol=3e-7 * max(1.0, angle), rtol=0
    )
    x.requires_grad_()
    assert torch.autograd.gradcheck(rotations.rotvec_to_unitquat, x)
    assert torch.autograd.gradgradcheck(rotations.rotvec_to_unitquat, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", [0.0, 1e-7, math.pi])
def test_tangent_gradient_is_finite_where_the_relative_rotation_is(angle: float, dtype: torch.dtype) -> None:
    """Identity and half turn relative to the mean, where logarithms are hard."""
    mean = torch.tensor([0.5, 0.2, -0.4], dtype=dtype)
    start = rotations.tangent_to_rotvec((angle * AXIS).to(dtype), mean).requires_grad_()
    (grad,) = torch.autograd.grad(rotations.rotvec_to_tangent(start, mean).sum(), start)
    assert torch.isfinite(grad).all()
    assert float(grad.abs().max()) < 10.0


def test_geodesic_distance_agrees_with_scipy() -> None:
    x, y = _random(500, scale=2.0), _random(500, seed=1, scale=2.0)
    relative = transform.Rotation.from_rotvec(x.numpy()).inv() * transform.Rotation.from_rotvec(y.numpy())
    torch.testing.assert_close(
        rotations.geodesic_distance(x, y), torch.from_numpy(relative.magnitude()), atol=1e-9, rtol=0
    )
    assert float(rotations.geodesic_distance(x, x).max()) < 1e-7


# -- means and noise -------------------------------------------------------------------------------------------------


def test_frechet_mean_minimises_squared_distance() -> None:
    x = rotations.tangent_to_rotvec(_random(50, 2, scale=0.5), _random(2, seed=5))
    mean = rotations.frechet_mean(x)
    assert mean.dtype == torch.float64
    torch.testing.assert_close(
        rotations.rotvec_to_tangent(x, mean).mean(0), torch.zeros(2, 3).double(), atol=1e-8, rtol=0
    )


def test_frechet_mean_of_two_is_half_way() -> None:
    x = torch.stack([torch.zeros(3), torch.tensor([0.0, 0.8, 0.0])])
    torch.testing.assert_close(rotations.frechet_mean(x), torch.tensor([0.0, 0.4, 0.0]).double(), atol=1e-7, rtol=0)


def test_frechet_mean_across_the_cut() -> None:
    """Two half turns that differ in sign of the axis are neighbours; a mean of the vectors would be the identity."""
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    mean = rotations.frechet_mean(torch.stack([axis * (math.pi - 0.1), -axis * (math.pi - 0.1)]))
    assert float(mean.norm()) == pytest.approx(math.pi, abs=1e-6)


def test_frechet_mean_weights() -> None:
    x = _random(6, 3, scale=0.3)
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0, 0.0]).double()
    repeated = rotations.frechet_mean(x[[0, 2, 2, 3]])
    torch.testing.assert_close(rotations.frechet_mean(x, weight[:, None].expand(6, 3)), repeated, atol=1e-8, rtol=0)
    assert torch.equal(rotations.frechet_mean(x, torch.zeros(6, 3)), torch.zeros(3, 3, dtype=torch.float64))


def test_random_rotvec_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    x = rotations.random_rotvec(100000, generator=generator, dtype=torch.float64)
    assert x.shape == (100000, 3)
    assert float(x.norm(dim=-1).max()) <= math.pi + 1e-12
    assert float(x.norm(dim=-1).mean()) == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.01)  # E|angle| under Haar
    again = rotations.random_rotvec(100000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(again, x)


def test_tangent_noise_has_the_asked_spread() -> None:
    pose = rotations.random_rotvec(20000, generator=torch.Generator().manual_seed(0))
    noisy = rotations.add_tangent_noise(pose, 0.02, generator=torch.Generator().manual_seed(1))
    spread = rotations.rotvec_to_tangent(noisy, pose).std()
    assert float(spread) == pytest.approx(0.02, rel=0.02)
    assert rotations.add_tangent_noise(pose, 0.0) is pose
