"""What arrays are of: joints that are listed, hands whose sides are told, single poses, points and coefficients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
from numpy.typing import NDArray

from poseprior.io import PoseDataset, read_poses
from poseprior.kinematics import joint_positions
from poseprior.skeleton import JOINT_NAMES

N = 40
J = np.array(JOINT_NAMES)
LEFT, RIGHT = slice(25, 40), slice(40, 55)


def _some(*shape: int, scale: float = 0.2, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.0, scale, shape).astype(np.float32)


def _save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def _close(found: PoseDataset, joints: slice, wanted: NDArray[Any]) -> None:
    np.testing.assert_allclose(found.poses[:, joints].numpy(), wanted, atol=1e-5)


# -- listed joints ---------------------------------------------------------------------------------------------------


def test_listed_joints_of_a_body_are_read_in_their_places(tmp_path: Path) -> None:
    body, order = _some(N, 21, 3), np.argsort(J[1:22])
    path = _save(tmp_path / "x.npz", body_pose=body[:, order], joint_names=J[1:22][order])
    _close(read_poses(path), slice(1, 22), body)
    path = _save(tmp_path / "x.npz", body_pose=body[:, order], joint_names=J[1:22][order].astype("S"))
    _close(read_poses(path), slice(1, 22), body)
    path = _save(tmp_path / "x.npz", body_pose=body[:, order])
    _close(read_poses(path, layout=list(J[1:22][order])), slice(1, 22), body)


def test_listed_joints_of_hands_are_read_in_their_places(tmp_path: Path) -> None:
    left, right, order = _some(N, 15, 3), _some(N, 15, 3, seed=1), np.arange(15)[::-1]
    wrist = _some(N, 1, 3)
    for names, stored in (
        (J[LEFT][order], right[:, order]),
        (["right_wrist", *J[RIGHT][order]], np.concatenate([wrist, right[:, order]], 1)),
    ):
        path = _save(tmp_path / "x.npz", hand_pose=stored, side=1, joint_names=names)
        _close(read_poses(path), RIGHT, right)
    both = np.concatenate([right[:, order], left[:, order]], 1)
    path = _save(tmp_path / "x.npz", hand_pose=both, joint_names=[*J[RIGHT][order], *J[LEFT][order]])
    found = read_poses(path)
    _close(found, LEFT, left)
    _close(found, RIGHT, right)


def test_joint_names_of_smpl_in_another_order(tmp_path: Path) -> None:
    body, order = _some(N, 22, 3), [0, *range(21, 0, -1)]
    stored = np.concatenate([body[:, order], np.zeros((N, 2, 3), np.float32)], 1)
    path = _save(tmp_path / "x.npz", poses=stored, joint_names=[*J[order], "left_hand", "right_hand"])
    _close(read_poses(path), slice(0, 22), body)


def test_names_in_another_order_than_the_array_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", global_orient=_some(N, 3), body_pose=_some(N, 63), joint_names=J[:22][::-1])
    with pytest.raises(ValueError, match=r"key 'joint_names': .*got 22 \(right_wrist, .*ignore=\('joint_names',\)"):
        read_poses(path)
    assert len(read_poses(path, ignore=("joint_names",))) == N
    keypoints = ["nose", "neck", "right_shoulder", "right_elbow", "left_shoulder"]  # of something else
    assert len(read_poses(_save(tmp_path / "x.npz", body_pose=_some(N, 63), joint_names=keypoints))) == N
    assert len(read_poses(_save(tmp_path / "x.npz", body_pose=_some(N, 63), joint_names=J))) == N


# -- sides -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(45,), (15, 3)])
def test_two_hands_of_one_side_are_no_pair(shape: tuple[int, ...], tmp_path: Path) -> None:
    hands = _some(2, 15, 3)
    path = _save(tmp_path / "x.npz", hand_pose=hands.reshape(2, *shape), is_right=np.ones(2))
    found = read_poses(path)
    assert len(found) == 2 and not found.observed[:, LEFT].any()
    _close(found, RIGHT, hands)
    alone = _save(tmp_path / "y.npz", hand_pose=hands.reshape(2, *shape))
    _close(read_poses(alone, side="right"), RIGHT, hands)
    with pytest.raises(ValueError, match=r"may be two poses of one hand, or both hands of one pose; pass side='left'"):
        read_poses(alone)
    pair = read_poses(_save(tmp_path / "y.npz", hand_pose=hands.reshape(2, *shape)[None]))
    _close(pair, LEFT, hands[:1])
    _close(pair, RIGHT, hands[1:])


@pytest.mark.parametrize(
    "sides",
    [
        {"is_right": np.array([1, 0])},
        {"is_right": np.tile([1, 0], (N, 1))},
        {"handedness": np.array(["right", "left"])},
    ],
)
def test_a_pair_is_in_the_order_that_its_sides_say(sides: dict[str, Any], tmp_path: Path) -> None:
    left, right = _some(N, 15, 3), _some(N, 15, 3, seed=1)
    for stored in (np.stack([right, left], 1), np.concatenate([right, left], 1)):
        found = read_poses(_save(tmp_path / "x.npz", hand_pose=stored, **sides))
        _close(found, LEFT, left)
        _close(found, RIGHT, right)


def test_sides_that_are_not_of_a_pair_are_refused(tmp_path: Path) -> None:
    pair = _some(N, 2, 15, 3)
    for sides in (np.ones(N), np.ones(2), np.ones((N, 2))):
        path = _save(tmp_path / "x.npz", hand_pose=pair, is_right=sides)
        with pytest.raises(
            ValueError, match=r"key 'is_right': expected .* pass ignore=\('is_right',\) if the left hand"
        ):
            read_poses(path)
        _close(read_poses(path, ignore=("is_right",)), LEFT, pair[:, 0])


# -- forms -----------------------------------------------------------------------------------------------------------


def test_a_single_matrix_is_one_pose(tmp_path: Path) -> None:
    pose = torch.from_numpy(_some(23, 3))
    matrix = roma.rotvec_to_rotmat(pose).numpy()
    path = _save(tmp_path / "x.npz", global_orient=matrix[0], body_pose=matrix[1:22], jaw_pose=matrix[22])
    _close(read_poses(path), slice(0, 23), pose[None].numpy())


def test_hands_as_matrices_need_no_word(tmp_path: Path) -> None:
    hands = torch.from_numpy(_some(N, 2, 15, 3))
    matrix = roma.rotvec_to_rotmat(hands).numpy()
    for key, stored in (("hand_pose", matrix), ("hand_pose", matrix.reshape(N, 30, 3, 3)), ("poses", matrix)):
        found = read_poses(_save(tmp_path / "x.npz", **{key: stored}))
        _close(found, LEFT, hands[:, 0].numpy())
        _close(found, RIGHT, hands[:, 1].numpy())
    wrist = np.concatenate([matrix[:, 0, :1], matrix[:, 0]], 1)
    for key in ("poses", "hand_pose"):
        _close(read_poses(_save(tmp_path / "x.npz", **{key: wrist}), side="right"), RIGHT, hands[:, 0].numpy())
    told = _save(tmp_path / "x.npz", poses=wrist.reshape(N, 144))
    _close(read_poses(told, rotations="matrix", side="right"), RIGHT, hands[:, 0].numpy())


@pytest.mark.parametrize("form", ["6d_rows", "6d_columns", "6d_interleaved"])
def test_halves_of_matrices_are_no_rotvecs(form: str, tmp_path: Path) -> None:
    hand = torch.from_numpy(_some(N, 15, 3)).double()
    matrix = roma.rotvec_to_rotmat(hand)
    halves = {"6d_rows": matrix[..., :2, :], "6d_columns": matrix[..., :2].mT, "6d_interleaved": matrix[..., :2]}[form]
    path = _save(tmp_path / "x.npz", hand_pose=halves.reshape(N, 90).numpy())
    with pytest.raises(ValueError, match=rf"got \(40, 90\), pairs of orthonormal vectors.*rotations='{form}'"):
        read_poses(path)
    _close(read_poses(path, rotations=form, side="left"), LEFT, hand.numpy())


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_points_are_no_rotations(noise: float, tmp_path: Path) -> None:
    pose = torch.zeros(200, 55, 3)
    pose[:, :22] = torch.from_numpy(_some(200, 22, 3, scale=0.3))
    points = joint_positions(pose)[:, :22].numpy()
    points[100:] *= 1.1  # another person
    points = points + _some(*points.shape, scale=noise, seed=1)
    arrays = {"poses": np.concatenate([points, points[:, 20:22] + 0.08], 1)}
    for stored in (arrays, {"global_orient": _some(200, 3), "body_pose": points[:, 1:22]}):
        path = _save(tmp_path / "x.npz", **stored)
        with pytest.raises(ValueError, match=r"expected rotations, got points: .* pass rotations='rotvec' if"):
            read_poses(path)
        assert len(read_poses(path, rotations="rotvec")) == 200


def test_coefficients_of_ordinary_size_are_no_rotations(tmp_path: Path) -> None:
    coefficients = _some(N, 45, scale=1.0) * np.geomspace(1.4, 0.05, 45, dtype=np.float32)
    path = _save(tmp_path / "x.npz", hand_pose=coefficients, is_right=1)
    with pytest.raises(ValueError, match=r"columns that spread less and less, .* pass num_pca_comps=45"):
        read_poses(path)


@pytest.mark.parametrize("count", [22, 24])
def test_a_body_with_the_root_inside_says_what_to_save(count: int, tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", body_pose=_some(N, count, 3), jaw_pose=_some(N, 3))
    with pytest.raises(ValueError, match=rf"expected 21 body joints, got {count}, .* as with the root before them"):
        read_poses(path)


def test_matrices_that_are_no_rotations_are_named_as_matrices(tmp_path: Path) -> None:
    matrix = roma.rotvec_to_rotmat(torch.from_numpy(_some(N, 22, 3))).numpy()
    matrix[3] = 0
    path = _save(tmp_path / "x.npz", global_orient=matrix[:, :1], body_pose=matrix[:, 1:])
    with pytest.raises(ValueError, match=r"if it holds rotation matrices: pass rotations='matrix'"):
        read_poses(path)
    with pytest.raises(ValueError, match=r"in 1 of 40 rows \(3\); drop these rows"):
        read_poses(path, rotations="matrix")
