"""Keypoints in the JSON of detectors: OpenPose, AlphaPose, COCO-WholeBody, MMPose, and files that are broken."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounds import bounded
from keypoint_samples import F, coco_person, h36m_person, random_points, save_json, save_npz, with_confidence

from poseprior.io.keypoints import read_keypoints

# -- JSON ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(encoding: str, tmp_path: Path) -> None:
    text = json.dumps({"people": [{"pose_keypoints_2d": with_confidence(random_points(25)[0])}]})
    (tmp_path / "x.json").write_bytes(text.encode(encoding))
    assert encoding == "utf-8" or (tmp_path / "x.json").read_bytes()[:2] in (codecs.BOM_UTF8[:2], codecs.BOM_UTF16)
    np.testing.assert_allclose(read_keypoints(tmp_path / "x.json").points[0].numpy(), random_points(25)[0], rtol=1e-5)


def test_frames_are_in_the_order_of_time_and_keep_their_names(tmp_path: Path) -> None:
    for k in range(12):
        points = np.column_stack((np.linspace(100, 300, 25) + 10 * k, np.linspace(50, 400, 25)))
        save_json(tmp_path / f"video_{k}_keypoints.JSON", {"people": [{"pose_keypoints_2d": with_confidence(points)}]})
    (tmp_path / "._video_3_keypoints.JSON").write_bytes(b"\0\5\x16\7")
    found = read_keypoints(tmp_path)
    assert found.names == tuple(f"video_{k}_keypoints" for k in range(12))
    np.testing.assert_allclose(found.points[:, 0, 0].numpy(), 100 + 10 * np.arange(12))
    names = np.array(["b.jpg", "a.jpg", "c.jpg"])
    told = save_npz(tmp_path / "x.npz", keypoints=random_points(133), image_names=names)
    assert read_keypoints(told).names == ("b.jpg", "a.jpg", "c.jpg")


@pytest.mark.parametrize(
    ("count", "name"), [(17, "coco_17"), (26, "halpe_26"), (133, "coco_wholebody"), (136, "halpe_136")]
)
def test_alphapose(count: int, name: str, tmp_path: Path) -> None:
    points = np.stack([coco_person()] * 11) if count == 17 else random_points(count, 11)
    points += np.linspace(0, 20, 11)[:, None, None].astype(np.float32)
    people = []
    for frame in (10, 2, *(k for k in range(11) if k not in (2, 10))):
        one = {
            "image_id": f"{frame}.jpg",
            "category_id": 1,
            "keypoints": with_confidence(points[0] + 2 * frame),
            "score": 2.9,
        }
        other = {
            "image_id": f"{frame}.jpg",
            "category_id": 1,
            "keypoints": with_confidence(points[0] + 900, 0.4),
            "score": 1.0,
        }
        people += [other, one] if frame % 2 else [one, other]
    found = read_keypoints(save_json(tmp_path / "alphapose-results.json", people))
    assert found.layout == name and found.names == tuple(str(k) for k in range(11))
    for frame in range(11):
        np.testing.assert_allclose(found.points[frame].numpy(), points[0] + 2 * frame, rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["cam.9", "cam.10"], ["cam.9", "cam.10"]),
        (["a/9.jpg", "b/9.jpg"], ["a/9", "b/9"]),
        (["a/9.jpg", "a/10.JPEG"], ["9", "10"]),
        (["9.jpg", "9.png"], ["9.jpg", "9.png"]),
        (["cam.1.9.png", "cam.1.10.png"], ["cam.1.9", "cam.1.10"]),
        ([".jpg", "a.jpg"], [".jpg", "a"]),
        ([9, 10], ["9", "10"]),
    ],
)
def test_names_of_frames_stay_apart(images: list[Any], names: list[str], tmp_path: Path) -> None:
    points = random_points(26)[0]
    people = [{"image_id": image, "keypoints": with_confidence(points + k)} for k, image in enumerate(images)]
    assert read_keypoints(save_json(tmp_path / "x.json", people)).names == tuple(names)
    listed = [{"id": k, "file_name": str(image)} for k, image in enumerate(images)]
    people = [one | {"image_id": k} for k, one in enumerate(people)]
    found = read_keypoints(save_json(tmp_path / "y.json", {"images": listed, "annotations": people}))
    assert found.names == tuple(names)
    np.testing.assert_allclose(found.points[1].numpy(), points + 1, rtol=1e-5)


def test_names_of_frames_of_several_files_stay_apart(tmp_path: Path) -> None:
    for camera in "ab":
        people = [{"image_id": f"{k}.jpg", "keypoints": with_confidence(random_points(26)[0])} for k in range(2)]
        save_json(tmp_path / f"{camera}.json", people)
    assert read_keypoints(tmp_path).names == ("a/0", "a/1", "b/0", "b/1")


def test_coco_wholebody_annotations_and_results(tmp_path: Path) -> None:
    points = random_points(133)
    parts = {"keypoints": slice(0, 17), "foot_kpts": slice(17, 23), "face_kpts": slice(23, 91),
             "lefthand_kpts": slice(91, 112), "righthand_kpts": slice(112, 133)}  # fmt: skip
    each = [{key: points[k, part] for key, part in parts.items()} for k in range(F)]
    results = [{"image_id": k} | {key: with_confidence(part, 0.7) for key, part in each[k].items()} for k in range(F)]
    found = read_keypoints(save_json(tmp_path / "results.json", results))
    assert found.layout == "coco_wholebody" and found.notes == ()
    np.testing.assert_allclose(found.points.numpy(), points, rtol=1e-5)
    flags = [{"image_id": k} | {key: with_confidence(part, 2) for key, part in each[k].items()} for k in range(F)]
    flags[1]["foot_kpts"] = [0] * 18  # type: ignore[index]
    flags[2]["keypoints"][2] = 1  # type: ignore[index]
    images = [{"id": 2, "file_name": "f10.jpg"}, {"id": 0, "file_name": "f1.jpg"}, {"id": 1, "file_name": "f2.jpg"}]
    found = read_keypoints(save_json(tmp_path / "annotations.json", {"images": images, "annotations": flags}))
    assert found.names == ("f1", "f2", "f10") and "visibilities of COCO" in found.notes[0]
    assert not found.confidence[1, 17:23].any() and int(found.confidence.sum()) == F * 133 - 6


def test_mmpose(tmp_path: Path) -> None:
    points = random_points(133, 11)
    points += 3 * np.arange(11)[:, None, None].astype(np.float32)
    frames = [
        {"frame_id": k, "instances": [{"keypoints": (points[0] + k).tolist(), "keypoint_scores": [0.8] * 133}]}
        for k in (10, *range(10))
    ]
    found = read_keypoints(save_json(tmp_path / "video.json", {"meta_info": {}, "instance_info": frames}))
    assert found.layout == "coco_wholebody" and found.names == tuple(map(str, range(11)))
    np.testing.assert_allclose(found.points[10].numpy(), points[0] + 10, rtol=1e-5)
    image = read_keypoints(save_json(tmp_path / "image.json", frames[0]["instances"]))
    assert image.names == ("image",) and image.points.shape == (1, 133, 2)


def test_mmpose_of_one_image(tmp_path: Path) -> None:
    points = random_points(133)
    people = [{"keypoints": (points[0] + 600 * k).tolist(), "keypoint_scores": [0.9 - k] * 133} for k in (0, 0.5)]
    found = read_keypoints(save_json(tmp_path / "image.json", {"meta_info": {}, "instance_info": people}))
    assert found.names == ("image",) and found.layout == "coco_wholebody"
    np.testing.assert_allclose(found.points[0].numpy(), points[0], rtol=1e-5)


_ONE = [{"keypoints": coco_person().tolist(), "keypoint_scores": [0.9] * 17}]
_LANDMARKS = [{"x": float(x), "y": float(y), "visibility": 0.9} for x, y in random_points(33)[0]]
_HAND = {"hand_landmarks": [_LANDMARKS[:21]]}


@pytest.mark.parametrize(
    ("full", "empty", "asked"),
    [
        (_ONE, [], None),
        (_ONE, None, None),
        ({"instance_info": _ONE}, {"instance_info": []}, None),
        ([{"image_id": 0, "keypoints": with_confidence(coco_person())}], [], None),
        ({"annotations": [{"keypoints": with_confidence(coco_person())}]}, {"annotations": []}, None),
        ({"people": [{"pose_keypoints_2d": with_confidence(random_points(25)[0])}]}, {"people": None}, None),
        ({"pose_landmarks": [_LANDMARKS]}, {"pose_landmarks": None}, None),
        ({"pose_landmarks": [_LANDMARKS]}, {"pose_landmarks": []}, None),
        ({"pose_landmarks": [_LANDMARKS]}, {"pose_landmarks": [[]]}, None),
        (_HAND, {"hand_landmarks": []}, "mediapipe_left_hand"),
    ],
)
def test_frames_without_a_person(full: Any, empty: Any, asked: str | None, tmp_path: Path) -> None:
    for k in range(3):
        save_json(tmp_path / f"{k}.json", empty if k == 1 else full)
    found = read_keypoints(tmp_path, layout=asked)
    assert found.names[1] == "1" and len(found.points) == 3
    assert (found.confidence > 0).any(1).tolist() == [True, False, True] and found.points[1].isnan().all()
    with pytest.raises(ValueError, match="got nobody"):
        read_keypoints(tmp_path / "1.json")


@pytest.mark.parametrize("program", ["alphapose", "mmpose", "coco"])
@pytest.mark.parametrize("name", ["coco_17", "h36m_17"])
def test_a_number_of_points_is_no_layout(program: str, name: str, tmp_path: Path) -> None:
    person = {"coco_17": coco_person, "h36m_17": h36m_person}[name]()
    one = {"image_id": "1.jpg", "keypoints": with_confidence(person)}
    instances = [{"keypoints": person.tolist(), "keypoint_scores": [0.9] * 17}]
    content = {"alphapose": [one], "mmpose": instances, "coco": {"annotations": [one]}}[program]
    path = save_json(tmp_path / "x.json", content)
    assert read_keypoints(path).layout == name  # by the lengths of bones
    for asked in ("coco_17", "h36m_17"):
        assert read_keypoints(path, layout=asked).layout == asked


_OPENPOSE = '{"people": [{"pose_keypoints_2d": [%s]}]}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"people":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        (_OPENPOSE % ",".join(["1" + "0" * 400] * 75), "expected finite coordinates"),
        (_OPENPOSE % ",".join(["1e39,1,0.5"] * 25), "expected finite coordinates"),
        (_OPENPOSE % ("9" * 5000), "expected 75 numbers"),
        (_OPENPOSE % ",".join(["1e8,1,0.5"] * 25), r"expected coordinates below 1e\+07"),
        (_OPENPOSE % ",".join(["1,1,NaN"] * 25), "confidences of 0 or more"),
        (_OPENPOSE % ",".join(["1,1,-1"] * 25), "confidences of 0 or more"),
        (_OPENPOSE % ",".join(['"1",1,1'] * 25), "expected a list of numbers in x.json, got one that holds str"),
        ('{"people": {}}', "expected the JSON of OpenPose"),
        ('{"people": []', "broken or cut off"),
        ('{"people": [3]}', "people: expected a list of objects"),
        ('{"version": 1}', r"got .*x.json with version, which has none of them; save an .npz"),
        ("[]", "got nobody"),
        ("[[]]", "expected the JSON of"),
        ("3", "with a int"),
        ("\ud800", "broken or cut off"),
        (
            '[{"image_id": "a", "keypoints": [1, 2]}]',
            "expected x, y, confidence of each point in x.json, got 2 numbers",
        ),
        (
            '[{"image_id": "a", "keypoints": [1, 2, 3]}, {"image_id": "a", "keypoints": [1, 2, 3, 4, 5, 6]}]',
            "one number of",
        ),
        (
            '{"instance_info": [{"instances": [{"keypoints": [[1, 2]], "keypoint_scores": []}]}]}',
            "two numbers for each of",
        ),
        (
            '{"instance_info": [{"frame_id": 0, "instances": []}, {"frame_id": 1, "keypoints": [[1, 2]]}]}',
            "expected `instances` in each frame of x.json",
        ),
        ('{"annotations": [{"keypoints": [1, 2, 1], "foot_kpts": []}]}', "expected 17 points beside foot_kpts"),
    ],
)
def test_broken_and_hostile_json(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=message):
        read_keypoints(tmp_path / "x.json")


@pytest.mark.parametrize("none", [{"bbox": [0, 0, 1, 1]}, {"keypoints": []}, {"keypoints": None}])
def test_people_without_keypoints_are_left_out_and_noted(none: dict[str, Any], tmp_path: Path) -> None:
    person = {"image_id": 1, "keypoints": with_confidence(coco_person())}
    content = {"annotations": [{"image_id": 1, **none}, person]}
    found = read_keypoints(save_json(tmp_path / "a.json", content))
    assert found.names == ("1",) and found.notes == ("people without keypoints were left out",)


def test_long_numbers_of_tracks_stay_apart(tmp_path: Path) -> None:
    long = 10**20
    people = [
        {"image_id": f"{k}.jpg", "track_id": str(long + k), "keypoints": with_confidence(coco_person())}
        for k in range(2)
    ]
    found = read_keypoints(save_json(tmp_path / "x.json", people), layout="coco_17", person=long + 1)
    assert found.confidence.sum(1).gt(0).tolist() == [False, True]


def test_infinite_coordinates_are_named(tmp_path: Path) -> None:
    points = random_points(133)
    points[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r"expected coordinates below 1e\+07 in x.npz, got inf"):
        read_keypoints(save_npz(tmp_path / "x.npz", keypoints=points))


def test_points_in_3d_of_openpose_are_noted(tmp_path: Path) -> None:
    person = {"pose_keypoints_2d": with_confidence(random_points(25)[0]), "pose_keypoints_3d": [0.5] * 100}
    found = read_keypoints(save_json(tmp_path / "a.json", {"people": [person]}))
    assert found.notes == ("not read: pose_keypoints_3d, in a.json",)


def test_points_that_are_null_are_missing(tmp_path: Path) -> None:
    values: list[float | None] = list(with_confidence(random_points(25)[0]))
    values[6] = None
    values[9] = float("nan")
    found = read_keypoints(save_json(tmp_path / "x.json", {"people": [{"pose_keypoints_2d": values}]}))
    assert (found.confidence[0] == 0).nonzero().flatten().tolist() == [2, 3]


@pytest.mark.slow
def test_a_thousand_broken_json_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bases = [
        json.dumps({"people": [{"pose_keypoints_2d": with_confidence(random_points(25)[0]), "face_keypoints_2d": []}]}),
        json.dumps([{"image_id": "1.jpg", "keypoints": with_confidence(random_points(26)[0]), "score": 1}]),
        json.dumps(
            {
                "instance_info": [
                    {"frame_id": 0, "instances": [{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1] * 17}]}
                ]
            }
        ),
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a"}],
                "annotations": [{"image_id": 1, "keypoints": with_confidence(random_points(17)[0])}],
            }
        ),
    ]
    odd = [
        b"null",
        b"[]",
        b"{}",
        b"1e400",
        b"-1",
        b'"x"',
        b"true",
        b"NaN",
        b"[[[[",
        b"\xff",
        b"9" * 400,
        b"}",
        b",",
        b"0.5",
    ]
    path = tmp_path / "x.json"
    for _ in range(1000):
        data = bytearray(bases[rng.integers(len(bases))].encode())
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(data)))
            data[at : at + int(rng.integers(0, 12))] = odd[rng.integers(len(odd))]
        path.write_bytes(bytes(data))
        with bounded():
            try:
                read_keypoints(path)
            except ValueError as error:
                assert str(error)  # noqa: PT017
