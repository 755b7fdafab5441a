"""Arguments of the wrong type end in one ValueError that names them, wherever they are passed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from poseprior import GaussianPrior, PoseDataset, PosePrior, read_poses
from poseprior.fitting import Camera, Joints3D, Keypoints2D, Markers, PoseAnchor, PosePriorTerm
from poseprior.io import write_poses
from poseprior.io.fitted import write_fitted
from poseprior.tasks import adapt, check, denoise, interpolate, score

ARM = (16, 18, 20)
POSE = torch.zeros(2, 55, 3) + 0.1
#: Sparse tensors, tensors without values, and things that are no tensors at all.
NO_TENSORS: list[Any] = [POSE.to_sparse(), POSE.to("meta"), "x", {}, object()]


@pytest.fixture(scope="module")
def prior() -> PosePrior:
    prior = GaussianPrior(ARM)
    prior.fit(0.2 * torch.randn(200, 55, 3, generator=torch.Generator().manual_seed(0)))
    return prior


@pytest.mark.parametrize("value", NO_TENSORS, ids=["sparse", "meta", "text", "dict", "object"])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("pose", lambda prior, value: prior.log_prob(value)),
        ("pose", lambda prior, value: prior.complete(value, torch.ones(55, dtype=torch.bool))),
        ("pose", lambda prior, value: denoise(prior, value, 0.1)),
        ("sigma", lambda prior, value: denoise(prior, POSE, value)),
        ("start", lambda prior, value: interpolate(prior, value, POSE, 3)),
        ("pose", lambda prior, value: score(prior, value)),
        ("points", lambda prior, value: Joints3D(value)),
        ("points", lambda prior, value: Markers(value, vertices=[0])),
        ("points", lambda prior, value: Keypoints2D(value, camera=Camera(1.0, (0.0, 0.0)), layout="smplx_55")),
        ("confidence", lambda prior, value: Joints3D(POSE, confidence=value)),
        ("sigma", lambda prior, value: Joints3D(POSE, sigma=value)),
        ("sigma", lambda prior, value: PoseAnchor(POSE, sigma=value)),
    ],
)
def test_tensors(name: str, call: Callable[[PosePrior, Any], object], value: Any, prior: PosePrior) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call(prior, value)


@pytest.mark.parametrize("value", ["body-gaussian", None, GaussianPrior], ids=["name", "none", "class"])
@pytest.mark.parametrize(
    "call",
    [
        lambda value: score(value, POSE), lambda value: denoise(value, POSE, 0.1), lambda value: check(value, POSE),
        lambda value: interpolate(value, POSE, POSE, 3), lambda value: adapt(value, POSE), PosePriorTerm,
    ],
)  # fmt: skip
def test_priors(call: Callable[[Any], object], value: Any) -> None:
    with pytest.raises(ValueError, match=r"^prior: expected a PosePrior, got \w+; poseprior.load\(name\) gives one"):
        call(value)


@pytest.mark.parametrize(
    "draw", [PosePrior.sample, lambda prior, generator: prior.complete(POSE, SEEN, generator=generator)]
)
def test_generators(draw: Callable[..., Tensor], prior: PosePrior) -> None:
    with pytest.raises(
        ValueError, match=r"generator: expected a torch.Generator or None, got 3; use torch.Generator\(\)"
    ):
        draw(prior, generator=3)
    assert len(draw(prior, generator=torch.Generator().manual_seed(0)).shape) >= 2


@pytest.mark.parametrize("value", [True, torch.ones(55, dtype=torch.bool), torch.tensor(0.1 + 1j)])
def test_widths_are_real_numbers(value: Any, prior: PosePrior) -> None:
    for call in (lambda: denoise(prior, POSE, value), lambda: PoseAnchor(POSE, sigma=value)):
        with pytest.raises(ValueError, match=r"^sigma: expected real numbers, got"):
            call()


def test_poses_are_called_as_the_argument(prior: PosePrior) -> None:
    with pytest.raises(ValueError, match=r"^start: expected finite rotvecs"):
        interpolate(prior, POSE * torch.nan, POSE, 3)
    with pytest.raises(ValueError, match=r"^end: expected finite rotvecs"):
        interpolate(prior, POSE, POSE * torch.nan, 3)
    with pytest.raises(ValueError, match=r"^num_reference: expected"):
        score(prior, POSE, num_reference=10**10)
    with pytest.raises(
        ValueError, match=r"^estimate: expected finite rotvecs, got .* at pelvis of pose 0; give .* sigma=inf"
    ):
        PoseAnchor(POSE + 1e20, sigma=0.1)
    anchor = PoseAnchor(POSE, sigma=0.1)
    for far in (math.nan, math.inf, 1e20):
        with pytest.raises(ValueError, match=r"^params: expected finite rotvecs, got .* at pelvis of pose 0"):
            anchor(POSE + far)


def test_a_refused_pose_that_requires_grad_warns_of_nothing(prior: PosePrior, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ValueError, match=r"^pose: expected finite"):
        prior.log_prob((POSE * torch.nan).requires_grad_())
    assert not recwarn.list


SEEN = torch.arange(55) != 18


def test_paths_of_too_many_poses_are_refused(prior: PosePrior) -> None:
    with pytest.raises(ValueError, match="steps: expected at most 10,000,000 poses a call"):
        interpolate(prior, POSE, POSE, 10**12)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"robust": "x"}, "robust"), ({"joint_weights": 3}, "joint_weights"), ({"schedule": 3}, "schedule"),
        ({"joint_weights": {"left_elbow": "x"}}, r"joint_weights\['left_elbow'\]"), ({"schedule": ["x"]}, "schedule"),
    ],
)  # fmt: skip
def test_terms(given: dict[str, Any], name: str, prior: PosePrior) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        PosePriorTerm(prior, **given)


def test_anchors() -> None:
    with pytest.raises(
        ValueError, match=r"^dof: expected a finite number of 0.001 or more and at most 1e\+06, got 'x'"
    ):
        PoseAnchor(POSE, sigma=0.1, dof="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^estimate: expected a floating-point tensor"):
        PoseAnchor(POSE.int(), sigma=0.1)


def test_files_of_fits(tmp_path: Path) -> None:
    params = {"betas": torch.zeros(2, 10), "transl": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=r"^path: expected a path, got 3"):
        write_fitted(3, params, POSE)  # type: ignore[arg-type]
    for names in (3, "ab", ["a"]):
        with pytest.raises(ValueError, match=r"^frame_names: expected 2, one for each frame"):
            write_fitted(tmp_path / "a.npz", params, POSE, frame_names=names)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", NO_TENSORS, ids=["sparse", "meta", "text", "dict", "object"])
def test_poses_to_write(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^poses: expected"):
        write_poses(tmp_path / "a.npz", value)
    with pytest.raises(ValueError, match=r"^(poses|observed): expected"):
        write_poses(tmp_path / "a.npz", POSE, observed=value)
    with pytest.raises(ValueError, match=r"^poses: expected"):
        PoseDataset(value)


def test_one_mask_for_all_poses_to_write(tmp_path: Path) -> None:
    assert torch.equal(read_poses(write_poses(tmp_path / "a.npz", POSE, observed=SEEN)).observed, SEEN.expand(2, -1))
    with pytest.raises(ValueError, match="poses: expected a floating-point type, got int64"):
        write_poses(tmp_path / "a.npz", POSE.long())


def test_paths_with_null_bytes(tmp_path: Path) -> None:
    for call in (read_poses, lambda path: write_poses(path, POSE)):
        with pytest.raises(ValueError, match=r"^path: expected a path, got 'a\\x00.npz'"):
            call("a\0.npz")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_poses_that_pytorch_stores_but_computes_nothing_in_are_refused(prior: PosePrior) -> None:
    nested, tiny = torch.nested.nested_tensor([POSE[0], POSE[1]]), POSE.to(torch.float8_e4m3fn)
    anchor = PoseAnchor(POSE, sigma=0.1)
    for call in (prior.log_prob, PosePriorTerm(prior), anchor, lambda pose: PoseAnchor(pose, sigma=0.1)):
        with pytest.raises(ValueError, match=r"^(pose|params|estimate): expected a dense tensor, got a nested one"):
            call(nested)
        with pytest.raises(ValueError, match=r"^(pose|params|estimate): expected .* 16 bits or more, got torch.float8"):
            call(tiny)
        with pytest.raises(ValueError, match=r"^(pose|params|estimate): expected a tensor with values"):
            call(POSE.to("meta"))
    assert torch.equal(prior.log_prob(torch.stack(nested.unbind())), prior.log_prob(POSE))
    with pytest.raises(ValueError, match=r"^observed: expected a dense tensor, got a nested one"):
        prior.log_prob(POSE, observed=torch.nested.nested_tensor([torch.ones(55, dtype=torch.bool)] * 2))


def test_sizes_beside_a_zero_have_limits_too(prior: PosePrior) -> None:
    with pytest.raises(ValueError, match=r"^sample_shape: expected at most 10,000,000 poses"):
        prior.sample((2**62, 2**62, 0))
    assert prior.sample((3, 0)).shape == (3, 0, 55, 3)


def test_a_prior_on_the_meta_device_says_that_it_has_no_values(prior: PosePrior, tmp_path: Path) -> None:
    empty = copy.deepcopy(prior).to("meta")
    for call in (lambda: empty.log_prob(POSE), lambda: empty.sample(2), lambda: empty.save(tmp_path / "p.safetensors")):
        with pytest.raises(ValueError, match=r"^prior: its weights are on the meta device"):
            call()
