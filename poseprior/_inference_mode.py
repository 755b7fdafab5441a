"""Calls under `torch.inference_mode` of functions that take gradients themselves."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from ._tracing import is_traced

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def leaves_inference_mode(function: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """Let a function that takes gradients be called under `torch.inference_mode`, or with tensors that were made in it.

    It runs outside of it, on copies of such tensors, which autograd cannot record. Modules are passed as they are: training
    changes them in place.
    """

    @functools.wraps(function)
    def call(*args: _Given.args, **kwargs: _Given.kwargs) -> _Found:
        if is_traced():
            return function(*args, **kwargs)
        with torch.inference_mode(False):
            return function(*_usable(args), **_usable(kwargs))

    return call


def made_in_inference_mode(module: nn.Module) -> bool:
    """Whether a module has tensors that no gradient passes."""
    return any(tensor.is_inference() for tensor in (*module.parameters(), *module.buffers()))


def _usable(value: Any) -> Any:
    """A value with copies of the tensors in it that were made in inference mode."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if type(value) in (list, tuple):
        return type(value)(_usable(item) for item in value)
    if type(value) is dict:
        return {key: _usable(item) for key, item in value.items()}
    ours = type(value).__module__.partition(".")[0] == __package__ and hasattr(value, "__dict__")
    if not ours or isinstance(value, nn.Module | type):
        return value
    inside = vars(value)
    usable = {name: _usable(item) for name, item in inside.items()}
    if not any(_differs(usable[name], inside[name]) for name in inside):
        return value
    result = copy.copy(value)
    result.__dict__.update(usable)
    return result


def _differs(first: Any, second: Any) -> bool:
    """Whether something in a value was copied."""
    if type(first) in (list, tuple):
        return any(_differs(*pair) for pair in zip(first, second, strict=True))
    if type(first) is dict:
        return any(_differs(first[name], second[name]) for name in first)
    return first is not second
