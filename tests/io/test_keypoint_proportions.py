"""Points of another layout with as many points are refused: nobody said the order, and its bones are no person's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_samples import random_points, save_json, save_npz, with_confidence
from numpy.typing import NDArray

from poseprior.io import synthetic_poses
from poseprior.io.keypoints import read_keypoints
from poseprior.keypoint_layouts import LAYOUTS, SMPLX_144, layout, layouts_of_length
from poseprior.kinematics import joint_positions

#: Layouts that their number of points alone decides.
_BY_COUNT = [name for name in LAYOUTS if len(layouts_of_length(len(layout(name)))) == 1]
_REFUSED = "the only layout of so many, got bones that no person has in it; pass your own table"
#: The 25 joints of a Kinect v2 and of NTU RGB+D.
_KINECT = (
    "pelvis", "spine3", "neck", "head", "left_shoulder", "left_elbow", "left_wrist", "left_middle1", "right_shoulder",
    "right_elbow", "right_wrist", "right_middle1", "left_hip", "left_knee", "left_ankle", "left_foot", "right_hip",
    "right_knee", "right_ankle", "right_foot", "neck", "left_middle3", "left_thumb3", "right_middle3", "right_thumb3",
)  # fmt: skip


def _joints(frames: int) -> NDArray[np.float32]:
    """(F, 55, 3) metres: people in many poses."""
    pose = synthetic_poses(max(frames, 10), seed=0).poses[:frames].clone()
    pose[:, 0] = torch.tensor([0.0, 0.7, 0.0])
    return joint_positions(pose).numpy()


def _save(folder: Path, points: NDArray[np.float32]) -> Path:
    key = "keypoints3d" if points.shape[-1] == 3 else "keypoints"
    return save_npz(folder / "a.npz", **{key: points})


def _metres(name: str, frames: int) -> NDArray[np.float32]:
    return random_points(len(layout(name)), frames, 3) / 250


@pytest.mark.parametrize("name", _BY_COUNT)
def test_the_right_order_is_read_and_most_others_are_not(name: str, tmp_path: Path) -> None:
    """In pixels and metres. Of 22 and 24 points in 2D many orders have bones that a person may have."""
    count, rng = len(layout(name)), np.random.default_rng(0)
    for points in (random_points(count, 8), _metres(name, 8)):
        for some in (points, points[:1]):
            assert read_keypoints(_save(tmp_path, some)).layout == name
        refused = 0
        for _ in range(20):
            path = _save(tmp_path, points[:, rng.permutation(count)])
            try:
                read_keypoints(path)
            except ValueError as error:
                refused += f"in the order of '{name}', {_REFUSED}" in str(error)
                assert read_keypoints(path, layout=name).layout == name
        assert refused >= (4 if count < 25 and points.shape[-1] == 2 else 14)


def test_what_the_file_says_is_taken_and_half_a_person_says_little(tmp_path: Path) -> None:
    mixed = random_points(133, 8)[:, np.random.default_rng(0).permutation(133)]
    with pytest.raises(ValueError, match=_REFUSED + ".*or layout='coco_wholebody' if they are"):
        read_keypoints(_save(tmp_path, mixed))
    assert read_keypoints(save_npz(tmp_path / "b.npz", keypoints=mixed, layout="coco_wholebody")).notes == ()
    mixed[:, 8:] = np.nan
    assert read_keypoints(_save(tmp_path, mixed)).layout == "coco_wholebody"


@pytest.mark.parametrize("frames", [2, 40])
def test_joints_of_a_kinect_are_no_openpose(frames: int, tmp_path: Path) -> None:
    points = _of(_joints(frames), _KINECT)
    with pytest.raises(ValueError, match=f"'openpose_25', {_REFUSED}"):
        read_keypoints(_save(tmp_path, points))
    table = {f"{k}": joint for k, joint in enumerate(_KINECT)}
    assert len(read_keypoints(_save(tmp_path, points), layout=table).points) == frames


def test_a_face_is_no_body(tmp_path: Path) -> None:
    """OpenPose's 70 points of it, in an array and in JSON."""
    face = random_points(137, 8)[:, 67:]
    for path in (
        _save(tmp_path, face),
        save_json(tmp_path / "a.json", [{"keypoints": with_confidence(f), "image_id": k} for k, f in enumerate(face)]),
    ):
        with pytest.raises(ValueError, match=f"'mhr_70', {_REFUSED}"):
            read_keypoints(path)


@pytest.mark.parametrize("name", ["smpl_22", "smplx_55"])
def test_people_in_many_poses_are_read(name: str, tmp_path: Path) -> None:
    """Single frames and all of them, with noise, missing points and one that is far away."""
    rng = np.random.default_rng(0)
    every = _of(_joints(60), [SMPLX_144[joint] for joint in layout(name).joints if joint is not None])
    every = (every + rng.normal(0, 0.015, every.shape)).astype(np.float32)
    for points in (every, 500 + 250 * every[..., :2] * [1, -1]):
        for some in (points, *points[:, None]):
            missing = some.copy()
            missing[rng.random(some.shape[:2]) < 0.1] = np.nan
            assert read_keypoints(_save(tmp_path, missing)).layout == name
        points[:, 15] += 1.0 if points.shape[-1] == 3 else 250.0
        assert read_keypoints(_save(tmp_path, points)).layout == name


def test_points_of_little_confidence_do_not_count(tmp_path: Path) -> None:
    """Detectors guess what is outside of the image."""
    points, confidence = random_points(133), np.full((3, 133), 0.9, np.float32)
    away = slice(11, 91)
    points[:, away] = np.random.default_rng(0).uniform(50, 600, (3, 80, 2))
    confidence[:, away] = 0.2
    path = save_npz(tmp_path / "a.npz", keypoints=points, confidence=confidence)
    assert read_keypoints(path).layout == "coco_wholebody"


def _of(joints: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
    return joints[:, [SMPLX_144.index(name) for name in names]]
