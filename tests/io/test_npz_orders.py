"""`read_poses` on arrays of all joints: orders that are named, told by the values, or refused with both candidates."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sample_poses import save_npz as _save

from poseprior import skeleton
from poseprior.io import PoseDataset, read_poses, read_split

N = 40
BODY, LEFT, RIGHT, FACE = tuple(range(22)), tuple(range(25, 40)), tuple(range(40, 55)), (22, 23, 24)
ORDERS: dict[str, tuple[int, ...]] = {
    "smplx": (*BODY, *FACE, *LEFT, *RIGHT),
    "smplx_hands_first": (*BODY, *LEFT, *RIGHT, *FACE),
    "smplx_53": (*BODY, 22, *LEFT, *RIGHT),
    "smplx_53_jaw_last": (*BODY, *LEFT, *RIGHT, 22),
}
TWINS = [("smplx_53", "smplx_53_jaw_last"), ("smplx", "smplx_hands_first")]


def _person(n: int = N, seed: int = 0, jaw: float = 0.2) -> NDArray[np.float32]:
    """(n, 55, 3) with hands that close and a jaw that opens."""
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.2, (n, 55, 3))
    pose[:, 23:25] *= 0.3
    pose[:, 22] = rng.normal(0, 0.01, (n, 3))
    pose[:, 22, 0] += jaw * rng.random(n)
    bend = rng.uniform(0.2, 1.3, (n, 1))
    for first, side in ((25, -1.0), (40, 1.0)):
        pose[:, first : first + 15] *= 0.3
        pose[:, first : first + 12, 2] += side * bend
        pose[:, first + 12, 1] -= side * 0.6
    return pose.astype(np.float32)


def _reads(data: PoseDataset, pose: NDArray[Any], order: tuple[int, ...]) -> None:
    np.testing.assert_allclose(data.poses[:, list(order)].numpy(), pose[:, list(order)], atol=1e-6)
    assert set(data.observed_joints) == set(order)


@pytest.mark.parametrize("n", [1, 4, N])
@pytest.mark.parametrize("jaw", [0.0, 0.2])
@pytest.mark.parametrize("name", list(ORDERS))
def test_hands_and_jaw_tell_the_order(name: str, jaw: float, n: int, tmp_path: Path) -> None:
    pose = _person(n, jaw=jaw)
    data = read_poses(_save(tmp_path / "x.npz", poses=pose[:, list(ORDERS[name])]))
    _reads(data, pose, ORDERS[name])
    assert any(name in note for note in data.notes) == (name in ("smplx_53_jaw_last", "smplx_hands_first"))


@pytest.mark.parametrize("name", list(ORDERS))
def test_an_order_that_is_named_needs_no_evidence(name: str, tmp_path: Path) -> None:
    pose = np.random.default_rng(0).normal(0, 0.3, (5, 55, 3)).astype(np.float32)
    stored = pose[:, list(ORDERS[name])]
    _reads(read_poses(_save(tmp_path / "x.npz", poses=stored), layout=name), pose, ORDERS[name])
    names = np.array(skeleton.JOINT_NAMES)[list(ORDERS[name])]
    _reads(read_poses(_save(tmp_path / "y.npz", poses=stored, joint_names=names)), pose, ORDERS[name])
    _reads(read_poses(_save(tmp_path / "z.npz", poses=stored), layout=names.tolist()), pose, ORDERS[name])


@pytest.mark.parametrize("width", [0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_53_joints_that_tell_nothing_are_refused(width: float, seed: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(seed).normal(0, width, (6, 53, 3))
    with pytest.raises(ValueError, match=r"one of two orders.* pass layout='smplx_53' .*or layout='smplx_53_jaw_last'"):
        read_poses(_save(tmp_path / "x.npz", poses=noise))


@pytest.mark.parametrize("width", [0.02, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_55_joints_that_tell_nothing_are_smplx(width: float, seed: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(seed).normal(0, width, (6, 55, 3)).astype(np.float32)
    _reads(read_poses(_save(tmp_path / "x.npz", poses=noise)), noise, tuple(range(55)))


def test_a_jaw_in_the_wrong_place_is_never_silent(tmp_path: Path) -> None:
    """Random fingers: only the jaw, which opens and does nothing else, speaks."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pose = rng.normal(0, 0.3, (30, 55, 3)).astype(np.float32)
        pose[:, 22] = np.stack([rng.uniform(0, 0.3, 30), np.zeros(30), np.zeros(30)], 1)
        for name, order in ORDERS.items():
            path = _save(tmp_path / f"{name}{seed}.npz", poses=pose[:, list(order)])
            with contextlib.suppress(ValueError):  # refused is right, too
                _reads(read_poses(path), pose, order)


@pytest.mark.parametrize("n", [1, N])
def test_a_jaw_that_moves_while_the_hands_are_at_rest_is_no_thumb(n: int, tmp_path: Path) -> None:
    pose = _person(n)
    pose[:, 23:] = 0
    pose[:, 22] = np.linspace(0.1, 0.3, n)[:, None] * np.array([1, 0, 0])
    _reads(read_poses(_save(tmp_path / "a.npz", poses=pose), constant_parts_unobserved=False), pose, ORDERS["smplx"])
    last = _save(tmp_path / "b.npz", poses=pose[:, list(ORDERS["smplx_hands_first"])])
    with pytest.raises(ValueError, match=r"layout='smplx' .* or layout='smplx_hands_first'"):
        read_poses(last)
    data = read_poses(last, layout="smplx_hands_first", constant_parts_unobserved=False)
    _reads(data, pose, ORDERS["smplx_hands_first"])


