"""The inverse of the map of `triangular_mixture`: one search for each coordinate, and the derivatives of what it finds.

Given the coordinates before it, coordinate i of the latent z decides y_i by

    sum_k weight_k Phi(offset_k + slope_k y_i) = Phi(z_i),

whose left side increases with y_i. Both sides are compared as logarithms of the smaller tail, so that no latent is too far
out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..._tracing import is_traced
from .triangular_mixture import BROAD, Mixture, log_ndtr, whitener

#: Halvings of a bracket of at most 1e4 standardised units: down to float64 resolution.
_BISECTIONS = 60
#: Traced code cuts the bracket into this many parts at once, which is worth this many halvings: its graph is shorter.
_PARTS, _HALVINGS = 16, 4


def decode(latent: Tensor, mixture: Mixture) -> Tensor:
    """Inverse of `triangular_mixture.encode`, in float64 inside, with exact first and second derivatives."""
    mixture = mixture.double()
    target, mean = latent.double().unbind(-1), mixture.mean.unbind(-1)
    white = whitener(mixture.log_diagonal, mixture.lower)[:, None]
    precision, log_slope, log_weight = mixture.log_precision.exp(), mixture.log_slopes(), mixture.log_weights()
    a, b, c = mixture.shear.unbind(-1)
    found: list[Tensor] = []
    scaled: list[Tensor] = []  # e of `Mixture`, coordinate by coordinate
    for i, shears in enumerate(((), (a,), (b, c))):
        # The residuals f_i of the learned components are affine in y_i, those of the broad ones proportional to it.
        rest = -white[..., i, i] * mean[i]
        for j, y in enumerate(found):
            rest = rest + white[..., i, j] * (y - mean[j])
        start = (rest[..., None] - mixture.centre[..., i]) * precision[..., i]
        offset = start
        for shear, e in zip(shears, scaled, strict=True):
            offset = offset + shear * e
        offset, slope = nn.functional.pad(offset, (0, len(BROAD))), log_slope[..., i].exp()
        found.append(_root(target[i], offset, log_slope[..., i], log_weight))
        move = slope * found[i][..., None]
        scaled.append(start + move[..., : -len(BROAD)])
        log_weight = log_weight + log_slope[..., i] - 0.5 * (offset + move).square()
    return torch.stack(found, -1).to(latent.dtype)


def _root(target: Tensor, offset: Tensor, log_slope: Tensor, log_weight: Tensor) -> Tensor:
    """(...) x with sum_k weight_k Phi(offset_k + slope_k x) = Phi(target), differentiable.

    `target` is (...), the others (..., K); weights need not be normalised.
    """
    log_weight = log_weight.log_softmax(-1)
    known = (target, offset, log_slope, log_weight)
    x = _search(target.detach(), offset.detach(), log_slope.detach().exp(), log_weight.detach())
    if not _differentiated(known):
        return x
    # A step from the root that is zero and has its first two derivatives: with the gap g and its derivatives g', g''
    # with respect to x, and u = g / g', the root moves by -u - u^2 g'' / (2 g').
    slope = log_slope.exp()
    f = offset + slope * x[..., None]
    gap, tail = _gap(target, f, log_weight)
    log_density = log_weight + log_slope - 0.5 * f.square()
    rate = (log_density.logsumexp(-1) - tail - 0.5 * math.log(2.0 * math.pi)).exp()
    bend = -(log_density.softmax(-1) * f * slope).sum(-1) - _side(target) * rate
    step = (gap - gap.detach()) / rate
    return x - step - 0.5 * bend.detach() * step.square()


def _differentiated(tensors: tuple[Tensor, ...]) -> bool:
    """Whether derivatives of what is computed from these may be asked for."""
    if torch.compiler.is_compiling():
        return torch.is_grad_enabled()
    if is_traced():
        return True
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _gap(target: Tensor, f: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """How far sum_k weight_k Phi(f_k) is above Phi(target), as a difference of logarithms of tails, and the first of these.

    The tail is the lower one for negative targets and the upper one for others.
    """
    side = _side(target)
    tail = (log_weight + log_ndtr(side[..., None] * f)).logsumexp(-1)
    return side * (tail - log_ndtr(-target.abs())), tail


def _side(target: Tensor) -> Tensor:
    """1 where the lower tail is the smaller, -1 elsewhere."""
    return torch.where(target > 0.0, -1.0, 1.0).to(target.dtype)


def _search(target: Tensor, offset: Tensor, slope: Tensor, log_weight: Tensor) -> Tensor:
    """The root by bisection: arguments as of `_root`, but slopes, and normalised weights."""
    if torch.compiler.is_compiling():
        found: Tensor = mixture_root(target, offset, slope, log_weight)
        return found
    most = target.abs()[..., None] + 1.0
    low = ((-most - offset) / slope).amin(-1)
    width = ((most - offset) / slope).amax(-1) - low
    parts, rounds = (_PARTS, _BISECTIONS // _HALVINGS) if is_traced() else (2, _BISECTIONS)
    inner = torch.arange(1, parts, dtype=low.dtype, device=low.device) / parts
    for _ in range(rounds):
        cuts = low[..., None] + width[..., None] * inner
        f = offset[..., None, :] + slope[..., None, :] * cuts[..., None]
        below = _gap(target[..., None], f, log_weight[..., None, :])[0] < 0.0
        low = low + width * (below.sum(-1) / parts)
        width = width / parts
    return (low + 0.5 * width).detach()


@torch.library.custom_op(
    "poseprior::mixture_root", mutates_args=(), schema="(Tensor t, Tensor o, Tensor s, Tensor w) -> Tensor"
)
def mixture_root(target: Tensor, offset: Tensor, slope: Tensor, log_weight: Tensor) -> Tensor:
    """`_search` as one node of compiled and exported graphs: its steps, written out, take minutes to compile."""
    return _search(target, offset, slope, log_weight)


@mixture_root.register_fake
def _(target: Tensor, offset: Tensor, slope: Tensor, log_weight: Tensor) -> Tensor:
    return torch.empty_like(target)


def _search_each(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
    stacked = [
        tensor.expand(info.batch_size, *tensor.shape) if place is None else tensor.movedim(place, 0)
        for tensor, place in zip(tensors, in_dims, strict=True)
    ]
    return mixture_root(*stacked), 0


if hasattr(mixture_root, "register_vmap"):  # torch 2.5 and later
    mixture_root.register_vmap(_search_each)
