"""`prior.compile()`: value and gradient of a density as one compiled graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ._value_and_gradient import ValueAndGradient

#: Densities (B,) of rotvecs (B, J, 3).
Density = Callable[[Tensor], Tensor]


class Compilable(nn.Module, ABC):
    """A module with a density of whole poses, `_log_prob_whole`, that can be compiled in place."""

    _compiled: CompiledDensity | None = None

    @abstractmethod
    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        """(B,) densities of rotvecs (B, J, 3) that show every joint."""

    def _compiled_log_prob(self, rotvec: Tensor, observed: Tensor | None, context: Tensor | None) -> Tensor | None:
        """(B,) densities of rotvecs (B, J, 3) by the compiled graph; None where there is none for such a call.

        An empty batch has an empty density, compiled or not.
        """
        if not rotvec.shape[0]:
            return rotvec.sum((1, 2))
        if self._compiled is None or observed is not None or context is not None:
            return None
        return self._compiled(rotvec)

    def compile(self, **options: Any) -> None:
        """Compile value and gradient of `log_prob`, in place, once for all batch sizes.

        The compiled graph is used in calls without `observed` and `context` while the weights are frozen; other calls are
        as before. Second derivatives go through the model itself. Copies and pickles are not compiled. The first call
        compiles, which takes seconds to minutes; `python -m benchmarks.speed.compiled` measures that, and the gain.

        Args:
            options: of torch.compile, such as `mode` or `backend`.

        Raises:
            ValueError: weights that are being trained, or `fullgraph` or `dynamic` among the options: they are always on.
        """
        taken = sorted({"fullgraph", "dynamic"} & set(options))
        if taken:
            raise ValueError(f"{', '.join(taken)}: always on; leave them out.")
        if self.training or any(parameter.requires_grad for parameter in self.parameters()):
            raise ValueError("compile: expected frozen weights; call prior.eval().requires_grad_(False) first.")
        self._compiled = CompiledDensity(self, options)


class CompiledDensity:
    """The density of whole poses under a module, compiled: the gradient is computed with the value.

    Args:
        module: with frozen weights.
        options: of torch.compile.
    """

    def __init__(self, module: Compilable, options: dict[str, Any]) -> None:
        self._weights = tuple(module.parameters())
        self._module = module
        self._value: Density = self._compile(CompiledDensity._density, options)
        self._both = self._compile(CompiledDensity._value_and_gradient, options)

    def __call__(self, rotvec: Tensor) -> Tensor | None:
        """(B,) values of rotvecs (B, J, 3); None in training and where gradients to the weights are asked for."""
        if self._module.training or (torch.is_grad_enabled() and any(w.requires_grad for w in self._weights)):
            return None
        if not (torch.is_grad_enabled() and rotvec.requires_grad):
            return self._value(rotvec)
        value: Tensor = ValueAndGradient.apply(rotvec, self._both, self._density)[0]
        return value

    def _compile(self, method: Callable[..., Any], options: dict[str, Any]) -> Any:
        # torch.compile limits the recompilations of each code object. With a code object of its own, a prior does not use
        # up the recompilations of other priors.
        assert isinstance(method, FunctionType)
        own = FunctionType(method.__code__.replace(), method.__globals__, method.__name__)
        return torch.compile(MethodType(own, self), fullgraph=True, dynamic=True, **options)

    def _density(self, rotvec: Tensor) -> Tensor:
        return self._module._log_prob_whole(rotvec, None)

    def _value_and_gradient(self, rotvec: Tensor) -> tuple[Tensor, Tensor]:
        def total(x: Tensor) -> tuple[Tensor, Tensor]:
            value = self._density(x)
            return value.sum(), value

        gradient, (_, value) = torch.func.grad_and_value(total, has_aux=True)(rotvec)
        return value, gradient

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Copies and pickles hold None in its place: they are not compiled."""
        return type(None), ()
