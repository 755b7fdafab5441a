"""Exact joints do not show turns of arms about their bones, nor hands without fingers: fits find the lowest mode of them."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from poseprior.fitting import BodyPoints, EnergyTerm, FitBodyConfig, Joints3D, Markers, Target, fit_body
from poseprior.fitting.energy import PoseParams
from poseprior.fitting.solver.descent import descend
from poseprior.fitting.solver.initial import start_state
from poseprior.fitting.solver.lowest_mode import lowest_mode, other_turns
from poseprior.fitting.solver.outcome import Outcome
from poseprior.fitting.solver.problem import FitProblem
from poseprior.fitting.solver.stages import Stage
from poseprior.fitting.solver.state import Variables
from poseprior.fitting.solver.twists import chains, turned, with_turns_of
from poseprior.rotations import geodesic_distance, tangent_to_rotvec

ARMS = ((16, 18, 20), (17, 19, 21))
_WIDTH = 0.25
_HIGHER = math.log(9.0)  # nats between two modes of 0.9 and 0.1


class TwoModes(EnergyTerm):
    """-log of a mixture of two Gaussians over some joints: 0.9 around one pose, 0.1 around another."""

    def __init__(self, joints: tuple[int, ...], likely: Tensor, unlikely: Tensor) -> None:
        self.joints = joints
        self.modes = [(weight, pose[list(self.joints)]) for weight, pose in ((0.9, likely), (0.1, unlikely))]

    def __call__(
        self, params: PoseParams | None = None, *, latent: Tensor | None = None, progress: float = 1.0
    ) -> Tensor:
        assert isinstance(params, Tensor)
        own = params[..., list(self.joints), :]
        parts = [
            math.log(weight) - 0.5 * (geodesic_distance(own, mode) / _WIDTH).square().sum(-1)
            for weight, mode in self.modes
        ]
        return -torch.logaddexp(*parts)

    def select(self, bodies: Tensor) -> EnergyTerm:
        return self


def _two_poses(model: nn.Module, arm: tuple[int, int, int], angle: float) -> tuple[Tensor, Tensor]:
    """An arm bent at the elbow, and the same joints with the upper arm turned by `angle`, radians."""
    pose = torch.zeros(55, 3)
    pose[arm[0]], pose[arm[1]] = torch.tensor([0.2, 0.3, -0.4]), torch.tensor([0.1, 1.2, 0.2])
    rest = BodyPoints(model, joints=range(55))(torch.zeros(1, 55, 3))[0]
    bone = torch.nn.functional.normalize(rest[arm[1]] - rest[arm[0]], dim=0)
    other = pose.clone()
    other[arm[0]] = tangent_to_rotvec(angle * bone, pose[arm[0]])
    other[arm[1]] = tangent_to_rotvec(pose[arm[1]], -angle * bone)
    return pose, other


@pytest.mark.parametrize(("optimizer", "arm", "angle"), [("lbfgs", ARMS[0], 2.7), ("adam", ARMS[1], -1.9)])
def test_the_lower_of_two_modes_is_found_from_the_higher(
    model: nn.Module, optimizer: Literal["lbfgs", "adam"], arm: tuple[int, int, int], angle: float
) -> None:
    higher, lower = _two_poses(model, arm, angle)
    points = BodyPoints(model, joints=range(22))
    joints = points(higher[None])
    assert (joints - points(lower[None])).norm(dim=-1).max() < 1e-5
    target = Joints3D(torch.cat((joints, torch.full((1, 33, 3), math.nan)), 1), sigma=0.001)
    config = FitBodyConfig(optimizer=optimizer, fit_shape=False)
    fits = [
        fit_body(model, target, terms=[TwoModes(arm[:2], lower, higher)], config=config, start=start[None])
        for start in (higher, lower)
    ]
    for fit in fits:
        assert bool(fit.converged) and geodesic_distance(fit.pose[0], lower)[list(arm[:2])].max() < 0.1
        assert (points(fit.pose, transl=fit.params["transl"]) - joints).norm(dim=-1).max() < 0.001
    assert abs(float(fits[0].energy - fits[1].energy)) < 0.05
    assert float(fits[0].energies["term"]) < -math.log(0.9) + 0.5 * _HIGHER


@pytest.mark.parametrize(
    ("upper", "lower"), [(14, 17), (1, 4), (3, 6), (12, 15)], ids=["right_collar", "left_hip", "spine1", "neck"]
)
def test_of_two_turns_of_a_bone_the_lower_is_found(model: nn.Module, upper: int, lower: int) -> None:
    """A bone turned by 140 degrees about its own length, and the next joint turned back by as much."""
    likely, rest = torch.zeros(55, 3), BodyPoints(model, joints=range(55))(torch.zeros(1, 55, 3))[0]
    turn = 2.4 * torch.nn.functional.normalize(rest[lower] - rest[upper], dim=0)
    likely[[upper, lower]] = torch.tensor([[0.1, -0.2, 0.1], [-0.1, 0.1, 0.2]])
    unlikely = likely.clone()
    unlikely[upper] = tangent_to_rotvec(turn, likely[upper])
    unlikely[lower] = tangent_to_rotvec(likely[lower], -turn)
    points = BodyPoints(model, joints=range(22))
    joints = points(unlikely[None])
    assert (joints - points(likely[None])).norm(dim=-1).max() < 1e-5
    target = Joints3D(torch.cat((joints, torch.full((1, 33, 3), math.nan)), 1), sigma=0.001)
    term = TwoModes((upper, lower), likely, unlikely)
    fit = fit_body(model, target, terms=[term], config=FitBodyConfig(fit_shape=False), start=unlikely[None])
    assert bool(fit.converged) and geodesic_distance(fit.pose[0], likely)[[upper, lower]].max() < 0.1


def test_arms_that_are_likely_only_together_are_turned_together(model: nn.Module) -> None:
    unlikely, likely = (
        left + right  # each is zero where the other arm is
        for left, right in zip(_two_poses(model, ARMS[0], 2.7), _two_poses(model, ARMS[1], -1.9), strict=True)
    )
    joints = (16, 17, 18, 19)
    points = BodyPoints(model, joints=range(22))(unlikely[None])
    target = Joints3D(torch.cat((points, torch.full((1, 33, 3), math.nan)), 1), sigma=0.001)
    target.to(model.v_template)  # type: ignore[arg-type]
    free = tuple(range(1, 22))
    problem = FitProblem(model, [target], [TwoModes(joints, likely, unlikely)], free, FitBodyConfig(fit_shape=False))
    state = start_state(model.v_template, 1, 10, 10, None, None)  # type: ignore[arg-type]
    state.pose[0] = unlikely
    stage = Stage(Variables(joints=free), 100, [target.confidence > 0])
    found, *_ = descend(problem, state, stage)
    assert geodesic_distance(found.pose[0, 0], unlikely)[list(joints)].max() < 0.1
    samples = torch.stack([unlikely, likely] + [torch.zeros(55, 3)] * 6)
    lowest = lowest_mode(
        problem, Outcome(found, torch.tensor([True]), 0), stage, partial(other_turns, samples=samples)
    ).state.pose[0, 0]
    assert geodesic_distance(lowest, likely)[list(joints)].max() < 0.1


def test_turns_of_samples_leave_every_measured_joint_where_it_is(model: nn.Module, people: Tensor) -> None:
    every = BodyPoints(model, joints=range(55))
    measured = every(people)
    target = Joints3D(measured, sigma=0.001)
    target.confidence[0, 22:] = 0.0  # the first body without fingers
    target.to(model.v_template)  # type: ignore[arg-type]
    free = tuple(range(1, 22))
    problem = FitProblem(model, [target], [TwoModes(free, people[0], people[1])], free, FitBodyConfig())
    state = start_state(model.v_template, 6, 10, 10, None, None)  # type: ignore[arg-type]
    state.pose[0] = people
    stage = Stage(Variables(joints=free), 50, [target.confidence > 0])
    poses = people.roll(1, 0)[:4]
    assert list(chains(FitProblem(model, [target], [], free, FitBodyConfig(rest_sigma=0.3)))) == list(chains(problem))
    assert not list(chains(FitProblem(model, [target], [], free, FitBodyConfig(rest_sigma=None))))
    alone = [together[0] for together in chains(problem) if len(together) == 1]
    assert sorted(joint for chain in alone for joint in chain) == list(free)
    for together in chains(problem):
        many = with_turns_of(problem, state, stage, poses, together).pose
        found = every(many.flatten(0, 1)).unflatten(0, (4, 6))
        assert (found - measured)[:, 0, :22].norm(dim=-1).max() < 1e-4  # metres
        assert (found - measured)[:, 1:].norm(dim=-1).max() < 1e-4
        same = with_turns_of(problem, state, stage, people, together).pose.diagonal(dim1=0, dim2=1).movedim(-1, 0)
        assert geodesic_distance(same, people).max() < 1e-3
        moved = geodesic_distance(many, people)
        joints = [joint for chain in together for joint in chain]
        assert moved[..., [j for j in range(55) if j not in joints]].max() < 1e-6
        assert all(moved[..., list(chain)].max() > 0.1 for chain in together)
        if 20 in joints:
            torch.testing.assert_close(many[:, 0, 20], poses[:, 20])


@pytest.mark.parametrize("joint", [20, 40], ids=["left_wrist", "right_index1"])
def test_of_two_modes_of_a_hand_without_fingers_the_lower_is_found(model: nn.Module, joint: int) -> None:
    likely, unlikely = torch.zeros(2, 55, 3).unbind()
    unlikely[joint], likely[joint] = torch.tensor([0.4, 1.6, -0.3]), torch.tensor([0.1, 0.1, 0.2])
    joints = BodyPoints(model, joints=range(55))(unlikely[None])
    joints[:, 22:] = math.nan
    term = TwoModes((joint,), likely, unlikely)
    config = FitBodyConfig(fit_shape=False)
    fit = fit_body(model, Joints3D(joints, sigma=0.001), terms=[term], config=config, start=unlikely[None])
    assert bool(fit.converged) and geodesic_distance(fit.pose[0], likely)[joint] < 0.05


def test_points_on_the_skin_keep_the_arm_in_the_higher_mode(model: nn.Module) -> None:
    arm = ARMS[0]
    pose, likely = _two_poses(model, arm, 2.7)
    weights = model.lbs_weights
    assert isinstance(weights, Tensor)
    skin = (weights[:, arm[0]] > 0.9).nonzero()[::20, 0][:12].tolist()
    with torch.no_grad():
        markers = BodyPoints(model, vertices=skin)(pose[None])
        joints = BodyPoints(model, joints=range(55))(pose[None])
    targets: list[Target] = [Joints3D(joints, sigma=0.001), Markers(markers, vertices=skin, sigma=0.001)]
    config = FitBodyConfig(fit_shape=False)
    fit = fit_body(model, targets, terms=[TwoModes(arm[:2], likely, pose)], config=config, start=pose[None])
    assert geodesic_distance(fit.pose[0], pose)[list(arm)].max() < 0.1


@pytest.mark.parametrize("fingers", [False, True])
@pytest.mark.parametrize("arm", ARMS)
def test_turns_leave_every_measured_joint_where_it_is(
    model: nn.Module, people: Tensor, arm: tuple[int, int, int], fingers: bool
) -> None:
    every = BodyPoints(model, joints=range(55))
    measured = every(people)
    target = Joints3D(measured, sigma=0.001)
    target.to(model.v_template)  # type: ignore[arg-type]
    problem = FitProblem(model, [target], [], tuple(range(1, 22)), FitBodyConfig())
    state = start_state(model.v_template, 6, 10, 10, None, None)  # type: ignore[arg-type]
    state.pose[0] = people
    many = turned(problem, state, arm, torch.full((6,), fingers), (0.5, 2.0), (0.0, 1.0, 4.0))
    found = every(many.pose.flatten(0, 1)).unflatten(0, (6, 6))
    assert (found - measured)[:, :, : 55 if fingers else 22].norm(dim=-1).max() < 1e-4
    moved = geodesic_distance(many.pose, people)
    others = [j for j in range(55) if j not in arm]
    torch.testing.assert_close(moved[..., arm[0]], torch.tensor([0.5, 2.0]).repeat_interleave(3)[:, None].expand(6, 6))
    assert moved[..., others].max() < 1e-6
    assert (moved[1::3, :, arm[2]].max() > 0.9) == fingers


def test_a_rotvec_that_is_longer_than_half_a_turn_comes_back(model: nn.Module, people: Tensor) -> None:
    """The rest regulariser pulls the numbers of a rotvec to zero, and those of a rotation by 5.5 rad are as well -0.8."""
    target = Joints3D(BodyPoints(model, joints=range(55))(people), sigma=0.001)
    target.to(model.v_template)  # type: ignore[arg-type]
    free = tuple(range(1, 22))
    problem = FitProblem(model, [target], [], free, FitBodyConfig())
    state = start_state(model.v_template, 6, 10, 10, None, None)  # type: ignore[arg-type]
    state.pose[0] = people
    knee = people[0, 4]
    state.pose[0, 0, 4] = knee * (1.0 - 2.0 * math.pi / knee.norm())
    stage = Stage(Variables(joints=free), 50, [target.confidence > 0])
    found = lowest_mode(
        problem, Outcome(state, torch.zeros(6, dtype=torch.bool), 0), stage, partial(other_turns, samples=people)
    )
    before, after = (problem.total(each, stage)[0] for each in (state, found.state))
    assert before[0] - after[0] > 100.0 and found.state.pose[0, 0, 4].norm() < math.pi
    assert bool(found.converged[0])
