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
    GlobalFlow,
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
from poseprior.rotations import geodesic_distance

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
    # In single precision the gradient of a VAE is off by 1e-5 of its largest entry itself.
    assert float((gradient - slope).abs().max()) < (3e-5 if name.endswith("vae") else 1e-5) * float(slope.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SHIPPED if n.endswith(("gaussian", "mixture", "flow", "vae"))])
def test_densities_of_shipped_priors(name: str, tmp_path: Path) -> None:
    _density(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SHIPPED if n.endswith(("order-agnostic", "whole-body"))])
def test_densities_of_order_agnostic_priors(name: str, tmp_path: Path) -> None:
    """Their gradients are written as well, which takes minutes."""
    pytest.importorskip("onnxruntime")
    prior = load(name)
    file = export_onnx(prior, tmp_path / "prior.onnx")["log_prob"]
    pose = prior.sample(7, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(_run(file, pose=pose)[0], prior.log_prob(pose), rtol=1e-6, atol=1e-4)


class _Unusual(PosePrior):
    """A prior whose density no ONNX graph computes."""

    def get_config(self) -> dict[str, Any]:
        return {}

    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        return torch.linalg.eigvalsh(rotvec.mT @ rotvec + torch.eye(3)).sum(-1)

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        return torch.zeros(num, len(self.joints), 3)


@pytest.mark.slow
def test_a_density_without_a_graph_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="log_prob of _Unusual cannot be written as a graph"):
        export_onnx(_Unusual("body"), tmp_path / "prior.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
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


@pytest.mark.slow
def test_decoded_latents_far_and_near(tmp_path: Path) -> None:
    """The search for roots, where components lie far apart and latents in the tails."""
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    prior = JointFlow(["left_hip"], hidden=8).eval().requires_grad_(False)
    for name, parameter in prior.conditionals.named_parameters():
        if name.startswith("layers"):
            parameter.mul_(2.0)
    file = export_onnx(prior, tmp_path / "prior.onnx", what=("decode",))["decode"]
    latent = torch.cat([torch.linspace(-7.0, 7.0, 24).view(8, 3), torch.zeros(1, 3)])
    assert float(geodesic_distance(_run(file, latent=latent)[0], prior.decode(latent)).max()) < 1e-4


def _drawn(prior: PosePrior, rotvec: Tensor, observed: list[bool]) -> Tensor:
    draw, noise = draw_of(prior, observed), _noise(prior, len(rotvec), observed)
    rows = rotvec, noise["normal"], noise.get("uniform", noise["normal"][:, :0])
    with torch.no_grad():
        return torch.cat([draw(*part) for part in zip(*(tensor.split(2000) for tensor in rows), strict=True)])


def _moments(pose: Tensor, joints: list[int]) -> Tensor:
    x = pose[:, joints].flatten(1)
    return torch.cat([x.mean(0), torch.cov(x.T).flatten()])


@pytest.mark.parametrize(
    "name",
    [
        *("body-gaussian", "body-mixture", "hand-mixture", "body-global-flow", "body-joint-flow", "body-vae"),
        *(pytest.param(f"{part}-order-agnostic", marks=pytest.mark.slow) for part in ("body", "hand")),
    ],
)
def test_noise_is_a_draw(name: str) -> None:
    """Moments of what noise is turned into are those of `sample`."""
    prior, rows = load(name), 20_000
    joints = list(prior.joints[:6])
    drawn = _drawn(prior, prior._zeros(rows), [False] * len(prior.joints))
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


def test_groups_and_lone_joints_of_an_order_agnostic_prior() -> None:
    """Each group is drawn given what it shows of itself: what is given stays, the rest moves."""
    prior = OrderAgnosticPrior([1, 4, 12, 15], hidden=8, groups=[[1, 4], [12], [15]]).eval().requires_grad_(False)
    rotvec = 0.2 * torch.randn(3_000, 4, 3, generator=torch.Generator().manual_seed(0))
    for observed in ([True, False, False, True], [True, True, False, True], [False, False, True, True]):
        moved = (_drawn(prior, rotvec, observed) - rotvec).abs().amax((0, 2))
        assert [float(distance) < 1e-6 for distance in moved] == observed
    drawn = prior._scatter(_drawn(prior, rotvec, [False] * 4))
    other = prior.sample(3_000, generator=torch.Generator().manual_seed(1))
    ours, theirs = (pose[:, list(prior.joints)].flatten(1).std(0) for pose in (drawn, other))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.06)


@pytest.mark.parametrize("name", ["body-gaussian", "body-mixture", "body-joint-flow", "body-order-agnostic"])
def test_noise_is_a_conditional_draw(name: str) -> None:
    """Moments of hidden joints given the others are those of `complete`."""
    prior, rows = load(name), 10_000
    hidden = [j for j in prior.joints if j in ((16, 18, 20) if name != "body-joint-flow" else (19, 21))]
    observed = [j not in hidden for j in prior.joints]
    pose = prior.sample(1, generator=torch.Generator().manual_seed(1)).expand(rows, -1, -1)
    drawn = _drawn(prior, pose[:, list(prior.joints)], observed)
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
        (OrderAgnosticPrior("body", hidden=8), {"what": ("decode",)}, "no latent space"),
        (
            JointFlow("body", hidden=8),
            {"what": ("complete",), "hide": ["left_shoulder", "left_elbow"]},
            "got some without right_shoulder, right_elbow, left_wrist, right_wrist; hide these too",
        ),
        (GlobalFlow("body", hidden=8), {"what": ("complete",), "hide": ["left_wrist"]}, "has no complete in ONNX"),
        (
            OrderAgnosticPrior("body", hidden=8),
            {"what": ("complete",), "hide": "left_hand"},
            "expected some of the prior",
        ),
    ]
    for one, options, message in cases:
        with pytest.raises(ValueError, match=message):
            export_onnx(one, tmp_path / "x.onnx", **options)
    with pytest.raises(ValueError, match=r"ends in \.onnx"):
        export_onnx(prior, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


def test_what_is_exportable() -> None:
    assert exportable(load("body-mixture")) == ("log_prob", "grad", "sample", "complete")
    assert exportable(load("body-joint-flow")) == ("log_prob", "grad", "sample", "decode", "complete")
    assert exportable(load("hand-order-agnostic")) == ("log_prob", "grad", "sample", "complete")
    assert exportable(JointFlow.published("body")) == ("log_prob", "grad", "sample", "decode", "complete")
    assert exportable(load("body-global-flow")) == ("log_prob", "grad", "sample", "decode")
    assert exportable(GaussianMixturePrior("left_hand")) == ("log_prob", "grad", "sample", "complete")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["export", "body-gaussian", "--onnx", str(tmp_path / "x.onnx"), "--what", "complete"]) == 2
    assert "--hide left_arm" in capsys.readouterr().err
    assert main(["export", "body-gaussian", "--onnx", str(tmp_path / "x.txt")]) == 2
    assert not list(tmp_path.iterdir())
