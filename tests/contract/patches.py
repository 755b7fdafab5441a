"""Patches that break a prior: context managers to replace what its class does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from poseprior import PosePrior, checkpoint
from poseprior.rotations import haar_log_density, wrap_rotvec

Patch = Callable[[PosePrior], Any]
_NORMAL, _MULTINOMIAL = torch.randn, torch.multinomial


def change_method(name: str, around: Callable[..., Any]) -> Patch:
    """Replace a method of the prior's class by `around(original, self, *args)`."""

    def broken(prior: PosePrior) -> Any:
        original = getattr(type(prior), name)

        def replaced(self: PosePrior, *args: Any, **kwargs: Any) -> Any:
            return around(original, self, *args, **kwargs)

        return patch.object(type(prior), name, replaced)

    return broken


def change_log_prob(change: Callable[[PosePrior, Tensor, Tensor, Tensor], Tensor]) -> Patch:
    """Replace the density by `change(prior, value, rotvec, observed)`."""

    def around(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        return change(self, original(self, rotvec, observed, context), rotvec, observed)

    return change_method("_log_prob", around)


def noise(factor: float, method: str = "_sample", *, width: int | None = None) -> Patch:
    """Normal noise of a sampler times a factor: all of it, or rows of some width."""

    def scaled(*shape: Any, **kwargs: Any) -> Tensor:
        drawn = _NORMAL(*shape, **kwargs)
        return factor * drawn if width is None or drawn.shape[-1] == width else drawn

    def around(original: Any, self: PosePrior, *args: Any, **kwargs: Any) -> Tensor:
        with patch.object(torch, "randn", scaled):
            return original(self, *args, **kwargs)

    return change_method(method, around)


def choice(weights: Callable[[Any, PosePrior, Tensor], Tensor], method: str) -> Patch:
    """Components chosen with other weights than those the model gives `torch.multinomial`."""

    def around(original: Any, self: PosePrior, *args: Any) -> Tensor:
        def chosen(given: Tensor, *more: Any, **kwargs: Any) -> Tensor:
            return _MULTINOMIAL(weights(original, self, given), *more, **kwargs)

        with patch.object(torch, "multinomial", chosen):
            return original(self, *args)

    return change_method(method, around)


def of_nothing_observed(complete: Any, prior: PosePrior, given: Tensor) -> Tensor:
    """The weights of components before anything is observed."""
    seen: list[Tensor] = []

    def noted(weights: Tensor, *more: Any, **kwargs: Any) -> Tensor:
        seen.append(weights)
        return _MULTINOMIAL(weights, *more, **kwargs)

    rest = prior._zeros(1)
    with patch.object(torch, "multinomial", noted):
        complete(prior, rest, rest[..., 0].bool(), 1, None, None)
    return seen[0][:1].expand(len(given), -1)


def without_flow_determinant(original: Any, self: Any, rotvec: Tensor, *args: Any) -> Tensor:
    """log N(z) with the log-determinant of the pose at rest, for all poses."""
    rest = torch.zeros_like(rotvec[:1])
    normal = [-0.5 * self._encode(r, None).square().sum(-1) for r in (rotvec, rest)]
    return normal[0] + (original(self, rest, args[0][:1] | True, *args[1:]) - normal[1]).detach()


def without_haar(prior: PosePrior, value: Tensor, rotvec: Tensor, observed: Tensor) -> Tensor:
    change = haar_log_density(wrap_rotvec(rotvec)) + math.log(8 * math.pi**2)
    return value + (change * observed).sum(-1)


def flat_second_derivative(prior: PosePrior, value: Tensor, rotvec: Tensor, observed: Tensor) -> Tensor:
    if not value.requires_grad:
        return value
    (slope,) = torch.autograd.grad(value.sum(), rotvec, retain_graph=True)
    return value.detach() + (slope.detach() * (rotvec - rotvec.detach())).sum((1, 2))


def jittered(original: Any, self: PosePrior, rotvec: Tensor, *args: Any) -> Tensor:
    return original(self, rotvec + 0.02 * torch.randn(rotvec.shape, dtype=rotvec.dtype), *args)


def on_right_joints(sign: tuple[float, float, float]) -> Patch:
    """Rotvecs of right fingers under another reflection."""

    def around(original: Any, self: PosePrior, rotvec: Tensor, *args: Any) -> Tensor:
        right = torch.tensor([j >= 40 for j in self.joints])
        changed = torch.where(right[:, None], rotvec.new_tensor(sign), 1.0)
        return original(self, rotvec * changed, *args)

    return change_method("_log_prob", around)


def swapped(original: Any, self: PosePrior, rotvec: Tensor) -> Tensor:
    return original(self, rotvec.flip(-2))


def leaking(original: Any, self: PosePrior, pose: Tensor, observed: Tensor | None) -> Any:
    batch, rotvec, seen = original(self, pose, observed)
    raw = pose.detach()[..., list(self.joints), :].reshape(rotvec.shape).to(rotvec)
    return batch, torch.where(seen[..., None], rotvec, raw), seen


def shuffled(original: Any, self: PosePrior, num: int, *args: Any) -> Tensor:
    """Joints drawn independently of each other."""
    drawn = original(self, num, *args)
    return torch.cat([drawn[:, :1], drawn[:, 1:].roll(1, 0)], 1)


def from_twin(**options: Any) -> Patch:
    """Samples of the same weights under other options."""

    def around(original: Any, self: PosePrior, *args: Any) -> Tensor:
        twin = type(self).from_config({**self.get_config(), **options})
        twin.load_state_dict(self.state_dict())
        return original(twin.eval(), *args)

    return change_method("_sample", around)


def not_stored(number: int) -> Patch:
    """A buffer that files do not hold, so that a loaded prior has the one it is built with."""

    @contextmanager
    def broken(prior: PosePrior) -> Iterator[None]:
        left_out = [name for name, _ in prior.named_buffers() if name in prior.state_dict()][number]
        write, load = checkpoint.write, checkpoint.load_strict

        def without(path: Any, tensors: dict[str, Tensor], metadata: Any) -> None:
            write(path, {name: tensor for name, tensor in tensors.items() if name != left_out}, metadata)

        def filled(module: Any, tensors: dict[str, Tensor], path: Any) -> None:
            load(module, {left_out: module.state_dict()[left_out], **tensors}, path)

        with patch.object(checkpoint, "write", without), patch.object(checkpoint, "load_strict", filled):
            yield

    return broken


def option_not_stored(name: str) -> Patch:
    def around(original: Any, self: PosePrior) -> dict[str, Any]:
        return {key: value for key, value in original(self).items() if key != name}

    return change_method("get_config", around)


@contextmanager
def stale(prior: PosePrior) -> Iterator[None]:
    """A density of the weights as they were once."""
    once, original = deepcopy(prior), type(prior)._log_prob
    with patch.object(type(prior), "_log_prob", lambda self, *args: original(once, *args)):
        yield


def one_mask(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
    return original(self, rotvec, observed[:1].expand_as(observed), context)


def no_mask(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
    return original(self, rotvec, torch.ones_like(observed), context)


def blind(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, *args: Any) -> Tensor:
    """Completions as if nothing were observed."""
    return original(self, torch.zeros_like(rotvec), torch.zeros_like(observed), *args)


def same_draw(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, num: int, *args: Any) -> Tensor:
    drawn = original(self, rotvec, observed, 1, *args)
    return drawn.expand(num, *drawn.shape[1:])


def single(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
    """Poses rounded to half precision, whatever the prior computes in."""
    return original(self, rotvec + (rotvec.to(torch.bfloat16).to(rotvec.dtype) - rotvec).detach(), observed, context)


@contextmanager
def noisy_in_training(prior: PosePrior) -> Iterator[None]:
    """Frozen priors follow the mode of the module that holds them, and are noisy in training."""

    def noisy(prior: PosePrior, value: Tensor, rotvec: Tensor, observed: Tensor) -> Tensor:
        return value * (1.0 + 0.1 * torch.rand(len(value))) if prior.training else value

    with change_log_prob(noisy)(prior), patch.object(type(prior), "_is_frozen", lambda self: False):
        yield
