"""Keypoints in `.npz` files: names of confidences, units, layouts and tables of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_samples import F, coco_person, h36m_person, random_points, save_json, save_npz

from poseprior.io.keypoints import read_keypoints
from poseprior.keypoint_layouts import SMPLX_144, layout, layouts_of_length

# -- confidences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["confidence", "conf", "keypoint_scores", "scores", "score", "visibility", "keypoints_visible"]
)
@pytest.mark.parametrize("extra", [(), (1,)])
def test_confidences_by_any_name(key: str, extra: tuple[int, ...], tmp_path: Path) -> None:
    scores = np.random.default_rng(1).uniform(0.1, 1, (F, 133)).astype(np.float32)
    scores[:, 13:17] = 0
    found = read_keypoints(
        save_npz(tmp_path / "x.npz", keypoints=random_points(133), **{key: scores.reshape(F, 133, *extra)})
    )
    np.testing.assert_array_equal(found.confidence.numpy(), scores)
    assert found.points[:, 13:17].isnan().all()


def test_confidences_that_contradict_each_other(tmp_path: Path) -> None:
    ones, halves = np.ones((F, 17)), np.full((F, 17), 0.5)
    same = save_npz(tmp_path / "a.npz", keypoints=random_points(17), conf=ones, scores=ones, layout="coco_17")
    assert (read_keypoints(same).confidence == 1).all()
    with pytest.raises(
        ValueError, match=r"confidence, scores: expected one confidence in b.npz, got several that differ"
    ):
        read_keypoints(save_npz(tmp_path / "b.npz", keypoints=random_points(17), confidence=ones, scores=halves))
    with pytest.raises(ValueError, match=r"expected \(F, K, 2\) beside another confidence .* keypoints\[\.\.\., :2\]"):
        read_keypoints(
            save_npz(tmp_path / "c.npz", keypoints=random_points(33, dimensions=3), visibility=np.ones((F, 33)))
        )
    with pytest.raises(ValueError, match=r"conf: expected \(3, 17\), a number for each point of d.npz, got \(3, 16\)"):
        read_keypoints(save_npz(tmp_path / "d.npz", keypoints=random_points(17), conf=np.ones((F, 16))))


def test_scores_of_people_are_no_confidences_of_points(tmp_path: Path) -> None:
    found = read_keypoints(
        save_npz(tmp_path / "x.npz", keypoints=random_points(17), scores=np.full(F, 0.3), layout="coco_17")
    )
    assert (found.confidence == 1).all() and "'scores' has one number for each frame" in found.notes[0]


def test_a_depth_is_no_confidence(tmp_path: Path) -> None:
    points = random_points(33, dimensions=3)
    points[..., 2] = -0.1
    with pytest.raises(ValueError, match=r"expected finite numbers of 0 or more.* if the last column is a depth"):
        read_keypoints(save_npz(tmp_path / "x.npz", keypoints=points))


# -- layouts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "name"), [(26, "halpe_26"), (136, "halpe_136"), (33, "mediapipe_33"), (70, "mhr_70"), (22, "smpl_22")]
)
def test_layouts_by_their_number_of_points(count: int, name: str, tmp_path: Path) -> None:
    assert read_keypoints(save_npz(tmp_path / "x.npz", keypoints=random_points(count))).layout == name


def test_coco_and_h36m_are_told_apart_by_their_bones(tmp_path: Path) -> None:
    for person, name in ((h36m_person(), "h36m_17"), (coco_person(), "coco_17")):
        assert read_keypoints(save_npz(tmp_path / "x.npz", keypoints=person[None])).layout == name
        flat = np.column_stack((person, np.zeros(17))) / 300
        assert read_keypoints(save_npz(tmp_path / "y.npz", keypoints3d=flat[None])).layout == name
    between = np.random.default_rng(611).normal(400, 100, (17, 2)).astype(np.float32)  # no person at all
    with pytest.raises(ValueError, match="pass layout='coco_17' or layout='h36m_17'"):
        read_keypoints(save_npz(tmp_path / "z.npz", keypoints=between[None]))


def test_a_stored_layout_that_is_not_known_gives_way(tmp_path: Path) -> None:
    for stored, message in (
        ("coco", r"expected one of .*, got 'coco' in k.npz. Did you mean coco_17\? Pass layout= with that"),
        ("coco_wholebody", r"expected 133 points for 'coco_wholebody', which k.npz says, got 17; pass layout="),
    ):
        path = save_npz(tmp_path / "k.npz", keypoints=coco_person()[None], layout=stored)
        with pytest.raises(ValueError, match=message):
            read_keypoints(path)
        found = read_keypoints(path, layout="coco_17")
        assert found.layout == "coco_17" and found.notes == (
            f"not read: layout '{stored}' of k.npz, since another was passed",
        )
        with pytest.raises(ValueError, match="layout: expected 25 points for 'openpose_25', got 17"):
            read_keypoints(path, layout="openpose_25")
    path = save_npz(tmp_path / "k.npz", keypoints=coco_person()[None], layout="coco_17")
    with pytest.raises(ValueError, match=r"which k.npz says, got 'h36m_17'; leave it out"):
        read_keypoints(path, layout="h36m_17")
    for stored in (np.array(["coco_17"]), np.array(b"coco_17")):
        assert read_keypoints(save_npz(path, keypoints=coco_person()[None], layout=stored)).layout == "coco_17"


def test_hands_need_a_side(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "x.npz", keypoints=random_points(21))
    with pytest.raises(ValueError, match="pass layout='mediapipe_left_hand' or layout='mediapipe_right_hand'"):
        read_keypoints(path)
    assert read_keypoints(path, layout="mediapipe_right_hand").layout == "mediapipe_right_hand"
    assert set(layouts_of_length(21)) == {"mediapipe_left_hand", "mediapipe_right_hand"}


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "x.npz", keypoints=random_points(4))
    table = {"wrist": "left_wrist", "button": ("vertex", 3500), "hat": None, "hip": 1}
    own = read_keypoints(path, layout=table).layout
    assert not isinstance(own, str)
    assert own.joints == (20, None, None, 1) and own.vertices == (None, 3500, None, None)
    assert own.names == ("wrist", "button", "hat", "hip")
    for vertex in ({"vertex": 3500}, ["vertex", 3500]):
        stored = save_json(tmp_path / "table.json", {**table, "button": vertex})
        assert read_keypoints(path, layout=stored).layout == own
        assert read_keypoints(path, layout=str(stored)).layout == own
    with pytest.raises(ValueError, match=r"layout: expected 3 points for 'own', got 4 in x.npz"):
        read_keypoints(path, layout={"a": 0, "b": 1, "c": 2})
    for wrong in ("no_such_joint", 144, -1, True, ("vertex", -1), ("face", 3), 1.5):
        with pytest.raises(ValueError, match=r"layout: expected for point 'a' a joint"):
            read_keypoints(path, layout={"a": wrong})
    with pytest.raises(ValueError, match="expected a point or more in the dict, got none"):
        read_keypoints(path, layout={})


def test_where_the_points_of_new_layouts_are() -> None:
    """Against the orders that their authors publish."""
    halpe = layout("halpe_136")
    assert [halpe.names[k] for k in (0, 9, 17, 18, 19, 20, 21, 22, 25)] == [
        "nose", "left_wrist", "crown", "neck", "pelvis", "left_big_toe", "right_big_toe", "left_small_toe", "right_heel",
    ]  # fmt: skip
    assert halpe.names[26] == "face_0" and halpe.names[93] == "face_67"
    assert halpe.names[94:96] == ("left_wrist", "left_thumb1") and halpe.names[135] == "right_pinky_tip"
    pipe = layout("mediapipe_33")
    assert [pipe.names[k] for k in (0, 2, 5, 7, 11, 15, 17, 20, 21, 23, 25, 27, 30, 31)] == [
        "nose", "left_eye", "right_eye", "left_ear", "left_shoulder", "left_wrist", "left_pinky1", "right_index1",
        "left_thumb2", "left_hip", "left_knee", "left_ankle", "right_heel", "left_big_toe",
    ]  # fmt: skip
    mhr = layout("mhr_70")
    assert [mhr.names[k] for k in (0, 5, 9, 14, 15, 20, 21, 24, 25, 28, 41, 42, 62, 63, 69)] == [
        "nose", "left_shoulder", "left_hip", "right_ankle", "left_big_toe", "right_heel", "right_thumb_tip", "right_thumb1",
        "right_index_tip", "right_index1", "right_wrist", "left_thumb_tip", "left_wrist", "left_olecranon", "neck",
    ]  # fmt: skip
    assert mhr.joints[63:69] == (None,) * 6 and SMPLX_144[mhr.joints[21] or 0] == "right_thumb_tip"
    h36m = layout("h36m_17")
    assert [SMPLX_144[j] for j in (h36m.joints[k] for k in (0, 1, 4, 8, 11, 16)) if j is not None] == [
        "pelvis", "right_hip", "left_hip", "neck", "left_shoulder", "right_wrist",
    ]  # fmt: skip
    assert torch.equal(torch.tensor(layout("smpl_24").joints[:22]), torch.arange(22))
