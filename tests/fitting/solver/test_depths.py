"""Pictures do not show depths: limbs and hands at others look alike, and fits find the lowest of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from poseprior.fitting import BodyPoints, Camera, EnergyTerm, FitBodyConfig, Keypoints2D, fit_body
from poseprior.fitting.energy import PoseParams
from poseprior.fitting.solver.depths import other_depths
from poseprior.fitting.solver.initial import start_state
from poseprior.fitting.solver.problem import FitProblem
from poseprior.fitting.solver.stages import Stage
from poseprior.fitting.solver.state import BodyState, Variables
from poseprior.rotations import geodesic_distance, rotvec_to_rotmat

JOINTS = tuple(j for j in range(55) if j not in (22, 23, 24))
LIMBS = ((16, 18, 20), (17, 19, 21), (1, 4, 7), (2, 5, 8))
DISTANCE = torch.tensor([0.1, 0.2, 3.0])
SIDE = torch.tensor([0.2, -0.4, 0.1])  # of a second camera


class Near(EnergyTerm):
    """A Gaussian over some joints around one pose."""

    def __init__(self, pose: Tensor, width: float, joints: tuple[int, ...] = tuple(range(1, 22))) -> None:
        self.joints, self.pose, self.width = joints, pose, width

    def __call__(
        self, params: PoseParams | None = None, *, latent: Tensor | None = None, progress: float = 1.0
    ) -> Tensor:
        assert isinstance(params, Tensor)
        index = list(self.joints)
        return 0.5 * (geodesic_distance(params[..., index, :], self.pose[index]) / self.width).square().sum(-1)

    def select(self, bodies: Tensor) -> EnergyTerm:
        return self


def _camera(turned: bool) -> Camera:
    if not turned:
        return Camera(1000.0, (500.0, 500.0))
    return Camera(1000.0, (500.0, 500.0), rotation=rotvec_to_rotmat(SIDE), translation=torch.tensor([0.3, 0.1, 0.5]))


def _problem(
    model: nn.Module, people: Tensor, camera: Camera, sigma: float, seen: tuple[int, ...] = JOINTS
) -> tuple[FitProblem, BodyState, Stage]:
    """People 3 m away, seen without noise."""
    transl = DISTANCE.expand(len(people), 3)
    pixels = camera.project(BodyPoints(model, joints=seen)(people, transl=transl))
    target = Keypoints2D(pixels, camera=camera, layout={str(j): j for j in seen}, sigma=sigma)
    target.to(model.v_template)  # type: ignore[arg-type]
    free = tuple(range(1, 22))
    problem = FitProblem(model, [target], [Near(people[0], 1.0)], free, FitBodyConfig(fit_shape=False))
    state = start_state(model.v_template, len(people), 10, 10, None, None)  # type: ignore[arg-type]
    state.pose[0], state.transl[0] = people, transl
    return problem, state, Stage(Variables(joints=free), 50, [target.confidence > 0])


@pytest.mark.parametrize("turned", [False, True])
def test_limbs_at_other_depths_project_to_the_same_pixels(model: nn.Module, people: Tensor, turned: bool) -> None:
    camera = _camera(turned)
    problem, state, stage = _problem(model, people, camera, sigma=1000.0, seen=tuple(range(22)))
    energy = problem.total(state, stage)[0]
    found = list(other_depths(problem, state, energy, stage))
    assert len(found) == 4 * 4 + 2 * 4  # wrists without fingers are not mirrored, but asked for
    points = BodyPoints(model, joints=range(22))
    nearer = 0
    for number, (poses, rows, moved) in enumerate(found):
        limb = next(limb for limb in LIMBS if bool(moved[:1, list(limb)].all())) if len(rows) else LIMBS[number // 8]
        joints, before = (
            points(poses.pose[0], transl=poses.transl[0]),
            points(people[rows], transl=state.transl[0, rows]),
        )
        same = (camera.project(joints) - camera.project(before))[:, list(limb)].norm(dim=-1)
        lengths = [(x[:, list(limb)][:, 1:] - x[:, list(limb)][:, :-1]).norm(dim=-1) for x in (joints, before)]
        torch.testing.assert_close(lengths[0], lengths[1], atol=1e-4, rtol=0.0)
        on_its_ray = same.amax(-1) < 0.1  # pixels; a lower bone may be too short to reach the ray of its end
        others = [j for j in range(55) if j not in limb]
        torch.testing.assert_close(poses.pose[0][:, others], people[rows][:, others])
        nearer += int((on_its_ray & ((joints - before).norm(dim=-1).amax(-1) > 0.1)).sum())
    assert nearer > 20


@pytest.mark.parametrize("turned", [False, True])
def test_a_flat_hand_that_is_mirrored_in_depth_looks_alike(model: nn.Module, people: Tensor, turned: bool) -> None:
    camera = _camera(turned)
    problem, state, stage = _problem(model, people, camera, sigma=1000.0)
    points = BodyPoints(model, joints=(21, *range(40, 55)))
    before = points(people, transl=state.transl[0])
    found = 0
    for poses, rows, moved in other_depths(problem, state, problem.total(state, stage)[0], stage):
        turned_by = geodesic_distance(poses.pose[0], people[rows])
        wrist_alone = moved[:, 21] & (turned_by[:, [17, 19]] < 1e-3).all(-1)
        hand, own = points(poses.pose[0], transl=poses.transl[0])[wrist_alone], before[rows][wrist_alone]
        away = (camera.project(hand) - camera.project(own)).norm(dim=-1).mean(-1)
        assert (away < 10.0).all(), "pixels, of a hand of 60: a thumb is out of the plane, and fingers curve"
        assert (turned_by[wrist_alone, 21] > 0.5).all(), "another rotation"
        found += len(own)
    assert found


def test_fits_find_the_lower_of_two_depths(model: nn.Module) -> None:
    """A forearm that points at the camera, from one that points away."""
    likely = torch.zeros(55, 3)
    likely[0] = torch.tensor([math.pi - 0.05, 0.0, 0.0])
    likely[[16, 17]] = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    likely[18] = torch.tensor([0.0, -0.9, 0.0])
    camera, transl = _camera(False), DISTANCE[None]
    points = BodyPoints(model, joints=range(22))
    target = Keypoints2D(
        camera.project(points(likely[None], transl=transl)),
        camera=camera,
        layout={str(j): j for j in range(22)},
        sigma=2.0,
    )
    unlikely = likely.clone()
    unlikely[18] = -unlikely[18]
    wrist = points(torch.stack((likely, unlikely)))[:, 20]
    assert (wrist[0] - wrist[1])[2].abs() > 0.2, "metres in depth"
    term = Near(likely, 0.4)
    config = FitBodyConfig(fit_shape=False, num_starts=1)
    fit = fit_body(model, target, terms=[term], config=config, start=unlikely[None])
    assert bool(fit.converged) and geodesic_distance(fit.pose[0], likely)[18] < 0.1
    again = fit_body(model, target, terms=[term], config=config, start=likely[None])
    assert abs(float(fit.energy - again.energy)) < 0.1


def test_limbs_that_are_held_stay(model: nn.Module, people: Tensor) -> None:
    problem, state, stage = _problem(model, people, _camera(False), sigma=1000.0)
    problem.free = (1, 2, 3)
    assert not list(other_depths(problem, state, problem.total(state, stage)[0], stage))
