"""Which frame, which person and which point the entries of a keypoint file are: by what the file says, else refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keypoint_samples import coco_person, random_points, save_json, save_npz, with_confidence
from numpy.typing import NDArray

from poseprior.io.keypoints import read_keypoints
from poseprior.keypoint_layouts import layout

_C = coco_person()
_NAMES = list(layout("coco_17").names)
#: The same points with the right side first.
_SWAPPED = [n.replace("left", "X").replace("right", "left").replace("X", "right") for n in _NAMES]
_RIGHT_FIRST = _C[[_NAMES.index(name) for name in _SWAPPED]]


def _landmarks(shift: float = 0.0) -> list[dict[str, float]]:
    return [{"x": float(x) + shift, "y": float(y), "visibility": 0.9} for x, y in random_points(33, 1)[0] / 1000]


def _shifted(x: float) -> NDArray[np.float32]:
    return _C + np.array([x, 0], np.float32)


def _moved(k: int, confidence: float = 0.9, by: float = 2.0) -> list[float]:
    return with_confidence(_shifted(by * k), confidence)


@pytest.mark.parametrize(
    "key", ["frame_id", "image_id", "frame", "frame_index", "image_path", "file_name", "timestamp", "image_name"]
)
def test_entries_are_of_the_frame_that_they_say(key: str, tmp_path: Path) -> None:
    order = [3, 0, 5, 1, 4, 2]
    entries: list[dict[str, Any]] = [{key: k, "keypoints": _moved(k)} for k in order]
    scored = [{key: k, "keypoints": _shifted(2 * k).tolist(), "keypoint_scores": [0.9] * 17} for k in order]
    instances = [{key: k, "instances": [{"keypoints": _C.tolist(), "keypoint_scores": [0.9] * 17}]} for k in order]
    for content in (entries, {"annotations": entries}, scored, instances, {"instance_info": scored}):
        found = read_keypoints(save_json(tmp_path / "a.json", content))
        assert found.names == ("0", "1", "2", "3", "4", "5")
        if content is not instances:
            np.testing.assert_allclose(found.points[:, 0, 0].numpy(), _C[0, 0] + 2 * np.arange(6), rtol=1e-5)
    landmarks = [{key: k, "landmarks": _landmarks(0.01 * k)} for k in order]
    landmarks[0]["landmarks"] = None
    found = read_keypoints(save_json(tmp_path / "a.json", landmarks), units="normalised", image_size=(100, 100))
    assert found.names == ("0", "1", "2", "3", "4", "5") and not bool(found.confidence[3].any())
    assert float(found.points[5, 0, 0] - found.points[0, 0, 0]) == pytest.approx(5, abs=1e-3)
    del entries[2][key]
    with pytest.raises(
        ValueError, match=f"expected `{key}` in each entry of a.json, got some with it and some without"
    ):
        read_keypoints(save_json(tmp_path / "a.json", entries))


def test_a_video_is_no_frame(tmp_path: Path) -> None:
    entries = [{"image_id": 7, "frame": k, "keypoints": _moved(k)} for k in range(4)]
    assert len(read_keypoints(save_json(tmp_path / "a.json", entries)).points) == 4


@pytest.mark.parametrize("count", [3, 90])
def test_what_may_be_frames_or_people_is_refused(count: int, tmp_path: Path) -> None:
    people = [{"keypoints": _moved(k)} for k in range(count)]
    arrays = {"keypoints": [_shifted(k).tolist() for k in range(count)], "scores": [[0.9] * 17] * count}
    for content in (people, {"annotations": people}, {"instance_info": people}, {"annots": people}, arrays):
        with pytest.raises(ValueError, match=f'each of the {count} entries of a.json .*; write "frame_id" into each'):
            read_keypoints(save_json(tmp_path / "a.json", content))
    content = {"landmarks": [_landmarks()] * count}
    with pytest.raises(ValueError, match=r'write a list of {"frame": 0, "landmarks": \[...\]}'):
        read_keypoints(save_json(tmp_path / "a.json", content))
    apart = [{"keypoints": _moved(k, 0.9 - 0.1 * k, by=400)} for k in range(3)]  # people side by side
    assert read_keypoints(save_json(tmp_path / "a.json", apart)).points.shape == (1, 17, 2)


def test_names_of_points_decide(tmp_path: Path) -> None:
    flags = with_confidence(_RIGHT_FIRST, 2)
    coco = {
        "annotations": [{"image_id": 0, "category_id": 1, "keypoints": flags}],
        "categories": [
            {"id": 1, "name": "person", "keypoints": _SWAPPED},
            {"id": 2, "name": "dog", "keypoints": ["tail"]},
        ],
    }
    mmpose: dict[str, Any] = {
        "meta_info": {"dataset_name": "mine", "keypoint_id2name": {str(k): n for k, n in enumerate(_SWAPPED)}},
        "instance_info": [
            {"frame_id": 0, "instances": [{"keypoints": _RIGHT_FIRST.tolist(), "keypoint_scores": [1] * 17}]}
        ],
    }
    files = [save_json(tmp_path / "a.json", coco), save_json(tmp_path / "b.json", mmpose)]
    for key in ("joint_names", "keypoint_names", "names"):
        files.append(save_npz(tmp_path / f"{key}.npz", keypoints=_RIGHT_FIRST[None], **{key: _SWAPPED}))
    for file in files:
        found = read_keypoints(file)
        assert not isinstance(found.layout, str) and found.layout.names == tuple(_SWAPPED)
        assert found.layout.joints == tuple(layout("coco_17").joints[_NAMES.index(n)] for n in _SWAPPED)
        with pytest.raises(
            ValueError, match=r"layout: expected point 1 to be right_eye, as the names .* 'coco_17'; leave"
        ):
            read_keypoints(file, layout="coco_17")
        own = {f"p{k}": "left_wrist" for k in range(17)}
        assert read_keypoints(file, layout=own).notes[-1].startswith("not read: the names of the points")


@pytest.mark.parametrize(
    ("dataset", "count", "name"), [("h36m", 17, "h36m_17"), ("coco_wholebody", 133, "coco_wholebody")]
)
def test_data_sets_of_mmpose_decide(dataset: str, count: int, name: str, tmp_path: Path) -> None:
    points = random_points(count)[0]
    content = {
        "meta_info": {"dataset_name": dataset},
        "instance_info": [{"keypoints": points.tolist(), "keypoint_scores": [1.0] * count}],
    }
    assert read_keypoints(save_json(tmp_path / "a.json", content)).layout == name


def test_names_of_points_that_are_not_known(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", keypoints=_C[None], joint_names=[*_NAMES[:16], "paw"])
    with pytest.raises(
        ValueError, match=r"names of points that are known in joint_names of a.npz, got paw; pass layout="
    ):
        read_keypoints(path)
    assert read_keypoints(path, layout="coco_17").layout == "coco_17"
    path = save_npz(tmp_path / "a.npz", keypoints=_C[None], joint_names=_NAMES[:16])
    with pytest.raises(ValueError, match=r"expected 17 names for the points of a.npz, got 16"):
        read_keypoints(path)


def test_names_of_as_many_frames_as_points(tmp_path: Path) -> None:
    points = _C + np.arange(17)[:, None, None]
    path = save_npz(tmp_path / "a.npz", keypoints=points, names=_NAMES)
    assert read_keypoints(path).names == tuple(map(str, range(17)))
    path = save_npz(tmp_path / "a.npz", keypoints=points, names=[f"{k}.jpg" for k in range(17)])
    assert read_keypoints(path).names[3] == "3.jpg"


def test_who_is_followed_was_seen_most(tmp_path: Path) -> None:
    entries = [{"image_id": 0, "keypoints": with_confidence(_C * 0.05 + 2000, 0.2)}]
    entries += [{"image_id": k, "keypoints": _moved(k)} for k in range(1, 60)]
    found = read_keypoints(save_json(tmp_path / "a.json", entries))
    assert (found.confidence > 0).any(1).tolist() == [False] + [True] * 59
    assert found.notes[0].startswith(
        "in 1 of 60 frames (the first is 0) people were found, but not the one who is followed"
    )


@pytest.mark.parametrize("key", ["idx", "track_id", "person_id", "personID"])
def test_tracks_are_followed(key: str, tmp_path: Path) -> None:
    def entry(frame: int, track: Any, shift: float) -> dict[str, Any]:
        return {"image_id": frame, "keypoints": with_confidence(_shifted(shift)), key: track}

    entries = [entry(k, 1, 0.0) for k in range(20) if k not in (9, 10)]
    entries += [entry(k, [2.0] if k % 2 else 2, 600 - 60 * k) for k in range(20) if k != 3]
    path = save_json(tmp_path / "a.json", entries)
    found = read_keypoints(path)
    assert "of 2 tracks in a.json number 2, which was seen most, is followed (person= chooses)" in found.notes
    np.testing.assert_allclose(found.points[:3, 0, 0].numpy(), _C[0, 0] + [600, 540, 480])
    one = read_keypoints(path, person=1)
    assert (one.confidence > 0).any(1).nonzero().flatten().tolist() == [k for k in range(20) if k not in (9, 10)]
    with pytest.raises(ValueError, match=r"person: expected the number of a track in a.json, one of 1, 2, got 0"):
        read_keypoints(path, person=0)
    alike = [entry(k, 0, shift) for k in range(3) for shift in (0, 600)]  # AlphaPose without a tracker
    found = read_keypoints(save_json(tmp_path / "a.json", alike), person=np.int64(1))  # type: ignore[arg-type]
    assert (
        found.notes[0].startswith("not used: the numbers of tracks") and float(found.points[0, 0, 0]) == _C[0, 0] + 600
    )
    untracked = [entry(k, -1, shift) for k in range(3) for shift in (0, 600)]
    assert read_keypoints(save_json(tmp_path / "a.json", untracked), person=0).notes == ()


def test_lists_for_each_point_keep_their_length(tmp_path: Path) -> None:
    pairs = random_points(33)
    entries: list[dict[str, Any]] = [{"image_id": k, "keypoints": pairs[k].tolist()} for k in range(3)]
    found = read_keypoints(save_json(tmp_path / "a.json", entries))
    assert found.layout == "mediapipe_33" and (found.confidence == 1).all()
    np.testing.assert_allclose(found.points.numpy(), pairs, rtol=1e-6)
    scores = [0.0] * 5 + [0.5] * 12
    ones = [{"image_id": 0, "keypoints": with_confidence(_C, 1), "scores": scores}]
    assert read_keypoints(save_json(tmp_path / "a.json", ones)).confidence[0].tolist() == scores
    ones[0]["keypoints"] = np.column_stack((_C, np.linspace(0, 1, 17))).tolist()
    with pytest.raises(ValueError, match=r"scores: expected one confidence for each point of a.json, got another"):
        read_keypoints(save_json(tmp_path / "a.json", ones))
    with pytest.raises(ValueError, match=r"expected \[x, y\] or \[x, y, confidence\] for each point"):
        read_keypoints(save_json(tmp_path / "a.json", [{"image_id": 0, "keypoints": [[1, 2, 3, 4]] * 17}]))


def test_arrays_of_rtmlib_and_annots_of_easymocap(tmp_path: Path) -> None:
    arrays = {"keypoints": [_C.tolist(), (_C + 500).tolist()], "scores": [[0.5] * 17, [0.9] * 17]}
    np.testing.assert_allclose(read_keypoints(save_json(tmp_path / "a.json", arrays)).points[0].numpy(), _C + 500)
    for k in range(3):
        people = [
            {"personID": p, "keypoints": np.column_stack((_C + 500 * p, np.ones(17))).tolist()} for p in (k % 2, 5)
        ]
        save_json(tmp_path / f"{k}.json", {"filename": "x", "annots": people})
    (tmp_path / "a.json").unlink()
    assert read_keypoints(tmp_path, person=1).confidence.any(1).tolist() == [False, True, False]


def test_columns_of_ultralytics(tmp_path: Path) -> None:
    for k in range(2):
        x, y = (_C + k).T.tolist()
        save_json(
            tmp_path / f"{k}.json", [{"name": "person", "keypoints": {"x": x, "y": y, "visible": [0.5] * 16 + [0]}}]
        )
    found = read_keypoints(tmp_path)
    np.testing.assert_allclose(found.points[:, :16].numpy(), np.stack([_C, _C + 1])[:, :16], rtol=1e-6)
    assert found.layout == "coco_17" and found.confidence[0].tolist() == [0.5] * 16 + [0]
    save_json(tmp_path / "1.json", [{"keypoints": {"x": [0.0] * 17, "y": [0.0] * 16}}])
    with pytest.raises(ValueError, match=r"expected one x, one y and one `visible` for each point of 1\.json"):
        read_keypoints(tmp_path)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["0.0", "0.033", "0.067", "0.1", "0.133"], ["0.0", "0.033", "0.067", "0.1", "0.133"]),
        (["t10.5", "t2.25", "t2.05"], ["t2.05", "t2.25", "t10.5"]),
        (["1.9", "1.10", "1.11"], ["1.9", "1.10", "1.11"]),
        (["a1.9", "a1.10", "b1.2"], ["a1.9", "a1.10", "b1.2"]),
    ],
)
def test_seconds_are_in_the_order_of_time(names: list[str], order: list[str], tmp_path: Path) -> None:
    for name in names:
        save_json(tmp_path / f"{name}.json", {"people": [{"pose_keypoints_2d": with_confidence(random_points(25)[0])}]})
    assert list(read_keypoints(tmp_path).names) == order
    entries = [{"image_id": f"{name}.jpg", "keypoints": with_confidence(_C)} for name in names]
    assert list(read_keypoints(save_json(tmp_path / "one.json", entries)).names) == order


def test_names_that_may_be_seconds_are_refused(tmp_path: Path) -> None:
    entries = [{"image_id": name, "keypoints": with_confidence(_C)} for name in ("0.5", "0.25")]
    with pytest.raises(
        ValueError, match=r"got '0.5' and '0.25', which may be seconds or numbers on both sides of a dot"
    ):
        read_keypoints(save_json(tmp_path / "a.json", entries))


def test_gaps_and_recordings_are_noted(tmp_path: Path) -> None:
    def note(names: list[str]) -> tuple[str, ...]:
        entries = [{"image_id": f"{name}.jpg", "keypoints": with_confidence(_C)} for name in names]
        return read_keypoints(save_json(tmp_path / "x.json", entries)).notes

    assert note(["0", "1", "2", "50", "51"])[0].startswith(
        "about 47 frames are not in x.json (the first after 2, before 50)"
    )
    assert note(["0", "2", "4", "6"]) == () and note(["0", "10", "50", "90"]) == ()
    assert note(["a_0", "a_1", "b_0", "b_1"])[0].startswith(
        "the frames of 2 recordings in x.json (a, b) are read one after"
    )
    assert note([f"v{k}_{k:03d}" for k in (3, 4, 5)]) == ()


def test_instances_without_keypoints_are_left_out_and_noted(tmp_path: Path) -> None:
    frames = [
        {"frame_id": 0, "instances": [{"bbox": [0, 0, 1, 1]}]},
        {"frame_id": 1, "instances": [{"keypoints": _C.tolist(), "keypoint_scores": [0.9] * 17}]},
    ]
    for content in (frames, {"instance_info": frames}):
        found = read_keypoints(save_json(tmp_path / "a.json", content))
        assert found.confidence.any(1).tolist() == [False, True]
        assert "people without keypoints were left out" in found.notes


def test_flags_of_a_body_beside_scores_of_hands(tmp_path: Path) -> None:
    points = random_points(133)[0]
    person = {
        "image_id": 0,
        "keypoints": with_confidence(points[:17], 2),
        "foot_kpts": with_confidence(points[17:23], 1),
    }
    person |= {"face_kpts": with_confidence(points[23:91], 0.3), "lefthand_kpts": with_confidence(points[91:112], 0.4)}
    found = read_keypoints(save_json(tmp_path / "a.json", [person]))
    weights = [float(found.confidence[0, k]) for k in (0, 17, 23, 91, 112)]
    np.testing.assert_allclose(weights, [1, 1, 0.3, 0.4, 0], rtol=1e-6)


def _pairs(by: float) -> dict[str, Any]:
    """Two entries of one person, `by` pixels apart, as programs write them; the person is 459 pixels tall."""
    scores = [[0.9] * 17, [0.8] * 17]
    return {
        "rtmlib": {"keypoints": [_C.tolist(), _shifted(by).tolist()], "scores": scores},
        "list": [{"keypoints": _moved(k, by=by)} for k in range(2)],
        "mmpose": {"meta_info": {}, "instance_info": [{"keypoints": _moved(k, by=by)} for k in range(2)]},
        "mediapipe": {"pose_landmarks": [_landmarks(), _landmarks(by / 459 * 0.55)]},
    }


@pytest.mark.parametrize("program", list(_pairs(0)))
def test_two_entries_at_one_place_are_refused(program: str, tmp_path: Path) -> None:
    """They are two frames or one person found twice; people beside each other are read."""
    units: dict[str, Any] = {"units": "normalised", "image_size": (1000, 1000)} if program == "mediapipe" else {}
    for by in (0.0, 2.0, 25.0):
        path = save_json(tmp_path / "a.json", _pairs(by)[program])
        with pytest.raises(
            ValueError, match=r'one person in two frames, or found twice; write .*"frame.*Leave one of them out'
        ):
            read_keypoints(path, **units)
    for by in (60.0, 200.0):
        assert len(read_keypoints(save_json(tmp_path / "a.json", _pairs(by)[program]), **units).points) == 1


def test_what_tells_two_entries_apart_is_enough(tmp_path: Path) -> None:
    """Track numbers that differ, hands of known sides, and points that are not seen in both."""
    entries = [{"keypoints": _moved(k), "track_id": k + 1} for k in range(2)]
    assert len(read_keypoints(save_json(tmp_path / "a.json", entries)).points) == 1
    entries[1]["track_id"] = 1
    with pytest.raises(ValueError, match="found twice"):
        read_keypoints(save_json(tmp_path / "a.json", entries))
    sides = [[{"categoryName": side}] for side in ("Left", "Right")]
    hands = {"hand_landmarks": [_landmarks()[:21], _landmarks(0.001)[:21]], "handedness": sides}
    found = read_keypoints(
        save_json(tmp_path / "b.json", hands), layout="mediapipe_left_hand", units="normalised", image_size=(9, 9)
    )
    assert len(found.points) == 1
    upper, lower = (
        np.column_stack((_C, [0.9 * (k < 9) for k in range(17)])),
        np.column_stack((_C, [0.9 * (k > 9) for k in range(17)])),
    )
    halves = [{"keypoints": half.ravel().tolist()} for half in (upper, lower)]
    assert len(read_keypoints(save_json(tmp_path / "c.json", halves), layout="coco_17").points) == 1
