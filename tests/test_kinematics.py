"""Forward kinematics against smplx, geometry by hand, the mirror, and gradients."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from poseprior import kinematics as kin
from poseprior.rotations import random_rotvec
from poseprior.skeleton import JOINT_NAMES, JOINT_SETS, MIRROR, NUM_JOINTS, PARENTS, mirror

J = JOINT_NAMES.index


def _random_poses(*shape: int, seed: int = 0) -> torch.Tensor:
    return random_rotvec(*shape, 55, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equals_smplx() -> None:
    lbs = pytest.importorskip("smplx.lbs", reason="smplx is an optional oracle")
    pose = _random_poses(16)
    rest = torch.zeros(NUM_JOINTS, 3, dtype=torch.float64)
    for j in range(1, NUM_JOINTS):
        rest[j] = rest[PARENTS[j]] + kin.REST_OFFSETS[j]
    rotmat = lbs.batch_rodrigues(pose.reshape(-1, 3)).reshape(16, 55, 3, 3)
    expected, transforms = lbs.batch_rigid_transform(
        rotmat, rest.expand(16, -1, -1), torch.tensor(PARENTS), dtype=torch.float64
    )
    position, rotation = kin.forward_kinematics(pose)
    torch.testing.assert_close(position, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation, transforms[..., :3, :3], atol=1e-6, rtol=0)


def test_rest_pose_is_a_170_cm_adult() -> None:
    rest = kin.keypoint_positions(torch.zeros(55, 3))
    named = dict(zip(kin.KEYPOINT_NAMES, rest, strict=True))
    sole = 0.018  # the toes' half thickness
    height = float(named["head_top"][1] - named["left_toe_tip"][1]) + sole
    assert 1.68 < height < 1.72
    span = float(named["left_middle_tip"][0] - named["right_middle_tip"][0])
    assert 0.95 * height < span < 1.05 * height
    assert named["left_wrist"][0] > 0.5 and named["left_toe_tip"][2] > named["left_ankle"][2] + 0.1
    tips = torch.stack([named[f"left_{f}_tip"] for f in ("thumb", "index", "middle", "ring", "pinky")])
    assert (tips[1:, 2] < tips[:-1, 2]).all(), "from thumb to pinky the fingers fan towards -z"


def test_mirrored_pose_is_mirrored_body() -> None:
    pose = _random_poses(8, seed=1)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    expected = kin.joint_positions(pose)[:, list(MIRROR)] * flip
    torch.testing.assert_close(kin.joint_positions(mirror(pose)), expected, atol=1e-12, rtol=0)


def test_knee_flexes_backwards_and_elbow_forwards() -> None:
    pose = torch.zeros(55, 3)
    pose[J("left_knee"), 0] = math.pi / 2
    pose[J("left_elbow"), 1] = -math.pi / 2
    p = kin.joint_positions(pose)
    assert p[J("left_ankle"), 2] < p[J("left_knee"), 2] - 0.3
    assert p[J("left_wrist"), 2] > p[J("left_elbow"), 2] + 0.2


def test_tips_follow_their_finger_only() -> None:
    pose = torch.zeros(55, 3)
    pose[J("right_pinky3")] = torch.tensor([0.0, 0.0, 1.0])
    moved = (kin.tip_positions(pose) - kin.tip_positions(torch.zeros(55, 3))).norm(dim=-1) > 1e-6
    assert moved.tolist() == [False] * 7 + [True] + [False] * 2
    assert torch.equal(kin.joint_positions(pose), kin.joint_positions(torch.zeros(55, 3)))


def test_batches_and_own_offsets() -> None:
    pose = _random_poses(2, 3)
    p = kin.joint_positions(pose)
    assert p.shape == (2, 3, 55, 3) and p.dtype == torch.float64
    torch.testing.assert_close(p[1, 2], kin.joint_positions(pose[1, 2]))
    torch.testing.assert_close(kin.joint_positions(pose, rest_offsets=2 * kin.REST_OFFSETS), 2 * p)
    assert kin.keypoint_positions(pose[:0]).shape == (0, 3, 71, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 1e-7, math.pi, 2 * math.pi])
def test_gradients_are_finite(dtype: torch.dtype, angle: float) -> None:
    pose = torch.zeros(55, 3, dtype=dtype)
    pose[:, 1] = angle
    pose.requires_grad_()
    (grad,) = torch.autograd.grad(kin.keypoint_positions(pose).square().sum(), pose)
    assert grad.isfinite().all()


def test_gradient_against_differences() -> None:
    pose = (0.5 * _random_poses(1)).requires_grad_()
    weight = torch.randn(1, 71, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: (kin.keypoint_positions(x) * weight).sum(), pose)


@pytest.mark.parametrize("joints", ["body", "left_hand", "hands", "whole_body", "all", "left_wrist", "jaw", "head"])
def test_moving_keypoints_are_exactly_those_that_move(joints: str) -> None:
    from poseprior.skeleton import resolve_joints

    indices = list(resolve_joints(joints))
    pose = torch.zeros(64, 55, 3, dtype=torch.float64)
    pose[:, indices] = _random_poses(64, seed=2)[:, indices]
    moves = kin.keypoint_positions(pose).std(0).norm(dim=-1) > 1e-6
    chosen = kin.moving_keypoints(joints)
    assert chosen and moves[list(chosen)].all()
    for j in indices:  # every joint moves some chosen point
        alone = torch.zeros(8, 55, 3, dtype=torch.float64)
        alone[:, j] = pose[:8, j]
        assert (kin.keypoint_positions(alone)[:, list(chosen)].std(0).norm(dim=-1) > 1e-6).any(), JOINT_NAMES[j]


def test_moving_keypoints_count_rigid_parts_once() -> None:
    names = {kin.KEYPOINT_NAMES[k] for k in kin.moving_keypoints("body")}
    assert {"left_index_tip", "left_pinky_tip", "left_toe_tip", "head_top", "left_eye_smplhf"} <= names
    assert names.isdisjoint({"left_hip", "left_middle1", "chin", "jaw"})
    assert "left_middle1" in {kin.KEYPOINT_NAMES[k] for k in kin.moving_keypoints(JOINT_SETS["left_hand"] + (20,))}


def test_errors_name_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"pose: expected shape \(\*batch, 55, 3\), got \(53, 3\).*poseprior.params"):
        kin.joint_positions(torch.zeros(53, 3))
    with pytest.raises(ValueError, match="rest_offsets"):
        kin.joint_positions(torch.zeros(55, 3), rest_offsets=torch.zeros(22, 3))


@pytest.mark.real_data
def test_recorded_people_bend_the_right_way(real_data_dir: Path) -> None:
    with np.load(real_data_dir / "body" / "test_poses.npz") as file:
        poses = torch.as_tensor(file["poses"][::20])
    pose = torch.zeros(len(poses), 55, 3)
    pose[:, 1:22] = poses[:, 1:22]
    p = kin.joint_positions(pose)
    _, rotation = kin.forward_kinematics(pose)
    for side in ("left", "right"):
        # In the thigh's frame a bent knee takes the ankle back (-z), in the upper arm's an elbow the wrist forward.
        ankle = p[:, J(f"{side}_ankle")] - p[:, J(f"{side}_knee")]
        local = torch.einsum("nji,nj->ni", rotation[:, J(f"{side}_hip")], ankle)
        bent = poses[:, J(f"{side}_knee")].norm(dim=-1) > 0.5
        assert (local[bent, 2] < -0.1).float().mean() > 0.99
        wrist = p[:, J(f"{side}_wrist")] - p[:, J(f"{side}_elbow")]
        local = torch.einsum("nji,nj->ni", rotation[:, J(f"{side}_shoulder")], wrist)
        bent = poses[:, J(f"{side}_elbow")].norm(dim=-1) > 0.7
        assert (local[bent, 2] > 0.05).float().mean() > 0.95
    # A standing person's feet are the lowest points.
    lowest = p[..., 1].argmin(1)
    assert torch.isin(lowest, torch.tensor([7, 8, 10, 11])).float().mean() > 0.9
