"""`read_poses`: every layout that is promised, and where subjects, sequences, rates and masks come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sample_poses import amass_smplx, haar_poses
from sample_poses import assert_observes as _check
from sample_poses import save_npz as _save
from torch import Tensor

from poseprior import params
from poseprior.io import read_poses
from poseprior.rotations import wrap_rotvec
from poseprior.skeleton import JOINT_NAMES

N = 6


def _poses(n: int = N, seed: int = 0) -> Tensor:
    return 0.9 * haar_poses(n, seed)


ALL = tuple(range(55))
WHOLE: list[tuple[int, tuple[int, ...], dict[str, Any]]] = [
    (55, ALL, {}),
    (53, params.JOINTS_53, {"joint_names": np.array([JOINT_NAMES[j] for j in params.JOINTS_53])}),
    (53, params.JOINTS_53, {"observed": np.ones((N, 53), bool)}),
    (52, params.JOINTS_SMPLH, {"mocap_framerate": 120.0}),
    (52, params.JOINTS_SMPLH, {"surface_model_type": "smplh"}),
    (24, params.JOINTS_SMPL, {}),
    (55, ALL, {"surface_model_type": "smplx"}),
    (55, ALL, {"surface_model_type": "smplx_locked_head", "mocap_frame_rate": 30.0}),
    (24, params.JOINTS_SMPL, {"surface_model_type": "SMPL"}),
]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("count", "joints", "extra"), WHOLE)
def test_whole_arrays(
    count: int, joints: tuple[int, ...], extra: dict[str, Any], dtype: type, flat: bool, tmp_path: Path
) -> None:
    stored = params.pose_to_vector(_poses(), {55: 165, 53: 159, 52: 156, 24: 72}[count]).numpy().astype(dtype)
    path = _save(tmp_path / "x.npz", poses=stored if flat else stored.reshape(N, -1, 3), **extra)
    _check(read_poses(path), _poses(), joints)


def test_columns_66_to_69_are_jaw_or_finger(tmp_path: Path) -> None:
    """The same numbers at 66:69 are the left index finger of SMPL-H and the jaw of SMPL-X."""
    vector = np.random.default_rng(0).normal(0, 0.1, (N, 165)).astype(np.float32)
    smplh = read_poses(_save(tmp_path / "h.npz", poses=vector[:, :156], mocap_framerate=100.0))
    smplx = read_poses(_save(tmp_path / "x.npz", poses=vector))
    joint53 = read_poses(_save(tmp_path / "53.npz", poses=vector[:, :159]), layout="smplx_53")
    assert np.array_equal(smplh.poses[:, 25].numpy(), vector[:, 66:69])
    assert np.array_equal(smplx.poses[:, 22].numpy(), vector[:, 66:69])
    assert np.array_equal(joint53.poses[:, 22].numpy(), vector[:, 66:69])


def test_the_first_22_joints_of_a_declared_model(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", poses=_poses()[:, :22].numpy())
    _check(read_poses(path, model_type="smplh"), _poses(), tuple(range(22)))


def test_one_pose(tmp_path: Path) -> None:
    for shape in ((55, 3), (165,)):
        _check(read_poses(_save(tmp_path / "x.npz", poses=_poses(1).numpy().reshape(shape))), _poses(1), ALL)


def _amass_smplx(n: int = N) -> dict[str, Any]:
    return amass_smplx(_poses(n))


def test_amass_smplx(tmp_path: Path) -> None:
    arrays = _amass_smplx()
    whole = read_poses(_save(tmp_path / "CMU" / "01" / "walk_poses.npz", **arrays))
    _check(whole, _poses(), ALL)
    assert (whole.fps, whole.subjects) == (120.0, ("01",))
    assert whole.sequence is not None
    assert set(whole.sequence) == {"walk_poses"}
    assert whole.frame is not None
    assert whole.frame.tolist() == list(range(N))
    del arrays["poses"]
    _check(read_poses(_save(tmp_path / "parts.npz", **arrays)), _poses(), ALL)


def test_amass_keys_that_are_not_needed_are_not_opened(tmp_path: Path) -> None:
    """Files in the wild hold pickled `gender` or `labels`."""
    arrays = _amass_smplx()
    arrays["gender"] = np.array(None, dtype=object)
    arrays["labels"] = np.array([{"a": 1}], dtype=object)
    _check(read_poses(_save(tmp_path / "x.npz", **arrays)), _poses(), ALL)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        ("global_orient", "body_pose", "jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose"),
        ("root_orient", "pose_body", "pose_jaw", "leye_pose", "reye_pose", "lhand_pose", "rhand_pose"),
    ],
)
def test_parts(names: tuple[str, ...], flat: bool, tmp_path: Path) -> None:
    keywords = params.pose_to_smplx(_poses(), flat=flat)
    arrays = {name: value.numpy() for name, value in zip(names, keywords.values(), strict=True)}
    _check(read_poses(_save(tmp_path / "x.npz", transl=np.zeros((N, 3)), **arrays)), _poses(), ALL)


def test_pairs_of_parts(tmp_path: Path) -> None:
    pose = _poses().numpy()
    arrays = {
        "pose_body": pose[:, 1:22].reshape(N, 63),
        "pose_eye": pose[:, 23:25],
        "pose_hand": pose[:, 25:].reshape(N, 90),
    }
    _check(read_poses(_save(tmp_path / "x.npz", **arrays)), _poses(), (*range(1, 22), *range(23, 55)))


def test_smpl_body_parts(tmp_path: Path) -> None:
    body = torch.cat([_poses()[:, 1:22], torch.ones(N, 2, 3)], 1).flatten(1).numpy()
    path = _save(tmp_path / "x.npz", body_pose=body, global_orient=_poses()[:, 0].numpy())
    _check(read_poses(path, model_type="smpl"), _poses(), tuple(range(22)))


def test_pca_hands_with_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    components = tuple(torch.from_numpy(np.linalg.qr(rng.normal(size=(45, 45)))[0]) for _ in range(2))
    mean = (torch.ones(45) * 0.1, torch.ones(45) * 0.2)
    coefficients = rng.normal(size=(N, 6)).astype(np.float32)
    path = _save(tmp_path / "x.npz", body_pose=_poses()[:, 1:22].numpy(), left_hand_pose=coefficients)
    dataset = read_poses(path, hands_components=components, hands_mean=mean)  # type: ignore[arg-type]
    expected, _ = params.pose_from_smplx(
        {"left_hand_pose": torch.from_numpy(coefficients)},
        hands_components=components,
        hands_mean=mean,  # type: ignore[arg-type]
    )
    torch.testing.assert_close(dataset.poses[:, 25:40], wrap_rotvec(expected[:, 25:40]))


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    "side", [np.array([0, 1, 1, 0, 1, 0], np.int8), np.array(["left", "right", "right", "left", "R", "l"])]
)
def test_single_hands(side: NDArray[Any], flat: bool, tmp_path: Path) -> None:
    hand = _poses()[:, 25:40].numpy()
    path = _save(
        tmp_path / "x.npz", hand_pose=hand.reshape(N, 45) if flat else hand, side=side, sitting=np.arange(N) // 3
    )
    dataset = read_poses(path)
    pose, observed = dataset.all_poses()
    right = torch.tensor([False, True, True, False, True, False])
    assert np.array_equal(pose[~right, 25:40].numpy(), hand[~right.numpy()])
    assert np.array_equal(pose[right, 40:].numpy(), hand[right.numpy()])
    assert observed[~right, 25:40].all()
    assert observed[right, 40:].all()
    assert int(observed.sum()) == N * 15
    assert dataset.subjects == ("sitting0", "sitting1")


@pytest.mark.parametrize(("side", "first"), [("left", 25), ("right", 40), (0, 25), (1, 40)])
def test_side_by_argument(side: str | int, first: int, tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", hand_pose=_poses()[:, 25:40].numpy())
    assert read_poses(path, side=side).observed_joints == tuple(range(first, first + 15))


# -- masks and values ----------------------------------------------------------------------------------------------


def test_observed_of_the_stored_joints(tmp_path: Path) -> None:
    observed = np.random.default_rng(0).random((N, 53)) < 0.6
    poses = params.pose_to_joints53(_poses()).numpy()
    poses[~observed] = np.nan  # unobserved rubbish is ignored
    dataset = read_poses(_save(tmp_path / "x.npz", poses=poses, observed=observed))
    assert np.array_equal(dataset.observed[:, list(params.JOINTS_53)].numpy(), observed)
    assert not dataset.observed[:, 23:25].any()
    assert not dataset.poses[~dataset.observed].any()
    assert torch.equal(dataset.poses[dataset.observed], _poses()[dataset.observed])


def test_observed_of_55_joints_of_one_row_and_of_a_hand(tmp_path: Path) -> None:
    flags = np.ones(53, np.uint8)
    flags[3] = 0
    path = _save(tmp_path / "a.npz", poses=params.pose_to_joints53(_poses()).numpy(), observed=flags)
    assert 3 not in read_poses(path).observed_joints
    full = np.ones((N, 55), bool)
    full[:, 7] = False
    path = _save(tmp_path / "b.npz", body_pose=_poses()[:, 1:22].numpy(), observed=full)
    assert read_poses(path).observed_joints == tuple(j for j in range(1, 22) if j != 7)
    hand = np.ones((N, 15), bool)
    hand[:, 2] = False
    path = _save(tmp_path / "c.npz", hand_pose=_poses()[:, 40:].numpy(), side=1, observed=hand)
    assert read_poses(path).observed_joints == (40, 41, *range(43, 55))


def test_rotations_beyond_pi_are_wrapped(tmp_path: Path) -> None:
    pose = _poses()
    around = pose * (1 + 2 * np.pi / pose.norm(dim=-1, keepdim=True))
    dataset = read_poses(_save(tmp_path / "x.npz", poses=around.numpy()))
    torch.testing.assert_close(dataset.poses, pose, atol=2e-6, rtol=0)
    assert float(dataset.poses.norm(dim=-1).max()) <= np.pi


def test_constant_hands_and_faces_are_not_measured(tmp_path: Path) -> None:
    """AMASS body mocap stores one fixed hand pose."""
    pose = _poses()
    pose[:, 25:40] = pose[:1, 25:40]
    vector = params.pose_to_smplh(pose).flatten(1).numpy()
    path = _save(tmp_path / "x.npz", poses=vector, mocap_framerate=60.0)
    _check(read_poses(path), pose, (*range(22), *range(40, 55)))
    _check(read_poses(path, constant_parts_unobserved=False), pose, params.JOINTS_SMPLH)
    moving = _save(tmp_path / "y.npz", poses=vector, mocap_framerate=60.0, observed=np.ones((N, 52), bool))
    _check(read_poses(moving), pose, params.JOINTS_SMPLH)
