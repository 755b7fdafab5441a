"""Layouts against the mapping that SMPLify-X publishes, and against the body's own geometry."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from poseprior.fitting import LAYOUTS, BodyPoints, layout
from poseprior.keypoint_layouts import SMPLX_144, layout_of_length

_SIZES = {
    "coco_17": 17, "coco_wholebody": 133, "openpose_25": 25, "openpose_135": 135, "openpose_137": 137,
    "smplifyx_118": 118, "smplifyx_135": 135, "smplx_55": 55, "smplx": 127, "smplx_144": 144,
    "halpe_26": 26, "halpe_136": 136, "mediapipe_33": 33, "mediapipe_left_hand": 21, "mediapipe_right_hand": 21,
    "h36m_17": 17, "mhr_70": 70, "smpl_22": 22, "smpl_24": 24,
}  # fmt: skip


def test_sizes() -> None:
    assert {name: len(layout(name)) for name in LAYOUTS} == _SIZES
    assert layout_of_length(133) == layout("coco_wholebody") and layout_of_length(135) is None


def test_openpose_as_smplify_x_maps_it() -> None:
    """`smpl_to_openpose(model_type="smplx", use_hands=True, use_face=True, use_face_contour=True)`."""
    body = [55, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65]
    left = [20, 37, 38, 39, 66, 25, 26, 27, 67, 28, 29, 30, 68, 34, 35, 36, 69, 31, 32, 33, 70]
    right = [21, 52, 53, 54, 71, 40, 41, 42, 72, 43, 44, 45, 73, 49, 50, 51, 74, 46, 47, 48, 75]
    assert list(layout("smplifyx_135").joints) == body + left + right + list(range(76, 144))
    raw = list(layout("openpose_137").joints)
    assert raw == body + left + right + list(range(127, 144)) + list(range(76, 127)) + [None, None]


def test_names_are_those_of_smplx() -> None:
    joint_names = pytest.importorskip("smplx.joint_names").JOINT_NAMES
    theirs = [n.replace("_smplhf", "") for n in joint_names[:76]]
    ours = [n.replace("_smplhf", "").replace("_tip", "").replace("big_toe", "bigtoe") for n in SMPLX_144[:76]]
    renamed = [n.replace("_toe", "toe").replace("bigtoe", "big_toe").replace("smalltoe", "small_toe") for n in theirs]
    ours = [n.replace("bigtoe", "big_toe") for n in ours]
    assert ours == renamed


@pytest.mark.parametrize("name", LAYOUTS)
def test_left_points_are_on_the_left(model: nn.Module, name: str) -> None:
    order = layout(name)
    used = [(n, j) for n, j in zip(order.names, order.joints, strict=True) if j is not None and j < 127]
    where = BodyPoints(model, joints=[j for _, j in used])(torch.zeros(1, 55, 3))[0]
    for (point, _), position in zip(used, where, strict=True):
        if point.startswith(("left_", "right_")):
            assert (float(position[0]) > 0) == point.startswith("left_"), point
    assert len(order.parts) == len(order.names) == len(order.joints)


def test_coco_wholebody_parts_and_unknown_names() -> None:
    order = layout("coco_wholebody")
    assert order.parts[91] == "body" and order.names[91] == "left_wrist" and order.names[112] == "right_wrist"
    assert order.parts[92:112] == ("left_hand",) * 20 and order.parts[113:] == ("right_hand",) * 20
    assert order.parts[17:23] == ("feet",) * 6 and order.parts[23:91] == ("face",) * 68
    with pytest.raises(ValueError, match="expected one of coco_17"):
        layout("coco")
