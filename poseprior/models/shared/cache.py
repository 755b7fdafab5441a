"""`WeightCache`: values computed from weights, cached from call to call until the weights change."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..._tracing import is_transformed, untransformed

_T = TypeVar("_T")


def is_frozen(module: nn.Module, tensors: Iterable[Tensor]) -> bool:
    """Whether cached values may stand for `tensors`: `module` is in evaluation mode and no gradient to them is recorded."""
    return not module.training and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))


class WeightCache(nn.Module):
    """Caches values computed from tensors until one of the tensors changes.

    A change is detected by the identity, storage, version, type and device of the tensors: this covers loading, optimiser
    steps, `copy_` under `no_grad` and moves to another device. Edits in place through `.data` leave no trace; `train()` or
    `eval()` on the prior empties the cache. Values are computed outside of inference mode and autocast, so that one value
    serves every later call. Threads may share a cache: a value that two threads ask for at once is computed twice.

    Code that torch.compile or torch.export traces uses the values that earlier calls cached, as constants, and otherwise
    computes them in the graph. Loading or moving weights, `train()` and `eval()` make torch.compile trace again. Any other
    change of frozen weights does not.

    Args:
        max_entries: the cache is emptied before it would hold more values than this.
    """

    def __init__(self, max_entries: int) -> None:
        super().__init__()
        self._max_entries = max_entries
        self._state: tuple[object, dict[Hashable, Any]] = (None, {})

    def forward(self, tensors: Iterable[Tensor], key: Hashable, compute: Callable[[], _T]) -> _T:
        """The value of `compute` (without gradients) for the present `tensors`; `key` names one of several values."""
        if torch.compiler.is_compiling():  # the graph holds a cached value as a constant, or else the computation
            known: dict[Hashable, Any] = self._state[1]
            return known[key] if key in known else compute()
        tensors = tuple(tensors)
        if any(t.is_inference() or is_transformed(t) for t in tensors):  # such tensors have no version counter
            return compute()
        stamp = tuple((id(t), t.data_ptr(), t._version, t.dtype, t.device) for t in tensors)
        state = self._state  # another thread may replace it meanwhile
        if state[0] != stamp:
            state = self._state = (stamp, {})
        if key not in state[1]:
            if len(state[1]) >= self._max_entries:
                state = self._state = (stamp, {})
            device = tensors[0].device.type
            with untransformed(), torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
                state[1][key] = compute()
        found: _T = state[1][key]
        return found

    def train(self, mode: bool = True) -> WeightCache:
        """Empty the cache: called for every submodule of a prior that changes between training and evaluation."""
        self._state = (None, {})
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._state = (None, {})  # graphs of torch.compile look at the cache alone
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> WeightCache:
        self._state = (None, {})  # moved, or of another type
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles start empty: they hold other tensors."""
        return {**self.__dict__, "_state": (None, {})}
