"""Keypoint files that hold something else than their names say: refused with a remedy, or noted, never fitted as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keypoint_samples import F, coco_people, coco_person, random_points, save_npz

from poseprior.io.keypoints import KeypointFile, read_keypoints

_POINTS = random_points(33).astype(np.float64)


def _read(folder: Path, arrays: dict[str, Any], **options: Any) -> KeypointFile:
    np.savez(folder / "a.npz", **{"keypoints": _POINTS, **arrays})
    return read_keypoints(folder / "a.npz", **options)


@pytest.mark.parametrize("shape", [(3, 33), (3, 33, 1)])
def test_a_confidence_under_an_unknown_name_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"confidence: expected it under that name in a.npz, got likelihood"):
        _read(tmp_path, {"likelihood": np.full(shape, 0.5)})
    found = _read(tmp_path, {"likelihood": np.full(shape, 0.5), "confidence": np.full((3, 33), 0.7)})
    assert found.notes == (f"not read: likelihood {shape}",) and float(found.confidence[0, 0]) == pytest.approx(0.7)


def test_arrays_that_are_not_read_are_noted(tmp_path: Path) -> None:
    found = _read(tmp_path, {"keypoints_raw": _POINTS, "confidence": np.ones((3, 33)), "bbox": np.zeros((3, 4))})
    assert found.notes == ("not read: keypoints_raw (3, 33, 2), bbox (3, 4)",)


@pytest.mark.parametrize("in_points", [True, False])
def test_flags_and_per_cent_are_no_weights(tmp_path: Path, in_points: bool) -> None:
    def read(values: Any) -> KeypointFile:
        if in_points:
            return _read(tmp_path, {"keypoints": np.concatenate([_POINTS, values[..., None]], -1)})
        return _read(tmp_path, {"visibility": values})

    flags = np.full((3, 33), 2.0)
    flags[0, 0], flags[0, 1] = 0.0, 1.0
    found = read(flags)
    assert torch.equal(found.confidence, torch.from_numpy(np.minimum(flags, 1.0)).float())
    assert "visibilities of COCO" in found.notes[0]
    with pytest.raises(
        ValueError, match=r"expected numbers around 0 to 1 in a.npz, got up to 95; divide per cent by 100"
    ):
        read(np.full((3, 33), 95.0))


def test_points_that_a_program_wrote_as_zeros(tmp_path: Path) -> None:
    points = _POINTS.copy()
    points[1, 4:6] = 0.0
    with pytest.raises(
        ValueError, match=r"got several at the origin in frame 1 of a.npz; mark missing points with NaN"
    ):
        _read(tmp_path, {"keypoints": points})
    points[1, 4:6] = np.nan
    assert not _read(tmp_path, {"keypoints": points}).confidence[1, 4:6].any()
    with pytest.raises(ValueError, match="got all of them at one place in frame 0"):
        _read(tmp_path, {"keypoints": np.full((3, 33, 2), 7.0)})


@pytest.mark.parametrize("size", [5, (1,), (0, 0), (-1, 2), "640x480", (float("nan"), 2), (1e30, 2), (640, 480, 3), []])
def test_sizes_that_no_image_has(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ValueError, match=r"^image_size: expected"):
        _read(tmp_path, {"keypoints": _POINTS / 1000}, units="normalised", image_size=size)


def test_the_size_of_the_file_and_that_of_the_caller_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image_size: expected \(1280.0, 720.0\), which a.npz says"):
        _read(tmp_path, {"image_size": (1280, 720)}, image_size=(640, 480))
    assert _read(tmp_path, {"image_size": (1280, 720)}, image_size=(1280, 720)).image_size == (1280.0, 720.0)


def test_names_for_other_frames(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"names: expected \(3,\), a name for each frame, got \(2,\)"):
        _read(tmp_path, {"names": ["a", "b"]})


def test_a_number_of_points_that_no_layout_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got 16 points in a.npz, which none of them has; pass a table of your own"):
        _read(tmp_path, {"keypoints": _POINTS[:, :16]})


@pytest.mark.parametrize("path", [5, None, "", b"a.npz", []])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(ValueError, match=r"^path: expected a path, got"):
        read_keypoints(path)


def test_frames_of_two_programs_in_one_folder(tmp_path: Path) -> None:
    body = np.column_stack((np.random.default_rng(0).uniform(100, 500, (25, 2)), np.full(25, 0.9)))
    (tmp_path / "0.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": body.ravel().tolist()}]}))
    coco = {"image_id": "1.jpg", "keypoints": body[:17].ravel().tolist()}
    (tmp_path / "1.json").write_text(json.dumps([coco]))
    with pytest.raises(ValueError, match=r"expected frames of one program in .*, got 25 points in 0 and 17 in 1"):
        read_keypoints(tmp_path)
    hands = {"pose_keypoints_2d": body.ravel().tolist(), "hand_left_keypoints_2d": body[:21].ravel().tolist()}
    (tmp_path / "1.json").write_text(json.dumps({"people": [hands]}))
    assert read_keypoints(tmp_path).layout == "openpose_137"


def test_an_axis_of_length_one_is_left_out(tmp_path: Path) -> None:
    points = coco_people()
    for shape in ((F, 1, 17), (1, F, 17)):
        file = save_npz(tmp_path / "a.npz", keypoints=points.reshape(*shape, 2), confidence=np.full(shape, 0.5))
        found = read_keypoints(file)
        np.testing.assert_allclose(found.points.numpy(), points, rtol=1e-6)
        np.testing.assert_allclose(found.confidence.numpy(), 0.5)


@pytest.mark.parametrize(
    ("shape", "fix"),
    [
        ((F, 2, 17, 2), r"keypoints\[:, 0\]"),
        ((F, 17, 4), r"visibility=keypoints\[..., 3\]"),
        ((F, 34), r"reshape\(F, K, -1\)"),
    ],
)
def test_other_shapes_are_refused_with_what_to_save(tmp_path: Path, shape: tuple[int, ...], fix: str) -> None:
    points = np.random.default_rng(0).uniform(50, 600, shape)
    with pytest.raises(ValueError, match=fix):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points))


def test_points_at_minus_one_are_no_points(tmp_path: Path) -> None:
    points = coco_people()
    points[1, 12:] = -1
    with pytest.raises(ValueError, match="several at -1 in frame 1"):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points))
    seen = (points != -1).all(-1)
    assert not bool(
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points, confidence=seen)).confidence[1, 12:].any()
    )


def test_scores_of_as_many_frames_as_points_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for each frame or for each point"):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=random_points(17, 17), scores=np.ones(17)))


def test_files_of_other_kinds_say_how_to_save_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", random_points(17))
    with pytest.raises(ValueError, match="save its points with numpy"):
        read_keypoints(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="rename the array of the points"):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints_3d=random_points(17, dimensions=3)))


def test_frames_of_two_units_are_refused(tmp_path: Path) -> None:
    points = coco_people()
    points[1] /= 640
    with pytest.raises(
        ValueError, match=r"got 1 of 3 frames \(the first is number 1\) with the whole person within a pixel"
    ):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points))
    points[1, 3:] = np.nan  # three points near the corner of the image may be
    assert len(read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points)).points) == F


@pytest.mark.parametrize("place", [0, -1])
def test_one_missing_point_in_each_frame(tmp_path: Path, place: int) -> None:
    points = coco_people()
    points[:, 9] = place
    with pytest.raises(ValueError, match=r"as in other frames, in frame 0 of a.npz; mark missing points with NaN"):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points))
    points[1:, 9] = np.nan  # once it may be the corner of the image
    assert len(read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points, layout="coco_17")).points) == F
    rooted = np.random.default_rng(0).uniform(-0.9, 0.9, (3, 22, 3))
    rooted[:, 0] = 0  # 3D about the pelvis
    assert len(read_keypoints(save_npz(tmp_path / "a.npz", keypoints3d=rooted, layout="smpl_22")).points) == F


@pytest.mark.parametrize("name", ["occluded", "occlusion", "invalid", "missing"])
def test_the_opposite_of_a_confidence(tmp_path: Path, name: str) -> None:
    flags = np.zeros((3, 33))
    with pytest.raises(ValueError, match=rf"got {name} \(3, 33\), which may be its opposite.*confidence=1 - {name}"):
        _read(tmp_path, {name: flags})


@pytest.mark.parametrize("shape", [(F, 1), (F,)])
def test_numbers_for_each_frame_are_no_confidences(tmp_path: Path, shape: tuple[int, ...]) -> None:
    found = _read(tmp_path, {"scores": np.full(shape, 0.3)})
    assert (found.confidence == 1).all() and "'scores' has one number for each frame" in found.notes[0]
    with pytest.raises(ValueError, match=r"conf: expected \(3, 33\) .* got \(3(, 1|,)\), which is no number for each"):
        _read(tmp_path, {"conf": np.full(shape, 0.3)})
    square = np.random.default_rng(0).uniform(100, 500, (33, 33, 2))
    for key in ("conf", "confidence", "visibility"):
        with pytest.raises(ValueError, match="for each frame or for each point"):
            _read(tmp_path, {"keypoints": square, key: np.ones(33)})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"focal_length": "1500"}, r"focal_length: expected 1 or 2 numbers in a.npz, got <U4; save numbers, not text"),
        ({"focal_length": np.ones((3, 2))}, "save those of one camera; cameras by frame need fit_body itself"),
        (
            {"image_size": (1080, 1920, 3)},
            r"got \(1080, 1920, 3\); of the shape .* save image.shape\[1\], image.shape\[0\]",
        ),
        ({"image_size": 640}, "image_size: expected 2 numbers in a.npz, got 1; save both"),
        ({"principal_point": 960.0}, "principal_point: expected 2 numbers in a.npz, got 1; save both"),
    ],
)
def test_cameras_of_another_shape(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, arrays)


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    found = _read(tmp_path, {}, image_size=np.array([1280, 720]), person=np.int64(0))
    assert found.image_size == (1280.0, 720.0)


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ({"pose_keypoints_2d": [], "pose_keypoints_3d": [1.0] * 100}, r"keypoints3d \(F, 25, 3\) in metres"),
        ({"pose_keypoints_2d": [1.0] * 54}, "AlphaPose: without --format open"),
        ({"pose_keypoints_2d": [1.0] * 405}, r"BODY_135; save them in an .npz, keypoints \(F, 135, 3\)"),
    ],
)
def test_other_bodies_of_openpose(tmp_path: Path, person: dict[str, Any], message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"people": [person]}))
    with pytest.raises(ValueError, match=message):
        read_keypoints(tmp_path / "a.json")


def test_parts_of_17_points_and_other_orders_are_refused(tmp_path: Path) -> None:
    few = np.zeros((1, 17))
    few[:, :7] = 1
    another = coco_person()[[0, 1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 3, 4]]  # arms and legs in turn
    for arrays in ({"keypoints": coco_people()[:1], "confidence": few}, {"keypoints": another[None]}):
        with pytest.raises(ValueError, match="pass layout='coco_17' or layout='h36m_17'"):
            read_keypoints(save_npz(tmp_path / "a.npz", **arrays))
