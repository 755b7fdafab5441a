"""Keypoint files that hold something else than their names say: refused with a remedy, or noted, never fitted as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keypoint_samples import F, random_points, save_npz

from poseprior.io.keypoints import KeypointFile, read_keypoints

_POINTS = np.random.default_rng(0).uniform(100, 500, (3, 33, 2))


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
    points = random_points(17)
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
    points = random_points(17)
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
    points = random_points(17)
    points[1] /= 640
    with pytest.raises(
        ValueError, match=r"got 1 of 3 frames \(the first is number 1\) with the whole person within a pixel"
    ):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points))
    points[1, 3:] = np.nan  # three points near the corner of the image may be
    assert len(read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points)).points) == F
