"""Keypoints in `.npz` files: names of confidences, units, layouts and tables of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_samples import F, coco_person, h36m_person, random_points, save_json, save_npz
from numpy.typing import NDArray

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


# -- units -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", ["normalised", "normalised_centred"])
def test_normalised_coordinates(units: str, tmp_path: Path) -> None:
    size, points = np.array([1280, 720], np.float32), random_points(133)
    stored = points / size if units == "normalised" else 2 * points / size - 1
    path = save_npz(tmp_path / "x.npz", keypoints=stored)
    with pytest.raises(ValueError, match=rf"normalised to .*pass units='{units}' with image_size=\(width, height\)"):
        read_keypoints(path)
    with pytest.raises(ValueError, match=r"image_size: expected \(width, height\) in pixels with units="):
        read_keypoints(path, units=units)
    found = read_keypoints(path, units=units, image_size=(1280, 720))
    np.testing.assert_allclose(found.points.numpy(), points, atol=1e-3)
    assert found.image_size == (1280, 720)
    told = save_npz(tmp_path / "y.npz", keypoints=stored, image_size=size)
    np.testing.assert_allclose(read_keypoints(told, units=units).points.numpy(), points, atol=1e-3)
    pixels = save_npz(tmp_path / "z.npz", keypoints=points)
    with pytest.raises(ValueError, match=r"expected coordinates around \[-?[01], 1\] for"):
        read_keypoints(pixels, units=units, image_size=(1280, 720))


@pytest.mark.parametrize("kind", ["npz", "json"])
def test_legs_below_the_image_of_a_webcam(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform((0.2, 0.1), (0.8, 0.9), (20, 33, 2))
    points[7] = rng.uniform((0.2, 0.1), (0.8, 2.4), (33, 2))  # one such frame among others
    points[9] = rng.uniform((0.2, 0.1), (0.8, 6.0), (33, 2))  # half of it between the two units

    def save(points: NDArray[np.float64]) -> Path:
        if kind == "npz":
            return save_npz(tmp_path / "x.npz", keypoints=points)
        (tmp_path / "x").mkdir(exist_ok=True)
        for k, frame in enumerate(points):
            listed = [{"x": float(x), "y": float(y), "z": -0.1, "visibility": 0.9} for x, y in frame]
            save_json(tmp_path / "x" / f"{k:02d}.json", {"pose_landmarks": [listed]})
        return tmp_path / "x"

    for some in (points, points[7:8].repeat(20, 0)):
        path = save(some)
        found = read_keypoints(path, units="normalised", image_size=(640, 480))
        np.testing.assert_allclose(found.points.numpy(), some * (640, 480), rtol=1e-5)
        with pytest.raises(ValueError, match=r"normalised to \[0, 1\]; pass units='normalised' with image_size="):
            read_keypoints(path)
    far = save(points[9:10].repeat(20, 0))
    with pytest.raises(ValueError, match=r"pass .*units='normalised' with image_size="):
        read_keypoints(far)
    assert read_keypoints(far, units="normalised", image_size=(640, 480)).points.shape == (20, 33, 2)
    points[3] *= 640
    with pytest.raises(
        ValueError, match=r"in every frame.*, got (1 of 20 frames|normalised coordinates in frame 19 and)"
    ):
        read_keypoints(save(points), units="normalised", image_size=(640, 480))
    np.testing.assert_allclose(read_keypoints(save(points[3:4].repeat(20, 0))).points[0].numpy(), points[3], rtol=1e-5)


def test_coordinates_that_may_be_pixels_or_normalised(tmp_path: Path) -> None:
    points = random_points(133) / 100
    path = save_npz(tmp_path / "x.npz", keypoints=points)
    with pytest.raises(ValueError, match=r"may be pixels or normalised.* pass units='pixels', or units='normalised'"):
        read_keypoints(path)
    np.testing.assert_array_equal(read_keypoints(path, units="pixels").points.numpy(), points)
    np.testing.assert_allclose(
        read_keypoints(path, units="normalised", image_size=(10, 10)).points.numpy(), points * 10, rtol=1e-6
    )


@pytest.mark.parametrize(("units", "scale"), [("mm", 1000.0), ("cm", 100.0), ("m", 1.0)])
@pytest.mark.parametrize("hand", [False, True])
def test_millimetres_and_centimetres(units: str, scale: float, hand: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    metres = rng.uniform(0, 0.18 if hand else 1.7, (F, 21 if hand else 55, 3)).astype(np.float32)
    name = "mediapipe_left_hand" if hand else "smplx_55"
    path = save_npz(tmp_path / "x.npz", keypoints3d=metres * scale, layout=name)
    np.testing.assert_allclose(read_keypoints(path, units=units).points.numpy(), metres, rtol=1e-5)
    if units == "m":
        np.testing.assert_array_equal(read_keypoints(path).points.numpy(), metres)
        return
    what = "hand" if hand else "person"
    with pytest.raises(
        ValueError, match=rf"got a {what} of [\d,]+ units, which looks like {units}; pass units='{units}'"
    ):
        read_keypoints(path)
    if units == "cm":
        return
    with pytest.raises(ValueError, match=rf"expected cm, got a {what} of [\d,.]+ units.*pass .*units='{units}'"):
        read_keypoints(path, units="cm")


@pytest.mark.parametrize("size", [[180, 100, 50], [90, 60, 40], [400, 250, 200]])
def test_the_size_of_what_the_points_are_of(size: list[int], tmp_path: Path) -> None:
    """A hand in millimetres is no person in centimetres, whether the layout has no more or no more was found."""
    points = np.random.default_rng(0).uniform(0, 1, (5, 55, 3)) * size
    seen = np.zeros((5, 55))
    if size[0] == 400:  # an upper body
        seen[:, 9:22] = 1
    else:
        seen[:, 40:55] = 1
        hand = save_npz(tmp_path / "h.npz", keypoints3d=points[:, :21])
        with pytest.raises(ValueError, match=r"got a hand of \d+ units, which looks like mm; pass units='mm'"):
            read_keypoints(hand, layout="mediapipe_right_hand")
        np.testing.assert_allclose(
            read_keypoints(hand, layout="mediapipe_right_hand", units="mm").points.numpy(),
            points[:, :21] / 1000,
            rtol=1e-5,
        )
    path = save_npz(tmp_path / "b.npz", keypoints3d=points, confidence=seen)
    with pytest.raises(ValueError, match=r"units, which looks like mm; pass units='mm'"):
        read_keypoints(path)
    assert float(read_keypoints(path, units="mm").points.nan_to_num().max()) < 0.4


def test_sizes_of_two_units_name_both(tmp_path: Path) -> None:
    path = save_npz(
        tmp_path / "x.npz", keypoints3d=np.random.default_rng(0).uniform(0, 250, (5, 55, 3)), layout="smplx_55"
    )
    with pytest.raises(ValueError, match=r"is 2.5 m in cm or 0.2\d m in mm; pass units='cm' or units='mm'"):
        read_keypoints(path)
    path = save_npz(tmp_path / "x.npz", keypoints3d=np.random.default_rng(0).uniform(0, 1e6, (5, 55, 3)))
    with pytest.raises(ValueError, match="which no person has in m, cm or mm; rescale them, and save metres"):
        read_keypoints(path)


def test_millimetres_of_few_points_or_few_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = {"a": "pelvis", "b": "head", "c": "left_wrist"}
    for count in (2, 3):
        few = save_npz(tmp_path / "few.npz", keypoints3d=rng.uniform(0, 1700, (5, count, 3)))
        with pytest.raises(ValueError, match="which looks like mm; pass units='mm'"):
            read_keypoints(few, layout=dict(list(table.items())[:count]))
    points = rng.uniform(0, 1.7, (8, 24, 3))
    seen = np.zeros((8, 24))
    seen[:, :3] = 1
    with pytest.raises(ValueError, match="which looks like mm; pass units='mm'"):
        read_keypoints(save_npz(tmp_path / "x.npz", keypoints3d=points * 1000, confidence=seen))
    for factor, how in ((1000, "more than 4 m"), (100, "more than 4 m"), (0.001, "less than 0.01 m")):
        odd = points.copy()
        odd[3:5] *= factor
        with pytest.raises(ValueError, match=rf"got 2 of 8 frames \(the first is number 3\) with a person of {how}"):
            read_keypoints(save_npz(tmp_path / "x.npz", keypoints3d=odd))
    for count in (1, 4):
        odd = points.copy()
        odd[:count] *= 100
        with pytest.raises(ValueError, match="of another size than in the others"):
            read_keypoints(save_npz(tmp_path / "x.npz", keypoints3d=odd), units="cm")
    points[2, 5] = 300.0  # one point that a triangulation threw far away
    assert len(read_keypoints(save_npz(tmp_path / "x.npz", keypoints3d=points)).points) == 8


def test_persons_within_a_pixel_or_a_centimetre(tmp_path: Path) -> None:
    points = random_points(133) / 1000 + 300
    with pytest.raises(ValueError, match=r"expected pixels, got whole persons of 0.5\d pixels"):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=points))
    one = np.ones((F, 133), np.float32)
    one[:, 1:] = 0
    assert read_keypoints(save_npz(tmp_path / "b.npz", keypoints=points, confidence=one)).points.shape == (F, 133, 2)
    with pytest.raises(ValueError, match=r"got a person of 0.0005\d units, which no person has in m, cm or mm"):
        read_keypoints(
            save_npz(tmp_path / "c.npz", keypoints3d=random_points(55, dimensions=3) / 1e6, layout="smplx_55")
        )


def test_units_of_the_other_kind(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="expected one of pixels, normalised, normalised_centred, normalised_centred_by_width for 2D, got 'mm'"
    ):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=random_points(133)), units="mm")
    with pytest.raises(ValueError, match="units: expected one of m, cm, mm for 3D keypoints, got 'pixels'"):
        read_keypoints(save_npz(tmp_path / "b.npz", keypoints3d=random_points(55, dimensions=3)), units="pixels")


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
