"""Fits side by side, and beside bodies that are known."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from poseprior.fitting import FitBodyConfig, Joints3D, fit_body, stand_in_body
from poseprior.params import pose_to_smplx
from poseprior.viz import plot_fits

smplx = pytest.importorskip("smplx")
pytest.importorskip("matplotlib")


def test_a_known_body_is_drawn_as_its_fit_is(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smplx.create(stand_in_body(tmp_path), "smplx", use_pca=False, flat_hand_mean=True)
    target = Joints3D(model().joints[:, :22].detach(), layout="smpl_22")
    fit = fit_body(model, target, config=FitBodyConfig(iterations=2, fit_shape=False))
    zero = {**pose_to_smplx(fit.pose), "transl": fit.params["transl"]}
    figure = plot_fits(model, {"fit": fit, "the same": fit.params, "of a pose": zero}, target)
    first, *others = (np.stack([path.vertices for path in axes.collections[0].get_paths()]) for axes in figure.axes)
    assert len(others) == 2 and np.ptp(first) > 1.0
    for mesh in others:
        np.testing.assert_allclose(mesh, first, atol=1e-5)
    turned = {**zero, "body_pose": torch.full((1, 63), 0.3)}
    assert len(plot_fits(model, {"other": turned}, target).axes) == 1
