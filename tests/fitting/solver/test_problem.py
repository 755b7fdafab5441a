"""`FitProblem`: energies of some bodies are those bodies' energies among all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior.fitting import (
    Camera,
    EnergyTerm,
    FitBodyConfig,
    Joints3D,
    Keypoints2D,
    PoseAnchor,
    PosePriorTerm,
)
from poseprior.fitting.body.hand_convention import HandConvention
from poseprior.fitting.solver import gauss_newton
from poseprior.fitting.solver import problem as problem_module
from poseprior.fitting.solver.hypotheses import repeats
from poseprior.fitting.solver.problem import FitProblem
from poseprior.fitting.solver.stages import Stage
from poseprior.fitting.solver.state import BodyState, Variables

STARTS, BODIES = 2, 6


@pytest.fixture
def measured(
    model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor], body_prior: poseprior.PosePrior
) -> tuple[FitProblem, BodyState, Stage]:
    """Everything that can differ from body to body: camera, noise, confidence, anchor, thresholds."""
    generator = torch.Generator().manual_seed(0)
    truth = joints_of(model, people)[:, :55]
    camera = Camera(1000.0 + 100.0 * torch.arange(BODIES)[:, None].expand(-1, 2), (500.0, 400.0))
    pixels = camera.project(truth) + 20.0 * torch.randn(BODIES, 55, 2, generator=generator)
    targets = [
        Keypoints2D(pixels, camera=camera, layout="smplx_55", sigma=1.0 + torch.rand(BODIES, 55, generator=generator),
                    confidence=torch.rand(BODIES, 55, generator=generator)),
        Joints3D(truth + 0.05, sigma=0.03),
    ]  # fmt: skip
    sigma = 0.1 + torch.rand(BODIES, 55, generator=generator)
    terms = [PosePriorTerm(body_prior, reduction="sum"), PoseAnchor(people, sigma=sigma, reduction="sum")]
    joints = tuple(range(1, 22))
    problem = FitProblem(model, targets, terms, joints, FitBodyConfig())
    shape = (STARTS, BODIES)
    state = BodyState(
        0.3 * torch.randn(*shape, 55, 3, generator=generator), torch.tensor([0.0, 0.0, 3.0]).expand(*shape, 3),
        torch.randn(*shape, 10, generator=generator), torch.zeros(*shape, 10),
    )  # fmt: skip
    chosen = [torch.rand(BODIES, 55, generator=generator) > 0.2 for _ in targets]
    scales = tuple(1.0 + torch.rand(*shape, 1, generator=generator) for _ in targets)
    variables = Variables(joints, shape=True, convention=HandConvention.of(model))
    return problem, state, Stage(variables, 5, chosen, outlier_scales=scales)


def test_rows_are_those_bodies_of_the_whole(measured: tuple[FitProblem, BodyState, Stage]) -> None:
    problem, state, stage = measured
    vector = stage.variables.zero(state)
    vector = 0.1 * torch.randn(vector.shape, generator=torch.Generator().manual_seed(1))
    every = problem._energy(state, stage)(vector)
    assert every.unique().numel() == STARTS * BODIES
    rows = torch.tensor([10, 0, 5, 7])
    torch.testing.assert_close(problem._energy_of_rows(state, stage, rows)(vector[rows]), every[rows])


def test_a_term_that_cannot_be_split_keeps_all_bodies_in_every_step(
    model: nn.Module, measured: tuple[FitProblem, BodyState, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaning(EnergyTerm):
        """A user's own term, with data for each body that the library knows nothing of."""

        name = "leaning"

        def __call__(self, params: Any = None, *, latent: Tensor | None = None, progress: float = 1.0) -> Tensor:
            assert params.shape[1] == BODIES
            return 10.0 * (params[..., 0, :] - 0.1 * torch.arange(BODIES)[:, None]).square().sum(-1)

    given: list[object] = []
    original = problem_module.lbfgs

    def watch(*args: Any, **options: Any) -> Any:
        given.append(options["select"])
        return original(*args, **options)

    monkeypatch.setattr(problem_module, "lbfgs", watch)
    problem, state, stage = measured
    problem.lbfgs(state, stage)
    more = FitProblem(model, problem.targets, [*problem.terms, Leaning()], problem.free, problem.config)
    more.lbfgs(state, stage)
    problem.lbfgs(state, replace(stage, variables=replace(stage.variables, frames=BODIES)))  # one sequence
    assert given[0] is not None and given[1:] == [None, None]


def test_repeats_are_told_from_different_modes() -> None:
    """By distance to a better start that is no repeat itself: near chains do not swallow each other."""
    place = torch.tensor([[0.0, 0.0], [0.015, 1.0], [0.03, 2.0], [0.015, 0.01]])  # metres; 4 starts of 2 bodies
    points = place[..., None, None].expand(-1, -1, 5, 3) / 3**0.5
    energy = torch.tensor([[0.0, 3.0], [1.0, 0.0], [2.0, 1.0], [3.0, 2.0]])
    expected = torch.tensor([[False, True], [True, False], [False, False], [True, False]])
    assert torch.equal(repeats(points, energy), expected)


def test_bodies_of_one_pose_are_posed_once(measured: tuple[FitProblem, BodyState, Stage]) -> None:
    problem, state, _ = measured
    alike = replace(
        state, pose=state.pose[:, :1].expand_as(state.pose), betas=state.betas[:, :1].expand_as(state.betas)
    )
    several = replace(alike, pose=alike.pose.clone(), betas=alike.betas.clone())
    assert several.shared().pose.stride(1) == 0 and state.shared() is state
    place = torch.randn(STARTS, BODIES, 3, generator=torch.Generator().manual_seed(2))
    shared, plain = (replace(s, transl=place) for s in (several.shared(), several))
    torch.testing.assert_close(problem.body(shared), problem.body(plain))


def test_the_preconditioner_inverts_the_curvature_of_joints(measured: tuple[FitProblem, BodyState, Stage]) -> None:
    """J^T W J against differences of residuals, in every variable."""
    problem, state, stage = measured
    variables = stage.variables
    with torch.no_grad():
        found = gauss_newton._data(problem, state, stage)
        size, step = found.shape[-1], 1e-2
        body = problem.body(state)
        expected = torch.zeros_like(found)
        for k, target in enumerate(problem.targets):
            base = target.residuals(problem.of_target(body, k))
            columns = []
            for direction in step * torch.eye(size):
                moved = problem.body(variables.apply(state, direction.expand(STARTS * BODIES, -1)))
                columns.append((target.residuals(problem.of_target(moved, k)) - base) / step)
            assert stage.outlier_scales is not None
            squared = base.square().sum(-1) / target.sigma.square()
            weight = target.confidence * stage.chosen[k] / target.sigma.square()
            if target.robust is not None:
                cap = (target.robust * stage.outlier_scales[k]) ** 2
                weight = weight * (cap / (cap + squared)).square()
            root = weight.expand(base.shape[:-1]).sqrt()[..., None]
            jacobian = torch.stack([(c * root).flatten(2).flatten(0, 1) for c in columns], -1)
            expected += jacobian.mT @ jacobian
    scale = expected.diagonal(dim1=-2, dim2=-1).clamp_min(1e-3).sqrt()
    difference = (found - expected) / (scale[:, :, None] * scale[:, None, :])
    assert float(difference.abs().mean()) < 5e-3 and float(difference.abs().max()) < 0.1
