"""Functions that take gradients themselves work under `torch.inference_mode`, and with tensors that were made in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import smplx
import torch
from sample_poses import bent_poses, seeded
from torch import Tensor

from poseprior import FitConfig, GaussianMixturePrior, GaussianPrior, GlobalFlow, JointFlow, PoseDataset, PosePrior
from poseprior.fitting import FitBodyConfig, Joints3D, PoseAnchor, PosePriorTerm, fit_body, stand_in_body
from poseprior.latent import latent_map, project
from poseprior.optim import adam, lbfgs
from poseprior.tasks import denoise, interpolate

ARM = (16, 18, 20)
Call = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def mixture() -> PosePrior:
    prior = GaussianMixturePrior(ARM, num_components=2)
    prior.fit(bent_poses(200), config=FitConfig(progress=False))
    return prior


@pytest.fixture(scope="module")
def flow() -> GlobalFlow:
    prior = GlobalFlow(ARM, hidden=8)
    prior.fit(bent_poses(200), config=FitConfig(max_steps=2, batch_size=20, progress=False))
    return prior


def _same_in_inference_mode(call: Call, pose: Tensor) -> None:
    """In inference mode, with tensors made there or not, and afterwards with those, a call gives what it gives outside."""
    expected = call(pose)
    with torch.inference_mode():
        made = pose.clone()
        inside = [call(pose), call(made)]
    for found in (*inside, call(made)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert not found.is_inference()


@pytest.mark.parametrize(
    "call",
    [
        lambda prior, pose: denoise(prior, pose, 0.1),
        lambda prior, pose: interpolate(prior, pose[0], pose[1], 4),
        lambda prior, pose: (
            adam(lambda rows: -prior.log_prob(rows.unflatten(1, (55, 3))), pose.flatten(1), iterations=3).point
        ),
        lambda prior, pose: lbfgs(lambda rows: -prior.log_prob(rows.unflatten(1, (55, 3))), pose.flatten(1)).point,
    ],
)
def test_tasks(call: Callable[[PosePrior, Tensor], Tensor], mixture: PosePrior) -> None:
    _same_in_inference_mode(lambda pose: call(mixture, pose), bent_poses(2, seed=1))


def test_latents(flow: GlobalFlow) -> None:
    _same_in_inference_mode(lambda pose: project(flow, pose, steps=3)[0], bent_poses(2, seed=1))

    def near(pose: Tensor) -> Tensor:
        return latent_map(
            flow, lambda decoded: (decoded - 0.1).square().sum((-1, -2)), start=pose.flatten(1)[:, :9], steps=3
        )

    _same_in_inference_mode(near, bent_poses(2, seed=1))


def test_fit_body(mixture: PosePrior, tmp_path: Path) -> None:
    model = smplx.create(str(stand_in_body(tmp_path)), "smplx", use_pca=False, flat_hand_mean=True)

    def fitted(pose: Tensor) -> Tensor:
        joints = model(body_pose=pose[:, 1:22].flatten(1), **_parts(pose)).joints[:, :55].detach()
        terms = [PosePriorTerm(mixture, reduction="sum"), PoseAnchor(pose, sigma=1.0, reduction="sum")]
        return fit_body(model, Joints3D(joints), terms=terms, start=pose, config=FitBodyConfig(iterations=3)).pose

    _same_in_inference_mode(fitted, 0.3 * bent_poses(2, seed=1))
    with torch.inference_mode():
        other = smplx.create(str(stand_in_body(tmp_path)), "smplx", use_pca=False, flat_hand_mean=True)
        with pytest.raises(ValueError, match=r"made under torch.inference_mode; make it outside"):
            fit_body(other, Joints3D(torch.zeros(1, 55, 3) + 0.1))


def _parts(pose: Tensor) -> dict[str, Any]:
    """Zeros for the other arguments of the model, in the number of frames of a pose."""
    sizes = {
        "global_orient": 3,
        "jaw_pose": 3,
        "leye_pose": 3,
        "reye_pose": 3,
        "left_hand_pose": 45,
        "right_hand_pose": 45,
    }
    return {name: pose.new_zeros(len(pose), size) for name, size in {**sizes, "betas": 10, "expression": 10}.items()}


@pytest.mark.parametrize("kind", [GaussianPrior, JointFlow])
def test_priors_that_are_trained_in_inference_mode_pass_gradients(kind: type[PosePrior]) -> None:
    with torch.inference_mode():
        prior = kind(ARM)
        config = (
            FitConfig(progress=False)
            if kind is GaussianPrior
            else FitConfig(max_steps=2, batch_size=20, progress=False)
        )
        prior.fit(PoseDataset(bent_poses(200)), config=config)
    pose = prior.sample(2, generator=seeded()).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(pose).sum(), pose)
    assert bool(torch.isfinite(gradient).all()) and bool(gradient.any())
