"""Which way is up in a fitted file, and files as readers of AMASS and the SMPL-X add-on of Blender take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
from torch import Tensor, nn

from poseprior import skeleton
from poseprior.cli import main
from poseprior.fitting import BodyFit, Camera, FitBodyConfig, Joints3D, Keypoints2D, fit_body
from poseprior.fitting.coordinates import upright_axis

_QUICK = FitBodyConfig(iterations=3)
_STAND_Z = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # y up to z up


def _in_file(path: Path, model: nn.Module) -> tuple[Tensor, dict[str, Any]]:
    """Joints (F, 22, 3) that the model has for a file's parameters, and its other entries."""
    with np.load(path, allow_pickle=False) as file:
        found = dict(file.items())
    names = (*skeleton.PART_SLICES, "transl", "expression")
    params = {name: torch.from_numpy(found[name]) for name in names}
    return model(**params, betas=torch.from_numpy(found["betas_by_frame"])).joints[:, :22].detach(), found


@pytest.fixture(scope="module")
def seen_by_camera(model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]) -> BodyFit:
    camera = Camera(1000.0, (500.0, 500.0))
    return fit_body(
        model, Keypoints2D(camera.project(joints_of(model, people[:2])), camera=camera, layout="smplx"), config=_QUICK
    )


@pytest.mark.parametrize(
    ("up", "turn"), [(None, torch.eye(3)), ("y", torch.diag(torch.tensor([1.0, -1, -1]))), ("z", None)]
)
def test_a_camera_has_y_down(
    up: Any, turn: Tensor | None, seen_by_camera: BodyFit, model: nn.Module, tmp_path: Path
) -> None:
    """x right, y down, z forward becomes x right, y forward, z up."""
    turn = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]) if turn is None else turn
    joints, found = _in_file(seen_by_camera.save(tmp_path / "f.npz", up=up), model)
    with torch.no_grad():
        expected = model(**seen_by_camera.params).joints[:, :22] @ turn.mT
    torch.testing.assert_close(joints, expected, atol=2e-4, rtol=0)
    height = {"y": joints[..., 1], "z": joints[..., 2], None: -joints[..., 1]}[up]
    assert bool((height[:, 15] - height[:, [7, 8]].mean(1) > 1.0).all()), "the head is above the ankles"
    assert str(found["up_axis"]) == {None: "-y"}.get(up, up)
    assert str(found["coordinates"]).endswith("camera: x right, y down, z forward")
    np.testing.assert_array_equal(found["poses"][:, :3], found["root_orient"])
    np.testing.assert_allclose(found["root_orient"], found["global_orient"], atol=1e-6)
    np.testing.assert_array_equal(found["trans"], found["transl"])


def test_as_the_blender_add_on_reads_it(seen_by_camera: BodyFit, tmp_path: Path) -> None:
    """Its operator "Add animation" wants these keys, and turns them into these types."""
    with np.load(seen_by_camera.save(tmp_path / "f.npz", up="z")) as file:
        assert {"trans", "gender", "mocap_frame_rate", "betas", "poses"} <= set(file.files)
        assert str(file["gender"]) == "neutral" and int(file["mocap_frame_rate"]) == 30
        assert file["betas"].ndim == 1 and [float(value) for value in file["betas"]]
        assert file["poses"][0].reshape(-1, 3).shape == (55, 3) and file["trans"].shape == (2, 3)


def test_points_in_3d_say_which_way_is_up_or_are_asked(
    model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor], tmp_path: Path
) -> None:
    joints = joints_of(model, people[:2])[:, :55] @ torch.diag(
        torch.tensor([1.0, -1, -1])
    )  # that fixture is a camera's
    fit = fit_body(model, Joints3D(joints), config=_QUICK)
    with pytest.raises(ValueError, match="points_up: expected the axis that points up"):
        fit.save(tmp_path / "f.npz", up="z")
    with pytest.raises(ValueError, match="up: expected one of y, z, or None, got 'x'"):
        fit.save(tmp_path / "f.npz", up="x")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    plain, found = _in_file(fit.save(tmp_path / "f.npz"), model)
    assert str(found["up_axis"]) == "unknown" and "of the points" in str(found["coordinates"])
    turned, found = _in_file(fit.save(tmp_path / "z.npz", up="z", points_up="y"), model)
    torch.testing.assert_close(turned, plain @ _STAND_Z.mT, atol=2e-4, rtol=0)
    assert str(found["up_axis"]) == "z"
    same, found = _in_file(fit.save(tmp_path / "y.npz", up="y", points_up="y"), model)
    torch.testing.assert_close(same, plain)
    with pytest.raises(ValueError, match="points_up: expected one of y, z, -y, -z, or None, got 'up'"):
        fit.save(tmp_path / "f.npz", points_up="up")  # type: ignore[arg-type]


def test_a_camera_needs_no_word(seen_by_camera: BodyFit, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="points_up: expected None for 2D keypoints"):
        seen_by_camera.save(tmp_path / "f.npz", up="z", points_up="y")


@pytest.mark.parametrize(
    ("turn", "axis"),
    [((0, 0, 0), "y"), ((0.5, 0, 0), "z"), ((1, 0, 0), "-y"), ((-0.5, 0, 0), "-z"), ((0, 0, 0.5), None), ((0, 0, 0.25), None)],
)  # fmt: skip
def test_where_people_stand(
    turn: tuple[float, ...], axis: str | None, model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]
) -> None:
    about = roma.rotvec_to_rotmat(np.pi * (torch.tensor(turn) + torch.tensor([1.0, 0, 0])))
    if turn[2]:
        about = roma.rotvec_to_rotmat(np.pi * torch.tensor(turn)) @ torch.diag(torch.tensor([1.0, -1, -1]))
    assert upright_axis(Joints3D(joints_of(model, people)[:, :55] @ about.mT)) == axis


def test_the_command_turns_people(
    model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    joints = joints_of(model, people[:1])[:, :55] @ torch.diag(torch.tensor([1.0, -1, -1]))
    points, out = tmp_path / "k.npz", tmp_path / "f.npz"
    np.savez(points, keypoints3d=joints.numpy())
    options = ["fit", str(points), "--out", str(out), "--prior", "none", "--iterations", "3", "--up", "z"]
    assert main(options) == 0
    assert "the people stand along y of the points, which is taken as up" in capsys.readouterr().out
    stood, found = _in_file(out, model)
    assert str(found["up_axis"]) == "z" and float(stood[0, 15, 2] - stood[0, 7, 2]) > 1
    np.savez(points, keypoints3d=joints[..., [1, 0, 2]].numpy())
    assert main(options) == 2 and "--points-up" in capsys.readouterr().err
    assert main(["fit", str(points), "--out", str(points), "--prior", "none"]) == 2
    assert "--out: expected another file than the keypoints" in capsys.readouterr().err
