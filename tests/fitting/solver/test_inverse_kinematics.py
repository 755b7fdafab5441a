"""Inverse kinematics: bones point where points were measured, whatever is missing, and nothing else moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from poseprior.fitting import BodyPoints, FitBodyConfig, Joints3D, Keypoints2D, Markers, Target, layout
from poseprior.fitting.camera import Camera
from poseprior.fitting.solver.initial import start_state
from poseprior.fitting.solver.inverse_kinematics import point_bones
from poseprior.fitting.solver.measured_joints import movable_joints
from poseprior.fitting.solver.problem import FitProblem
from poseprior.fitting.solver.state import BodyState
from poseprior.rotations import geodesic_distance, random_rotvec

JointsOf = Callable[..., Tensor]


def _solve(
    model: nn.Module, targets: list[Target], bodies: int, pose: Tensor | None = None
) -> tuple[FitProblem, BodyState]:
    for target in targets:
        target.to(model.v_template)  # type: ignore[arg-type]
    free = tuple(sorted(movable_joints(model, targets) - {0}))
    problem = FitProblem(model, targets, [], free, FitBodyConfig())
    state = start_state(model.v_template, bodies, 10, 10, None, None)  # type: ignore[arg-type]
    if pose is not None:
        state = replace(state, pose=pose[None].clone())
    return problem, point_bones(problem, state, [target.confidence > 0 for target in targets])


def test_all_joints_are_reached_from_rest(model: nn.Module, people: Tensor, joints_of: JointsOf) -> None:
    pose = people.clone()
    pose[:, 1:22] += 0.8 * torch.randn(6, 21, 3, generator=torch.Generator().manual_seed(0))
    truth = joints_of(model, pose)[:, :55]
    problem, state = _solve(model, [Joints3D(truth)], 6)
    off = (problem.body(state)[0, :, :55] - truth).norm(dim=-1)
    assert off.max() < 0.005 and off.mean() < 0.002


def test_a_body_that_is_there_already_does_not_move(model: nn.Module, people: Tensor, joints_of: JointsOf) -> None:
    _, state = _solve(model, [Joints3D(joints_of(model, people)[:, :55])], 6, people)
    assert geodesic_distance(state.pose[0], people).max() < 2e-3


@pytest.mark.parametrize("hidden", [[3, 6, 9, 12, 13, 14], [18, 19], [4, 5, 7, 8]])
def test_joints_without_a_point_are_passed_over(
    model: nn.Module, people: Tensor, joints_of: JointsOf, hidden: list[int]
) -> None:
    """The joints beyond them are pointed at, and stand right when what hides keeps its own rotation."""
    measured = joints_of(model, people)[:, :55].clone()
    measured[:, hidden] = math.nan
    start = people.clone()
    turned = [j for j in range(1, 22) if j not in hidden]
    start[:, turned] = 0.9 * start[:, turned]
    problem, state = _solve(model, [Joints3D(measured)], 6, start)
    own, seen = problem.body(state)[0], measured[:, :22].isfinite().all(-1)
    before = BodyPoints(model, joints=range(22))(start, transl=state.transl[0])
    away = (before - measured[:, :22]).norm(dim=-1)[seen].mean()
    assert (own[:, :22] - measured[:, :22]).norm(dim=-1)[seen].mean() < 0.3 * away


def test_markers_turn_the_bones_that_they_stand_on(model: nn.Module, people: Tensor) -> None:
    vertices = torch.randperm(10000, generator=torch.Generator().manual_seed(0))[:200].tolist()
    with torch.no_grad():
        points = BodyPoints(model, vertices=vertices)(people)
    problem, state = _solve(model, [Markers(points, vertices=vertices)], 6)
    assert (problem.of_target(problem.body(state), 0)[0] - points).norm(dim=-1).mean() < 0.03


def test_a_frame_without_points_and_points_in_2d_move_nothing(
    model: nn.Module, people: Tensor, joints_of: JointsOf
) -> None:
    measured = joints_of(model, people)[:, :55].clone()
    measured[2] = math.nan
    camera = Camera(1000.0, (500.0, 500.0))
    pixels = camera.project(joints_of(model, people)[:, [j or 0 for j in layout("openpose_25").joints]])
    targets = [Joints3D(measured), Keypoints2D(pixels, camera=camera, layout="openpose_25")]
    start = random_rotvec(6, 55, generator=torch.Generator().manual_seed(1))
    _, state = _solve(model, targets, 6, start)
    assert state.pose.isfinite().all() and not state.transl[0, 2].any()
    assert geodesic_distance(state.pose[0, 2], start[2]).max() < 1e-3
    assert geodesic_distance(state.pose[0, 3, 1:], start[3, 1:]).max() > 0.1
