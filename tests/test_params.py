"""Layouts to and from (*, 55, 3): round trips, masks, PCA hands, gradients, and the errors they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from poseprior import params
from poseprior.rotations import random_rotvec
from poseprior.skeleton import PART_SLICES

BATCHES = [(), (4,), (2, 3), (1,)]


def _pose(*batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return random_rotvec(*batch, 55, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _joints(layout: tuple[int, ...]) -> set[int]:
    return set(layout)


# -- SMPL-X keywords -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("batch", BATCHES)
def test_smplx_round_trip(batch: tuple[int, ...], flat: bool) -> None:
    pose = _pose(*batch, dtype=torch.float64)
    keywords = params.pose_to_smplx(pose, flat=flat)
    assert set(keywords) == set(PART_SLICES)
    assert keywords["body_pose"].shape == ((*batch, 63) if flat else (*batch, 21, 3))
    assert keywords["jaw_pose"].shape == ((*batch, 3) if flat else (*batch, 1, 3))
    back, observed = params.pose_from_smplx(keywords)
    assert torch.equal(back, pose)
    assert back.dtype == torch.float64
    assert observed.shape == (*batch, 55)
    assert observed.all()


def test_smplx_missing_parts_are_unobserved() -> None:
    pose = _pose(3)
    keywords = {k: v for k, v in params.pose_to_smplx(pose).items() if k in ("body_pose", "right_hand_pose")}
    back, observed = params.pose_from_smplx({**keywords, "jaw_pose": None, "betas": torch.zeros(3, 10)})
    seen = _joints((*range(1, 22), *range(40, 55)))
    assert {j for j in range(55) if observed[0, j]} == seen
    assert torch.equal(back[observed], pose[observed])
    assert not back[~observed].any()


def test_smplx_parts_broadcast() -> None:
    pose, observed = params.pose_from_smplx({"global_orient": torch.ones(1, 3), "body_pose": torch.zeros(5, 63)})
    assert pose.shape == (5, 55, 3)
    assert observed.shape == (5, 55)
    assert torch.equal(pose[:, 0], torch.ones(5, 3))


def test_smplx_one_joint_alone_is_a_batch() -> None:
    assert params.pose_from_smplx({"jaw_pose": torch.zeros(1, 3)})[0].shape == (1, 55, 3)
    assert params.pose_from_smplx({"jaw_pose": torch.zeros(4, 1, 3)})[0].shape == (4, 55, 3)
    both = {"jaw_pose": torch.zeros(1, 3), "body_pose": torch.zeros(21, 3)}
    assert params.pose_from_smplx(both)[0].shape == (55, 3)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, r"params: expected some of global_orient, .*none of them"),
        ({"betas": torch.zeros(10)}, r"none of them in \['betas'\]; rename"),
        ({"pose_body": torch.zeros(63)}, r"unknown names \['pose_body'\]; rename the keys"),
        ({"body_pose": torch.zeros(2, 69)}, r"body_pose: expected \(\*, 63\) or \(\*, 21, 3\), got \(2, 69\)"),
        ({"jaw_pose": torch.zeros(2, 4)}, r"jaw_pose: expected \(\*, 3\) or \(\*, 1, 3\), got \(2, 4\)"),
        ({"left_hand_pose": torch.zeros(2, 48)}, r"left_hand_pose: expected .* got \(2, 48\)"),
        ({"jaw_pose": torch.zeros(2, 3), "body_pose": torch.zeros(3, 63)}, r"batch shapes that broadcast, got"),
        ({"body_pose": np.zeros((2, 63))}, r"body_pose: expected a floating-point tensor, got ndarray; use torch.as"),
        ({"body_pose": torch.zeros(2, 63).int()}, r"body_pose: expected a floating-point tensor, got torch.int32"),
    ],
)
def test_smplx_errors(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        params.pose_from_smplx(given)


# -- fixed layouts ---------------------------------------------------------------------------------------------------

LAYOUTS = [
    (53, params.pose_from_joints53, params.pose_to_joints53, params.JOINTS_53),
    (52, params.pose_from_smplh, params.pose_to_smplh, params.JOINTS_SMPLH),
    (24, params.pose_from_smpl, params.pose_to_smpl, params.JOINTS_SMPL),
]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("count", "read", "write", "joints"), LAYOUTS)
def test_layout_round_trip(count, read, write, joints, batch) -> None:  # type: ignore[no-untyped-def]
    pose = _pose(*batch)
    stored = write(pose)
    assert stored.shape == (*batch, count, 3)
    for given in (stored, stored.flatten(-2)):
        back, observed = read(given)
        assert {j for j in range(55) if observed.reshape(-1, 55)[0, j]} == _joints(joints)
        assert torch.equal(back[..., list(joints), :], pose[..., list(joints), :])
        assert not back[~observed].any()
        assert torch.equal(write(back), stored)


def test_53_rule() -> None:
    """23 leading joints, two zero eyes, 30 hand joints; the eyes come out unobserved."""
    joints = _pose(2)[:, :53]
    pose, observed = params.pose_from_joints53(joints)
    assert torch.equal(pose[:, :23], joints[:, :23])
    assert torch.equal(pose[:, 25:], joints[:, 23:])
    assert not pose[:, 23:25].any()
    assert not observed[:, 23:25].any()
    assert observed[:, [*range(23), *range(25, 55)]].all()


def test_smpl_hand_joints_are_dropped() -> None:
    joints = torch.ones(2, 24, 3)
    pose, observed = params.pose_from_smpl(joints)
    assert not pose[:, 22:].any()
    assert not observed[:, 22:].any()
    assert not params.pose_to_smpl(pose)[:, 22:].any()


def test_given_masks_move_along() -> None:
    joints, observed = torch.ones(2, 53, 3), torch.ones(2, 53, dtype=torch.bool)
    observed[0, 23] = False  # the first left finger
    pose, seen = params.pose_from_joints53(joints, observed)
    assert not seen[0, 25]
    assert not pose[0, 25].any()
    assert torch.equal(seen[..., list(params.JOINTS_53)], observed)
    with pytest.raises(ValueError, match=r"observed: expected .*53\) to match joints"):
        params.pose_from_joints53(joints, observed[:, :50])


@pytest.mark.parametrize(("length", "count"), [(165, 55), (159, 53), (156, 52), (72, 22)])
def test_vectors_by_length(length: int, count: int) -> None:
    vector = params.pose_to_vector(_pose(3), length)
    assert vector.shape == (3, length)
    pose, observed = params.pose_from_vector(vector)
    assert int(observed[0].sum()) == count
    assert torch.equal(params.pose_to_vector(pose, length), vector)


@pytest.mark.parametrize("length", [3, 63, 66, 162, 168])
def test_vector_of_unknown_length_is_refused(length: int) -> None:
    with pytest.raises(
        ValueError, match=rf"expected length 165 .* got {length}; pass parts by name with pose_from_smplx"
    ):
        params.pose_from_vector(torch.zeros(2, length))


def test_shape_errors() -> None:
    with pytest.raises(ValueError, match=r"pose: expected \(\*, 55, 3\), got \(2, 53, 3\)"):
        params.pose_to_vector(torch.zeros(2, 53, 3))
    with pytest.raises(ValueError, match=r"joints: expected \(\*, 159\) or \(\*, 53, 3\), got \(2, 55, 3\)"):
        params.pose_from_joints53(torch.zeros(2, 55, 3))
