"""What objects print: one short line each, and in a notebook a small picture where one helps."""

from __future__ import annotations

import html
from pathlib import Path

import torch

import poseprior
from poseprior import FitConfig, FitResult, PoseDataset, RigNoise
from poseprior.fitting import Camera, Joints3D, PosePriorTerm
from poseprior.io import synthetic_poses
from poseprior.tasks import check, score


def test_a_prior_says_class_joints_parameters_data_and_noise() -> None:
    assert repr(poseprior.load("body-gaussian")) == (
        "GaussianPrior(21 joints (body), 2,079 parameters, trained on 100,353 poses under jitter 0.1 rad and rig noise)"
    )
    fresh = poseprior.GlobalFlow([1, 2, 4], context_dim=3)
    assert repr(fresh).startswith("GlobalFlow(3 joints, ") and repr(fresh).endswith("context of 3, not fitted)")
    for name in poseprior.list_pretrained():
        assert "\n" not in repr(poseprior.load(name)) and len(repr(poseprior.load(name))) < 140


def test_a_prior_shows_draws_in_a_notebook() -> None:
    page = poseprior.load("body-gaussian")._repr_html_()
    assert "GaussianPrior(21 joints" in page and 'src="data:image/png;base64,iVBOR' in page
    assert "<img" not in poseprior.GaussianPrior("body")._repr_html_()


def test_a_data_set_shows_poses_from_its_first_to_its_last(tmp_path: Path) -> None:
    data = synthetic_poses(300, seed=0)
    page = data._repr_html_()
    assert "PoseDataset(300 poses" in page and 'src="data:image/png;base64,iVBOR' in page
    assert _picture(page) == _picture(data.select([0, 59, 119, 179, 239, 299])._repr_html_())
    assert _picture(page) != _picture(data.select([0, 1, 2, 3, 4, 5])._repr_html_())
    mapped = PoseDataset.from_memmap(data.to_memmap(tmp_path / "mapped"))
    assert _picture(page) == _picture(mapped._repr_html_())
    nothing = PoseDataset(torch.zeros(1, 55, 3), torch.zeros(1, 55, dtype=torch.bool))
    assert nothing._repr_html_() == f"<code>{html.escape(repr(nothing))}</code>"


def _picture(page: str) -> str:
    return page.split("base64,")[1]


def test_configs_and_results_are_short() -> None:
    assert repr(FitConfig(max_steps=3, jitter=0.1)) == "FitConfig(max_steps=3, jitter=0.1)"
    assert eval(repr(FitConfig(seed=2, mirror=False))) == FitConfig(seed=2, mirror=False)
    assert len(repr(RigNoise.estimated("body"))) < 120
    data = synthetic_poses(300, seed=0)
    result = poseprior.GaussianPrior("body").fit(data, config=FitConfig(progress=False))
    assert isinstance(result, FitResult) and len(repr(result)) < 200 and "closed_form" in repr(result)


def test_tasks_and_terms_are_short() -> None:
    prior = poseprior.load("body-gaussian")
    poses = prior.sample(20, generator=torch.Generator().manual_seed(0))
    assert repr(score(prior, poses)).startswith("ScoreResult(20 poses, mean log_prob ")
    assert repr(check(prior, poses)).startswith("CheckResult(GaussianPrior of 21 joints, 20 poses, advice: ")
    term = PosePriorTerm(prior, weight=2.0, robust=3.0)
    assert repr(term).endswith("weight 2, mean over 21 joints, capped at 3 nats a joint)")
    assert repr(term + term) == f"{term!r} + {term!r}"
    assert repr(Camera(1000.0, (500.0, 400.0))) == "Camera(focal 1000, 1000 px, center 500, 400 px)"
    points = torch.zeros(2, 55, 3)
    points[0, 3] = torch.nan
    assert repr(Joints3D(points, sigma=0.02)) == "Joints3D(2 bodies, 109 of 110 points measured, sigma 0.02 metres)"


def test_covariance_is_a_matrix() -> None:
    data = synthetic_poses(2000, seed=0)
    for kind in ("diagonal", "full"):
        prior = poseprior.GaussianPrior("body", covariance=kind)  # type: ignore[arg-type]
        prior.fit(data, config=FitConfig(progress=False))
        covariance = prior.covariance
        assert prior.covariance_kind == kind and covariance.shape == (63, 63)
        drawn = prior.sample(20_000, generator=torch.Generator().manual_seed(0))[:, 1:22]
        tangent = poseprior.rotations.rotvec_to_tangent(drawn, prior.chart.mean).flatten(1)
        deviation = covariance.diagonal().sqrt()
        error = (torch.cov(tangent.T) - covariance) / (deviation[:, None] * deviation)
        assert float(error.abs().max()) < 0.06  # five standard errors of a correlation, 0.007, and the truncation
