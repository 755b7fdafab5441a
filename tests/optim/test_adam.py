"""Adam on rows: each row is its own problem, and the best point of each is returned."""

import pytest
import torch
from torch import Tensor

from poseprior.optim import adam


def _rosenbrock(x: Tensor) -> Tensor:
    return (1.0 - x[:, 0]).square() + 100.0 * (x[:, 1] - x[:, 0].square()).square()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_descends_and_never_ends_above_its_start(dtype: torch.dtype) -> None:
    start = torch.tensor([[-1.2, 1.0], [1.0, 1.0]], dtype=dtype)
    found = adam(_rosenbrock, start, iterations=600, learning_rate=0.05)
    assert found.point.dtype == dtype
    assert (found.value <= _rosenbrock(start)).all() and found.value[0] < 0.5 and found.value[1] == 0.0


def test_rows_do_not_change_each_other() -> None:
    starts = torch.tensor([[-1.2, 1.0], [3.0, -2.0], [0.5, 0.5]], dtype=torch.float64)
    together = adam(_rosenbrock, starts, iterations=50)
    for row in range(3):
        alone = adam(_rosenbrock, starts[row : row + 1], iterations=50)
        torch.testing.assert_close(alone.point[0], together.point[row], atol=1e-12, rtol=0)
        assert alone.converged[0] == together.converged[row]


def test_gradients_that_are_not_finite_count_as_zero() -> None:
    start = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    found = adam(lambda x: x[:, 0].sqrt() + x[:, 1].square(), start, iterations=100)  # infinite slope at 0
    assert found.point.isfinite().all() and float(found.value[0]) < 0.01


def test_noisy_energies_end_at_the_last_point() -> None:
    """Of batches with means around 3, the lowest value that is met is that of a lucky batch, early on."""
    generator = torch.Generator().manual_seed(0)
    seen: list[Tensor] = []

    def energy(x: Tensor) -> Tensor:
        batch = 3.0 + torch.randn(64, 2, generator=generator)
        seen.append(x.detach().clone())
        return (x[:, None] - batch).square().mean(1).sum(1)

    found = adam(energy, torch.zeros(1, 2), iterations=300, learning_rate=0.1, noisy=True)
    assert torch.equal(found.point, seen[-1])
    assert float((found.point - 3.0).abs().max()) < 0.1
    assert not found.converged.any()
