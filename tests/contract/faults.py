"""Priors that are broken on purpose, each by a small patch, and the check that has to notice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from poseprior import PosePrior, checkpoint
from poseprior.rotations import haar_log_density, wrap_rotvec

Patch = Callable[[PosePrior], Any]
_NORMAL, _MULTINOMIAL = torch.randn, torch.multinomial


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Attributes:
        case: name in `prior_cases.CASES`.
        check: name in `by_case.WHOLE` or `by_case.INTEGRALS`.
        broken: a context manager that breaks the class of the prior it is given.
    """

    case: str
    check: str
    broken: Patch


def _method(name: str, around: Callable[..., Any]) -> Patch:
    """Replace a method of the prior's class by `around(original, self, *args)`."""

    def broken(prior: PosePrior) -> Any:
        original = getattr(type(prior), name)

        def replaced(self: PosePrior, *args: Any, **kwargs: Any) -> Any:
            return around(original, self, *args, **kwargs)

        return patch.object(type(prior), name, replaced)

    return broken


def _log_prob(change: Callable[[PosePrior, Tensor, Tensor, Tensor], Tensor]) -> Patch:
    """Replace the density by `change(prior, value, rotvec, observed)`."""

    def around(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        return change(self, original(self, rotvec, observed, context), rotvec, observed)

    return _method("_log_prob", around)


def _noise(factor: float, method: str = "_sample", *, width: int | None = None) -> Patch:
    """Normal noise of a sampler times a factor: all of it, or rows of some width."""

    def noise(*shape: Any, **kwargs: Any) -> Tensor:
        drawn = _NORMAL(*shape, **kwargs)
        return factor * drawn if width is None or drawn.shape[-1] == width else drawn

    def around(original: Any, self: PosePrior, *args: Any) -> Tensor:
        with patch.object(torch, "randn", noise):
            return original(self, *args)

    return _method(method, around)


def _choice(weights: Callable[[Any, PosePrior, Tensor], Tensor], method: str) -> Patch:
    """Components chosen with other weights than those the model gives `torch.multinomial`."""

    def around(original: Any, self: PosePrior, *args: Any) -> Tensor:
        def chosen(given: Tensor, *more: Any, **kwargs: Any) -> Tensor:
            return _MULTINOMIAL(weights(original, self, given), *more, **kwargs)

        with patch.object(torch, "multinomial", chosen):
            return original(self, *args)

    return _method(method, around)


def _of_nothing_observed(complete: Any, prior: PosePrior, given: Tensor) -> Tensor:
    """The weights of components before anything is observed."""
    seen: list[Tensor] = []

    def noted(weights: Tensor, *more: Any, **kwargs: Any) -> Tensor:
        seen.append(weights)
        return _MULTINOMIAL(weights, *more, **kwargs)

    rest = prior._zeros(1)
    with patch.object(torch, "multinomial", noted):
        complete(prior, rest, rest[..., 0].bool(), 1, None, None)
    return seen[0][:1].expand(len(given), -1)


def _without_flow_determinant(original: Any, self: Any, rotvec: Tensor, *args: Any) -> Tensor:
    """log N(z), and the determinant of the pose at rest for all."""
    rest = torch.zeros_like(rotvec[:1])
    normal = [-0.5 * self._encode(r, None).square().sum(-1) for r in (rotvec, rest)]
    return normal[0] + (original(self, rest, args[0][:1] | True, *args[1:]) - normal[1]).detach()


def _without_haar(prior: PosePrior, value: Tensor, rotvec: Tensor, observed: Tensor) -> Tensor:
    change = haar_log_density(wrap_rotvec(rotvec)) + math.log(8 * math.pi**2)
    return value + (change * observed).sum(-1)


def _flat_second_derivative(prior: PosePrior, value: Tensor, rotvec: Tensor, observed: Tensor) -> Tensor:
    if not value.requires_grad:
        return value
    (slope,) = torch.autograd.grad(value.sum(), rotvec, retain_graph=True)
    return value.detach() + (slope.detach() * (rotvec - rotvec.detach())).sum((1, 2))


def _jittered(original: Any, self: PosePrior, rotvec: Tensor, *args: Any) -> Tensor:
    return original(self, rotvec + 0.02 * torch.randn(rotvec.shape, dtype=rotvec.dtype), *args)


def _on_right_joints(sign: tuple[float, float, float]) -> Patch:
    """Rotvecs of right fingers under another reflection."""

    def around(original: Any, self: PosePrior, rotvec: Tensor, *args: Any) -> Tensor:
        right = torch.tensor([j >= 40 for j in self.joints])
        changed = torch.where(right[:, None], rotvec.new_tensor(sign), 1.0)
        return original(self, rotvec * changed, *args)

    return _method("_log_prob", around)


def _swapped(original: Any, self: PosePrior, rotvec: Tensor) -> Tensor:
    return original(self, rotvec.flip(-2))


def _leaking(original: Any, self: PosePrior, pose: Tensor, observed: Tensor | None) -> Any:
    batch, rotvec, seen = original(self, pose, observed)
    raw = pose.detach()[..., list(self.joints), :].reshape(rotvec.shape).to(rotvec)
    return batch, torch.where(seen[..., None], rotvec, raw), seen


def _shuffled(original: Any, self: PosePrior, num: int, *args: Any) -> Tensor:
    """Joints drawn independently of each other."""
    drawn = original(self, num, *args)
    return torch.cat([drawn[:, :1], drawn[:, 1:].roll(1, 0)], 1)


def _from_twin(**options: Any) -> Patch:
    """Samples of the same weights under other options."""

    def around(original: Any, self: PosePrior, *args: Any) -> Tensor:
        twin = type(self).from_config({**self.get_config(), **options})
        twin.load_state_dict(self.state_dict())
        return original(twin.eval(), *args)

    return _method("_sample", around)


def _not_stored(number: int) -> Patch:
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


def _option_not_stored(name: str) -> Patch:
    def around(original: Any, self: PosePrior) -> dict[str, Any]:
        return {key: value for key, value in original(self).items() if key != name}

    return _method("get_config", around)


@contextmanager
def _stale(prior: PosePrior) -> Iterator[None]:
    """A density of the weights as they were once."""
    once, original = deepcopy(prior), type(prior)._log_prob
    with patch.object(type(prior), "_log_prob", lambda self, *args: original(once, *args)):
        yield


def _one_mask(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
    return original(self, rotvec, observed[:1].expand_as(observed), context)


def _no_mask(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
    return original(self, rotvec, torch.ones_like(observed), context)


def _blind(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, *args: Any) -> Tensor:
    """Completions that look at nothing."""
    return original(self, torch.zeros_like(rotvec), torch.zeros_like(observed), *args)


def _same_draw(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, num: int, *args: Any) -> Tensor:
    drawn = original(self, rotvec, observed, 1, *args)
    return drawn.expand(num, *drawn.shape[1:])


def _single(original: Any, self: PosePrior, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
    """Poses rounded to half precision, whatever the prior computes in."""
    return original(self, rotvec + (rotvec.to(torch.bfloat16).to(rotvec.dtype) - rotvec).detach(), observed, context)


@contextmanager
def _noisy_in_training(prior: PosePrior) -> Iterator[None]:
    """Frozen priors follow the mode of the module that holds them, and are noisy in training."""

    def noisy(prior: PosePrior, value: Tensor, rotvec: Tensor, observed: Tensor) -> Tensor:
        return value * (1.0 + 0.1 * torch.rand(len(value))) if prior.training else value

    with _log_prob(noisy)(prior), patch.object(type(prior), "train", torch.nn.Module.train):
        yield


FAULTS: dict[str, Fault] = {
    **{
        f"sampler noise x 0.7, {case}": Fault(case, "sample_moments", _noise(0.7))
        for case in ("gaussian-diagonal", "gaussian-full", "mixture", "joint-flow", "global-flow", "vae",
                     "product", "joint-flow-published", "global-flow-published")
    },
    "sampler noise x 0.7, order-agnostic": Fault("order-agnostic", "sample_moments", _noise(0.7, width=3)),
    "sampler noise x 1.15": Fault("gaussian-full", "sample_moments", _noise(1.15)),
    "noise of completions x 0.7": Fault("gaussian-full", "completion_moments", _noise(0.7, "_complete")),
    "log-determinant of the flow dropped": Fault(
        "global-flow", "log_determinant", _method("_log_prob", _without_flow_determinant)
    ),
    "log-determinant dropped, by the mass": Fault("joint-flow", "mass", _method("_log_prob", _without_flow_determinant)),
    "Haar density of the chart dropped": Fault("gaussian-full", "mass", _log_prob(_without_haar)),
    "wrong Haar constant": Fault(
        "gaussian-diagonal", "mass", _log_prob(lambda prior, value, rotvec, observed: value + math.log(2) * observed.sum(-1))
    ),
    "joints swapped in scatter": Fault("gaussian-full", "sample_moments", _method("_scatter", _swapped)),
    "joints of a body swapped": Fault("order-agnostic", "joints_go_where_they_belong", _method("_scatter", _swapped)),
    "mask ignored": Fault("mixture", "marginals", _method("_log_prob", _no_mask)),
    "mask ignored by a whole body": Fault("order-agnostic", "unobserved_values_are_ignored", _method("_log_prob", _no_mask)),
    "one mask for all rows": Fault("gaussian-full", "rows_have_masks_of_their_own", _method("_log_prob", _one_mask)),
    "unobserved values leak": Fault("mixture", "unobserved_values_are_ignored", _method("_check_pose", _leaking)),
    "mirror sign wrong": Fault("product-mirrored", "mirror", _on_right_joints((1.0, 1.0, -1.0))),
    "mirror sign wrong in shared networks": Fault("order-agnostic-hands", "mirror", _on_right_joints((-1.0, 1.0, 1.0))),
    "mirror left out of a variational model": Fault("hand-vae", "mirror", _on_right_joints((1.0, -1.0, -1.0))),
    "broad component dropped in the sampler": Fault("joint-flow", "sample_moments", _from_twin(broad_weight=1e-6)),
    "joints sampled independently": Fault("global-flow", "sample_moments", _method("_sample", _shuffled)),
    "mixture weights uniform in the sampler": Fault(
        "mixture", "sample_moments", _choice(lambda original, prior, given: torch.ones_like(given), "_sample")
    ),
    "completions ignore what is observed": Fault("gaussian-full", "completion_moments", _method("_complete", _blind)),
    "component of a completion from the prior": Fault(
        "mixture", "completion_moments", _choice(_of_nothing_observed, "_complete")
    ),
    "one draw of a completion for all": Fault(
        "order-agnostic", "completion_keeps_what_is_observed", _method("_complete", _same_draw)
    ),
    "latent scale wrong in decode": Fault(
        "global-flow", "latents", _method("_decode", lambda original, self, z, context: original(self, 0.85 * z, context))
    ),
    "latent scale wrong in decode of a variational model": Fault(
        "vae", "latents", _method("_decode", lambda original, self, z, context: original(self, 0.7 * z, context))
    ),
    "decode no inverse of encode": Fault(
        "joint-flow", "latent_round_trip",
        _method("_decode", lambda original, self, z, context: original(self, 0.99 * z, context)),
    ),
    "condition ignored": Fault(
        "global-flow-context", "conditions",
        _method("_log_prob", lambda original, self, rotvec, observed, context: original(self, rotvec, observed, None)),
    ),
    "condition ignored by the sampler": Fault(
        "global-flow-context", "conditions",
        _method("_sample", lambda original, self, num, generator, context: original(self, num, generator, None)),
    ),
    "gradient of a kernel wrong by 1 %": Fault(
        "joint-flow", "derivatives",
        _log_prob(lambda prior, value, rotvec, observed: 1.01 * value - 0.01 * value.detach()),
    ),
    "second derivatives lost": Fault("global-flow", "derivatives", _log_prob(_flat_second_derivative)),
    "low precision inside": Fault("gaussian-full", "derivatives", _method("_log_prob", _single)),
    "chart mean not saved": Fault("gaussian-full", "save_and_load", _not_stored(0)),
    "another buffer not saved": Fault("gaussian-full", "save_and_load", _not_stored(1)),
    "option not saved": Fault("order-agnostic", "save_and_load", _option_not_stored("broad_weight")),
    "jitter in log_prob": Fault("gaussian-diagonal", "randomness_is_the_generators", _method("_log_prob", _jittered)),
    "generator ignored": Fault(
        "mixture", "randomness_is_the_generators",
        _method("_sample", lambda original, self, num, generator, context: original(self, num, None, context)),
    ),
    "density of the rotvec, not of the rotation": Fault(
        "gaussian-diagonal", "rotations_not_rotvecs",
        _log_prob(lambda prior, value, rotvec, observed: value - 0.01 * rotvec.square().sum((1, 2))),
    ),
    "rotvecs of samples longer than pi": Fault(
        "gaussian-full", "shapes",
        _method("_sample", lambda original, self, *args: original(self, *args) * 40.0),
    ),
    "infinite far away": Fault(
        "gaussian-full", "finite_everywhere",
        _log_prob(lambda prior, value, rotvec, observed: value.where(value > -1000.0, value - math.inf)),
    ),
    "no pull from far away": Fault(
        "joint-flow", "far_poses_are_pulled_back",
        _log_prob(lambda prior, value, rotvec, observed: value.clamp_min(-2.0)),
    ),
    "old weights in a cache": Fault("gaussian-full", "weights_matter", _stale),
    "noise in training mode": Fault("gaussian-full", "mode_of_a_parent", _noisy_in_training),
}  # fmt: skip
