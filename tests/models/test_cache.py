"""`WeightCache`: computed once, never out of date."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sample_poses import seeded
from torch import Tensor, nn

import poseprior
from poseprior.models.shared.cache import WeightCache


class _Counted:
    """The sum of a tensor, and how often it was taken."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.times = tensor, 0

    def __call__(self) -> float:
        self.times += 1
        return float(self.tensor.sum())


def _new_storage(p: nn.Parameter) -> None:
    p.data = 2.0 * p.data


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.mul_(2.0),
        _new_storage,
        lambda p: nn.utils.vector_to_parameters(2.0 * nn.utils.parameters_to_vector([p]), [p]),
    ],
    ids=["in place", "data", "vector_to_parameters"],
)
@torch.no_grad()
def test_a_change_of_the_tensor_is_seen(change: object) -> None:
    tensor = nn.Parameter(torch.ones(3))
    cache, total = WeightCache(4), _Counted(tensor)
    assert [cache([tensor], "sum", total) for _ in range(3)] == [3.0] * 3 and total.times == 1
    change(tensor)  # type: ignore[operator]
    assert cache([tensor], "sum", total) == 6.0


def test_keys_are_apart_and_room_is_bounded() -> None:
    tensor, cache = torch.ones(3), WeightCache(2)
    assert [cache([tensor], k, lambda k=k: 10 * k) for k in (1, 2, 1)] == [10, 20, 10]  # type: ignore[misc]
    total = _Counted(tensor)
    for key in (3, 4, 5, 3):  # 3 is gone again
        cache([tensor], key, total)
    assert total.times == 4
    single = WeightCache(1)
    for _ in range(3):
        single([tensor], None, total)
    assert total.times == 5


def test_copies_start_empty() -> None:
    tensor, cache = torch.ones(3), WeightCache(2)
    cache([tensor], "lambda", lambda: lambda: 0)  # cannot be pickled
    total = _Counted(tensor)
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        other([tensor], "lambda", total)
    assert total.times == 2


def test_threads_may_share_one() -> None:
    tensor, cache = torch.ones(3), WeightCache(3)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: cache([tensor], n % 7, lambda: n % 7), range(5000)))
    assert found == [n % 7 for n in range(5000)]


def _poses() -> torch.Tensor:
    return poseprior.load("body-gaussian").sample(20, generator=seeded())


@pytest.mark.parametrize(
    "name", ["body-gaussian", "body-mixture", "body-joint-flow", "body-global-flow", "body-order-agnostic"]
)
class TestOfPriors:
    def test_inference_mode_leaves_gradients_alone(self, name: str) -> None:
        prior, pose = poseprior.load(name), _poses().requires_grad_()
        (expected,) = torch.autograd.grad(poseprior.load(name).log_prob(pose).sum(), pose)
        with torch.inference_mode():
            prior.log_prob(pose)
        torch.testing.assert_close(torch.autograd.grad(prior.log_prob(pose).sum(), pose)[0], expected)

    def test_eval_forgets_what_edits_through_data_leave_behind(self, name: str) -> None:
        prior, pose = poseprior.load(name), _poses()
        before = prior.log_prob(pose)
        for tensor in prior.parameters():  # as moving averages of weights do
            tensor.data.mul_(0.5)
        found = prior.eval().log_prob(pose)
        torch.testing.assert_close(found, pickle.loads(pickle.dumps(prior)).log_prob(pose))
        assert float((found - before).abs().max()) > 1.0
