"""`fit_body` on a GPU. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

import poseprior
from poseprior.fitting import BodyPoints, Camera, FitBodyConfig, Joints3D, Keypoints2D, fit_body
from poseprior.pretrained.listing import pretrained_files

if not torch.cuda.is_available():
    pytest.skip("needs a GPU that torch can use", allow_module_level=True)

NAMES = [None, *sorted(name for name in pretrained_files() if not name.startswith("hand"))]


@pytest.mark.parametrize("name", NAMES)
def test_fits(name: str | None, make_model: Callable[..., nn.Module]) -> None:
    model = make_model().cuda()
    prior = None if name is None else poseprior.load(name, device="cuda")
    pose = poseprior.load(name or "body-gaussian").sample(3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        joints = BodyPoints(model, joints=range(55))(pose.cuda())
    target = Joints3D(joints, sigma=0.01)
    config = FitBodyConfig(iterations=30)
    fit = fit_body(model, target, prior=prior, config=config)
    assert fit.pose.is_cuda
    found = BodyPoints(model, joints=range(22))(fit.pose, betas=fit.params["betas"], transl=fit.params["transl"])
    assert (found - joints[:, :22]).norm(dim=-1).mean() < 0.02
    exact = fit_body(model, Joints3D(joints, sigma=0.001), prior=prior, config=config)
    assert exact.pose.is_cuda and bool(torch.isfinite(exact.energy).all())
    camera = Camera(focal=1100.0, center=(500.0, 500.0))
    view = joints[:, :22] + torch.tensor([0.0, 0.0, 3.0], device="cuda")
    pixels = 1100.0 * view[..., :2] / view[..., 2:] + 500.0
    flat = Keypoints2D(pixels, camera=camera, layout="smpl_22")
    assert fit_body(model, flat, prior=prior, config=replace(config, num_starts=2)).pose.is_cuda
