"""`read_poses` on what files say of their rows: nobody found, tracks, fixed hands, numbers of frames, rates, images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_poses import haar_poses
from sample_poses import save_npz as _save

from poseprior.io import PoseDataset, read_poses

N = 12


def _poses(n: int = N, seed: int = 0) -> Any:
    return 0.9 * haar_poses(n, seed).numpy()


def _frame(k: int, **more: Any) -> dict[str, Any]:
    pose = 0.3 * _poses(1, k)
    return {"global_orient": pose[:, 0], "body_pose": pose[:, 1:22], **more}


# -- rows without anybody ----------------------------------------------------------------------------------------------


def test_rows_of_zeros_are_unobserved_and_noted(tmp_path: Path) -> None:
    pose = _poses()
    pose[[0, 4, 5]] = 0
    path = _save(tmp_path / "x.npz", poses=pose)
    data = read_poses(path)
    assert data.observed.any(1).tolist() == [k not in (0, 4, 5) for k in range(N)]
    assert data.notes[0].startswith("3 of 12 rows are zero throughout") and "(rows 0, 4, 5;" in data.notes[0]
    assert read_poses(path, constant_parts_unobserved=False).observed.all()
    assert read_poses(_save(tmp_path / "y.npz", poses=pose, observed=np.ones((N, 55), bool))).observed.all()
    pose[0, 0] = 0.1
    assert read_poses(_save(tmp_path / "z.npz", poses=pose)).observed[0].all(), "a turned root was measured"


def test_rows_of_nan_are_unobserved_and_noted(tmp_path: Path) -> None:
    pose = _poses()
    pose[[1, 7]] = np.nan
    path = _save(tmp_path / "x.npz", poses=pose)
    data = read_poses(path)
    assert data.observed.any(1).tolist() == [k not in (1, 7) for k in range(N)] and not data.poses[[1, 7]].any()
    assert data.notes[0].startswith("2 of 12 rows are NaN throughout") and data.notes[0].endswith(
        "unobserved (rows 1, 7)"
    )
    with pytest.raises(ValueError, match="expected finite values"):
        read_poses(path, constant_parts_unobserved=False)
    pose[0] = 0
    assert (
        read_poses(_save(tmp_path / "y.npz", poses=pose)).notes[0].startswith("3 of 12 rows are zero or NaN throughout")
    )
    pose[7, 5] = 0.1
    with pytest.raises(ValueError, match="got nan or inf in 1 of 12 rows"):
        read_poses(_save(tmp_path / "z.npz", poses=pose))


def test_rows_of_zeros_do_not_make_fixed_hands_move(tmp_path: Path) -> None:
    pose = _poses()
    pose[:, 25:] = pose[0, 25:]
    pose[3] = 0
    assert not read_poses(_save(tmp_path / "x.npz", poses=pose)).observed[:, 25:].any()


@pytest.mark.parametrize(
    ("key", "kind"), [("has_smpl", np.uint8), ("track_mask", bool), ("anything", bool), ("valid", float)]
)
def test_flags_that_are_false_somewhere_are_named(key: str, kind: Any, tmp_path: Path) -> None:
    flags = np.arange(N) % 4 != 1
    path = _save(tmp_path / "x.npz", poses=_poses(), **{key: flags.astype(kind)})
    data = read_poses(path)
    assert data.observed.all() and data.notes[0].startswith(f"'{key}' is false in 3 of 12 rows and was not read")
    stored = dict(np.load(path))
    observed = np.repeat(stored[key].reshape(-1, 1).astype(bool), 55, 1)  # as the note says
    mended = read_poses(_save(tmp_path / "y.npz", **stored, observed=observed))
    assert np.array_equal(mended.observed.any(1).numpy(), flags) and mended.notes == ()
    assert read_poses(_save(tmp_path / "z.npz", poses=_poses(), **{key: np.ones(N, kind)})).notes == ()


# -- several people or recordings in a file ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["track_id", "person_id"])
@pytest.mark.parametrize("names", [np.arange(40) % 2, np.array(["a", "b"] * 20)])
def test_tracks_are_recordings(key: str, names: Any, tmp_path: Path) -> None:
    arrays = {"poses": _poses(40), "frame_ids": np.arange(40) // 2, "fps": 30.0}
    path = _save(tmp_path / "x.npz", **arrays, **{key: names})
    data = read_poses(path)
    assert data.sequence is not None and data.sequence.tolist() == [f"x_{name}" for name in names]
    assert f"each of the 2 values of '{key}'" in data.notes[0]
    counts = np.unique(read_poses(path, target_fps=15).sequence, return_counts=True)[1]
    assert all(10 <= count <= 11 for count in counts)
    merged = read_poses(path, ignore=(key,))
    assert any("frame numbers come more than once in a recording (0 in 'x')" in note for note in merged.notes)
    with pytest.raises(
        ValueError, match=r"once in a recording, got 0 more than once in 'x'.*an array 'sequence' in the file"
    ):
        read_poses(path, ignore=(key,), target_fps=15)
    named = merged.with_names(sequence=[str(name) for name in names])
    assert 20 <= len(named.subsample(15.0)) <= 22
    with pytest.raises(ValueError, match=r"subsample: expected each frame number once"):
        PoseDataset(_poses(4), frame=[0, 0, 1, 1], fps=30.0).subsample(15.0)


@pytest.mark.parametrize("column", ["subject", "sequence", "track_id"])
def test_hands_that_are_fixed_in_one_recording_are_unobserved_there(column: str, tmp_path: Path) -> None:
    pose = _poses(30)
    pose[:10, 25:], pose[10:20, 25:] = pose[0, 25:], pose[10, 25:]
    data = read_poses(_save(tmp_path / "x.npz", poses=pose, **{column: np.repeat([1, 2, 3], 10)}))
    assert not data.observed[:20, 25:].any() and data.observed[20:].all() and data.observed[:, :25].all()
    assert any("never move in a recording are unobserved there: left_hand_pose" in note for note in data.notes)


# -- rates and numbers of frames ---------------------------------------------------------------------------------------


def test_target_fps_needs_the_rate_of_each_file(tmp_path: Path) -> None:
    known = _save(tmp_path / "a.npz", poses=_poses(), fps=120.0)
    unknown = _save(tmp_path / "b.npz", poses=_poses(seed=1))
    with pytest.raises(ValueError, match=r"got none in .*b.npz; pass fps= for files that do not say, or leave"):
        read_poses([known, unknown], target_fps=30)
    assert 6 <= len(read_poses([known, unknown], target_fps=30, fps=120.0)) <= 8
    partly = _save(tmp_path / "c.npz", poses=_poses(), fps=np.where(np.arange(N) < 3, np.nan, 120.0))
    with pytest.raises(ValueError, match=r"got none for some of the poses in .*c.npz; pass ignore=\(NAME,\)"):
        read_poses(partly, target_fps=30)
    assert len(read_poses(partly, target_fps=30, fps=120.0, ignore=("fps",))) <= 4
    single = _save(tmp_path / "photo.npz", poses=_poses(1))
    assert 4 <= len(read_poses([known, single], target_fps=30)) <= 5


def test_forms_of_frame_numbers(tmp_path: Path) -> None:
    for k, frame in enumerate((7, [7], [[7]])):
        data = read_poses(_save(tmp_path / f"{k}.npz", poses=_poses(1), frame=np.array(frame)))
        assert data.frame is not None and data.frame.tolist() == [7]
    for k, column in enumerate((np.arange(N)[:, None], np.arange(N)[None])):
        data = read_poses(_save(tmp_path / f"c{k}.npz", poses=_poses(), frame=column, subject=np.full((N, 1), 3)))
        assert data.frame is not None and data.frame.tolist() == list(range(N)) and data.subjects == ("3",)
    with pytest.raises(ValueError, match=rf"frame: expected {N} integers.*got int64 \(5,\); give one for each row"):
        read_poses(_save(tmp_path / "short.npz", poses=_poses(), frame=np.arange(5)))


@pytest.mark.parametrize("kind", ["U", "S"])
def test_the_remedy_for_frames_as_text_works(kind: str, tmp_path: Path) -> None:
    names = np.array([f"cam1_{k:06d}.jpg" for k in range(N)]).astype(kind)
    path = _save(tmp_path / "x.npz", poses=_poses(), frame=names)
    with pytest.raises(ValueError, match=r"key 'frame': expected 12 integers, one a row, got text") as caught:
        read_poses(path)
    assert len(read_poses(path, ignore=("frame",))) == N
    code = str(caught.value).split("into the file, ")[1].split(", or pass")[0]
    numbers = eval(code, {"numpy": np, "re": __import__("re"), "frame": names})
    data = read_poses(_save(tmp_path / "y.npz", poses=_poses(), frame=numbers))
    assert data.frame is not None and data.frame.tolist() == list(range(N))


def test_long_time_stamps_count_in_their_order(tmp_path: Path) -> None:
    for k in (2, 0, 1):
        _save(tmp_path / f"{20230105123045123450 + k}.npz", **_frame(k))
    data = read_poses(tmp_path)
    assert data.frame is not None and data.frame.tolist() == [0, 1, 2]
    np.testing.assert_allclose(data.poses[2, :22].numpy(), 0.3 * _poses(1, 2)[0, :22], atol=1e-6)
    assert any("more than 18 digits: the frames are counted in their order" in note for note in data.notes)


# -- a folder for each image -------------------------------------------------------------------------------------------


def test_folders_of_images_are_frames_and_no_people(tmp_path: Path) -> None:
    for k in range(11):
        _save(tmp_path / "results" / f"img_{k}" / "000.npz", **_frame(k))
    _save(tmp_path / "results" / "img_3" / "001.npz", **_frame(20))
    _save(tmp_path / "results" / "img_4" / "001.npz", **_frame(21))
    data = read_poses(tmp_path / "results")
    assert data.subjects == () and data.sequence is not None and data.frame is not None
    assert data.frame[data.sequence == "img_000"].tolist() == list(range(11))
    assert data.frame[data.sequence == "img_001"].tolist() == [3, 4]
    assert any("hold a pose each, under names that come again: they are frames, and no people" in n for n in data.notes)
    assert set(read_poses(tmp_path).subjects) == {"results"}
    assert data.with_names(subject=data.frame).num_subjects == 11


def test_folders_of_frames_and_of_people_stay_what_they_are(tmp_path: Path) -> None:
    for name in ("ann", "bob"):
        _save(tmp_path / "people" / name / "000.npz", **_frame(0))
    assert read_poses(tmp_path / "people").subjects == ("ann", "bob")
    for k in range(3):
        for frame in range(2):
            _save(tmp_path / "walks" / f"walk{k}" / f"{frame:03d}.npz", **_frame(10 * k + frame))
    data = read_poses(tmp_path / "walks")
    assert data.subjects == ("walk0", "walk1", "walk2")
    assert any(
        "if each folder is an image of several people, put the files into one folder as walk0_000.npz" in n
        for n in data.notes
    )
