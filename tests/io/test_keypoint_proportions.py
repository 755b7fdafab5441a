"""Points of another layout with as many points are noted: nobody said the order, and its bones are no person's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_samples import save_json, save_npz, with_confidence
from numpy.typing import NDArray

from poseprior.io import synthetic_poses
from poseprior.io._keypoints.proportions import place_of
from poseprior.io.keypoints import read_keypoints
from poseprior.keypoint_layouts import LAYOUTS, SMPLX_144, layout, layouts_of_length
from poseprior.kinematics import joint_positions

#: Layouts that their number of points alone decides.
_BY_COUNT = [name for name in LAYOUTS if len(layouts_of_length(len(layout(name)))) == 1]
_NOTE = "no person has such bones"
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


def _standing(name: str, frames: int, dimensions: int = 2) -> NDArray[np.float32]:
    """(F, K, 2) pixels or (F, K, 3) metres of a person who stands, with noise. Points that are no joints are at the pelvis."""
    rng = np.random.default_rng(0)
    names = [SMPLX_144[0 if joint is None else joint] for joint in layout(name).joints]
    person = np.array([place_of(joint) or (0, 0, 0) for joint in names])[:, :dimensions]
    moved = 2.5 * person * [1, -1, 1][:dimensions] + rng.uniform(-8, 8, (frames, len(names), dimensions))
    moved = moved + rng.uniform(300, 325, (frames, 1, dimensions))
    return (moved if dimensions == 2 else moved / 250).astype(np.float32)


def _noted(path: Path, name: str) -> bool:
    """Whether the file is read in this layout with the note, and no other. With its name it has none."""
    found, named = read_keypoints(path), read_keypoints(path, layout=name)
    assert found.layout == named.layout == name and named.notes == ()
    assert torch.equal(found.points.nan_to_num(-1), named.points.nan_to_num(-1))
    assert all(note.startswith(_NOTE) and f"in the order of '{name}'" in note for note in found.notes)
    return len(found.notes) == 1


@pytest.mark.parametrize("name", _BY_COUNT)
def test_the_right_order_has_no_note_and_most_others_have(name: str, tmp_path: Path) -> None:
    """In pixels and metres. Of 22 and 24 points in 2D many orders have bones that a person may have."""
    count, rng = len(layout(name)), np.random.default_rng(0)
    for points in (_standing(name, 8), _standing(name, 8, 3)):
        for some in (points, points[:1]):
            assert not _noted(_save(tmp_path, some), name)
        orders = [rng.permutation(count) for _ in range(20)]
        noted = sum(_noted(_save(tmp_path, points[:, order]), name) for order in orders)
        assert noted >= (4 if count < 25 and points.shape[-1] == 2 else 14)


def test_what_the_file_says_is_taken_and_half_a_person_says_little(tmp_path: Path) -> None:
    mixed = _standing("coco_wholebody", 8)[:, np.random.default_rng(0).permutation(133)]
    assert _noted(_save(tmp_path, mixed), "coco_wholebody")
    assert read_keypoints(save_npz(tmp_path / "b.npz", keypoints=mixed, layout="coco_wholebody")).notes == ()
    mixed[:, 8:] = np.nan
    assert not _noted(_save(tmp_path, mixed), "coco_wholebody")


@pytest.mark.parametrize("frames", [2, 40])
def test_joints_of_a_kinect_are_no_openpose(frames: int, tmp_path: Path) -> None:
    points = _of(_joints(frames), _KINECT)
    assert _noted(_save(tmp_path, points), "openpose_25")
    table = {f"{k}": joint for k, joint in enumerate(_KINECT)}
    assert read_keypoints(_save(tmp_path, points), layout=table).notes == ()


def test_a_face_is_no_body(tmp_path: Path) -> None:
    """OpenPose's 70 points of it, in an array and in JSON."""
    face = _standing("openpose_137", 8)[:, 67:]
    for path in (
        _save(tmp_path, face),
        save_json(tmp_path / "a.json", [{"keypoints": with_confidence(f), "image_id": k} for k, f in enumerate(face)]),
    ):
        assert _noted(path, "mhr_70")


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
            assert not _noted(_save(tmp_path, missing), name)
        points[:, 15] += 1.0 if points.shape[-1] == 3 else 250.0
        assert not _noted(_save(tmp_path, points), name)


def test_points_of_little_confidence_do_not_count(tmp_path: Path) -> None:
    """Detectors guess what is outside of the image."""
    points, confidence = _standing("coco_wholebody", 3), np.full((3, 133), 0.9, np.float32)
    away = slice(11, 91)
    points[:, away] = np.random.default_rng(0).uniform(50, 600, (3, 80, 2))
    confidence[:, away] = 0.2
    path = save_npz(tmp_path / "a.npz", keypoints=points, confidence=confidence)
    assert not _noted(path, "coco_wholebody")


def _of(joints: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
    return joints[:, [SMPLX_144.index(name) for name in names]]
