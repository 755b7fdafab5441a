"""Where fits start: root and position from the torso, in 2D several facing directions, and poses drawn from the prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from ... import skeleton
from ...prior import LatentPosePrior, PosePrior
from ...rotations import (
    frechet_mean,
    nearest_rotmat,
    rotmat_to_rotvec,
    rotvec_to_rotmat,
    rotvec_to_tangent,
    tangent_to_rotvec,
)
from ..targets import Keypoints2D, Target
from .problem import FitProblem
from .stages import Stage
from .state import BodyState

_TURNS = 4
_REST_SIGMA = 0.3


def prior_poses(prior: PosePrior, num: int, generator: torch.Generator, latent: bool) -> tuple[Tensor, Tensor | None]:
    """Poses (1 + num, 55, 3), the prior's mean and samples, and with `latent` their latents (1 + num, D).

    In latent space the first latent is 0, and the first pose its decoding.
    """
    if latent:
        assert isinstance(prior, LatentPosePrior)
        z = torch.randn(1 + num, prior.latent_dim, generator=generator, dtype=prior.dtype).to(prior.device)
        z[0] = 0.0
        with torch.no_grad():
            return prior.decode(z), z
    drawn = prior.sample(num, generator=torch.Generator(prior.device).manual_seed(generator.initial_seed()))
    mean = torch.zeros_like(drawn[:1])
    joints = list(prior.joints)
    mean[0, joints] = frechet_mean(drawn[:, joints]).to(mean)
    return torch.cat((mean, drawn[:num])), None


def rest_poses(
    joints: Sequence[int], sigma: float | None, num: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Poses (1 + num, 55, 3), the rest pose and draws around it, N(0, sigma^2 I): for fits without a prior.

    Args:
        joints: that are drawn; the others stay at rest.
        sigma: radians; None is 0.3.
        num: poses to draw.
        generator: source of randomness.
    """
    poses = torch.zeros(1 + num, skeleton.NUM_JOINTS, 3)
    width = _REST_SIGMA if sigma is None else sigma
    poses[1:, list(joints)] = width * torch.randn(num, len(joints), 3, generator=generator)
    return poses, None


def place_in_3d(problem: FitProblem, state: BodyState, chosen: Sequence[Tensor]) -> BodyState:
    """Root and position of every body by a weighted rigid alignment of its own points to the measured ones."""
    body = problem.body(state)
    ours, measured, weights = [], [], []
    for number, target in enumerate(problem.targets):
        if isinstance(target, Keypoints2D):
            continue
        ours.append(problem.of_target(body, number))
        measured.append(target.points.expand_as(ours[-1]))
        weight = target.confidence * chosen[number] / target.sigma.square()
        weights.append(weight.expand(ours[-1].shape[:-1]))
    p, y, w = torch.cat(ours, -2), torch.cat(measured, -2), torch.cat(weights, -1)
    share = (w / w.sum(-1, keepdim=True).clamp_min(1e-12))[..., None]
    p_mean, y_mean = (share * p).sum(-2, keepdim=True), (share * y).sum(-2, keepdim=True)
    covariance = (share * (y - y_mean)).mT @ (p - p_mean)
    # A little of the identity keeps the rotation defined for one point, or points on a line.
    covariance = covariance + 1e-6 * torch.eye(3, dtype=p.dtype, device=p.device)
    turn = nearest_rotmat(covariance.double()).to(p)
    old = rotvec_to_rotmat(state.pose[..., 0, :])
    root = rotmat_to_rotvec((turn @ old).double()).to(p)
    pelvis = body[..., 0, :] - state.transl
    shift = y_mean[..., 0, :] - (turn @ p_mean[..., 0, :, None])[..., 0] - pelvis
    shift = shift + (turn @ (pelvis + state.transl)[..., None])[..., 0]
    some = (w.sum(-1) > 0)[..., None]
    pose = state.pose.clone()
    pose[..., 0, :] = torch.where(some, root, pose[..., 0, :])
    return replace(state, pose=pose, transl=torch.where(some, shift, state.transl))


def place_in_view(problem: FitProblem, state: BodyState, target: Keypoints2D, number: int, chosen: Tensor) -> BodyState:
    """Position of every body, given its root: depth from the spread of its points, then the middle of them.

    Both are medians, so that a few outliers do not misplace the body. The body of a frame without points is put 3 m in
    front of the camera.
    """
    body = problem.body(state)
    local = target.camera.to_camera(problem.of_target(body, number))
    seen = ((target.confidence > 0) & chosen).expand(local.shape[:-1])[..., None]
    focal, center = target.camera.focal.to(local), target.camera.center.to(local)
    ray = ((target.points - center[..., None, :]) / focal[..., None, :]).expand_as(local[..., :2])
    ours, theirs = _median(local, seen), _median(ray, seen)
    size = _median((local[..., :2] - ours[..., None, :2]).norm(dim=-1, keepdim=True), seen)
    apparent = _median((ray - theirs[..., None, :]).norm(dim=-1, keepdim=True), seen)
    depth = torch.where(apparent > 1e-4, size / apparent.clamp_min(1e-6), torch.full_like(size, 3.0)).clamp(0.5, 50.0)
    depth = torch.where(seen.any(-2), depth, torch.full_like(depth, 3.0))
    # Of a frame without points, `ours` is 0; its body is then moved from where its pelvis is.
    pelvis = target.camera.to_camera(body[..., :1, :])[..., 0, :]
    step = torch.cat((theirs * depth, depth), -1) - torch.where(seen.any(-2), ours, pelvis)
    return replace(state, transl=state.transl + target.camera.to_world_axes(step[..., None, :])[..., 0, :])


