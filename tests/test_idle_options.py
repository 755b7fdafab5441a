"""Options that nothing reads beside the others are one error; the remedy that it names works.

Those of the models are in tests/models/test_options.py, those of `fit` in tests/training/test_unread.py, those of the tasks
in tests/test_tasks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import poseprior
from poseprior import GaussianPrior, VAEPrior
from poseprior.compat.vposer import VPoser
from poseprior.fitting import FitBodyConfig, PosePriorTerm
from poseprior.importer import ImportOptions
from poseprior.latent import latent_map
from poseprior.params import pose_from_smplx, pose_to_smplx

MEAN = (torch.full((45,), 0.1), torch.full((45,), 0.2))
COMPONENTS = (torch.eye(45), torch.eye(45))
HANDS = {"left_hand_pose": torch.zeros(2, 45)}
POSE = torch.zeros(2, 55, 3)


def _vae() -> VAEPrior:
    prior = VAEPrior((16, 18, 20), latent_dim=2, hidden=4)
    prior.fitted = True
    return prior.eval()


def _rest(latent: torch.Tensor) -> torch.Tensor:
    return latent.square().sum((-1, -2))


def _latent(**options: Any) -> torch.Tensor:
    return latent_map(_vae(), _rest, torch.ones(3, 2), **options)


def _vposer(version: Any, **options: Any) -> Any:
    prior = poseprior.BodyVAE(latent_dim=2, hidden=4)
    prior.fitted = True
    return VPoser(prior.eval(), version=version)(torch.zeros(2, 63), **options)


@pytest.mark.parametrize(
    ("call", "idle", "text", "remedy"),
    [
        (
            lambda **options: pose_from_smplx(HANDS, **options), {"flat_hand_mean": True, "hands_mean": MEAN},
            "flat_hand_mean=True", {"flat_hand_mean": False},
        ),
        (
            lambda **options: pose_to_smplx(POSE, **options), {"flat_hand_mean": True, "hands_components": COMPONENTS},
            "num_pca_comps=None", {"num_pca_comps": 6},
        ),
        (ImportOptions, {"split": "none", "fractions": (0.6, 0.2, 0.2)}, "split='none'", {"split": "person"}),
        (FitBodyConfig, {"learning_rate": 0.2}, "optimizer='lbfgs'", {"optimizer": "adam"}),
        (_latent, {"steps": 0, "learning_rate": 0.2}, "steps=0", {"steps": 1}),
        (_vposer, {"version": 2, "output_type": "aa"}, "version 2, which returns both types", {"version": 1}),
    ],
)  # fmt: skip
def test_one_error_and_a_remedy_that_works(
    call: Callable[..., Any], idle: dict[str, Any], text: str, remedy: dict[str, Any]
) -> None:
    name = list(idle)[-1]
    with pytest.raises(
        ValueError, match=rf"{name}: has no effect with {text}, got .*; leave it out, or give .*{next(iter(remedy))}"
    ):
        call(**idle)
    call(**{**idle, **remedy})
    call(**{key: value for key, value in idle.items() if key != name})


def test_resolutions_are_those_of_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from poseprior.viz import plot_poses

    with pytest.raises(ValueError, match="dpi: has no effect with path=None, got 80; leave it out, or give path"):
        plot_poses(POSE, dpi=80)
    plot_poses(POSE, dpi=20, path=tmp_path / "a.png")
    plot_poses(POSE, path=tmp_path / "b.png")
    small, usual = (int.from_bytes((tmp_path / name).read_bytes()[16:20], "big") for name in ("a.png", "b.png"))
    assert small < 0.2 * usual


def test_hidden_joints_are_those_of_completions(tmp_path: Path) -> None:
    from poseprior.export import export_onnx

    with pytest.raises(
        ValueError, match="hide: has no effect with no 'complete' in what, got 'left_elbow'; leave it out, or"
    ):
        export_onnx(GaussianPrior("body"), tmp_path / "a.onnx", hide="left_elbow")


def test_a_weight_needs_a_prior() -> None:
    smplx = pytest.importorskip("smplx")
    from tempfile import TemporaryDirectory

    from poseprior.fitting import Joints3D, fit_body, stand_in_body

    with TemporaryDirectory() as folder:
        model = smplx.create(stand_in_body(folder), "smplx", use_pca=False, flat_hand_mean=True)
    joints = Joints3D(model().joints[:, :55].detach())
    with pytest.raises(
        ValueError, match=r"prior_weight: has no effect with prior=None, got 2.0; leave it out, or give a prior"
    ):
        fit_body(model, joints, prior_weight=2.0)
    latent = FitBodyConfig(space="latent", iterations=2)
    term = PosePriorTerm(_vae(), robust=3.0, reduction="sum")
    with pytest.raises(ValueError, match="prior: expected a PosePriorTerm without robust, joints and joint_weights"):
        fit_body(model, joints, prior=term, config=latent)


def test_terms_judge_latents_as_a_whole() -> None:
    prior, latent = _vae(), torch.zeros(3, 2)
    assert PosePriorTerm(prior)(latent=latent).shape == (3,)
    for options in ({"robust": 3.0}, {"joints": [16]}, {"joint_weights": {"left_elbow": 0.5}}):
        with pytest.raises(ValueError, match="latent: expected a term without robust, joints and joint_weights"):
            PosePriorTerm(prior, **options)(latent=latent)  # type: ignore[arg-type]


def test_weights_of_joints_that_are_not_scored_are_refused() -> None:
    prior = GaussianPrior("body")
    prior.fitted = True
    with pytest.raises(ValueError, match="joint_weights: expected joints that are scored, got jaw; leave it out"):
        PosePriorTerm(prior, joint_weights={"jaw": 0.5})
    with pytest.raises(ValueError, match="joint_weights: expected joints that are scored, got left_knee"):
        PosePriorTerm(prior, joints=["left_elbow"], joint_weights={"left_knee": 0.5})


def test_a_frame_rate_that_every_file_contradicts_is_refused(tmp_path: Path) -> None:
    for name, more in (("said", {"mocap_framerate": 60.0}), ("unsaid", {})):
        np.savez(tmp_path / f"{name}.npz", poses=np.full((4, 165), 0.1, np.float32), **more)
    with pytest.raises(
        ValueError, match=r"fps: expected something in .*said.npz that needs it, got nothing; leave it out"
    ):
        poseprior.read_poses(tmp_path / "said.npz", fps=30.0)
    assert poseprior.read_poses(tmp_path / "said.npz", fps=60.0).fps == 60.0
    assert poseprior.read_poses(tmp_path / "unsaid.npz", fps=30.0).fps == 30.0
    rates = poseprior.read_poses(tmp_path, fps=30.0).fps
    assert isinstance(rates, np.ndarray) and sorted(set(rates.tolist())) == [30.0, 60.0]
