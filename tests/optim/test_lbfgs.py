"""Batched L-BFGS: rows are independent, ill-conditioned problems are solved, what is reported is true."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from poseprior.optim import Energy, lbfgs


def _ill_conditioned(goal: Tensor, scale: Tensor) -> Tensor:
    def energy(x: Tensor) -> Tensor:
        z = scale * (x - goal)
        return 0.5 * z.square().sum(-1) + 0.01 * z.square().square().sum(-1)

    return energy  # type: ignore[return-value]


def _rosenbrock(x: Tensor) -> Tensor:
    return (1.0 - x[:, 0]).square() + 100.0 * (x[:, 1] - x[:, 0].square()).square()


def test_lbfgs_solves_ill_conditioned_rows() -> None:
    scale = torch.logspace(0, 1.5, 12, dtype=torch.float64) * torch.tensor([[1.0], [0.3]], dtype=torch.float64)
    goal = torch.randn(2, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = lbfgs(_ill_conditioned(goal, scale), torch.zeros_like(goal), tolerance=1e-8)  # type: ignore[arg-type]
    torch.testing.assert_close(found.point, goal, atol=1e-6, rtol=0)
    assert found.converged.all() and found.value.max() < 1e-9


def test_rows_do_not_change_each_other() -> None:
    starts = torch.tensor([[-1.2, 1.0], [3.0, -2.0], [1.0, 1.0]], dtype=torch.float64)
    together = lbfgs(_rosenbrock, starts, iterations=400, tolerance=1e-6)
    assert torch.allclose(together.point, torch.ones(2, dtype=torch.float64), atol=1e-4)
    for row in range(3):
        alone = lbfgs(_rosenbrock, starts[row : row + 1], iterations=400, tolerance=1e-6)
        torch.testing.assert_close(alone.point[0], together.point[row], atol=1e-5, rtol=0)


def test_too_few_steps_do_not_count_as_converged() -> None:
    found = lbfgs(_rosenbrock, torch.tensor([[-1.2, 1.0], [1.0, 1.0]], dtype=torch.float64), iterations=3)
    assert found.converged.tolist() == [False, True] and found.steps == 3


def test_lbfgs_steps_back_from_what_is_not_finite() -> None:
    found = lbfgs(lambda x: (x - torch.log(x)).sum(-1), torch.full((1, 2), 5.0), iterations=50)  # minimum at 1
    torch.testing.assert_close(found.point, torch.ones(1, 2), atol=1e-2, rtol=0)


def test_rows_that_are_done_are_left_out() -> None:
    """Same minima, with fewer evaluations of rows, when the energy can be had for some rows alone."""
    generator = torch.Generator().manual_seed(0)
    goal = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    goal[:6] = 0.0  # where all start
    evaluated: list[int] = []

    def select(rows: Tensor) -> Callable[[Tensor], Tensor]:
        def energy(x: Tensor) -> Tensor:
            evaluated.append(len(x))
            assert len(x) == len(rows)
            return _rosenbrock(x - goal[rows] + 1.0)

        return energy

    start, every = torch.zeros_like(goal), torch.arange(12)
    whole = lbfgs(select(every), start, iterations=400, tolerance=1e-6)
    all_rows, counted = sum(evaluated), len(evaluated)
    assert set(evaluated) == {12}
    evaluated.clear()
    found = lbfgs(select(every), start, iterations=400, tolerance=1e-6, select=select)
    torch.testing.assert_close(found.point, whole.point, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.value, whole.value)
    assert found.converged.all() and found.steps == whole.steps and len(evaluated) == counted
    assert sum(evaluated) < 0.5 * all_rows and min(evaluated) < 6


@pytest.mark.parametrize("split", [False, True])
def test_idle_rows_stay_where_they_start(split: bool) -> None:
    target = torch.arange(8.0)[:, None].expand(-1, 3)
    asked: list[int] = []

    def of(rows: Tensor) -> Energy:
        def energy(x: Tensor) -> Tensor:
            asked.append(len(x))
            return (x - target[rows]).square().sum(-1)

        return energy

    idle = torch.tensor([False, True] * 4)
    start = torch.full((8, 3), -1.0)
    found = lbfgs(of(torch.arange(8)), start, select=of if split else None, idle=idle)
    torch.testing.assert_close(found.point[~idle], target[~idle], atol=1e-3, rtol=0)
    assert torch.equal(found.point[idle], start[idle]) and bool(found.converged.all())
    assert max(asked) == (4 if split else 8)