def between_seen(state: BodyState, seen: Tensor) -> BodyState:
    """The sequence with frames that have no points interpolated from those around them.

    Positions, shapes and latents are interpolated linearly, rotations along the geodesic. Frames before the first one with
    points are copies of it, frames after the last one copies of that.

    Args:
        state: one start of B frames.
        seen: (B,) bool, frames with points.
    """
    if bool(seen.all()) or not bool(seen.any()):
        return state
    frame = torch.arange(len(seen), device=seen.device)
    place = frame[seen]
    right = torch.searchsorted(place, frame).clamp_max(len(place) - 1)
    left = torch.where(place[right] > frame, (right - 1).clamp_min(0), right)
    first, last = place[left], place[right]
    share = ((frame - first) / (last - first).clamp_min(1)).clamp(0.0, 1.0).to(state.transl)
    changed = {}
    for entry in fields(state):
        value = getattr(state, entry.name)
        if value is None:
            continue
        before, after = value[:, first], value[:, last]
        t = share.view(-1, *[1] * (value.dim() - 2))
        if entry.name == "pose":
            changed["pose"] = tangent_to_rotvec(t * rotvec_to_tangent(after, before), before)
        else:
            changed[entry.name] = before + t * (after - before)
    return replace(state, **changed)


def _median(values: Tensor, seen: Tensor) -> Tensor:
    """(*lead, d) medians over the points (*lead, K, d) that are seen (*lead, K, 1); 0 where none is."""
    masked = torch.where(seen, values, torch.full_like(values, torch.nan))
    return torch.nan_to_num(masked.nanmedian(-2).values, nan=0.0)


def candidates_2d(
    problem: FitProblem, state: BodyState, target: Keypoints2D, number: int, stage: Stage, num_starts: int,
    samples: tuple[Tensor, Tensor | None], joints: tuple[int, ...],
) -> BodyState:  # fmt: skip
    """(num_starts, B) bodies: the given pose in four facing directions, then the drawn poses that explain the frame best.

    With four starts or fewer, these are the facing directions that explain it best.

    Args:
        problem, target, number: what is fitted, and the 2D target that places the body.
        state: one start of B bodies.
        stage: which points count.
        num_starts: S.
        samples: drawn poses (N, 55, 3), and their latents.
        joints: that the drawn poses replace.
    """
    turns = _facing(target.camera.rotation, state.transl)
    first = _turned(state, turns)
    first = place_in_view(problem, first, target, number, stage.chosen[number])
    if num_starts <= _TURNS:
        score = problem.total(first, stage)
        return first.pick(score.argsort(0)[: min(num_starts, _TURNS)])
    poses, latents = samples
    many, bodies = len(poses) * _TURNS, state.transl.shape[1]
    alike = bool((turns == turns[:, :1]).all())  # cameras that are turned frame by frame are not
    many_states = (state.shared() if alike else state).expand(many)
    pose = many_states.pose[:, :1].clone() if many_states.pose.stride(1) == 0 else many_states.pose.clone()
    index = list(joints)
    pose[..., index, :] = poses.to(pose)[:, None, index].repeat_interleave(_TURNS, 0)
    pose[..., 0, :] = turns[:, : pose.shape[1]].repeat(len(poses), 1, 1)
    latent = None
    if latents is not None:
        latent = latents.to(pose).repeat_interleave(_TURNS, 0)[:, None].expand(-1, bodies, -1)
    many_states = replace(many_states, pose=pose.expand(-1, bodies, -1, -1), latent=latent)
    many_states = place_in_view(problem, many_states, target, number, stage.chosen[number])
    best = problem.total(many_states, stage).argsort(0)[: num_starts - _TURNS]
    return first.join(many_states.pick(best))


def _facing(rotation: Tensor | None, like: Tensor) -> Tensor:
    """(4, B, 3) roots, rotvecs, of upright people who face the camera, left, away and right."""
    flip = like.new_tensor([math.pi, 0.0, 0.0])  # y up to y down
    angles = torch.arange(_TURNS, dtype=like.dtype, device=like.device) * (2.0 * math.pi / _TURNS)
    yaw = torch.stack((torch.zeros_like(angles), angles, torch.zeros_like(angles)), -1)
    root = tangent_to_rotvec(yaw, flip)[:, None].expand(-1, like.shape[1], -1)
    if rotation is None:
        return root
    inverse = rotmat_to_rotvec(rotation.mT.to(like))
    return tangent_to_rotvec(root, inverse.expand_as(root))


def _turned(state: BodyState, turns: Tensor) -> BodyState:
    pose = state.pose.expand(len(turns), -1, -1, -1).clone()
    pose[..., 0, :] = turns
    return replace(state.expand(len(turns)), pose=pose)


def is_2d(targets: Sequence[Target]) -> int | None:
    """The number of the 2D target that places the body: the first, if nothing is measured in 3D; None otherwise."""
    flat = [k for k, target in enumerate(targets) if isinstance(target, Keypoints2D)]
    return flat[0] if len(flat) == len(targets) else None
