"""ONNX files of priors, run by onnxruntime, against the priors themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from poseprior import (
    GaussianMixturePrior,
    GaussianPrior,
    JointFlow,
    OrderAgnosticPrior,
    PosePrior,
    ProductPrior,
    list_pretrained,
    load,
)
from poseprior.cli import main
from poseprior.export import export_onnx, exportable
from poseprior.export.draws import draw_of

pytestmark = pytest.mark.filterwarnings("ignore")
SHIPPED = sorted(list_pretrained())


def _run(path: Path, **inputs: Tensor) -> list[Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [torch.as_tensor(np.array(v)) for v in session.run(None, {k: v.numpy() for k, v in inputs.items()})]


def _noise(prior: PosePrior, rows: int, observed: list[bool]) -> dict[str, Tensor]:
    draw = draw_of(prior, observed)
    generator = torch.Generator().manual_seed(3)
    made = {"normal": torch.randn(rows, draw.normals, generator=generator)}
    if draw.uniforms:
        made["uniform"] = torch.rand(rows, draw.uniforms, generator=generator)
    return made


def _density(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    prior = load(name)
    files = export_onnx(prior, tmp_path / "prior.onnx", what=("log_prob", "grad"))
    pose = prior.sample(7, generator=torch.Generator().manual_seed(2)).requires_grad_()
    expected = prior.log_prob(pose)
    (slope,) = torch.autograd.grad(expected.sum(), pose)
    (value,) = _run(files["log_prob"], pose=pose.detach())
    torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-4)
    value, gradient = _run(files["grad"], pose=pose.detach())
    torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-4)
    assert float((gradient - slope).abs().max()) < 1e-5 * float(slope.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SHIPPED if n.endswith(("gaussian", "mixture", "flow"))])
def test_densities_of_shipped_priors(name: str, tmp_path: Path) -> None:
    _density(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SHIPPED if n.endswith("order-agnostic")])
def test_densities_of_order_agnostic_priors(name: str, tmp_path: Path) -> None:
    """Their gradients are written as well, which takes minutes."""
    prior = load(name)
    file = export_onnx(prior, tmp_path / "prior.onnx")["log_prob"]
    pose = prior.sample(7, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(_run(file, pose=pose)[0], prior.log_prob(pose), rtol=1e-6, atol=1e-4)


@pytest.mark.slow
def test_a_density_without_a_graph_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="log_prob of BodyVAE cannot be written as a graph"):
        export_onnx(load("body-vae"), tmp_path / "prior.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SHIPPED if "order-agnostic" not in n and n != "whole-body"])
def test_draws_of_shipped_priors(name: str, tmp_path: Path) -> None:
    """The graph's draws are those of the module; test_noise_is_a_draw holds the module to `sample`."""
    pytest.importorskip("onnxruntime")
    prior = load(name)
    wanted = [what for what in exportable(prior) if what not in ("log_prob", "grad")]
    assert "sample" in wanted
    hidden = prior.joints[2:5] if name != "body-joint-flow" else (19, 21)  # with all that depend on them
    files = export_onnx(prior, tmp_path / "prior.onnx", what=wanted, hide=hidden if "complete" in wanted else ())
    pose = prior.sample(6, generator=torch.Generator().manual_seed(2))
    (drawn,) = _run(
        files["sample"] if len(wanted) > 1 else tmp_path / "prior.onnx", **_noise(prior, 6, [False] * len(prior.joints))
    )
    assert drawn.shape == (6, 55, 3) and torch.isfinite(prior.log_prob(drawn)).all()
    if "complete" in wanted:
        noise = _noise(prior, 6, [j not in hidden for j in prior.joints])
        (filled,) = _run(files["complete"], pose=pose, **noise)
        kept = [j for j in range(55) if j not in hidden]
        torch.testing.assert_close(filled[:, kept], pose[:, kept])
        assert not torch.allclose(filled[:, list(hidden)], pose[:, list(hidden)])


def test_gaussian_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    _density("body-gaussian", tmp_path)


def _moments(pose: Tensor, joints: list[int]) -> Tensor:
    x = pose[:, joints].flatten(1)
    return torch.cat([x.mean(0), torch.cov(x.T).flatten()])


@pytest.mark.parametrize(
    "name", ["body-gaussian", "body-mixture", "hand-mixture", "body-global-flow", "body-joint-flow", "body-vae"]
)
def test_noise_is_a_draw(name: str) -> None:
    """Moments of what noise is turned into are those of `sample`."""
    prior, rows = load(name), 20_000
    joints = list(prior.joints[:6])
    draw = draw_of(prior, [False] * len(prior.joints))
    noise = _noise(prior, rows, [False] * len(prior.joints))
    with torch.no_grad():
        drawn = draw(prior._zeros(rows), noise["normal"], noise.get("uniform", noise["normal"][:, :0]))
    other = prior.sample(rows, generator=torch.Generator().manual_seed(5))
    again = prior.sample(rows, generator=torch.Generator().manual_seed(6))
    ours = _moments(prior._scatter(drawn), joints) - _moments(other, joints)
    theirs = _moments(again, joints) - _moments(other, joints)
    assert float(ours.abs().max()) < 3.0 * float(theirs.abs().max()) + 1e-3


