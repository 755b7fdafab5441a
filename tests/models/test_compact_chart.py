"""The compact chart against roma, autograd and its own inverse."""

from __future__ import annotations

import math

import pytest
import roma
import torch

from poseprior.models.charts.axis_angle import AxisAngleChart
from poseprior.models.charts.compact import CompactChart, shrink_to_ball, stretch_ball
from poseprior.rotations import geodesic_distance, haar_log_density, random_rotvec, rotvec_to_tangent, wrap_rotvec


def _chart(seed: int = 0) -> tuple[CompactChart, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = random_rotvec(4, generator=generator, dtype=torch.float64)
    chart = CompactChart(4).double()
    chart.mean.copy_(roma.rotvec_to_unitquat(mean))
    chart.scale.copy_(0.1 + torch.rand(4, 3, generator=generator, dtype=torch.float64))
    return chart, mean


def test_stretching_the_ball_is_a_bijection_with_its_log_det() -> None:
    for length in (0.0, 1e-6, 0.5, 2.0, 3.1):
        x = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64) * length
        y, log_det = stretch_ball(x)
        torch.testing.assert_close(shrink_to_ball(y), x, rtol=1e-9, atol=1e-12)
        jacobian = torch.autograd.functional.jacobian(lambda v: stretch_ball(v)[0], x)
        assert isinstance(jacobian, torch.Tensor)
        torch.testing.assert_close(jacobian.slogdet().logabsdet, log_det, rtol=1e-8, atol=1e-9)
    far = torch.tensor([[3e4, 0.0, 0.0], [1e7, 1e7, 0.0]])
    assert float((shrink_to_ball(far).norm(dim=-1) - math.pi).abs().max()) < 1e-3


def test_chart_is_log_then_stretch() -> None:
    chart, mean = _chart()
    rotvec = random_rotvec(200, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    observed = torch.rand(200, 4) < 0.8
    w, volume = chart(rotvec, observed)
    tangent = rotvec_to_tangent(rotvec, mean)
    y, log_det = stretch_ball(tangent)
    expected = y / chart.scale * observed[..., None]
    log_h = haar_log_density(tangent) - log_det + chart.scale.log().sum(-1)
    torch.testing.assert_close(w, expected)
    torch.testing.assert_close(volume, (log_h * observed).sum(-1))
    ours = torch.autograd.grad(w.sum() + volume.sum(), rotvec, retain_graph=True)[0]
    theirs = torch.autograd.grad(expected.sum() + (log_h * observed).sum(), rotvec)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_inverse_comes_back() -> None:
    chart, _ = _chart()
    rotvec = random_rotvec(500, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    w, _ = chart(rotvec, torch.ones(500, 4, dtype=torch.bool))
    assert float(geodesic_distance(chart.inverse(w), rotvec).max()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, math.pi, 2 * math.pi, 50.0])
def test_gradients_are_finite(dtype: torch.dtype, angle: float) -> None:
    axis = torch.randn(16, 4, 3, generator=torch.Generator().manual_seed(3), dtype=dtype)
    rotvec = (axis / axis.norm(dim=-1, keepdim=True) * angle).requires_grad_()
    moved = _chart()[0].to(dtype)
    for chart in (CompactChart(4).to(dtype), moved):
        w, volume = chart(rotvec, torch.ones(16, 4, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(w.sum() + volume.sum(), rotvec)
        assert torch.isfinite(w).all() and torch.isfinite(volume).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_axis_angle_chart_is_wrap_and_haar_density(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)
    rotvec = random_rotvec(300, 4, generator=generator, dtype=dtype)
    axis = rotvec[:8] / rotvec[:8].norm(dim=-1, keepdim=True)
    rotvec = torch.cat([3.0 * rotvec, *(axis * t for t in (0.0, 1e-7, 1e-3, 3.0))]).requires_grad_()
    observed = torch.rand(len(rotvec), 4, generator=generator) < 0.8
    w, volume = AxisAngleChart()(rotvec, observed)
    wrapped = wrap_rotvec(rotvec)
    log_h = (haar_log_density(wrapped) * observed).sum(-1)
    torch.testing.assert_close(w, wrapped * observed[..., None], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(volume, log_h, rtol=1e-4, atol=1e-4)
    ours = torch.autograd.grad(w.sum() + volume.sum(), rotvec, retain_graph=True)[0]
    theirs = torch.autograd.grad((wrapped * observed[..., None]).sum() + log_h.sum(), rotvec)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)
