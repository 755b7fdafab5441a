"""Options of `read_poses`: a wrong type, or an option that nothing in the file needs, is one ValueError that names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poseprior.io import PoseDataset, read_poses, write_poses

_EYES = (np.eye(45), np.eye(45))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", poses=np.random.default_rng(0).normal(0, 0.1, (4, 165)).astype(np.float32))
    return tmp_path / "a.npz"


_TEXT: list[Any] = [5, [], b"x", True]
_WRONG: dict[str, list[Any]] = {
    "layout": [5, True, b"smplx", {"a": 1}, []],
    "rotations": [5, [], {"poses": []}, True],
    "ignore": [5, (1,), {"poses": 1}],
    "group": _TEXT,
    "context": _TEXT,
    "subject": _TEXT,
    "model_type": [*_TEXT, "smplz"],
    "constant_parts_unobserved": [1, "no", []],
    "flat_hand_mean": [1, "no", []],
    "hands_components": [5, "xy", (1, 2), (object(), object()), _EYES[:1]],
    "hands_mean": [5, "xy", (1, 2), (np.zeros(4), np.zeros(4))],
    "num_pca_comps": [0, 46, 5.5, "6", True],
    "fps": [0, -1, "30", float("nan"), True],
    "target_fps": [0, -1, "30", float("nan"), True],
    "split": [5, ""],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in _WRONG.items() for value in values])
def test_values_that_an_option_does_not_take(file: Path, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^({file}: )?{name}: expected"):
        read_poses(file, **{name: value})


@pytest.mark.parametrize("path", [5, None, "", b"a.npz", {"a": 1}, float("nan")])
def test_what_is_no_path(path: Any) -> None:
    for entry in (path, [path]):
        with pytest.raises(ValueError, match=r"^path: expected a path, got"):
            read_poses(entry)


def test_a_file_given_twice(file: Path) -> None:
    with pytest.raises(ValueError, match=r"path: expected each file once, got .*a.npz more than once"):
        read_poses([file, file])
    assert len(read_poses(file.parent.glob("*.npz"))) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option", [{"flat_hand_mean": True}, {"hands_mean": (np.ones(45), np.ones(45))}, {"hands_components": _EYES}]
)
def test_how_hands_are_stored_is_about_hands_that_stand_apart(file: Path, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(option))}: expected something in .* that needs it"):
        read_poses(file, **option)
    hands = np.random.default_rng(1).normal(0, 0.1, (4, 45))
    np.savez(file, body_pose=np.ones((4, 63)), left_hand_pose=hands)
    shift = 1.0 if "hands_mean" in option else 0.0
    assert np.allclose(read_poses(file, **option).poses[:, 25:40].flatten(1), hands + shift, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "model"),
    [("smplx_locked_head", 55), ("SMPL-X", 55), ("smpl_x", 55), ("smplh", 52), ("SMPL+H", 52), ("smpl_neutral", 24)],
)
def test_names_of_models(tmp_path: Path, said: str, model: int) -> None:
    poses = np.random.default_rng(0).normal(0, 0.1, (4, 3 * model))
    np.savez(tmp_path / "a.npz", poses=poses, surface_model_type=said)
    assert len(read_poses(tmp_path / "a.npz").observed_joints) == {55: 55, 52: 52, 24: 22}[model]


def test_a_mean_hand_that_a_file_names_beside_whole_poses_is_noted(file: Path) -> None:
    np.savez(file, poses=np.random.default_rng(0).normal(0, 0.1, (4, 165)), flat_hand_mean=False)
    assert "flat_hand_mean=False of the file is about hands that stand apart" in read_poses(file).notes[0]


def test_names_of_joints_that_are_not_smplx_are_noted(file: Path) -> None:
    for names in (["a"] * 55, ["pelvis"] * 55, ["pelvis"]):
        np.savez(file, poses=np.random.default_rng(0).normal(0, 0.1, (4, 165)), joint_names=names)
        assert "joint_names of the file are not 55 different names" in read_poses(file).notes[0]


def test_a_pipe_is_no_pose_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.npz")
    with pytest.raises(ValueError, match=r"got .*p.npz, a pipe or a device; save it as a file"):
        read_poses(tmp_path / "p.npz")


def test_wrong_types_in_the_methods_of_a_data_set(tmp_path: Path) -> None:
    data = PoseDataset(torch.zeros(2, 55, 3))
    calls: dict[str, Callable[[], object]] = {
        "threshold_deg": lambda: data.thin("a"),  # type: ignore[arg-type]
        "fps": lambda: PoseDataset(data.poses, fps=30.0).subsample("a"),  # type: ignore[arg-type]
        "datasets": lambda: PoseDataset.concat([data, 5]),  # type: ignore[list-item]
        "path": lambda: write_poses(None, data),  # type: ignore[arg-type]
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{name}: expected"):
            call()
