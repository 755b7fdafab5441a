"""`FitProblem`: energies of some bodies are those bodies' energies among all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior.fitting import Camera, EnergyTerm, FittingConfig, Joints3D, Keypoints2D, PoseAnchor, PosePriorTerm
from poseprior.fitting import problem as problem_module
from poseprior.fitting.hand_convention import HandConvention
from poseprior.fitting.hypotheses import repeats
from poseprior.fitting.problem import FitProblem, Stage
from poseprior.fitting.state import BodyState, Variables

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
    problem = FitProblem(model, targets, terms, joints, FittingConfig())
    shape = (STARTS, BODIES)
    state = BodyState(
        0.3 * torch.randn(*shape, 55, 3, generator=generator), torch.tensor([0.0, 0.0, 3.0]).expand(*shape, 3),
        torch.randn(*shape, 10, generator=generator), torch.zeros(*shape, 10),
    )  # fmt: skip
    chosen = [torch.rand(BODIES, 55, generator=generator) > 0.2 for _ in targets]
    wide = tuple(1.0 + torch.rand(*shape, 1, generator=generator) for _ in targets)
    variables = Variables(joints, shape=True, convention=HandConvention.of(model))
    return problem, state, Stage(variables, 5, chosen, wide=wide)


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
    problem.minimise(state, stage)
    more = FitProblem(model, problem.targets, [*problem.terms, Leaning()], problem.free, problem.config)
    more.minimise(state, stage)
    problem.minimise(state, replace(stage, variables=replace(stage.variables, frames=BODIES)))  # one sequence
    assert given[0] is not None and given[1:] == [None, None]


def test_repeats_are_told_from_different_modes() -> None:
    """By distance to a better start that is no repeat itself: near chains do not swallow each other."""
    place = torch.tensor([[0.0, 0.0], [0.015, 1.0], [0.03, 2.0], [0.015, 0.01]])  # metres; 4 starts of 2 bodies
    points = place[..., None, None].expand(-1, -1, 5, 3) / 3**0.5
    energy = torch.tensor([[0.0, 3.0], [1.0, 0.0], [2.0, 1.0], [3.0, 2.0]])
    expected = torch.tensor([[False, True], [True, False], [False, False], [True, False]])
    assert torch.equal(repeats(points, energy), expected)
