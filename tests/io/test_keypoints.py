"""Keypoint files: what is read, who is followed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_samples import random_points

from poseprior.io.keypoints import read_keypoints


def _person(x: float, *, confidence: float = 0.9, hands: bool = False) -> dict[str, list[float]]:
    def part(count: int, seen: bool = True) -> list[float]:
        return [v for k in range(count) for v in (x + k, 2.0 * k, confidence if seen else 0.0)]

    return {
        "pose_keypoints_2d": part(25), "hand_left_keypoints_2d": part(21) if hands else [],
        "hand_right_keypoints_2d": part(21, hands), "face_keypoints_2d": part(70) if hands else [],
    }  # fmt: skip


def _write(path: Path, *people: dict[str, list[float]]) -> Path:
    path.write_text(json.dumps({"version": 1.3, "people": list(people)}))
    return path


def test_npz_says_what_it_holds(tmp_path: Path) -> None:
    points = np.concatenate([random_points(133), np.full((3, 133, 1), 0.5, np.float32)], -1)
    points[1, 4] = np.nan
    points[1, 4, 2] = 0.7
    np.savez(tmp_path / "a.npz", keypoints=points, focal_length=900.0, image_size=[640, 480])
    found = read_keypoints(tmp_path / "a.npz")
    assert found.layout == "coco_wholebody" and found.points.shape == (3, 133, 2)
    assert found.focal == (900.0, 900.0) and found.center is None and found.image_size == (640.0, 480.0)
    assert float(found.confidence[1, 4]) == 0.0 and float(found.confidence[0, 0]) == 0.5
    np.testing.assert_allclose(found.points[0].numpy(), points[0, :, :2])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("focal_length", np.nan),
        ("focal_length", [900.0, -900.0]),
        ("focal_length", 1e30),
        ("principal_point", [np.inf, 3]),
    ],
)
def test_cameras_that_cannot_be_are_refused(tmp_path: Path, key: str, value: object) -> None:
    points = np.random.default_rng(0).normal(300.0, 100.0, (3, 133, 2))
    np.savez(tmp_path / "a.npz", keypoints=points, **{key: value})
    with pytest.raises(ValueError, match=rf"^{key}: expected pixels.* in a\.npz, got .*; leave it out of the file"):
        read_keypoints(tmp_path / "a.npz")


def test_fragments_and_others_do_not_take_over(tmp_path: Path) -> None:
    ghost = _person(116.0)
    ghost["pose_keypoints_2d"][3:] = [0.0] * 72  # one point, nearer than the person's own
    _write(tmp_path / "a_000.json", _person(100.0), _person(700.0, confidence=0.5))
    _write(tmp_path / "a_001.json", ghost, _person(120.0))
    _write(tmp_path / "a_002.json", _person(700.0))  # only the other one is there
    _write(tmp_path / "a_003.json", _person(700.0), _person(130.0))
    found = read_keypoints(tmp_path)
    assert [int(v) for v in (found.confidence > 0).sum(1)] == [25, 25, 0, 25]
    assert float(found.points[3, 0, 0]) == 130.0
    with pytest.raises(ValueError, match="person: expected an integer of 0 or more, got -1"):
        read_keypoints(tmp_path, person=-1)
    (tmp_path / "a_003.json").write_text('{"people": [null]}')
    with pytest.raises(ValueError, match="people: expected a list of objects"):
        read_keypoints(tmp_path)


def test_npz_in_3d(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", keypoints3d=np.random.default_rng(0).uniform(0, 1.7, (2, 55, 3)), layout="smplx_55")
    found = read_keypoints(tmp_path / "a.npz")
    assert found.points.shape == (2, 55, 3) and found.layout == "smplx_55" and (found.confidence == 1).all()


def test_openpose_folder_follows_one_person(tmp_path: Path) -> None:
    _write(tmp_path / "a_000.json", _person(100.0), _person(500.0, confidence=0.5))
    _write(tmp_path / "a_001.json", _person(505.0, confidence=0.99), _person(104.0, confidence=0.4))
    _write(tmp_path / "a_002.json")
    _write(tmp_path / "a_003.json", _person(108.0))
    found = read_keypoints(tmp_path)
    assert found.layout == "openpose_25" and found.names == ("a_000", "a_001", "a_002", "a_003")
    assert [float(x) for x in found.points[[0, 1, 3], 0, 0]] == [100.0, 104.0, 108.0]
    assert (found.confidence[2] == 0).all() and found.points[2].isnan().all()
    second = read_keypoints(tmp_path, person=1)
    assert [float(x) for x in second.points[:2, 0, 0]] == [500.0, 104.0] and (second.confidence[3] == 0).all()


def test_openpose_hands_and_face(tmp_path: Path) -> None:
    found = read_keypoints(_write(tmp_path / "one.json", _person(1.0, hands=True)))
    assert found.layout == "openpose_137" and found.points.shape == (1, 137, 2)
    assert (found.confidence[0] > 0).all() and torch.equal(found.points[0, 25], torch.tensor([1.0, 0.0]))


def test_clear_errors(tmp_path: Path) -> None:
    def refused(match: str, path: Path, **options: str | int) -> None:
        with pytest.raises(ValueError, match=match):
            read_keypoints(path, **options)  # type: ignore[arg-type]

    refused("is not there", tmp_path / "missing.npz")
    refused("got none in", tmp_path)
    (tmp_path / "half.json").write_text('{"people": [{"pose_keypo')
    refused("broken or cut off", tmp_path / "half.json")
    (tmp_path / "other.json").write_text("[1, 2]")
    refused("JSON of OpenPose", tmp_path / "other.json")
    refused("got nobody", _write(tmp_path / "nobody.json"))
    refused("75 numbers", _write(tmp_path / "coco.json", {"pose_keypoints_2d": [0.0] * 54}))
    (tmp_path / "a.txt").write_text("x")
    refused("expected an .npz", tmp_path / "a.txt")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 half")
    refused("damaged", tmp_path / "cut.npz")
    np.savez(tmp_path / "none.npz", poses=np.zeros(3))
    refused("expected `keypoints`", tmp_path / "none.npz")
    np.savez(tmp_path / "odd.npz", keypoints=np.random.default_rng(0).uniform(100, 500, (1, 135, 2)))
    refused("does not decide it", tmp_path / "odd.npz")
    assert read_keypoints(tmp_path / "odd.npz", layout="openpose_135").layout == "openpose_135"
    refused("expected 25 points", tmp_path / "odd.npz", layout="openpose_25")
    refused("expected one of", tmp_path / "odd.npz", layout="mine")
    np.savez(tmp_path / "nan.npz", keypoints=np.zeros((2, 25, 2)), confidence=np.array([[1.0] * 25, [np.nan] * 25]))
    refused("frame 1", tmp_path / "nan.npz")
    np.savez(
        tmp_path / "says.npz", keypoints=np.random.default_rng(0).uniform(100, 500, (2, 135, 2)), layout="smplifyx_135"
    )
    refused("which says.npz says", tmp_path / "says.npz", layout="openpose_135")
