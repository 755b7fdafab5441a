"""People in left-handed coordinates, or with left and right swapped, are refused; people in odd poses are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior.fitting import Joints3D, layout

_MIRROR = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def joints(model: nn.Module, joints_of: Callable[..., Tensor]) -> Tensor:
    pose = poseprior.load("body-mixture").sample(24, generator=torch.Generator().manual_seed(7))
    return joints_of(model, pose)


@pytest.mark.parametrize("name", ["smpl_22", "smpl_24", "smplx_55", "coco_17", "openpose_25", "smplx"])
def test_mirrored_people_are_refused(joints: Tensor, name: str) -> None:
    points = joints[:, [j or 0 for j in layout(name).joints]]
    assert Joints3D(points, layout=name).num_frames == 24
    for axis in range(3):
        mirror = torch.ones(3)
        mirror[axis] = -1.0
        with pytest.raises(ValueError, match=r"^points: expected right-handed .*mirror one axis") as caught:
            Joints3D(points * mirror, layout=name)
    assert "torch.tensor([-1.0, 1.0, 1.0])" in str(caught.value)
    assert Joints3D(points * mirror * _MIRROR, layout=name).num_frames == 24, "the remedy works"


def test_swapped_names_are_refused(joints: Tensor) -> None:
    names = list(layout("openpose_25").names)
    swapped = [names.index(n.replace("left", "?").replace("right", "left").replace("?", "right")) for n in names]
    points = joints[:, [j or 0 for j in layout("openpose_25").joints]]
    with pytest.raises(ValueError, match="left and right swapped"):
        Joints3D(points[:, swapped], layout="openpose_25")


def test_a_few_odd_frames_are_taken(joints: Tensor) -> None:
    points = joints[:, :22].clone()
    points[:8] *= _MIRROR
    assert Joints3D(points, layout="smpl_22").num_frames == 24
    assert Joints3D(joints[:1, :22] * _MIRROR, layout="smpl_22").num_frames == 1
