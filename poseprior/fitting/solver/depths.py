"""Limbs at other depths: a picture does not show which of two joints is nearer to the camera.

The end of a bone lies on the ray through its pixel, at its length from the joint above: at two depths, or where the bone
points across the view at one. So an arm or a leg can be in four places, which look nearly alike. A hand looks nearly alike
when it is turned as its mirror image in depth would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..camera import Camera
from ..targets import Keypoints2D
from .lowest_mode import Poses, finite_total
from .problem import FitProblem
from .stages import Stage
from .state import BodyState
from .twists import num_moved, pointed

#: Arms and legs: the joints between which their two bones are.
_LIMBS = ((16, 18, 20), (17, 19, 21), (1, 4, 7), (2, 5, 8))
_WRISTS = (20, 21)
#: Reflects in the plane of a palm, whose normal is y in the frame of the wrist: palms face down in the rest pose.
_PALM = (1.0, -1.0, 1.0)
#: A limb is elsewhere when its elbow or wrist, knee or ankle has moved by more than this, metres.
_MOVED = 0.05
#: A pose is worth minimising when its energy is at most this above the body's own, nats, and so much more for each measured
#: point of the hand or the foot: nearer or farther it looks larger or smaller, until the body has followed.
_WORTH, _WORTH_OF_POINT = 6.0, 3.0


def other_depths(problem: FitProblem, state: BodyState, energy: Tensor, stage: Stage) -> Iterator[Poses]:
    """Bodies with a limb at other depths, as `lowest_mode` takes them.

    Args:
        problem, stage: what is minimised, with 2D targets alone.
        state: (1, B).
        energy: (B,) of the bodies.
    """
    target = problem.targets[0]
    assert isinstance(target, Keypoints2D)
    rotation, position = problem.frames(state)
    position = position + state.transl[0][:, None]
    for limb in _LIMBS:
        if not set(limb[:2]) <= set(problem.free) or problem.judged.isdisjoint(limb):
            continue  # a limb that no term judges is as good at one depth as at another
        place = [problem.points.chain.index(joint) for joint in limb]
        joints = torch.isin(torch.arange(state.pose.shape[-2]), torch.tensor(limb)).to(energy.device)
        end = rotation[:, place[2]]
        count = num_moved(problem, stage, limb[2])
        ends = [(end, torch.zeros_like(energy, dtype=torch.bool))]
        if limb[2] in _WRISTS and limb[2] in problem.free:
            ends.append((mirrored_hands(end, position[:, place[2]], target.camera), count > 0))
        for there, (turned, mirrored) in product(_places(position[:, place], target.camera), ends):
            poses = replace(state, pose=_moved(problem, state, limb, rotation, position, there, turned)[None])
            elsewhere = (there - position[:, place]).norm(dim=-1).amax(-1) > _MOVED
            cost = finite_total(problem, poses, stage)[0]
            rows = ((elsewhere | mirrored) & (cost < energy + _WORTH + _WORTH_OF_POINT * count)).nonzero()[:, 0]
            yield poses.bodies(rows), rows, joints.expand(len(rows), -1)


def _places(position: Tensor, camera: Camera) -> Iterator[Tensor]:
    """The four places (B, 3, 3) of a limb's joints (B, 3, 3), in the world, metres, that project to the same pixels."""
    local = camera.to_camera(position)
    top, middle, end = local.unbind(-2)
    upper, lower = (middle - top).norm(dim=-1), (end - middle).norm(dim=-1)
    for first in _on_ray(middle, top, upper):
        for second in _on_ray(end, first, lower):
            step = torch.stack((top, first, second), -2) - local
            yield position + camera.to_world_axes(step)


def _on_ray(point: Tensor, origin: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The two points on the ray through a point (B, 3) at a distance (B,) from an origin (B, 3); else the nearest to that."""
    ray = normalize(point, dim=-1)
    along = (origin * ray).sum(-1)
    half = (length.square() - origin.square().sum(-1) + along.square()).clamp_min(0.0).sqrt()
    return (along - half)[..., None] * ray, (along + half)[..., None] * ray


def mirrored_hands(rotation: Tensor, position: Tensor, camera: Camera) -> Tensor:
    """Rotations of hands (B, 3, 3) at (B, 3), in the world, that look nearly alike.

    They are reflected along the line of sight, and in the plane of the palm.
    """
    sight = camera.to_world_axes(normalize(camera.to_camera(position[:, None]), dim=-1)).mT
    reflected = rotation - 2.0 * sight @ (sight.mT @ rotation)
    return reflected * rotation.new_tensor(_PALM)


def _moved(
    problem: FitProblem, state: BodyState, limb: Sequence[int], rotation: Tensor, position: Tensor, there: Tensor,
    end: Tensor,
) -> Tensor:  # fmt: skip
    """Poses (B, 55, 3) with a limb's joints at other places (B, 3, 3), each bone turned by the smallest angle.

    Its last joint takes the rotation `end` (B, 3, 3), in the world.
    """
    place = [problem.points.chain.index(joint) for joint in limb]
    above = rotation[:, problem.points.tree.parents[place[0]]]
    pose = state.pose[0].clone()
    for k, (upper, lower) in enumerate(pairwise(place)):
        bone, wanted = position[:, lower] - position[:, upper], there[:, k + 1] - there[:, k]
        turned = pointed(above @ rotvec_to_rotmat(pose[:, limb[k]]), rotation[:, upper], bone, wanted)
        pose[:, limb[k]] = rotmat_to_rotvec(above.mT @ turned)
        above = turned
    pose[:, limb[-1]] = rotmat_to_rotvec(above.mT @ end)
    return pose
