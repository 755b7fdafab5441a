"""Fits side by side, and beside bodies that are known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from poseprior.fitting import FitBodyConfig, Joints3D, fit_body, stand_in_body
from poseprior.params import pose_to_smplx
from poseprior.viz import plot_fit, plot_fits

smplx = pytest.importorskip("smplx")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = smplx.create(
            stand_in_body(tmp_path_factory.mktemp("body")), "smplx", use_pca=False, flat_hand_mean=True
        )
    return made


def _target(model: nn.Module, frames: int) -> Joints3D:
    return Joints3D(model().joints[:, :22].detach().expand(frames, -1, -1), layout="smpl_22")


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_all_that_is_written_is_in_the_picture(model: nn.Module, frames: int) -> None:
    target = _target(model, frames)
    figure = plot_fit(model, fit_body(model, target, config=FitBodyConfig(iterations=1, fit_shape=False)), target)
    figure.canvas.draw()
    for text in (*figure.texts, *(axes.title for axes in figure.axes)):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0
    assert all(axes.get_window_extent().y0 > figure.texts[0].get_window_extent().y1 for axes in figure.axes)


def test_a_known_body_is_drawn_as_its_fit_is(model: nn.Module) -> None:
    target = _target(model, 1)
    fit = fit_body(model, target, config=FitBodyConfig(iterations=2, fit_shape=False))
    zero = {**pose_to_smplx(fit.pose), "transl": fit.params["transl"]}
    figure = plot_fits(model, {"fit": fit, "the same": fit.params, "of a pose": zero}, target)
    first, *others = (np.stack([path.vertices for path in axes.collections[0].get_paths()]) for axes in figure.axes)
    assert len(others) == 2 and np.ptp(first) > 1.0
    for mesh in others:
        np.testing.assert_allclose(mesh, first, atol=1e-5)
    turned = {**zero, "body_pose": torch.full((1, 63), 0.3)}
    assert len(plot_fits(model, {"other": turned}, target).axes) == 1
