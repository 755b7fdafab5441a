"""`read_poses` on hands: MANO results, hands beside bodies, and what is left unread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
from numpy.typing import NDArray
from sample_poses import save_npz as _save

from poseprior import skeleton
from poseprior.io import PoseDataset, read_poses
from poseprior.rotations import wrap_rotvec

N = 8
LEFT, RIGHT = tuple(range(25, 40)), tuple(range(40, 55))


def _some(*shape: int, seed: int = 0, width: float = 0.3) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, width, shape).astype(np.float32)


def _shows(data: PoseDataset, joints: tuple[int, ...], values: NDArray[Any]) -> None:
    """These joints are observed and read so."""
    assert data.observed[:, list(joints)].all()
    np.testing.assert_allclose(data.poses[:, list(joints)].numpy(), values.reshape(len(data), -1, 3), atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "joints"),
    [
        ({"poses": _some(N, 45), "is_right": np.ones(N)}, RIGHT),
        ({"fullpose": _some(N, 15, 3), "side": "left"}, LEFT),
        ({"pose": _some(N, 48), "is_right": np.ones(N)}, RIGHT),
        ({"right_hand_pose": _some(N, 45), "is_right": np.ones(N)}, RIGHT),
        ({"left_hand_pose": _some(N, 45)}, LEFT),
        ({"hand_pose": _some(N, 45), "is_right": np.ones(N)}, RIGHT),
    ],
)
def test_the_wrist_of_one_hand_is_no_pelvis(keys: dict[str, Any], joints: tuple[int, ...], tmp_path: Path) -> None:
    data = read_poses(_save(tmp_path / "x.npz", **keys, global_orient=_some(N, 3, seed=1)))
    values = next(iter(keys.values())).reshape(N, -1)[:, -45:]
    _shows(data, joints, values)
    assert data.observed_joints == joints and "global_orient" in data.ignored
    assert any("is the wrist's in the world" in note for note in data.notes)


def test_the_root_beside_both_hands_is_a_pelvis(tmp_path: Path) -> None:
    root = _some(N, 3, seed=1)
    hands = {"left_hand_pose": _some(N, 45), "right_hand_pose": _some(N, 45, seed=2)}
    _shows(read_poses(_save(tmp_path / "x.npz", **hands, global_orient=root)), (0,), root)


def test_ninety_numbers_of_one_side_are_refused_with_both_readings(tmp_path: Path) -> None:
    hand = torch.from_numpy(_some(N, 15, 3)).double()
    matrix = roma.rotvec_to_rotmat(hand)
    six = torch.cat((matrix[..., 0, :], matrix[..., 1, :]), -1).reshape(N, 90).numpy()
    path = _save(tmp_path / "x.npz", hand_pose=six, is_right=np.ones(N))
    with pytest.raises(
        ValueError, match=r"expected rotvecs, got \(8, 90\), pairs of orthonormal .*pass rotations='6d_rows'"
    ):
        read_poses(path)
    _shows(read_poses(path, rotations="6d_rows"), RIGHT, hand.numpy())
    six = six * 0.99  # no longer orthonormal, as 6D of a network is not
    path = _save(tmp_path / "x.npz", hand_pose=six, is_right=np.ones(N))
    with pytest.raises(ValueError, match=r"as is_right says, got \(8, 90\), which is both .* pass ignore=.*'6d_rows'"):
        read_poses(path)
    assert len(read_poses(path, ignore=("is_right",)).observed_joints) == 30
    alone = _save(tmp_path / "y.npz", hand_pose=six)
    with pytest.raises(ValueError, match=r"as side= says, got \(8, 90\).* For both hands leave side= out"):
        read_poses(alone, side="right")
    _shows(read_poses(alone, side="right", rotations="6d_rows"), RIGHT, hand.numpy())


@pytest.mark.parametrize("side", [-np.ones(N), np.array(["interacting"] * N), np.zeros(0)])
def test_a_side_in_the_file_that_cannot_be_read_can_be_told(side: NDArray[Any], tmp_path: Path) -> None:
    values = _some(N, 45)
    path = _save(tmp_path / "x.npz", hand_pose=values, is_right=side)
    with pytest.raises(ValueError, match=r"if you know the side, pass ignore=\('is_right',\) with side='left' or"):
        read_poses(path)
    _shows(read_poses(path, ignore=("is_right",), side="right"), RIGHT, values)


@pytest.mark.parametrize(("width", "form"), [(60, "quaternion_wxyz"), (90, "6d_rows"), (135, "matrix")])
def test_hands_in_other_forms_say_what_to_pass(width: int, form: str, tmp_path: Path) -> None:
    hand = torch.from_numpy(_some(N, 15, 3)).double()
    matrix = roma.rotvec_to_rotmat(hand)
    values = {
        60: roma.rotvec_to_unitquat(hand).roll(1, -1), 90: matrix[..., :2, :].flatten(-2), 135: matrix.flatten(-2),
    }[width]  # fmt: skip
    path = _save(tmp_path / "x.npz", left_hand_pose=values.reshape(N, width).numpy())
    with pytest.raises(ValueError, match=f"expected (15 joints|rotvecs), .* pass rotations=.*'{form}'"):
        read_poses(path)
    _shows(read_poses(path, rotations=form), LEFT, hand.numpy())


# -- hands alone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "options", "joints"),
    [
        ({"is_right": np.ones(N)}, {}, RIGHT),
        ({"is_right": np.zeros(N, bool)}, {}, LEFT),
        ({"right": np.ones((N, 1), np.float32)}, {}, RIGHT),
        ({"handedness": np.array("Left")}, {}, LEFT),
        ({"side": np.array([b"right"] * N)}, {}, RIGHT),
        ({}, {"side": "left"}, LEFT),
        ({}, {"side": 1}, RIGHT),
    ],
)
def test_mano_results_give_fingers_and_no_pelvis(
    keys: dict[str, Any], options: dict[str, Any], joints: tuple[int, ...], tmp_path: Path
) -> None:
    hand = _some(N, 45)
    path = _save(tmp_path / "x.npz", global_orient=_some(N, 3), hand_pose=hand, betas=_some(N, 10), **keys)
    data = read_poses(path, **options)
    _shows(data, joints, hand)
    assert data.observed_joints == joints
    assert data.ignored == ("global_orient",)
    assert "wrist" in data.notes[0]


def test_mano_as_matrices_of_both_sides(tmp_path: Path) -> None:
    hand = torch.from_numpy(_some(N, 15, 3))
    right = np.arange(N) % 2
    path = _save(
        tmp_path / "x.npz", global_orient=roma.rotvec_to_rotmat(torch.from_numpy(_some(N, 1, 3, seed=1))).numpy(),
        hand_pose=roma.rotvec_to_rotmat(hand).numpy(), is_right=right.astype(np.float32),
    )  # fmt: skip
    data = read_poses(path)
    for k in range(N):
        torch.testing.assert_close(data.poses[k, 40:] if right[k] else data.poses[k, 25:40], hand[k], atol=1e-5, rtol=0)
    assert not data.observed[:, :25].any()
    assert int(data.observed.sum()) == 15 * N


@pytest.mark.parametrize("key", ["pose", "poses", "hand_pose"])
@pytest.mark.parametrize("shape", [(N, 48), (N, 16, 3)])
def test_manos_sixteen_joints(key: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    pose = _some(N, 48)
    data = read_poses(_save(tmp_path / "x.npz", **{key: pose.reshape(shape)}), side="right")
    _shows(data, RIGHT, pose[:, 3:])
    assert data.observed_joints == RIGHT
    assert "wrist" in data.notes[0]


def test_sides_must_be_told_and_agree(tmp_path: Path) -> None:
    bare = _save(tmp_path / "a.npz", poses=_some(N, 45))
    with pytest.raises(ValueError, match=r"pass side='left' or side='right'.*holds poses \(8, 45\) float32"):
        read_poses(bare)
    two = _save(tmp_path / "b.npz", hand_pose=_some(N, 45), side=0, is_right=np.ones(N))
    with pytest.raises(ValueError, match="keys side, is_right: expected one side for each hand"):
        read_poses(two)
    third = _save(tmp_path / "d.npz", hand_pose=_some(N, 45), side=1, is_right=np.ones(N), handedness=np.array("left"))
    with pytest.raises(ValueError, match=r"keys side, handedness: .* or ignore=\('handedness',\)"):
        read_poses(third)
    assert len(read_poses(third, ignore=("handedness",))) == N
    told = _save(tmp_path / "c.npz", hand_pose=_some(N, 45), is_right=np.ones(N))
    with pytest.raises(ValueError, match="expected what the file's own key 'is_right' says, got 'left'"):
        read_poses(told, side="left")


def test_a_side_that_nothing_needs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"side: expected something in .* that needs it, got nothing; leave it out"):
        read_poses(_save(tmp_path / "a.npz", body_pose=_some(N, 63)), side="left")


# -- hands beside a body ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(N, 90), (N, 30, 3), (N, 2, 45), (N, 2, 15, 3)])
@pytest.mark.parametrize("key", ["hand_pose", "pose_hand"])
@pytest.mark.parametrize("body", ["parts", "smpl"])
def test_two_hands_in_one_array(key: str, shape: tuple[int, ...], body: str, tmp_path: Path) -> None:
    hands, rest = _some(N, 90), _some(N, 72, seed=1)
    rest[:, 66:] = 0
    arrays = {"global_orient": rest[:, :3], "body_pose": rest[:, 3:66]} if body == "parts" else {"poses": rest}
    data = read_poses(_save(tmp_path / "x.npz", **{key: hands.reshape(shape)}, **arrays))
    _shows(data, (*LEFT, *RIGHT), hands)
    _shows(data, tuple(range(22)), rest[:, :66])
    assert data.ignored == () and data.notes == ()


def test_smpl_beside_separate_hands(tmp_path: Path) -> None:
    body, left, right = _some(N, 72), _some(N, 45, seed=1), _some(N, 45, seed=2)
    data = read_poses(_save(tmp_path / "x.npz", poses=body, left_hand_pose=left, right_hand_pose=right))
    _shows(data, LEFT, left)
    _shows(data, RIGHT, right)
    assert data.observed_joints == (*range(22), *LEFT, *RIGHT)
    assert "SMPL's whole hands" in data.notes[0]


def test_one_hand_beside_a_body(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", body_pose=_some(N, 63), hand_pose=_some(N, 45, seed=1))
    _shows(read_poses(path, side="right"), RIGHT, _some(N, 45, seed=1))
    with pytest.raises(ValueError, match="pass side='left' or side='right'; or, for both hands in one array"):
        read_poses(path)


def test_resting_hands_of_a_whole_array_give_way(tmp_path: Path) -> None:
    whole = _some(N, 165)
    whole[:, 75:] = 0
    data = read_poses(_save(tmp_path / "x.npz", poses=whole, left_hand_pose=_some(N, 45, seed=1)))
    _shows(data, LEFT, _some(N, 45, seed=1))
    assert not data.observed[:, 40:].any()


def test_hands_that_contradict_a_whole_array_are_named(tmp_path: Path) -> None:
    whole = _some(N, 165)
    other = _save(tmp_path / "a.npz", poses=whole, left_hand_pose=_some(N, 45, seed=1))
    pca = _save(tmp_path / "b.npz", poses=whole, left_hand_pose=_some(N, 6, seed=1))
    for path in (other, pca):
        data = read_poses(path)
        _shows(data, tuple(range(55)), whole)
        assert data.ignored == ("left_hand_pose",) and "left_hand_pose" in data.notes[0]
    same = read_poses(_save(tmp_path / "c.npz", poses=whole, left_hand_pose=whole[:, 75:120]))
    assert same.ignored == () and same.notes == ()


# -- what is not read is named -----------------------------------------------------------------------------------------


def test_unread_rotations_are_listed(tmp_path: Path) -> None:
    path = _save(
        tmp_path / "x.npz", body_pose=_some(N, 63), left_hand_rotations=_some(N, 15, 3), mystery=_some(N, 63),
        euler_jaw=_some(N, 3), poses_pickled=np.array([{}], dtype=object), trans=_some(N, 3), betas=_some(N, 10),
        joint_transforms=_some(N, 22, 4, 4), body_aa=_some(N, 22, 3), quality=_some(9),
        joints3d=_some(N, 22, 3), vertices=_some(N, 90, 3), K=_some(3, 3), fps=30.0, gender="neutral",
        joint_local=_some(N, 22, 3, 3), motion=_some(N, 322), fullpose_deg=np.ones((N, 165), np.int32), pose_id=np.arange(N),
    )  # fmt: skip
    data = read_poses(path)
    assert set(data.ignored) == {
        "left_hand_rotations", "mystery", "euler_jaw", "poses_pickled", "joint_transforms", "body_aa", "joint_local",
        "motion", "fullpose_deg",
    }  # fmt: skip
    assert "mystery" in repr(data)
    assert data.select([0, 1]).ignored == data.ignored
    assert set(PoseDataset.concat([PoseDataset(data.poses), data]).ignored) == set(data.ignored)
    left = read_poses(path, ignore=("mystery", "trans"))
    assert set(left.ignored) == set(data.ignored) | {"trans"}


def test_two_arrays_of_one_part(tmp_path: Path) -> None:
    first, second = _some(N, 63), _some(N, 63, seed=1)
    around = wrap_rotvec(torch.from_numpy(first.reshape(N, 21, 3))).numpy()
    around = around * (1 + 2 * np.pi / np.linalg.norm(around, axis=-1, keepdims=True))
    read_poses(_save(tmp_path / "a.npz", body_pose=first, pose_body=around.astype(np.float32)))
    both = _save(tmp_path / "b.npz", body_pose=first, pose_body=second)
    with pytest.raises(ValueError, match=r"keys 'body_pose' and 'pose_body': .* got others at .*; pass ignore="):
        read_poses(both)
    _shows(read_poses(both, ignore=("body_pose",)), tuple(range(1, 22)), second)
    whole = _save(tmp_path / "c.npz", poses=_some(N, 165), root_orient=_some(N, 3, seed=1))
    with pytest.raises(ValueError, match=r"got others at pelvis; pass ignore=\('root_orient',\)"):
        read_poses(whole)
    twice = _save(tmp_path / "d.npz", poses=_some(N, 165), fullpose=_some(N, 165, seed=1))
    with pytest.raises(ValueError, match=r"keys 'poses' and 'fullpose': .* pass ignore=\('fullpose',\)"):
        read_poses(twice)
    with pytest.raises(ValueError, match=r"ignore='nothing': expected something in .* that needs it"):
        read_poses(both, ignore=("body_pose", "nothing"))


# -- rotations or coefficients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [slice(None), slice(5, 6)])
def test_hands_beyond_pi_are_wrapped(rows: slice, tmp_path: Path) -> None:
    hands = _some(10_000, 15, 3, width=0.1)
    hands[rows, 3] = [0.0, 0.0, 4.8]
    for key, more in (("hand_pose", {"side": 1}), ("right_hand_pose", {})):
        data = read_poses(_save(tmp_path / "x.npz", **{key: hands.reshape(-1, 45)}, **more))
        np.testing.assert_allclose(data.poses[5, 43].numpy(), [0, 0, 4.8 - 2 * np.pi], atol=1e-5)
        assert data.observed[:, 40:].all()


def test_coefficients_and_degrees_are_told_from_rotations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=(300, 45)) * np.geomspace(3.0, 0.05, 45)
    for hand in (coefficients, _some(N, 45) * 57):
        path = _save(tmp_path / "x.npz", hand_pose=hand, side=0)
        with pytest.raises(
            ValueError, match=r"PCA coefficients or degrees; pass num_pca_comps=45 .* rotations='rotvec'"
        ):
            read_poses(path)
        expected = wrap_rotvec(torch.from_numpy(hand.reshape(len(hand), 15, 3)))
        _shows(read_poses(path, rotations="rotvec"), LEFT, expected.numpy())


# -- the order of the fingers ------------------------------------------------------------------------------------------


def _thumb_first(hand: NDArray[Any]) -> NDArray[Any]:
    names = [f"{finger}{k}" for finger in ("thumb", "index", "middle", "ring", "pinky") for k in (1, 2, 3)]
    return hand[:, [skeleton.HAND_NAMES.index(name) for name in names]]


def _bent(n: int = N) -> NDArray[np.float32]:
    """Right hands that close, as hands do."""
    hand = _some(n, 15, 3, width=0.05)
    hand[:, :12, 2] += np.linspace(0.3, 1.2, n)[:, None]
    hand[:, 12] += [0.3, -0.6, 0.2]
    hand[:, 14] += [0.2, -0.3, 0.2]
    return hand


def test_thumb_first_is_noticed_and_read(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", hand_pose=_thumb_first(_bent()), side=1)
    with pytest.raises(ValueError, match="pass layout='mano' or layout='thumb_first'"):
        read_poses(path)
    _shows(read_poses(path, layout="thumb_first"), RIGHT, _bent())
    _shows(read_poses(path, layout="mano"), RIGHT, _thumb_first(_bent()))
    names = [f"{finger}{k}" for finger in ("thumb", "index", "middle", "ring", "pinky") for k in (1, 2, 3)]
    told = _save(tmp_path / "y.npz", hand_pose=_thumb_first(_bent()), side=1, joint_names=np.array(names))
    _shows(read_poses(told), RIGHT, _bent())
    _shows(read_poses(_save(tmp_path / "z.npz", hand_pose=_bent(), side=1)), RIGHT, _bent())


def test_thumb_first_in_a_whole_array(tmp_path: Path) -> None:
    pose = _some(N, 55, 3)
    stored = pose.copy()
    stored[:, 40:] = _thumb_first(pose[:, 40:])
    stored[:, 25:40] = _thumb_first(pose[:, 25:40])
    data = read_poses(_save(tmp_path / "x.npz", poses=stored), layout="smplx+thumb_first")
    _shows(data, tuple(range(55)), pose)
    stored[:, 40:] = _thumb_first(_bent())
    closing = _save(tmp_path / "y.npz", poses=stored)
    for given, order in ({}, "smplx"), ({"layout": "smplx"}, "smplx"):
        with pytest.raises(ValueError, match=rf"pass layout='{order}\+mano' or layout='{order}\+thumb_first'"):
            read_poses(closing, **given)  # type: ignore[arg-type]
    _shows(read_poses(closing, layout="smplx+thumb_first"), RIGHT, _bent())
    _shows(read_poses(closing, layout="smplx+mano"), RIGHT, _thumb_first(_bent()))


def test_shapes_of_one_hand(tmp_path: Path) -> None:
    hand = _bent(1)[0]
    matrices = roma.rotvec_to_rotmat(torch.from_numpy(hand)).numpy()
    wrist = np.concatenate((np.zeros((1, 3), np.float32), hand))
    for values in (hand, hand.ravel(), matrices, wrist):
        data = read_poses(_save(tmp_path / "x.npz", hand_pose=values), side="right")
        _shows(data, RIGHT, hand[None])


def test_fifteen_joints_by_name_are_no_hand(tmp_path: Path) -> None:
    names = [*skeleton.BODY_NAMES[:15]]
    data = read_poses(_save(tmp_path / "x.npz", poses=_some(N, 15, 3)), layout=names)
    assert data.observed_joints == tuple(range(1, 16))


def test_a_pose_under_the_name_of_a_side_is_named(tmp_path: Path) -> None:
    data = read_poses(_save(tmp_path / "x.npz", hand_pose=_some(N, 45), side=0, right=_some(N, 48)))
    assert data.ignored == ("right",)


@pytest.mark.real_data
def test_real_hands_are_never_taken_for_another_order(real_data_dir: Path, tmp_path: Path) -> None:
    with np.load(real_data_dir / "hands" / "hands_train.npz") as file:
        hand, side = file["hand_pose"], file["side"]
    for start in range(0, len(hand), 997):
        one = slice(start, start + 1)
        read_poses(_save(tmp_path / "x.npz", hand_pose=hand[one], side=side[one]))
        with pytest.raises(ValueError, match="thumb_first"):
            read_poses(_save(tmp_path / "y.npz", hand_pose=_thumb_first(hand[start : start + 50]), side=side[start]))


def test_hands_that_bend_backwards_are_noted(tmp_path: Path) -> None:
    """HaMeR keeps left hands as the right hands of a mirrored image."""
    right = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    data = read_poses(_save(tmp_path / "x.npz", hand_pose=_bent(), is_right=right))
    assert len(data.notes) == 1 and "the fingers of left hands bend backwards" in data.notes[0]
    assert "poses[:, 25:40] * (1, -1, -1)" in data.notes[0]
    turned = _bent()
    turned[4:] *= [1, -1, -1]
    assert read_poses(_save(tmp_path / "y.npz", hand_pose=turned, is_right=right)).notes == ()


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("form", ["left alone", "apart", "together", "whole"])
def test_hands_that_bend_backwards_are_noted_in_every_form(tmp_path: Path, form: str, swapped: bool) -> None:
    """As the right ones, or with left and right exchanged."""
    fine = {"right": _bent(), "left": _bent() * [1, -1, -1]}
    left, right = (fine["right"], fine["left"] if swapped else fine["right"])
    body = {"global_orient": np.zeros((8, 3)), "body_pose": np.full((8, 63), 0.1)}
    arrays = {
        "left alone": {"left_hand_pose": left},
        "apart": {"left_hand_pose": left, "right_hand_pose": right, **body},
        "together": {"hand_pose": np.stack([left, right], 1).reshape(8, 90), **body},
        "whole": {"poses": np.concatenate([np.full((8, 25, 3), 0.1), left, right], 1)},
    }[form]
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    model = {"surface_model_type": "smplx"} if form == "whole" else {}
    notes = [n for n in read_poses(_save(tmp_path / "x.npz", **arrays, **model)).notes if "bend backwards" in n]
    both = swapped and form != "left alone"
    assert len(notes) == 1 and notes[0].startswith(f"the fingers of {'left and right' if both else 'left'} hands")
    assert ("left and right are swapped" in notes[0]) == both
