"""Coordinates of fitted bodies: which way is up in them, and turning bodies for programs that want y or z up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..rotations import rotmat_to_rotvec, rotvec_to_rotmat
from .targets import Keypoints2D, Target

#: Angle about x, in quarter turns from y, of each axis that points up somewhere.
_QUARTERS = {"y": 0, "z": 1, "-y": 2, "-z": 3}
Up = Literal["y", "z"]
PointsUp = Literal["y", "z", "-y", "-z"]
#: What a file says of its coordinates.
CAMERA, POINTS = "camera: x right, y down, z forward", "those of the points that were fitted"
_TRUNK, _SHOULDERS = (0, 1, 2), (12, 15, 16, 17)
_UPRIGHT, _MOST_FRAMES = math.cos(math.radians(35)), 0.8


def coordinates_of(targets: Sequence[Target]) -> str:
    """Coordinates in which bodies are fitted to `targets`: the camera's, where nothing but its image is measured."""
    in_camera = all(isinstance(t, Keypoints2D) and t.camera.rotation is None for t in targets)
    return CAMERA if in_camera else POINTS


def check_up(up: str | None, points_up: str | None, coordinates: str) -> str | None:
    """The axis that points up in `coordinates`; None where nothing says so.

    Raises:
        ValueError: an axis of another name, or `up` for points of which nobody said where up is, or `points_up` for a
            camera's coordinates.
    """
    for name, value, known in (("up", up, ("y", "z")), ("points_up", points_up, tuple(_QUARTERS))):
        if value is not None and value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, or None, got {value!r}.")
    if coordinates == CAMERA:
        if points_up is not None:
            raise ValueError(
                f"points_up: expected None for 2D keypoints, got {points_up!r}: up is -y in the coordinates of a level camera."
            )
        return "-y"
    if up is not None and points_up is None:
        raise ValueError(
            "points_up: expected the axis that points up in the coordinates of the points, got None; with up= pass "
            "points_up='y', 'z', '-y' or '-z' (on the command line --points-up)."
        )
    return points_up


def turned(
    params: Mapping[str, Tensor], pose: Tensor, pelvis: Tensor, *, source: str, up: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Bodies in coordinates in which another axis points up; x stays.

    Args:
        params: keyword arguments of the model, (F, n) each, `global_orient` and `transl` among them.
        pose: (F, 55, 3) rotvecs.
        pelvis: (F, 3) where the pelvis is, metres: bodies turn about it, and `transl` is that of the rest pose.
        source: the axis that points up now.
        up: the axis that is to point up.

    Returns:
        `params` and `pose` of the turned bodies.
    """
    quarters = _QUARTERS[up] - _QUARTERS[source]
    turn = rotvec_to_rotmat(torch.tensor([0.5 * math.pi * quarters, 0.0, 0.0], dtype=torch.float64))
    turn = turn.round().to(pose)  # quarter turns are permutations of the axes with signs
    root = rotmat_to_rotvec(turn @ rotvec_to_rotmat(pose[:, 0]))
    moved = pelvis.to(pose) @ turn.mT - pelvis.to(pose)
    changed = {"global_orient": root.reshape(params["global_orient"].shape), "transl": params["transl"] + moved}
    return {**params, **changed}, torch.cat((root[:, None], pose[:, 1:]), 1)


def upright_axis(target: Target) -> PointsUp | None:
    """The axis along which the measured trunks of most frames stand, in 3D; None where they do not, or are not measured."""
    joints = {joint: place for place, joint in enumerate(target.joints)}
    low, high = ([joints[j] for j in group if j in joints] for group in (_TRUNK, _SHOULDERS))
    if target.dimensions != 3 or not low or not high:
        return None
    points = torch.where(target.confidence[..., None] > 0, target.points, torch.nan).double()
    along = points[:, high].nanmean(1) - points[:, low].nanmean(1)
    along = torch.nn.functional.normalize(along[torch.isfinite(along).all(-1)], dim=-1)
    axes: tuple[tuple[PointsUp, int, int], ...] = (("y", 1, 1), ("z", 2, 1), ("-y", 1, -1), ("-z", 2, -1))
    for name, column, sign in axes:
        if len(along) and float((sign * along[:, column] > _UPRIGHT).double().mean()) >= _MOST_FRAMES:
            return name
    return None
