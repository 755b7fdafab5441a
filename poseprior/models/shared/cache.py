"""`Kept`: what is computed from weights once and used call after call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_T = TypeVar("_T")


def is_frozen(module: nn.Module, tensors: Iterable[Tensor]) -> bool:
    """Whether `module` is in evaluation and no gradient to its tensors is asked for: what is kept can be used."""
    return not module.training and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))


class Kept(nn.Module):
    """Values computed from tensors, kept until one of the tensors changes.

    Changes are told by identity, storage, version and type of the tensors: loads, optimiser steps, `copy_` under `no_grad`,
    another device. Edits in place through `.data` leave no trace; `train()` or `eval()` on the prior forgets what is kept.
    Values are computed outside of inference mode and autocast, so that one serves every later call. Threads may share a
    `Kept`: what two of them want at once is computed twice.

    Args:
        most: values kept at a time.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._now: tuple[object, dict[Hashable, Any]] = (None, {})

    def forward(self, tensors: Iterable[Tensor], key: Hashable, compute: Callable[[], _T]) -> _T:
        """What `compute` gives, without gradient, for `tensors` as they are; `key` tells values of the same tensors apart."""
        tensors = tuple(tensors)
        if any(t.is_inference() for t in tensors):  # they have no version
            return compute()
        stamp = tuple((id(t), t.data_ptr(), t._version, t.dtype, t.device) for t in tensors)
        now = self._now  # another thread may put its own in place
        if now[0] != stamp:
            now = self._now = (stamp, {})
        if key not in now[1]:
            if len(now[1]) >= self._most:
                now = self._now = (stamp, {})
            device = tensors[0].device.type
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
                now[1][key] = compute()
        found: _T = now[1][key]
        return found

    def train(self, mode: bool = True) -> Kept:
        """Forget everything: called for every part of a prior that changes between training and evaluation."""
        self._now = (None, {})
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Copies start empty: the tensors of a copy are others."""
        return {**self.__dict__, "_now": (None, {})}
