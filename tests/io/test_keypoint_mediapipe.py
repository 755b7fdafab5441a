"""Keypoints in the JSON of MediaPipe: landmarks of bodies and of hands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keypoint_samples import random_points, save_json

from poseprior.io.keypoints import read_keypoints


def test_mediapipe(tmp_path: Path) -> None:
    points = random_points(33, 1)[0] / 1000
    listed = [{"x": float(x), "y": float(y), "z": -0.1, "visibility": 0.8} for x, y in points]
    size = (1000.0, 1000.0)
    for content in (listed, {"pose_landmarks": [listed]}, {"poseLandmarks": listed}, {"landmarks": listed}):
        file = save_json(tmp_path / "a.json", content)
        with pytest.raises(ValueError, match="units='normalised'"):
            read_keypoints(file)
        found = read_keypoints(file, units="normalised", image_size=size)
        assert found.layout == "mediapipe_33"
        np.testing.assert_allclose(found.points[0].numpy(), 1000 * points, rtol=1e-5)
        np.testing.assert_allclose(found.confidence.numpy(), 0.8, rtol=1e-6)
    both = {"pose_landmarks": [listed], "pose_world_landmarks": [listed]}
    found = read_keypoints(save_json(tmp_path / "a.json", both), units="normalised", image_size=size)
    assert found.notes == ("not read: pose_world_landmarks, in a.json",)
    hand = [{"x": one["x"], "y": one["y"], "visibility": 0.0} for one in listed[:21]]
    file = save_json(tmp_path / "hand.json", {"hand_landmarks": [hand]})
    found = read_keypoints(file, layout="mediapipe_left_hand", units="normalised", image_size=size)
    np.testing.assert_allclose(found.confidence.numpy(), 1.0)
    with pytest.raises(ValueError, match="got nobody"):
        read_keypoints(save_json(tmp_path / "none.json", {"pose_landmarks": []}))


_SIDES = [
    ["Right", "Left"],
    [[{"category_name": "Right", "score": 0.9, "index": 0}], [{"category_name": "Left", "score": 0.9, "index": 1}]],
    [{"classification": [{"label": "Right"}]}, {"classification": [{"label": "Left"}]}],
    [[{"categoryName": "Right"}], [{"categoryName": "Left"}]],
]


@pytest.mark.parametrize("handedness", _SIDES)
def test_the_hand_of_the_side_that_is_asked(handedness: Any, tmp_path: Path) -> None:
    points = {"right": random_points(21)[0] / 1000, "left": random_points(21, seed=1)[0] / 1000}
    hands = [[{"x": float(x), "y": float(y)} for x, y in points[side]] for side in ("right", "left")]
    size = (1000.0, 1000.0)
    both = save_json(tmp_path / "a.json", {"hand_landmarks": hands, "handedness": handedness})
    own = {f"p{k}": f"left_{name}" for k, name in enumerate(["wrist", *(["index1"] * 20)])}
    for side, layout in (("right", "mediapipe_right_hand"), ("left", "mediapipe_left_hand"), ("left", own)):
        found = read_keypoints(both, layout=layout, units="normalised", image_size=size)
        np.testing.assert_allclose(found.points[0].numpy(), 1000 * points[side], rtol=1e-5)
        assert f"not read: the {'left' if side == 'right' else 'right'} hands of a.json" in found.notes
    with pytest.raises(ValueError, match="pass layout='mediapipe_left_hand' or layout='mediapipe_right_hand'"):
        read_keypoints(both, units="normalised", image_size=size)
    one = save_json(tmp_path / "b.json", {"hand_landmarks": hands[:1], "handedness": handedness[:1]})
    assert read_keypoints(one, units="normalised", image_size=size).layout == "mediapipe_right_hand"
    with pytest.raises(ValueError, match="got one of a left hand; pass layout='mediapipe_right_hand'"):
        read_keypoints(one, layout="mediapipe_left_hand", units="normalised", image_size=size)
    found = read_keypoints(tmp_path, layout="mediapipe_left_hand", units="normalised", image_size=size)
    assert (found.confidence > 0).any(1).tolist() == [True, False]
    for told, message in (
        (handedness[:1], "one for each of the 2 hands of a.json, got 1"),
        (["Both", "Left"], "'Both'"),
    ):
        save_json(tmp_path / "a.json", {"hand_landmarks": hands, "handedness": told})
        with pytest.raises(ValueError, match=f"handedness: expected .*{message}"):
            read_keypoints(both, layout="mediapipe_left_hand")