def test_orders_that_say_the_same_are_not_told_apart(tmp_path: Path) -> None:
    pose = np.zeros((6, 53, 3))
    pose[:, :22] = np.random.default_rng(0).normal(0, 0.3, (6, 22, 3))
    data = read_poses(_save(tmp_path / "x.npz", poses=pose))
    assert data.observed_joints == BODY
    assert "jaw_pose, left_hand_pose, right_hand_pose" in data.notes[0]


def test_motion_x(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pose, columns = rng.normal(0, 0.3, (N, 55, 3)).astype(np.float32), rng.normal(0, 1, (N, 322)).astype(np.float32)
    columns[:, :3], columns[:, 3:66] = pose[:, 0], pose[:, 1:22].reshape(N, 63)
    columns[:, 66:156], columns[:, 156:159] = pose[:, 25:].reshape(N, 90), pose[:, 22]
    np.save(tmp_path / "m.npy", columns)
    order = ORDERS["smplx_53_jaw_last"]
    for path in (tmp_path / "m.npy", _save(tmp_path / "m.npz", poses=columns)):
        data = read_poses(path)
        _reads(data, pose, order)
        assert "Motion-X" in data.notes[0] and data.sequence is not None and set(data.sequence) == {"m"}


def test_52_joints_without_the_root(tmp_path: Path) -> None:
    pose = _person()
    path = _save(tmp_path / "x.npz", poses=pose[:, [*range(1, 23), *LEFT, *RIGHT]])
    with pytest.raises(
        ValueError, match=r"pass model_type='smplh', if the root is missing pass layout='smplx_52_without_root'"
    ):
        read_poses(path)
    _reads(read_poses(path, layout="smplx_52_without_root"), pose, (*range(1, 23), *LEFT, *RIGHT))


def test_some_joints_by_name(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).normal(0, 0.3, (5, 4, 3)).astype(np.float32)
    data = read_poses(_save(tmp_path / "x.npz", poses=stored), layout=["left_knee", "-", "pelvis", "head"])
    np.testing.assert_array_equal(data.poses[:, [4, 0, 15]].numpy(), stored[:, [0, 2, 3]])
    assert data.observed_joints == (0, 4, 15)


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("mine", "layout: expected one of smplx, .*, or mano or thumb_first .* got 'mine'"),
        ("smplx+smplh", "layout: expected one of"),
        ("smplx_53", "layout: expected one of 55 joints for key 'poses', got smplx_53 of 53"),
        (["left_knee", "nose"], "layout: expected names of poseprior.skeleton.JOINT_NAMES or '-', got 'nose'"),
        (["left_knee", "left_knee"], "layout: expected each joint once"),
        (["body"], "layout: expected each joint once, and joints alone, got 'body'"),
        (["left_knee"], "layout: expected one of 55 joints for key 'poses', got names of 1"),
    ],
)
def test_layouts_that_do_not_fit(layout: Any, text: str, tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", poses=_person())
    with pytest.raises(ValueError, match=text):
        read_poses(path, layout=layout)


def test_a_layout_that_nothing_needs(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", body_pose=_person()[:, 1:22])
    with pytest.raises(ValueError, match=r"layout: expected something in .* that needs it, got nothing"):
        read_poses(path, layout="smplx_53")


@pytest.mark.real_data
@pytest.mark.parametrize("name", list(ORDERS))
def test_real_hands_tell_the_order(name: str, real_data_dir: Path, tmp_path: Path) -> None:
    with np.load(real_data_dir / "hands" / "hands_train.npz") as file:
        hand, side = file["hand_pose"], file["side"]
    left, right = hand[side == 0], hand[side == 1]
    rng = np.random.default_rng(0)
    for _ in range(40):
        pose = np.zeros((1, 55, 3), np.float32)
        pose[0, 25:40], pose[0, 40:] = left[rng.integers(len(left))], right[rng.integers(len(right))]
        pose[0, 22] = [0.15 * rng.random(), 0.0, 0.0]
        data = read_poses(_save(tmp_path / "x.npz", poses=pose[:, list(ORDERS[name])]))
        np.testing.assert_allclose(data.poses[:, list(ORDERS[name])].numpy(), pose[:, list(ORDERS[name])], atol=1e-6)


def test_split_folders_take_the_same_options(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, (6, 53, 3)).astype(np.float32)
    for name in ("train", "val"):
        _save(tmp_path / f"{name}_poses.npz", poses=noise, other=noise)
    with pytest.raises(ValueError, match="pass layout='smplx_53'"):
        read_split(tmp_path)
    parts = read_split(tmp_path, layout="smplx_53_jaw_last", ignore=("other",))
    for part in parts.values():
        np.testing.assert_array_equal(part.poses[:, 22].numpy(), noise[:, 52])
        assert part.ignored == ("other",)