def test_noise_is_a_draw_of_a_diagonal_gaussian() -> None:
    prior = GaussianPrior("body")
    draw = draw_of(prior, [False] * len(prior.joints))
    noise = torch.randn(20_000, draw.normals, generator=torch.Generator().manual_seed(3))
    drawn = draw(prior._zeros(20_000), noise, noise[:, :0])
    assert draw.uniforms == 0
    assert float((drawn.flatten(1).var(0) - prior.covariance.diagonal()).abs().max()) < 0.05


def test_noise_is_a_draw_of_a_product_through_the_mirror() -> None:
    part = GaussianPrior("left_hand").requires_grad_(False)
    part.mean.copy_(0.3 * torch.randn(15, 3, generator=torch.Generator().manual_seed(0)))
    part.log_scale.fill_(-2.0)
    prior = ProductPrior([part], mirrored=[0])
    draw = draw_of(prior, [False] * 30)
    noise = torch.randn(4_000, draw.normals, generator=torch.Generator().manual_seed(3))
    mean = draw(prior._zeros(4_000), noise, noise[:, :0]).mean(0)
    torch.testing.assert_close(mean[:15], part.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(mean[15:], part.mean * torch.tensor([1.0, -1.0, -1.0]), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["body-gaussian", "body-mixture", "body-joint-flow"])
def test_noise_is_a_conditional_draw(name: str) -> None:
    """Moments of hidden joints given the others are those of `complete`."""
    prior, rows = load(name), 10_000
    hidden = [j for j in prior.joints if j in ((16, 18, 20) if name != "body-joint-flow" else (19, 21))]
    observed = [j not in hidden for j in prior.joints]
    pose = prior.sample(1, generator=torch.Generator().manual_seed(1)).expand(rows, -1, -1)
    noise = _noise(prior, rows, observed)
    with torch.no_grad():
        drawn = draw_of(prior, observed)(pose[:, list(prior.joints)], noise["normal"], noise["uniform"])
    mask = torch.ones(55, dtype=torch.bool)
    mask[hidden] = False
    runs = [
        prior.complete(pose[:1], mask, num_samples=rows, generator=torch.Generator().manual_seed(seed))[:, 0]
        for seed in (5, 6)
    ]
    ours, theirs = (_moments(x, hidden) - _moments(runs[0], hidden) for x in (prior._scatter(drawn), runs[1]))
    assert float(ours.abs().max()) < 3.0 * float(theirs.abs().max()) + 1e-3


def test_what_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    prior = load("body-gaussian")
    cases: list[tuple[PosePrior, dict[str, Any], str]] = [
        (prior, {"what": ("decode",)}, "no latent space"),
        (prior, {"what": ("density",)}, "expected one of 'log_prob'"),
        (prior, {"what": ()}, "one or more different names"),
        (prior, {"what": ("complete",)}, "expected some of the prior's joints"),
        (JointFlow("body", hidden=8), {"what": ("decode",)}, "decode of a JointFlow searches for roots"),
        (
            JointFlow("body", hidden=8),
            {"what": ("complete",), "hide": ["left_shoulder", "left_elbow"]},
            "got some without right_shoulder, right_elbow, left_wrist, right_wrist; hide these too",
        ),
        (OrderAgnosticPrior("body", hidden=8), {"what": ("sample",)}, "has no sample in ONNX"),
        (
            OrderAgnosticPrior("body", hidden=8),
            {"what": ("complete",), "hide": "left_hand"},
            "expected some of the prior",
        ),
    ]
    for one, options, message in cases:
        with pytest.raises(ValueError, match=message):
            export_onnx(one, tmp_path / "x.onnx", **options)
    with pytest.raises(ValueError, match=r"ending in \.onnx"):
        export_onnx(prior, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


def test_what_is_exportable() -> None:
    assert exportable(load("body-mixture")) == ("log_prob", "grad", "sample", "complete")
    assert exportable(load("body-joint-flow")) == ("log_prob", "grad", "sample", "complete")
    assert exportable(JointFlow.published("body")) == ("log_prob", "grad", "sample", "decode", "complete")
    assert exportable(load("body-global-flow")) == ("log_prob", "grad", "sample", "decode")
    assert exportable(GaussianMixturePrior("left_hand")) == ("log_prob", "grad", "sample", "complete")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["export", "body-gaussian", "--onnx", str(tmp_path / "x.onnx"), "--what", "complete"]) == 2
    assert "--hide left_arm" in capsys.readouterr().err
    assert main(["export", "body-gaussian", "--onnx", str(tmp_path / "x.txt")]) == 2
    assert not list(tmp_path.iterdir())
