"""Joint names, parents, parts and the mirror."""

from __future__ import annotations

import pytest
import torch

from poseprior import skeleton
from poseprior.rotations import random_rotvec, tangent_to_rotvec


def test_names_and_parents_agree_with_smplx() -> None:
    names = pytest.importorskip("smplx.joint_names", exc_type=ImportError)
    assert list(skeleton.JOINT_NAMES) == names.JOINT_NAMES[:55]
    lbs_parents = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
    assert list(skeleton.PARENTS[:25]) == lbs_parents


def test_parents_by_name() -> None:
    def parent(name: str) -> str:
        return skeleton.JOINT_NAMES[skeleton.PARENTS[skeleton.JOINT_NAMES.index(name)]]

    for side in ("left", "right"):
        for finger in ("index", "middle", "pinky", "ring", "thumb"):
            assert parent(f"{side}_{finger}1") == f"{side}_wrist"
            assert parent(f"{side}_{finger}2") == f"{side}_{finger}1"
            assert parent(f"{side}_{finger}3") == f"{side}_{finger}2"
        assert parent(f"{side}_collar") == "spine3"
        assert parent(f"{side}_shoulder") == f"{side}_collar"
        assert parent(f"{side}_eye_smplhf") == "head"
    assert parent("jaw") == "head"
    assert all(p < j for j, p in enumerate(skeleton.PARENTS))


def test_parts_tile_the_joints() -> None:
    joints = [j for part in skeleton.PART_SLICES.values() for j in range(55)[part]]
    assert joints == list(range(55))


def test_joint_sets() -> None:
    sets = skeleton.JOINT_SETS
    assert sets["hands"] == sets["left_hand"] + sets["right_hand"]
    assert set(sets["all"]) - set(sets["whole_body"]) == {0, 23, 24}
    assert len(sets["body"]) == 21


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("left_knee,right_knee", (4, 5)),
        ("right_knee left_knee", (4, 5)),
        (["jaw", 3, "3"], (3, 22)),
        (0, (0,)),
        ("root", (0,)),
        ("body", tuple(range(1, 22))),
        ("left_hand_pose", tuple(range(25, 40))),
        (["body", "left_hand"], (*range(1, 22), *range(25, 40))),
    ],
)
def test_resolve_joints(given: object, expected: tuple[int, ...]) -> None:
    assert skeleton.resolve_joints(given) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [("left_nee", "unknown name 'left_nee'; use a set"), (55, "0 to 54, got 55"), (-1, "got -1"), ("", "at least one")],
)
def test_resolve_joints_errors(given: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        skeleton.resolve_joints(given)  # type: ignore[arg-type]


def test_mirror_is_an_involution_and_moves_the_mask_along() -> None:
    generator = torch.Generator().manual_seed(0)
    pose = random_rotvec(4, 2, 55, generator=generator)
    observed = torch.rand(4, 2, 55, generator=generator) < 0.5
    assert torch.equal(skeleton.mirror(skeleton.mirror(pose)), pose)
    assert torch.equal(skeleton.mirror_observed(skeleton.mirror_observed(observed)), observed)
    zeroed = torch.where(observed[..., None], pose, torch.zeros_like(pose))
    nonzero = (skeleton.mirror(zeroed) != 0).any(-1)
    assert torch.equal(nonzero, skeleton.mirror_observed(observed))


def test_mirror_reflects_the_rotations() -> None:
    """Conjugating by diag(-1, 1, 1) is what a reflection does to a rotation."""
    roma = pytest.importorskip("roma")
    pose = random_rotvec(55, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    expected = flip @ roma.rotvec_to_rotmat(pose)[list(skeleton.MIRROR)] @ flip
    torch.testing.assert_close(roma.rotvec_to_rotmat(skeleton.mirror(pose)), expected)


def test_mirror_is_consistent_with_forward_kinematics() -> None:
    """On a symmetric skeleton, the joints of the mirrored pose are the mirrored joints."""
    generator = torch.Generator().manual_seed(2)
    pose = random_rotvec(3, 55, generator=generator, dtype=torch.float64) * 0.4
    offset = torch.randn(55, 3, generator=generator, dtype=torch.float64)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    offset = 0.5 * (offset + offset[list(skeleton.MIRROR)] * flip)
    straight = _positions(pose, offset)
    mirrored = _positions(skeleton.mirror(pose), offset)
    torch.testing.assert_close(mirrored, straight[:, list(skeleton.MIRROR)] * flip)


def _positions(pose: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    roma = pytest.importorskip("roma")
    turned: list[torch.Tensor] = []
    places: list[torch.Tensor] = []
    for joint, parent in enumerate(skeleton.PARENTS):
        local = pose[:, joint]
        turned.append(local if parent < 0 else tangent_to_rotvec(local, turned[parent]))
        step = offset[joint].expand(len(pose), 3)
        places.append(
            step
            if parent < 0
            else places[parent] + roma.rotvec_to_rotmat(turned[parent]).matmul(step[..., None])[..., 0]
        )
    return torch.stack(places, 1)
