"""`descend`: one stage of a fit, by L-BFGS in rounds that each begin with a new preconditioner."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...optim import Minimum
from .gauss_newton import preconditioner
from .problem import FitProblem
from .stages import Stage
from .state import BodyState

_ROUND = 25
#: Steps of Adam for each step that L-BFGS may take.
_ADAM_STEPS = 2


def descend(
    problem: FitProblem, state: BodyState, stage: Stage, idle: Tensor | None = None, *, near: bool = False
) -> tuple[BodyState, Minimum, int]:
    """Minimise the energy of a stage for every body.

    L-BFGS runs in rounds: the preconditioner of a round is the curvature where the bodies stand at its start. With
    `optimizer="adam"`, stages of the final energies begin with Adam, and L-BFGS goes on from its best point: Adam alone
    does not converge along stiff directions.

    Args:
        problem, state, stage: what is minimised, from where.
        idle: (S, B) bool, bodies that need not move.
        near: whether the minimum is near. Then L-BFGS goes there without Adam, whose first steps would leave the basin.

    Returns:
        The state at the minimum, the `Minimum` of the last round, and the steps of all rounds.
    """
    done = 0
    if problem.config.optimizer == "adam" and stage.final and not near:
        done = _ADAM_STEPS * stage.iterations
        state, _ = problem.adam(state, stage, done)
    left = stage.iterations
    while True:
        start = preconditioner(problem, state, stage)
        state, last = problem.lbfgs(state, replace(stage, iterations=min(left, _ROUND)), start, idle)
        left, done = left - last.steps, done + last.steps
        if left <= 0 or last.steps == 0 or bool(last.converged.all()):
            return state, last, done
