"""`read_poses` on folders of frames, other kinds of files, files with dicts in them, and joints that never move."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sample_poses import haar_poses
from sample_poses import save_npz as _save

from poseprior import params
from poseprior.io import read_poses
from poseprior.io._files.frames import natural, numbered

N = 6


def _some(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def _frame(k: int) -> dict[str, Any]:
    return {"global_orient": np.array([[0.01 * k, 0, 0]], np.float32), "body_pose": _some(1, 63, seed=k)}


# -- folders of frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["frame_{}.npz", "{}.npz", "clip7_{}_smplx.NPZ", "00{}.npz"])
def test_frames_are_read_in_the_order_of_time(name: str, tmp_path: Path) -> None:
    for k in range(12):
        _save(tmp_path / "walk" / "new.npz", **_frame(k)).rename(tmp_path / "walk" / name.format(k))
    data = read_poses(tmp_path / "walk")
    np.testing.assert_allclose(data.poses[:, 0, 0].numpy(), 0.01 * np.arange(12), atol=1e-7)
    assert data.frame is not None and data.frame.tolist() == list(range(12))
    assert data.sequence is not None and len(set(data.sequence)) == 1
    assert data.observed_joints == tuple(range(22)), "a root that moves over the frames is observed"


def test_numbers_of_people_are_no_frames(tmp_path: Path) -> None:
    for frame in range(11):
        for person in range(2):
            _save(tmp_path / f"{frame:05d}_{person}.npz", **_frame(10 * frame + person))
    data = read_poses(tmp_path)
    assert data.sequence is not None and data.frame is not None
    for person in ("0", "1"):
        rows = data.sequence == person
        assert data.frame[rows].tolist() == list(range(11))
        expected = [0.01 * (10 * k + int(person)) for k in range(11)]
        np.testing.assert_allclose(data.poses[torch.from_numpy(rows), 0, 0].numpy(), expected, atol=1e-6)


def test_what_never_moves_over_the_frames_is_unobserved(tmp_path: Path) -> None:
    for k in range(3):
        _save(
            tmp_path / f"{k}.npz",
            **_frame(k),
            jaw_pose=np.zeros((1, 3), np.float32),
            left_hand_pose=np.full((1, 45), 0.1),
        )
    data = read_poses(tmp_path)
    assert data.observed_joints == tuple(range(22))
    assert "jaw_pose, left_hand_pose" in data.notes[0]
    assert len(read_poses(tmp_path, constant_parts_unobserved=False).observed_joints) == 38


def test_frames_keep_their_own_numbers_and_rates(tmp_path: Path) -> None:
    for k in range(3):
        _save(tmp_path / f"{k}.npz", **_frame(k), frame=np.array([10 * k]), fps=25.0, subject=np.array("ann"))
    data = read_poses(tmp_path)
    assert data.frame is not None and data.frame.tolist() == [0, 10, 20]
    assert data.fps == 25.0 and data.subjects == ("ann",)


def test_single_poses_without_numbers_stay_apart(tmp_path: Path) -> None:
    for name in ("ann", "bob"):
        _save(tmp_path / f"{name}.npz", **_frame(1))
    data = read_poses(tmp_path)
    assert data.sequence is not None and data.sequence.tolist() == ["ann", "bob"]
    assert data.frame is not None and data.frame.tolist() == [0, 0]


def test_upper_case_and_the_twins_of_macos(tmp_path: Path) -> None:
    _save(tmp_path / "a" / "x.npz", poses=_some(N, 165)).rename(tmp_path / "a" / "x.NPZ")
    (tmp_path / "a" / "._x.NPZ").write_bytes(b"\0\5\x16\7")
    (tmp_path / "._a.npz").write_bytes(b"\0\5\x16\7")
    assert len(read_poses(tmp_path)) == N


def test_natural_order() -> None:
    names = ["10", "9", "a2", "a10", "A1", "x", "007", "7"]
    assert sorted(names, key=natural) == ["007", "7", "9", "10", "A1", "a2", "a10", "x"]
    assert numbered([Path("a.npz"), Path("b.npz")]) == [None, None]
    assert numbered([Path("w_1.npz"), Path("w_2.npz"), Path("b.npz")]) == [("w", 1), ("w", 2), None]
    assert numbered([Path("d/s1_f2.npz"), Path("d/s1_f10.npz")]) == [("s1_f", 2), ("s1_f", 10)]


def test_a_file_with_another_name_leaves_the_frames_of_the_others_numbered(tmp_path: Path) -> None:
    for k, name in enumerate(("walk_0", "walk_1", "walk_2", "sit_0")):
        _save(tmp_path / f"{name}.npz", **_frame(k))
    data = read_poses(tmp_path)
    assert data.frame is not None and data.sequence is not None
    assert dict(zip(zip(data.sequence, data.frame.tolist(), strict=True), range(4), strict=True)) == {
        ("sit_0", 0): 0, ("walk", 0): 1, ("walk", 1): 2, ("walk", 2): 3,
    }  # fmt: skip
    assert any("'sit_0', 'walk'" in note for note in data.notes)


# -- joints that never move --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joints", [(13, 14), (10, 11), (0,), (12,), (30,), (13, 14, 22, 23, 24)])
def test_joints_that_are_zero_throughout_are_unobserved(joints: tuple[int, ...], tmp_path: Path) -> None:
    pose = haar_poses(N)
    pose[:, list(joints)] = 0
    path = _save(tmp_path / "x.npz", poses=pose.numpy())
    data = read_poses(path)
    assert set(data.observed_joints) == set(range(55)) - set(joints)
    assert "never move are unobserved" in data.notes[0] and "constant_parts_unobserved=False" in data.notes[0]
    assert len(read_poses(path, constant_parts_unobserved=False).observed_joints) == 55
    told = _save(tmp_path / "y.npz", poses=pose.numpy(), observed=np.ones((N, 55), bool))
    assert read_poses(told).observed.all() and read_poses(told).notes == ()
    single = _save(tmp_path / "z.npz", poses=pose[:1].numpy())
    assert read_poses(single).observed.all(), "one pose does not show what moves"


@pytest.mark.parametrize("columns", [{"subject": "pq"}, {"subject": "pq", "seq": "aa"}, {"subject": "pp", "seq": "ab"}])
def test_joints_that_are_zero_in_the_recording_of_one_person_are_unobserved_there(
    columns: dict[str, str], tmp_path: Path
) -> None:
    pose = haar_poses(20)
    pose[10:, 13:15] = 0
    names = {key: np.repeat(list(value), 10) for key, value in columns.items()}
    observed = read_poses(_save(tmp_path / "x.npz", poses=pose.numpy(), **names)).observed
    assert observed[:10].all() and not observed[10:, 13:15].any() and observed[10:, 15:].all()


def test_a_body_joint_that_is_held_still_is_observed(tmp_path: Path) -> None:
    pose = haar_poses(N)
    pose[:, 13] = pose[:1, 13]
    assert read_poses(_save(tmp_path / "x.npz", poses=pose.numpy())).observed.all()
    names = ", ".join(("left_collar", "right_collar"))
    pose[:, 13:15] = 0
    assert names in read_poses(_save(tmp_path / "y.npz", poses=pose.numpy())).notes[0]


# -- other kinds of files ----------------------------------------------------------------------------------------------


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "walk.npy", haar_poses(N).flatten(1).numpy())
    data = read_poses(tmp_path / "walk.npy")
    torch.testing.assert_close(data.poses, haar_poses(N), atol=1e-6, rtol=0)
    np.save(tmp_path / "objects.npy", np.array({"poses": 1}), allow_pickle=True)
    with pytest.raises(ValueError, match=r"key 'poses' holds Python objects \(a pickle\), which are never loaded"):
        read_poses(tmp_path / "objects.npy")


def test_torch_results(tmp_path: Path) -> None:
    pose = haar_poses(N)
    parts = {
        name: value for name, value in params.pose_to_smplx(pose).items() if name in ("global_orient", "body_pose")
    }
    torch.save(pose.bfloat16().float().requires_grad_(), tmp_path / "a.pt")
    torch.save({"smpl_params_global": parts, "K": torch.eye(3), "name": "x"}, tmp_path / "b.pt")
    torch.save([{k: v[n] for k, v in parts.items()} for n in range(N)], tmp_path / "c.pth")
    assert read_poses(tmp_path / "a.pt").observed.all()
    for name in ("b.pt", "c.pth"):
        data = read_poses(tmp_path / name)
        torch.testing.assert_close(data.poses[:, :22], pose[:, :22], atol=1e-6, rtol=0)
        assert data.observed_joints == tuple(range(22)) and data.ignored == ()


def test_dicts_beside_each_other_are_chosen_by_group(tmp_path: Path) -> None:
    """As GVHMR writes its results."""
    first, second = _some(N, 63), _some(N, 63, seed=1)
    content = {
        "smpl_params_global": {"body_pose": torch.from_numpy(first), "global_orient": torch.from_numpy(_some(N, 3))},
        "smpl_params_incam": {"body_pose": torch.from_numpy(second), "global_orient": torch.from_numpy(_some(N, 3))},
    }
    torch.save(content, tmp_path / "x.pt")
    flat = {f"{group}/{key}": value.numpy() for group, inside in content.items() for key, value in inside.items()}
    for path in (tmp_path / "x.pt", _save(tmp_path / "x.npz", **flat)):
        with pytest.raises(ValueError, match="pass group='smpl_params_global' or group='smpl_params_incam'"):
            read_poses(path)
        data = read_poses(path, group="smpl_params_incam")
        np.testing.assert_allclose(data.poses[:, 1:22].flatten(1).numpy(), second, atol=1e-6)
        assert set(data.ignored) == {"smpl_params_global/body_pose", "smpl_params_global/global_orient"}
        with pytest.raises(
            ValueError, match="group: expected one of smpl_params_global, smpl_params_incam, got 'incam'"
        ):
            read_poses(path, group="incam")


def test_what_stands_outside_the_dict_counts_too(tmp_path: Path) -> None:
    """As HaMeR keeps `right` beside `mano_params`."""
    hand = torch.from_numpy(_some(N, 45))
    torch.save(
        {"mano_params": {"hand_pose": hand, "global_orient": hand[:, :3]}, "right": torch.ones(N), "fps": 25.0},
        tmp_path / "x.pt",
    )
    data = read_poses(tmp_path / "x.pt")
    assert data.observed_joints == tuple(range(40, 55)) and data.fps == 25.0
    assert data.ignored == ("global_orient",)


class _Trace:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["npz", "frames", "npy", "pickle", "torch"])
def test_pickles_are_refused_with_code_that_converts_them(kind: str, tmp_path: Path) -> None:
    body, root = _some(N, 63), _some(N, 3, seed=1)
    nested = {"params": {"body_pose": body, "global_orient": root, "gender": None}, "info": ["a", 3]}
    path = tmp_path / {"npz": "x.npz", "frames": "x.npz", "npy": "x.npy", "pickle": "x.pkl", "torch": "x.pt"}[kind]
    if kind == "npz":
        np.savez(path, body=np.array(nested, dtype=object))
    elif kind == "frames":
        np.savez(
            path, results=np.array([{"body_pose": b, "global_orient": r} for b, r in zip(body, root, strict=True)])
        )
    elif kind == "npy":
        np.save(path, np.array(nested, dtype=object), allow_pickle=True)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(nested))
    else:
        torch.save({"params": {"body_pose": body, "global_orient": torch.from_numpy(root)}}, path)
    with pytest.raises(ValueError, match=r"never loaded.* For a file that you trust:\n") as caught:
        read_poses(path)
    code = re.search(r"import numpy.*\)", str(caught.value), re.DOTALL)
    assert code is not None
    exec(code.group().split("The file holds")[0], {})
    data = read_poses(tmp_path / "x_plain.npz")
    np.testing.assert_allclose(data.poses[:, 1:22].flatten(1).numpy(), body, atol=1e-6)
    np.testing.assert_allclose(data.poses[:, 0].numpy(), root, atol=1e-6)


@pytest.mark.parametrize("name", ["x.pt", "x.pkl", "x.pth", "x.npz"])
def test_no_kind_of_file_runs_code(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    if name.startswith("x.pt"):
        torch.save({"body_pose": _Trace(trace)}, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(_Trace(trace)))
    with pytest.raises(ValueError, match="pickle"):
        read_poses(tmp_path / name)
    assert not trace.exists()


def test_every_refusal_lists_what_the_file_holds(tmp_path: Path) -> None:
    for k, arrays in enumerate(
        (
            {"poses": _some(N, 156)},
            {"poses": _some(N, 53, 3)},
            {"hand_pose": _some(N, 45)},
            {"body_pose": _some(N, 66)},
            {"other": _some(N, 66)},
            {"poses": np.full((N, 165), np.nan, np.float32)},
            {"poses": _some(N, 165), "subject": np.array(["a", "b"])},
            {"poses": _some(N, 165), "observed": np.ones((N, 40), bool)},
        )
    ):
        path = _save(tmp_path / f"{k}.npz", **arrays)
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            read_poses(path)
        for key, array in arrays.items():
            assert f"{key} {array.shape} {'text' if array.dtype.kind == 'U' else array.dtype}" in str(caught.value)


def test_folders_of_other_files_are_given_as_lists(tmp_path: Path) -> None:
    for k in (10, 2):
        np.save(tmp_path / f"clip{k}.npy", np.full((2, 322), 0.1 * k))
    with pytest.raises(ValueError, match=r"got none; pass the list of files, (sorted\(.*\))\.") as caught:
        read_poses(tmp_path)
    code = re.search(r"sorted\(.*\)", str(caught.value))
    assert code is not None
    assert len(read_poses(eval(code.group(), {"pathlib": __import__("pathlib")}))) == 4


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"fps": 30.0, "mocap_framerate": 120.0}, ("fps", "mocap_framerate")),
        ({"seq": ["a"] * N, "sequence": ["b"] * N}, ("seq", "sequence")),
        ({"subject": "a", "subject_id": "b"}, ("subject", "subject_id")),
    ],
)
def test_two_names_of_one_thing_must_agree(keys: dict[str, Any], names: tuple[str, str], tmp_path: Path) -> None:
    first, second = names
    path = _save(tmp_path / "x.npz", **_person(), **keys)
    with pytest.raises(
        ValueError, match=f"keys '{first}' and '{second}': expected the same .* ignore=\\('{second}',\\)"
    ):
        read_poses(path)
    assert len(read_poses(path, ignore=(second,))) == N
    same = _save(tmp_path / "y.npz", **_person(), **{first: keys[first], second: keys[first]})
    assert len(read_poses(same)) == N


def test_frame_numbers_that_no_index_holds(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", **_person(), frame=np.full(N, 2**63 + 5, np.uint64))
    with pytest.raises(ValueError, match=r"frame: expected numbers below 2\*\*63"):
        read_poses(path)


def _person() -> dict[str, Any]:
    return {"global_orient": _some(N, 3), "body_pose": _some(N, 63)}
