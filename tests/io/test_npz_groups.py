"""Dicts in files: masks above them, names within them, frames in dicts of their own; and the code that converts them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sample_poses import save_npz

from poseprior.io import read_poses

N = 12


def people(n: int = N, joints: int = 22, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.2, (n, joints, 3)).astype(np.float32)


def parts(pose: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return {"global_orient": pose[:, 0], "body_pose": pose[:, 1:]}


def save(path: Path, content: dict[str, Any]) -> Path:
    """Dicts in dicts as a torch file, or by their names in an .npz."""

    def flat(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name: value}
        return {k: v for n, x in value.items() for k, v in flat(x, f"{name}/{n}" if name else str(n)).items()}

    if path.suffix == ".npz":
        return save_npz(path, **flat(content, ""))

    def tensors(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: tensors(v) for k, v in value.items()}
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    torch.save(tensors(content), path)
    return path


def run_code(path: Path) -> tuple[Path, str]:
    """Follow the code of the message that refuses a file: the file that it writes, and what it prints."""
    with pytest.raises(ValueError, match="import numpy") as refusal:
        read_poses(path)
    text = str(refusal.value)
    code = text[text.index("import numpy") : text.index("\nThe file holds") if "\nThe file holds" in text else None]
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return path.with_name(f"{path.stem}_plain.npz"), done.stdout


# ---------------------------------------------------------------------- masks and contexts above a group


@pytest.mark.parametrize("name", ["a.pt", "a.npz"])
@pytest.mark.parametrize("depth", [0, 1])
def test_masks_and_contexts_above_a_group_are_used(tmp_path: Path, name: str, depth: int) -> None:
    seen = np.ones((N, 55), bool)
    seen[:, 4:6] = False
    content: dict[str, Any] = {"observed": seen, "imputed": ~seen, "context": np.ones((N, 3), np.float32)}
    content["smplx"] = parts(people())
    path = save(tmp_path / name, {"clip": content} if depth else content)
    data = read_poses(path, context="context")
    assert not bool(data.observed[:, 4:6].any()) and bool(data.observed[:, :4].all())
    assert data.imputed is not None and bool(data.imputed[:, 4].all()) and data.context_dim == 3
    start = "clip/" if depth else ""
    assert read_poses(path, context=f"{start}context").context_dim == 3


def test_masks_that_no_pose_uses_are_refused(tmp_path: Path) -> None:
    seen = np.zeros((N, 55), bool)
    for mask in ("observed", "imputed"):
        path = save(tmp_path / "a.npz", {"flags": {mask: seen}, "smplx": parts(people())})
        with pytest.raises(ValueError, match=rf"key 'flags/{mask}': .*pass ignore=\('flags/{mask}',\)"):
            read_poses(path)
        assert len(read_poses(path, ignore=(f"flags/{mask}",))) == N
    path = save(tmp_path / "b.npz", {"observed": seen, "smplx": {**parts(people()), "observed": ~seen}})
    with pytest.raises(ValueError, match=r"pass ignore=\('observed',\)"):
        read_poses(path)
    assert bool(read_poses(path, ignore=("observed",)).observed[:, :22].all())


def test_a_mask_of_other_poses_is_not_taken(tmp_path: Path) -> None:
    seen = np.ones((N, 55), bool)
    seen[:, 4:6] = False
    path = save(tmp_path / "a.npz", {"poses": people(joints=55), "observed": seen, "other": parts(people(seed=1))})
    assert bool(read_poses(path, group="other").observed[:, 4].all())
    assert not bool(read_poses(path, group="").observed[:, 4].any())


# ---------------------------------------------------------------------- names within a group, and the top level


def test_names_to_ignore_are_those_of_the_message(tmp_path: Path) -> None:
    pose, other = people(joints=55), people(seed=1)[:, 1:]
    for outside in ({}, {"body_pose": other}):
        path = save(
            tmp_path / "a.npz", {"a": {"poses": pose, "body_pose": other}, "b": {"poses": pose[:, :24]}, **outside}
        )
        name = "a/body_pose" if outside else "body_pose"
        with pytest.raises(ValueError, match=rf"pass ignore=\('{name}',\)"):
            read_poses(path, group="a")
        for ignored in {name, "a/body_pose"}:
            data = read_poses(path, group="a", ignore=(ignored,))
            np.testing.assert_allclose(data.poses, pose, atol=1e-6)
            assert ignored in data.ignored


def test_the_top_level_can_be_named_and_cameras_are_no_poses(tmp_path: Path) -> None:
    pose = people(joints=24)
    path = save(tmp_path / "a.npz", {"poses": pose, "cam": {"pose": np.zeros((N, 4, 4))}})
    assert len(read_poses(path)) == N and "cam/pose" in read_poses(path).ignored
    path = save(tmp_path / "b.npz", {"poses": pose, "cam": parts(people(seed=1))})
    with pytest.raises(ValueError, match=r"pass group='' \(the top level\) or group='cam'"):
        read_poses(path)
    np.testing.assert_allclose(read_poses(path, group="").poses[:, :22], pose[:, :22], atol=1e-6)


# ---------------------------------------------------------------------- frames in dicts of their own


@pytest.mark.parametrize("name", ["a.pt", "a.npz"])
@pytest.mark.parametrize("kind", ["{:06d}.jpg", "{}"])
def test_dicts_of_frames_are_read_together(tmp_path: Path, name: str, kind: str) -> None:
    pose, numbers = people(), [9, 10, 11, *range(20, 17 + N)]
    content = {
        kind.format(k): {"smpl": {key: v[None] for key, v in zip(parts(pose), row, strict=True)}, "fps": 30.0}
        for k, *row in zip(numbers, pose[:, 0], pose[:, 1:], strict=True)
    }
    path = save(tmp_path / name, {"img": content, "subject": "ann"})
    with pytest.raises(ValueError, match=r"group='img/\*/smpl' reads all dicts of such names as the frames"):
        read_poses(path)
    data = read_poses(path, group="img/*/smpl")
    np.testing.assert_allclose(data.poses[:, :22], pose, atol=1e-6)
    assert data.frame.tolist() == numbers and data.fps == 30.0 and data.subjects == ("ann",)  # type: ignore[union-attr]
    assert data.ignored == ()
    assert read_poses(path, group="img/*/smpl", ignore=("global_orient",)).observed_joints == tuple(range(1, 22))


def test_frames_that_differ_are_refused(tmp_path: Path) -> None:
    frames: dict[str, Any] = {f"{k}": {"body_pose": people(1)[:, 1:], "betas": np.zeros(10 + k)} for k in range(4)}
    assert len(read_poses(save(tmp_path / "a.npz", frames), group="*", constant_parts_unobserved=False)) == 4
    frames["2"] = {"body_pose": people(2)[:, 1:]}
    with pytest.raises(ValueError, match=r"key 'body_pose': expected one shape .* and \(2, 21, 3\) in '2'"):
        read_poses(save(tmp_path / "a.npz", frames), group="*")
    frames["2"] = {"body_pose": people(1)[:, 1:], "jaw_pose": np.zeros((1, 3))}
    with pytest.raises(ValueError, match=r"key 'jaw_pose': .* got none in '0'.*ignore=\('jaw_pose',\)"):
        read_poses(save(tmp_path / "a.npz", frames), group="*")
    assert len(read_poses(tmp_path / "a.npz", group="*", ignore=("jaw_pose",), constant_parts_unobserved=False)) == 4
    for wrong in ("*/*", "x*", "y/*"):
        with pytest.raises(ValueError, match="group: expected"):
            read_poses(tmp_path / "a.npz", group=wrong)


def test_frames_of_text_beside_numbers_are_refused(tmp_path: Path) -> None:
    frames = {f"{k}": {"body_pose": people(1)[:, 1:], "subject": np.array("ann" if k else 7)} for k in range(4)}
    with pytest.raises(ValueError, match=r"key 'subject': .* got \(\) in '0' and \(\) of text in '1'"):
        read_poses(save(tmp_path / "a.npz", frames), group="*")


def test_numbers_of_frames_in_names_with_dots(tmp_path: Path) -> None:
    def numbers(*names: str) -> list[int] | None:
        frames = {name: {"body_pose": people(1, seed=k)[:, 1:]} for k, name in enumerate(names)}
        data = read_poses(save(tmp_path / "a.npz", frames), group="*", constant_parts_unobserved=False)
        stacked = np.concatenate([people(1, seed=k)[:, 1:] for k in range(len(names))])
        np.testing.assert_allclose(data.poses[:, 1:22], stacked, atol=1e-6)
        return data.frame.tolist()  # type: ignore[union-attr, no-any-return]

    assert numbers("frame.005", "frame.006", "frame.010") == [5, 6, 10]
    assert numbers("5.jp2", "6.jp2", "10.jp2") == [5, 6, 10]
    assert numbers("0.033", "0.1", "0.133") == [0, 1, 2]  # seconds
    with pytest.raises(ValueError, match=r"path: expected names of frames whose order is plain in a.npz"):
        numbers("0.5", "0.25", "0.75")


def test_people_in_a_list_of_a_torch_file_stay_apart(tmp_path: Path) -> None:
    pose = people()
    listed = [{"id": k % 2, "body_pose": torch.from_numpy(pose[k, 1:])} for k in range(N)]
    torch.save(listed, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="pass group='0' or group='1'"):
        read_poses(tmp_path / "a.pt")
    np.testing.assert_allclose(read_poses(tmp_path / "a.pt", group="1").poses[:, 1:22], pose[1::2, 1:], atol=1e-6)


@pytest.mark.parametrize("name", ["tid", "track_id"])
def test_lists_beside_numbers_of_people_in_a_torch_file_stay_apart(tmp_path: Path, name: str) -> None:
    """In every frame in another order."""
    pose, frames = people(), []
    for k in range(N):
        order = [3, 8] if k % 2 else [8, 3]
        body = [torch.from_numpy(pose[k, 1:]) * (1.0 if number == 3 else 0.5) for number in order]
        frames.append({name: order, "time": k, "smpl": [{"body_pose": each} for each in body]})
    torch.save(frames, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"pass group='[38]/smpl' or group='[38]/smpl'"):
        read_poses(tmp_path / "a.pt")
    for number, factor in ((3, 1.0), (8, 0.5)):
        found = read_poses(tmp_path / "a.pt", group=f"{number}/smpl").poses[:, 1:22]
        np.testing.assert_allclose(found, factor * pose[:, 1:], atol=1e-6)


def test_tensors_that_are_not_dense_are_refused(tmp_path: Path) -> None:
    body, path = torch.ones(3, 63) / 9, tmp_path / "a.pt"
    torch.save({"body_pose": body, "smpl": {"hands": body.to_sparse()}}, path)
    with pytest.raises(ValueError, match=r"'smpl/hands' is a sparse, nested or quantized tensor; save .to_dense"):
        read_poses(path)
    deep: dict[str, Any] = {"body_pose": body}
    for _ in range(9):
        deep = {"a": deep}
    torch.save(deep, path)
    with pytest.raises(
        ValueError, match=r"expected dense tensors and dicts of them, but 'a/.*' is more than 8 dicts and lists deep"
    ):
        read_poses(path)


def test_frames_without_anybody_in_a_torch_file_are_unobserved(tmp_path: Path) -> None:
    torch.save([{"body_pose": torch.zeros(0, 63)}, *[{"body_pose": torch.ones(1, 63) / 9}] * 3], tmp_path / "a.pt")
    assert read_poses(tmp_path / "a.pt").observed.any(1).tolist() == [False, True, True, True]


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    torch.save({"a": {"poses": torch.zeros(2, 165)}, "a/poses": torch.ones(2, 165)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="two of its arrays have the name 'a/poses'"):
        read_poses(tmp_path / "a.pt")


# ---------------------------------------------------------------------- the code for pickles and JSON


@pytest.mark.parametrize("nobody", [[None] * 63, [], None], ids=["nulls", "empty", "null"])
def test_rows_of_nobody_are_nan(tmp_path: Path, nobody: Any) -> None:
    pose = people()
    body = pose[:, 1:].reshape(N, 63).tolist()
    body[3] = nobody
    (tmp_path / "a.json").write_text(json.dumps({"global_orient": pose[:, 0].tolist(), "body_pose": body}))
    plain, _ = run_code(tmp_path / "a.json")
    with np.load(plain) as file:
        assert np.isnan(file["body_pose"][3]).all() and file["body_pose"].shape == (N, 63)
        np.testing.assert_allclose(np.delete(file["body_pose"], 3, 0), np.delete(pose[:, 1:], 3, 0).reshape(-1, 63))


def test_masked_rows_are_nan(tmp_path: Path) -> None:
    masked = np.ma.masked_array(people().reshape(N, 66))
    masked[4] = np.ma.masked
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"poses": masked}))
    with np.load(run_code(tmp_path / "a.pkl")[0]) as file:
        assert np.isnan(file["poses"][4]).all() and np.isfinite(np.delete(file["poses"], 4, 0)).all()


def test_what_the_code_leaves_out_is_printed_or_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"file": "a.mp4", "poses": people(joints=24), "when": {1, 2}}))
    plain, printed = run_code(tmp_path / "a.pkl")
    assert len(read_poses(plain)) == N and printed == "left out when: set\n"
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"poses": people(joints=24), "hand_pose": {1, 2}}))
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run_code(tmp_path / "b.pkl")
    assert "hand_pose is set" in failure.value.stderr


def test_names_to_skip_and_numbers_of_people_in_the_code(tmp_path: Path) -> None:
    listed = [{"id": torch.tensor(k), "poses": torch.ones(72) / 9, "hand_pose": {1, 2}} for k in (3, 4)]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(listed))
    with pytest.raises(ValueError, match="import numpy") as refusal:
        read_poses(tmp_path / "a.pkl")
    code = str(refusal.value)
    code = code[code.index("import numpy") : code.index("\nThe file holds") if "\nThe file holds" in code else None]
    exec(code.replace("skip = []", "skip = ['3/hand_pose', '4/hand_pose']"), {})
    with np.load(tmp_path / "a_plain.npz") as file:
        assert sorted(file) == ["3/poses", "4/poses"]


def test_many_numbered_dicts_are_frames(tmp_path: Path) -> None:
    pose = people(1800, 16).reshape(1800, 48)
    hands = {str(k): {"right": {"pose": pose[k].tolist(), "shape": [0.0] * 10}, "left": None} for k in range(1800)}
    (tmp_path / "a.json").write_text(json.dumps({"0": dict(sorted(hands.items()))}))
    data = read_poses(run_code(tmp_path / "a.json")[0], side="right")
    np.testing.assert_allclose(data.poses[:, 40:].flatten(1), pose[:, 3:], atol=1e-6)
    assert data.frame.tolist() == list(range(1800))  # type: ignore[union-attr]


@pytest.mark.parametrize("frames", [8, 120])
def test_the_code_tells_tracked_people_apart(tmp_path: Path, frames: int) -> None:
    """As PHALP writes them: a dict for each image, its lists in any order of the people, who come and go."""
    pose = people(2 * frames, 24).reshape(2, frames, 24, 3)
    images = {}
    for k in range(frames):
        order = [3] if k % 3 == 1 else [3, 7] if k % 2 else [7, 3]
        smpl = [{"global_orient": p[:1], "body_pose": p[1:]} for p in (pose[int(tid == 7), k] for tid in order)]
        images[f"img/{k:06d}.jpg"] = {"tid": order, "smpl": smpl, "time": k}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(images))
    plain, _ = run_code(tmp_path / "a.pkl")
    groups = ["img/*/3/smpl", "img/*/7/smpl"] if frames < 100 else ["3/smpl", "7/smpl"]
    with pytest.raises(ValueError, match="group=") as refusal:
        read_poses(plain)
    for person, group in enumerate(groups):
        assert f"group={group!r}" in str(refusal.value)
        data = read_poses(plain, group=group, model_type="smpl")
        seen = data.observed[:, 1]
        assert data.frame is not None and seen.sum() == (
            frames if person == 0 else sum(k % 3 != 1 for k in range(frames))
        )
        np.testing.assert_allclose(data.poses[seen, :22], pose[person, data.frame[seen.numpy()], :22], atol=1e-6)


def test_people_of_one_frame_stay_apart(tmp_path: Path) -> None:
    pose = people(2, 24).reshape(2, 72)
    content = [{"id": k, "poses": [pose[k].tolist()]} for k in (0, 1)]
    for name, frames in (("a", content), ("b", [content, content])):
        (tmp_path / f"{name}.json").write_text(json.dumps(frames))
        plain, _ = run_code(tmp_path / f"{name}.json")
        with pytest.raises(ValueError, match="pass group='0' or group='1'"):
            read_poses(plain)
        data = read_poses(plain, group="1", constant_parts_unobserved=False)
        np.testing.assert_allclose(data.poses[0, :22].flatten(), pose[1, :66], atol=1e-6)


def test_more_arrays_than_a_file_may_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 5000 arrays, got 5001; save those of one name in all frames as one"):
        read_poses(save_npz(tmp_path / "a.npz", **{str(k): np.zeros(1) for k in range(5001)}))


def test_flat_hand_mean_of_each_frame_counts(tmp_path: Path) -> None:
    hand = people(joints=15)
    once = save_npz(tmp_path / "a.npz", right_hand_pose=hand, flat_hand_mean=np.ones(N, bool))
    np.testing.assert_allclose(read_poses(once).poses[:, 40:], hand, atol=1e-6)
    with pytest.raises(ValueError, match="key 'flat_hand_mean': expected one value"):
        read_poses(save_npz(tmp_path / "b.npz", right_hand_pose=hand, flat_hand_mean=np.arange(N) < 3))
    told = read_poses(tmp_path / "b.npz", flat_hand_mean=True)
    np.testing.assert_allclose(told.poses[:, 40:], hand, atol=1e-6)
