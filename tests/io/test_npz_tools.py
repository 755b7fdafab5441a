"""What other programs write: frames in lists, batches of one, whole hands, points, and files that hold no poses at all."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
from numpy.typing import NDArray
from sample_poses import save_npz

from poseprior.io import read_poses

N = 12


def people(n: int = N, joints: int = 55, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.2, (n, joints, 3)).astype(np.float32)


def converted(path: Path) -> Path:
    """Follow the code of the message that refuses a file, in a process of its own; the file that it writes."""
    with pytest.raises(ValueError, match="import numpy") as refusal:
        read_poses(path)
    text = str(refusal.value)
    code = text[text.index("import numpy") : text.index("\nThe file holds") if "\nThe file holds" in text else None]
    subprocess.run([sys.executable, "-c", code], check=True)
    return path.with_name(f"{path.stem}_plain.npz")


# ---------------------------------------------------------------------- axes of length 1, and batches


@pytest.mark.parametrize("shape", [(N, 1, 165), (1, N, 165), (1, N, 55, 3), (N, 1, 55, 3)])
def test_an_axis_of_length_one_is_left_out(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pose = people()
    data = read_poses(save_npz(tmp_path / "a.npz", poses=pose.reshape(shape)))
    np.testing.assert_allclose(data.poses, pose, atol=1e-6)


def test_parts_of_lists_of_frames(tmp_path: Path) -> None:
    pose = people()
    parts = {"global_orient": pose[:, :1], "body_pose": pose[:, 1:22].reshape(N, 1, 63)}
    hands = {"left_hand_pose": pose[:, 25:40].reshape(N, 1, 45), "right_hand_pose": pose[:, 40:].reshape(1, N, 45)}
    data = read_poses(save_npz(tmp_path / "a.npz", **parts, **hands))
    np.testing.assert_allclose(data.poses[:, :22], pose[:, :22], atol=1e-6)
    np.testing.assert_allclose(data.poses[:, 25:], pose[:, 25:], atol=1e-6)


def test_hands_and_coefficients_of_lists_of_frames(tmp_path: Path) -> None:
    hand = people()[:, 40:]
    data = read_poses(save_npz(tmp_path / "a.npz", hand_pose=hand.reshape(1, N, 45), side=np.ones(N)))
    np.testing.assert_allclose(data.poses[:, 40:], hand, atol=1e-6)
    file = save_npz(
        tmp_path / "b.npz", left_hand_pose=np.linspace(0, 0.1, 6 * N).reshape(N, 1, 6), body_pose=people()[:, 1:22]
    )
    data = read_poses(file, hands_components=(torch.eye(45), torch.eye(45)), flat_hand_mean=True)
    np.testing.assert_allclose(data.poses[-1, 25], np.linspace(0, 0.1, 6 * N)[-6:-3], atol=1e-6)


def test_a_batch_of_recordings_is_refused_with_what_joins_it(tmp_path: Path) -> None:
    pose = people()
    for name, key, array in (
        ("a", "poses", pose.reshape(2, 6, 165)), ("b", "body_pose", pose[:, 1:22].reshape(2, 6, 63)),
        ("c", "left_hand_pose", pose[:, 25:40].reshape(2, 6, 45)),
    ):  # fmt: skip
        file = save_npz(tmp_path / f"{name}.npz", **{key: array})
        with pytest.raises(ValueError, match=rf"key '{key}'.*array.reshape\(-1, {array.shape[-1]}\)"):
            read_poses(file)
        assert len(read_poses(save_npz(file, **{key: array.reshape(-1, array.shape[-1])}))) == N


def test_transforms_are_refused_with_what_cuts_them(tmp_path: Path) -> None:
    matrix = roma.rotvec_to_rotmat(torch.from_numpy(people())).numpy()
    transform = np.zeros((N, 55, 4, 4))
    transform[..., :3, :3], transform[..., 3, 3] = matrix, 1
    with pytest.raises(ValueError, match=r"transforms.*array\[\.\.\., :3, :3\]"):
        read_poses(save_npz(tmp_path / "a.npz", poses=transform))
    data = read_poses(save_npz(tmp_path / "a.npz", poses=transform[..., :3, :3]))
    np.testing.assert_allclose(data.poses, people(), atol=1e-5)


def test_one_frame_of_motion_x_and_its_layout_by_name(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 0.2, (N, 322))
    np.save(tmp_path / "one.npy", rows[0])
    np.testing.assert_allclose(read_poses(tmp_path / "one.npy").poses[0, 22], rows[0, 156:159], atol=1e-6)
    np.save(tmp_path / "all.npy", rows)
    said = read_poses(tmp_path / "all.npy", layout="smplx_53_jaw_last")
    assert torch.equal(said.poses, read_poses(tmp_path / "all.npy").poses)
    jaw_first = read_poses(tmp_path / "all.npy", layout="smplx_53")
    np.testing.assert_allclose(jaw_first.poses[:, 22], rows[:, 66:69], atol=1e-6)


def test_the_wrist_of_a_named_hand_is_left_out(tmp_path: Path) -> None:
    pose = people()
    wrist = np.full((N, 1, 3), 1.0, np.float32)
    left = np.concatenate((wrist, pose[:, 25:40]), 1).reshape(N, 48)
    data = read_poses(save_npz(tmp_path / "a.npz", body_pose=pose[:, 1:22], left_hand_pose=left))
    np.testing.assert_allclose(data.poses[:, 25:40], pose[:, 25:40], atol=1e-6)
    assert any("wrist in the world" in note for note in data.notes)


# ---------------------------------------------------------------------- what is not what it seems


def test_points_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bones = rng.normal(0, 0.3, (22, 3))
    turn = roma.random_rotmat(N * 22).reshape(N, 22, 3, 3).numpy()
    from poseprior.skeleton import PARENTS

    points = np.zeros((N, 22, 3))
    for joint in range(1, 22):
        points[:, joint] = points[:, PARENTS[joint]] + turn[:, joint] @ bones[joint]
    np.save(tmp_path / "joints.npy", points)
    with pytest.raises(ValueError, match="got points: the distances"):
        read_poses(tmp_path / "joints.npy", model_type="smplx")
    assert len(read_poses(tmp_path / "joints.npy", model_type="smplx", rotations="rotvec")) == N


def test_knees_beyond_half_a_turn_do_not_bend_backwards(tmp_path: Path) -> None:
    pose = people()
    pose[:, 4:6] = [0.8, 0, 0]
    size = np.linalg.norm(pose, axis=-1, keepdims=True)
    long = pose * (1 - 2 * np.pi / np.maximum(size, 1e-6))
    data = read_poses(save_npz(tmp_path / "a.npz", poses=long))
    np.testing.assert_allclose(data.poses, pose, atol=1e-5)
    assert data.notes == ()


def test_lists_of_lists_of_people_are_converted(tmp_path: Path) -> None:
    body = people()[:, 1:22]
    frames = [[{"body_pose": b}, {"body_pose": 2 * b}] for b in body]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(frames))
    with np.load(converted(tmp_path / "a.pkl")) as file:
        np.testing.assert_allclose(file["body_pose"], np.stack((body, 2 * body), 1))
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([[None, object]]))
    with pytest.raises(subprocess.CalledProcessError):
        converted(tmp_path / "b.pkl")
    assert not (tmp_path / "b_plain.npz").exists()


def test_columns_of_motion_x_under_another_name_say_what_to_rename(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", motion=np.zeros((N, 322), np.float32))
    with pytest.raises(ValueError, match=r"rename the array to 'poses', or to the part it holds \(motion\)"):
        read_poses(path)


def test_inverse_rotations_and_degrees_are_noted(tmp_path: Path) -> None:
    pose = people()
    pose[:, 4:6] = [0.8, 0, 0]
    matrix = roma.rotvec_to_rotmat(torch.from_numpy(pose)).numpy()
    right = read_poses(save_npz(tmp_path / "a.npz", poses=matrix))
    wrong = read_poses(save_npz(tmp_path / "b.npz", poses=matrix.swapaxes(-1, -2)))
    assert right.notes == () and "knees bend backwards" in wrong.notes[0]
    six = matrix[..., :2, :].reshape(N, 55, 6)
    assert read_poses(save_npz(tmp_path / "c.npz", poses=six), rotations="6d_rows").notes == ()
    assert "6d_columns" in read_poses(tmp_path / "c.npz", rotations="6d_columns").notes[0]
    degrees = read_poses(save_npz(tmp_path / "d.npz", poses=np.degrees(pose)))
    assert "numpy.radians" in degrees.notes[0]


def test_a_declared_order_that_the_values_contradict_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pose = rng.normal(0, 0.2, (N, 55, 3))
    bend = np.array([0, 0, 0.9])
    pose[:, 22:25], pose[:, 40:] = 0.02 * rng.normal(size=(N, 3, 3)), bend + 0.05 * rng.normal(size=(N, 15, 3))
    pose[:, 25:40] = -bend + 0.05 * rng.normal(size=(N, 15, 3))
    pose[:, 22, 0] += 0.2
    hands_first = np.concatenate((pose[:, :22], pose[:, 25:], pose[:, 22:25]), 1)
    for declared in ({"surface_model_type": "smplx"}, {"mocap_frame_rate": 30.0}):
        assert len(read_poses(save_npz(tmp_path / "a.npz", poses=pose, **declared))) == N
        file = save_npz(tmp_path / "b.npz", poses=hands_first, **declared)
        with pytest.raises(ValueError, match=r"layout='smplx' .* or layout='smplx_hands_first'"):
            read_poses(file)
        np.testing.assert_allclose(read_poses(file, layout="smplx_hands_first").poses, pose, atol=1e-5)


def test_rows_that_are_no_rotations_are_named(tmp_path: Path) -> None:
    turns = torch.from_numpy(people()).double()
    matrix, quaternion = roma.rotvec_to_rotmat(turns).numpy(), roma.rotvec_to_unitquat(turns).numpy()
    matrix[3], quaternion[3] = 0, 0
    for form, array in (("matrix", matrix), ("quaternion_xyzw", quaternion)):
        with pytest.raises(ValueError, match=rf"in 1 of {N} rows \(3\); drop these rows, or write NaN"):
            read_poses(save_npz(tmp_path / "a.npz", poses=array), rotations=form)
        array[3] = np.nan
        seen = np.ones((N, 55), bool)
        seen[3] = False
        data = read_poses(save_npz(tmp_path / "a.npz", poses=array, observed=seen), rotations=form)
        assert not bool(data.observed[3].any()) and bool(data.observed[2].all())
    with pytest.raises(ValueError, match="or divide them by their lengths"):
        read_poses(
            save_npz(tmp_path / "a.npz", poses=1.05 * np.nan_to_num(quaternion, nan=0.5)), rotations="quaternion_xyzw"
        )


def test_files_without_poses_say_which_array_may_hold_them(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"rename the array to 'poses', or to the part it holds \(pose_cam, pose_world\)"
    ):
        read_poses(
            save_npz(tmp_path / "a.npz", pose_cam=np.zeros((2, 165)), pose_world=np.zeros((2, 165)), shape=np.zeros(10))
        )
    with pytest.raises(ValueError, match="no array looks like poses"):
        read_poses(save_npz(tmp_path / "a.npz", betas=np.zeros(10)))
    with pytest.raises(ValueError, match="first stage of MoSh"):
        read_poses(save_npz(tmp_path / "a_stagei.npz", betas=np.zeros(10), markers_latent=np.zeros((67, 3))))


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"\n<!DOCTYPE html>", "web page"),
        (b"BZh91AY", "unpack"), (b"\x1f\x8b\x08", "unpack"), (b"\x89HDF\r\n", "h5py"), (b"MATLAB 5.0", "loadmat"),
    ],
)  # fmt: skip
def test_other_kinds_of_files_are_named(tmp_path: Path, start: bytes, what: str) -> None:
    (tmp_path / "a.npz").write_bytes(start + bytes(100))
    with pytest.raises(ValueError, match=what):
        read_poses(tmp_path / "a.npz")


# ---------------------------------------------------------------------- lists, pickles, JSON


def frames() -> list[dict[str, Any]]:
    pose = people()
    return [{"global_orient": pose[k, :1], "body_pose": pose[k, 1:22].reshape(1, 63)} for k in range(N)]


def test_lists_of_frames_in_torch_files(tmp_path: Path) -> None:
    listed = [{key: torch.from_numpy(value) for key, value in frame.items()} for frame in frames()]
    torch.save(listed, tmp_path / "a.pt")
    np.testing.assert_allclose(read_poses(tmp_path / "a.pt").poses[:, :22], people()[:, :22], atol=1e-6)
    listed[3]["right_hand_pose"] = torch.zeros(1, 45)
    torch.save(listed, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="nan or inf in 11 of 12 rows"):
        read_poses(tmp_path / "a.pt")
    assert len(read_poses(tmp_path / "a.pt", ignore=("right_hand_pose",))) == N


def test_people_of_several_lengths_are_groups(tmp_path: Path) -> None:
    torch.save({"people": [{"body_pose": torch.ones(n, 63) / 9} for n in (3, 5)]}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="pass group='people/0' or group='people/1'"):
        read_poses(tmp_path / "a.pt")
    assert len(read_poses(tmp_path / "a.pt", group="people/1")) == 5


def test_the_code_for_pickles_and_json_works(tmp_path: Path) -> None:
    listed = frames()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(listed))
    np.testing.assert_allclose(read_poses(converted(tmp_path / "a.pkl")).poses[:, :22], people()[:, :22], atol=1e-6)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([None, *listed], protocol=2))
    assert read_poses(converted(tmp_path / "b.pkl")).observed.any(1).tolist() == [False] + [True] * N
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({0: {"pose": np.full((4, 72), 0.1), "frame_ids": np.arange(4) + 7}}))
    assert read_poses(converted(tmp_path / "c.pkl")).frame.tolist() == [7, 8, 9, 10]  # type: ignore[union-attr]
    (tmp_path / "d.pkl").write_bytes(pickle.dumps([{"body_pose": np.ones((n, 63)) / 9} for n in (3, 5)]))
    assert len(read_poses(converted(tmp_path / "d.pkl"), group="1")) == 5
    content = [{"id": 0, "Rh": [[0, 0, 0.1 * k]], "poses": people(1, 24, k).reshape(1, 72).tolist()} for k in range(N)]
    (tmp_path / "e.json").write_text(json.dumps(content))
    data = read_poses(converted(tmp_path / "e.json"))
    assert data.ignored == ("Rh",) and len(data) == N
    np.testing.assert_allclose(data.poses[3, :22], people(1, 24, 3)[0, :22], atol=1e-6)


def test_joblib_files_are_refused_with_code_for_joblib(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n")
    (tmp_path / "b.pkl").write_bytes(b"x\x9c\x00\x00")
    for name in ("a.pkl", "b.pkl"):
        with pytest.raises(ValueError, match=r"joblib\.load"):
            read_poses(tmp_path / name)


def test_archives_under_the_name_of_a_pickle_are_read(tmp_path: Path) -> None:
    torch.save({"body_pose": torch.ones(3, 63) / 9}, tmp_path / "a.pkl")
    assert len(read_poses(tmp_path / "a.pkl")) == 3


# ---------------------------------------------------------------------- folders


def test_folders_name_what_they_leave_out(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz", poses=people())
    assert read_poses(tmp_path).notes == ()
    np.save(tmp_path / "b.npy", people())
    torch.save(torch.zeros(1), tmp_path / "c.pt")
    assert "not 1 .npy, 1 .pt: these are read from a list" in read_poses(tmp_path).notes[0]
    for kind, what in ((".npy", r"rglob\('\*.npy'\)"), (".pkl", "pass one of them")):
        (folder := tmp_path / kind[1:]).mkdir()
        (folder / f"a{kind}").write_bytes(b"")
        with pytest.raises(ValueError, match=what):
            read_poses(folder)


def test_people_in_the_names_of_frames_are_noted(tmp_path: Path) -> None:
    for k in range(3):
        for person in range(2):
            save_npz(tmp_path / f"{k:05d}_{person}.npz", body_pose=people(1, 21, k))
    data = read_poses(tmp_path)
    assert data.frame.tolist() == [0, 1, 2] * 2  # type: ignore[union-attr]
    assert "2 recordings of the folder: '0', '1'" in data.notes[0]


def test_frame_rates_and_numbers_under_other_names(tmp_path: Path) -> None:
    file = save_npz(tmp_path / "a.npz", poses=people(), framerate=120.0, frame_ids=np.arange(N) + 40)
    data = read_poses(file)
    assert data.fps == 120.0 and data.frame.tolist() == list(range(40, 40 + N))  # type: ignore[union-attr]
    file = save_npz(tmp_path / "a.npz", poses=people(), frame=np.arange(N), frame_ids=np.arange(N) + 40)
    with pytest.raises(ValueError, match=r"keys 'frame' and 'frame_ids': expected the same under both"):
        read_poses(file)
    assert read_poses(file, ignore=("frame",)).frame.tolist()[:2] == [40, 41]
    file = save_npz(tmp_path / "a.npz", poses=people(), frame_id=np.array(["x"] * N))
    assert read_poses(file).frame.tolist() == list(range(N))  # type: ignore[union-attr]


def test_groups_are_named_as_they_are(tmp_path: Path) -> None:
    names = ("x\x1b[31m", "outputs/" + 80 * "long" + ".jpg")
    file = save_npz(tmp_path / "a.npz", **{f"{name}/body_pose": people()[:, 1:22] for name in names})
    with pytest.raises(ValueError, match="got 2; pass group=") as refusal:
        read_poses(file)
    assert "\x1b" not in str(refusal.value)
    for name in names:
        assert f"group={name!r}" in str(refusal.value)
        assert len(read_poses(file, group=name)) == N


def test_damaged_torch_files_have_no_code_that_would_not_work(tmp_path: Path) -> None:
    torch.save({"body_pose": torch.ones(3, 63) / 9}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "b.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="copy or download it again") as refusal:
        read_poses(tmp_path / "b.pt")
    assert "import" not in str(refusal.value)


def test_joints_that_one_of_several_recordings_lacks(tmp_path: Path) -> None:
    pose = people()[:, :22]
    pose[:6, 13:15] = 0
    pose[11, 3] = 0
    recording = np.array(["a"] * 6 + ["b"] * 5 + ["c"])
    data = read_poses(save_npz(tmp_path / "a.npz", poses=pose, sequence=recording), model_type="smplx")
    assert not bool(data.observed[:6, 13:15].any()) and bool(data.observed[6:, 13:15].all())
    assert bool(data.observed[:, 3].all())  # a single pose may be anything
    assert "joints that never move in a recording are unobserved there: left_collar, right_collar" in data.notes[0]
    kept = read_poses(tmp_path / "a.npz", model_type="smplx", constant_parts_unobserved=False)
    assert bool(kept.observed[:, :22].all())
