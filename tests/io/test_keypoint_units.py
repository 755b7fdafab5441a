"""Units of keypoint files: pixels and metres are read, what is clearly neither is refused or rescaled on request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from keypoint_samples import F, random_points, save_json, save_npz
from numpy.typing import NDArray

from poseprior.io.keypoints import read_keypoints


@pytest.mark.parametrize("units", ["normalised", "normalised_centred", "normalised_centred_by_width"])
def test_normalised_coordinates(units: str, tmp_path: Path) -> None:
    size, points = np.array([1280, 720], np.float32), random_points(133)
    stored = points / size if units == "normalised" else 2 * points / size - 1
    if units == "normalised_centred_by_width":  # as VideoPose3D and MotionBERT have it
        stored = points / 1280 * 2 - np.array([1, 720 / 1280], np.float32)
    path = save_npz(tmp_path / "x.npz", keypoints=stored)
    with pytest.raises(
        ValueError, match=rf"normalised to .*pass .*units='{units}'.* with image_size=\(width, height\)"
    ):
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
        seen[:, 12:22] = 1
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
    points = np.random.default_rng(0).uniform(0, 250, (5, 55, 3))
    whole = save_npz(tmp_path / "x.npz", keypoints3d=points, layout="smplx_55")
    with pytest.raises(ValueError, match="units, which looks like cm; pass units='cm'"):
        read_keypoints(whole)
    points[:, [7, 8, 10, 11]] = np.nan  # no feet: half a person may be 0.25 m
    path = save_npz(tmp_path / "x.npz", keypoints3d=points, layout="smplx_55")
    with pytest.raises(ValueError, match=r"is 2.5 m in cm or 0.2\d m in mm; pass units='cm' or units='mm'"):
        read_keypoints(path)
    path = save_npz(tmp_path / "x.npz", keypoints3d=np.random.default_rng(0).uniform(0, 1e6, (5, 55, 3)))
    with pytest.raises(
        ValueError, match="which no person has in m, cm or mm; multiply the points by the metres in a unit"
    ):
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
        ValueError,
        match="normalised_centred, normalised_centred_by_width for 2D keypoints, got 'mm'",
    ):
        read_keypoints(save_npz(tmp_path / "a.npz", keypoints=random_points(133)), units="mm")
    with pytest.raises(ValueError, match=r"units: expected one of m, cm, mm for 3D keypoints, got 'pixels'"):
        read_keypoints(save_npz(tmp_path / "b.npz", keypoints3d=random_points(55, dimensions=3)), units="pixels")


@pytest.mark.parametrize("metres", [0.0254, 0.3048, 0.0564])
def test_inches_and_feet_are_no_centimetres(metres: float, tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(0, 1.75, (5, 55, 3)) / metres
    path = save_npz(tmp_path / "x.npz", keypoints3d=points, layout="smplx_55")
    with pytest.raises(
        ValueError, match=r"no person has in m, cm or mm; multiply .* \(an inch has 0.0254, a foot 0.3048\)"
    ):
        read_keypoints(path)
    save_npz(path, keypoints3d=points * metres, layout="smplx_55")
    assert read_keypoints(path).points.shape == (5, 55, 3)


def test_units_that_the_file_says(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(0, 1.7, (5, 55, 3))
    for key, told in (("units", "mm"), ("unit", "Millimeters")):
        path = save_npz(tmp_path / "x.npz", keypoints3d=points * 1000, layout="smplx_55", **{key: told})
        np.testing.assert_allclose(read_keypoints(path).points.numpy(), points, rtol=1e-5)
        assert read_keypoints(path, units="mm").notes == ()
        with pytest.raises(ValueError, match=r"units: expected 'mm', which x.npz says, got 'cm'; leave it out"):
            read_keypoints(path, units="cm")
    path = save_npz(tmp_path / "x.npz", keypoints3d=points, units="inch")
    with pytest.raises(ValueError, match=r"units: expected one of m, cm, mm in x.npz, got 'inch'; rescale the points"):
        read_keypoints(path)


def test_centred_by_width_has_no_points_past_the_image(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "x.npz", keypoints=random_points(133) / 325 - 1)  # y up to 0.85
    with pytest.raises(
        ValueError, match=r"expected y within 0.562 of 0, .* pass units='normalised_centred', or another"
    ):
        read_keypoints(path, units="normalised_centred_by_width", image_size=(1280, 720))
    read_keypoints(path, units="normalised_centred", image_size=(1280, 720))


def test_world_landmarks_are_no_landmarks_of_an_image(tmp_path: Path) -> None:
    world = [{"x": float(x), "y": float(y), "z": 0.1} for x, y in random_points(33)[0] / 325 - 1]
    for content in (world, {"landmarks": world}):
        for options in ({}, {"units": "normalised", "image_size": (640, 480)}):
            with pytest.raises(ValueError, match=r"world landmarks are, metres about the hips; save .* keypoints3d"):
                read_keypoints(save_json(tmp_path / "x.json", content), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got world landmarks alone, metres about the hips; save them as keypoints3d"):
        read_keypoints(save_json(tmp_path / "x.json", {"pose_world_landmarks": [world]}))
