"""The default conditionals of `JointFlow`: a triangular mixture map for each joint, started from the exact Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..._tracing import is_traced
from ..._value_and_gradient import ValueAndBackward
from ..charts.chart import Chart, observed_weight
from ..fused import joint_mixture as fused
from ..fused.density import Poses
from ..fused.networks import Affine, ComponentKind, clamp, components
from ..shared.cache import WeightCache, is_frozen
from ..shared.dropout import Dropout
from ..shared.grouped_mlp import GroupedLinear
from ..shared.mirror import mirror_views
from ..shared.select import select
from .conditionals import JointConditionals, grouped_affine
from .mixture_inverse import decode
from .triangular_mixture import BROAD, Mixture, broad_terms, draw, draw_of_noise, encode, whitener

#: Numbers for each component: a logit, a centre (3), log-precisions (3) and shears (3).
_PER_COMPONENT = 10
#: Bounds of a component's log-precision, in units of the whitened residual: a collapsed component must not overflow.
_MOST_LOG_PRECISION = 9.0
_LEAST_LOG_PRECISION = -3.0
#: Coordinates of parents are cut off here, in standard deviations.
_MOST_INPUT = 4.0
#: Ridge of the regression on parent joints, in units of the chart: it shrinks slopes along directions in which the data
#: hardly vary.
_RIDGE = 1e-3


class JointMixtureFlow(JointConditionals):
    """p(w_j | inputs) = (1 - b) sum_k N(residual; ...) + b broad, through its triangular map.

    The whitened residual of the linear regression on the parent joints is the base: with one component at rest this is
    the exact Gaussian conditional. A network for each joint moves weights, centres, scales and shears of components.
    Joints of the right side use the left joint's network through the mirror where their parents are mirror images.

    Args:
        parents: SMPL-X indices of each modelled joint's parent joints.
        options: hidden, layers, num_components, dropout, input_noise, input_dropout, broad_weight, share_mirror.
    """

    slots: Tensor
    group: Tensor
    flip: Tensor
    slot_sign: Tensor
    no_joint: Tensor

    def __init__(self, parents: Mapping[int, tuple[int, ...]], *, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = dict(options)
        place = {joint: k for k, joint in enumerate(parents)}
        views = mirror_views([[j] for j in parents], tuple(parents), share=options["share_mirror"], parents=parents)
        width = max(1, *(len(c) for c in parents.values())) if len(parents) > 1 else 1
        # One slot past the last joint stands for "no such parent joint".
        slots = [[place[p] for p in own] + [len(place)] * (width - len(own)) for own in parents.values()]
        self.register_buffer("slots", torch.tensor(slots), persistent=False)
        self.register_buffer("group", torch.tensor([view.network for view in views]), persistent=False)
        self.register_buffer("flip", torch.tensor([view.signs for view in views])[:, None], persistent=False)
        sign4 = torch.tensor([[*view.signs, 1.0] for view in views])[:, None].expand(-1, width, 4)
        self.register_buffer("slot_sign", sign4.contiguous(), persistent=False)
        self.register_buffer("no_joint", torch.tensor([0.0, 0.0, 0.0, 1.0]), persistent=False)
        self.num_inputs, self.num_groups = 4 * width, 1 + max(view.network for view in views)
        hidden, outputs = options["hidden"], options["num_components"] * _PER_COMPONENT
        sizes, gains = (self.num_inputs, *[hidden] * options["layers"], outputs), (*[1.0] * options["layers"], 0.02)
        self.layers = nn.ModuleList(
            GroupedLinear(self.num_groups, a, b, gain=g) for (a, b), g in zip(pairwise(sizes), gains, strict=True)
        )
        self.dropout = Dropout(options["dropout"])
        self.regression = GroupedLinear(self.num_groups, self.num_inputs, 3, gain=0.0)
        self.log_diagonal = nn.Parameter(torch.zeros(self.num_groups, 1, 3))
        self.lower = nn.Parameter(torch.zeros(self.num_groups, 3, 3))
        self._spread_components()
        self.cache = WeightCache(1)

    @torch.no_grad()
    def _spread_components(self) -> None:
        out = self.layers[-1]
        assert isinstance(out, GroupedLinear)
        start = out.bias.view(self.num_groups, -1, _PER_COMPONENT)
        start[..., 1:4].normal_(0.0, 0.7)
        start[..., 4:7] = torch.linspace(1.2, -0.6, start.shape[1])[:, None]

    def inputs(self, w: Tensor, known: Tensor | None, places: Tensor | None) -> Tensor:
        absent = torch.zeros_like(w[..., :1]) if known is None else (~known)[..., None].to(w.dtype)
        no_joint = self.no_joint.expand(w.shape[0], 1, 4)
        slots, sign = (self.slots, self.slot_sign) if places is None else (self.slots[places], self.slot_sign[places])
        # Inputs are cut off: beyond the data a network extrapolates, and errors would grow from joint to joint of a limb.
        every = torch.cat([torch.cat([w.clamp(-_MOST_INPUT, _MOST_INPUT), absent], -1), no_joint], 1)
        features = select(every, slots.flatten())
        if self.training:
            features = self._disturb(features)
        return (features.unflatten(1, slots.shape) * sign).flatten(2).transpose(0, 1)

    def _disturb(self, features: Tensor) -> Tensor:
        value, absent = features.split([3, 1], -1)
        dropped = torch.rand_like(absent) < self.options["input_dropout"]
        absent = torch.where(dropped, torch.ones_like(absent), absent)
        value = (value + self.options["input_noise"] * torch.randn_like(value)) * (1.0 - absent)
        return torch.cat([value, absent], -1)

    def _groups(self, places: Tensor | None) -> Tensor | None:
        if places is None:
            return None if self.num_groups == len(self.group) else self.group
        return self.group[places]

    def _flip(self, own: Tensor, places: Tensor | None) -> Tensor:
        """Between a joint's own frame and that of the network it uses; an involution."""
        return own * (self.flip if places is None else self.flip[places])

    def _numbers(self, inputs: Tensor, groups: Tensor | None) -> Tensor:
        """(P, 10, K, B) outputs of the networks for inputs (P, B, I): logits, centres, log-precisions, shears."""
        h = inputs.mT
        for layer in self.layers[:-1]:
            h = self.dropout(nn.functional.silu(_affine(layer, h, groups)))
        # The weights are stored component by component.
        out = self.layers[-1]
        assert isinstance(out, GroupedLinear)
        weight, bias = (t.unflatten(-1, (-1, _PER_COMPONENT)).mT.flatten(-2) for t in (out.weight, out.bias))
        if groups is not None:
            weight, bias = weight[groups], bias[groups]
        return torch.baddbmm(bias.mT, weight.mT, h).unflatten(1, (_PER_COMPONENT, -1))

    def _of_groups(self, groups: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log-diagonals (P, 1, 3) of the whiteners of the residuals, and what is below their diagonals (P, 3, 3)."""
        if groups is None:
            return self.log_diagonal, self.lower
        return self.log_diagonal[groups], self.lower[groups]

    def _mixture(self, inputs: Tensor, places: Tensor | None) -> Mixture:
        groups = self._groups(places)
        numbers = self._numbers(inputs, groups).permute(0, 3, 2, 1)
        weight, centre, log_precision, shear = numbers.split([1, 3, 3, 3], -1)
        log_diagonal, lower = self._of_groups(groups)
        return Mixture(
            log_weight=weight[..., 0].log_softmax(-1),
            centre=centre,
            log_precision=log_precision.clamp(_LEAST_LOG_PRECISION, _MOST_LOG_PRECISION),
            shear=shear,
            mean=grouped_affine(self.regression, inputs, groups),
            log_diagonal=log_diagonal,
            lower=lower,
            broad_weight=self.options["broad_weight"],
        )

    def log_prob(self, own: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        # Poses stand last here: the components' arithmetic runs along contiguous memory.
        groups, broad_weight = self._groups(places), self.options["broad_weight"]
        y = self._flip(own, places).mT
        log_diagonal, lower = self._of_groups(groups)
        residual = torch.bmm(whitener(log_diagonal, lower), y - _affine(self.regression, inputs.mT, groups))
        parts = self._numbers(inputs, groups), residual[:, :, None]
        # Of tensors that torch.func or the compiler transforms autograd derives the components' operations.
        learned = self._components(*parts)[0] if is_traced() else ValueAndBackward.apply(self._components, *parts)
        learned = learned + (log_diagonal.sum(-1, keepdim=True) + math.log1p(-broad_weight))
        level, rate = broad_terms(y, broad_weight)
        broad = level[:, None] + y.square().sum(1, keepdim=True) * rate[:, None]
        return torch.cat([learned, broad], 1).logsumexp(1)

    def _components(
        self, numbers: Tensor, residual: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """(P, K, B) logarithms of weight times density of the learned components, and their backward function."""
        value, gradients = components(self._kind(), numbers, residual)

        def backward(grad: Tensor) -> tuple[Tensor, Tensor]:
            to_numbers, to_residual = gradients(grad)
            return to_numbers, to_residual.sum(2, keepdim=True)

        return value, backward

    def _kind(self) -> ComponentKind:
        bound = clamp(_LEAST_LOG_PRECISION, _MOST_LOG_PRECISION)
        return ComponentKind((self.options["num_components"],), bound, solved=False, dof=None)

    def fused_log_prob(self, rotvec: Tensor, chart: Chart, observed: Tensor | None) -> Tensor | None:
        tensors = self._tensors()
        if is_traced() or not is_frozen(self, tensors):
            return None
        weight = observed_weight(observed, rotvec)
        tables = self.cache(tensors, None, self._tables)
        return fused.log_prob(tables, Poses(rotvec, chart, weight), None if weight is None else observed)

    def _tensors(self) -> list[Tensor]:
        """All parameters, without walking the module tree."""
        layers = (layer for layer in (*self.layers, self.regression) if isinstance(layer, GroupedLinear))
        return [self.log_diagonal, self.lower, *(tensor for layer in layers for tensor in (layer.weight, layer.bias))]

    def _tables(self) -> fused.JointMixtureTables:
        """The weights joint by joint."""
        groups = self.group
        there = (self.slots < len(self.slots)).to(self.lower.dtype)[..., None]
        first, *middle, last = (layer for layer in self.layers if isinstance(layer, GroupedLinear))
        to_residual = whitener(self.log_diagonal, self.lower).mT[groups]
        # Units of the first layer, then the whitened residual of the regression: affine in the inputs and own coordinates.
        weight = torch.cat([first.weight[groups], -self.regression.weight[groups] @ to_residual], -1).unflatten(
            1, (-1, 4)
        )
        bias = torch.cat([first.bias[groups], -self.regression.bias[groups] @ to_residual], -1)
        from_parents = (weight[:, :, :3] * self.slot_sign[:, :, :3, None] * there[..., None]).flatten(1, 2)
        own = nn.functional.pad(self.flip.mT * to_residual, (weight.shape[-1] - 3, 0))
        absent = weight[:, :, 3]
        outputs = torch.arange(last.bias.shape[-1], device=bias.device).view(-1, _PER_COMPONENT).T.flatten()
        broad_weight = self.options["broad_weight"]
        return fused.JointMixtureTables(
            slots=self.slots.where(self.slots < len(self.slots), 0).flatten(),
            first=Affine.of_rows(
                torch.cat([from_parents, own], 1), bias + (absent * (1.0 - there)).sum(1, keepdim=True)
            ),
            absent=(absent * there).mT.contiguous(),
            layers=(
                *(Affine.of_rows(layer.weight[groups], layer.bias[groups]) for layer in middle),
                Affine.of_rows(last.weight[groups][..., outputs], last.bias[groups][..., outputs]),
            ),
            level=self.log_diagonal.sum(-1, keepdim=True)[groups] + math.log1p(-broad_weight),
            broad_level=bias.new_tensor([[math.log(broad_weight * share) + b.level] for b, share in BROAD]),
            broad_rate=bias.new_tensor([[b.rate] for b, _ in BROAD]),
            most_input=_MOST_INPUT,
            kind=self._kind(),
        )

    def encode(self, own: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        return encode(self._flip(own, places), self._mixture(inputs, places))

    def decode(self, latent: Tensor, inputs: Tensor, places: Tensor | None) -> Tensor:
        return self._flip(decode(latent, self._mixture(inputs, places)), places)

    def draw(self, inputs: Tensor, places: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self._flip(draw(self._mixture(inputs, places), generator), places)

    def draw_of_noise(self, inputs: Tensor, places: Tensor | None, normal: Tensor, uniform: Tensor) -> Tensor:
        return self._flip(draw_of_noise(self._mixture(inputs, places), normal, uniform), places)

    @torch.no_grad()
    def fit_start(self, w: Tensor, observed: Tensor) -> None:
        """Closed-form regression on the inputs and residual covariance, from coordinates (N, J, 3) and their mask."""
        was_training = self.training
        self.eval()
        inputs, own = self.inputs(w, observed, None), w.transpose(0, 1) * self.flip
        self.train(was_training)
        for g in range(self.num_groups):
            members = (self.group == g).nonzero()[:, 0].tolist()
            rows = [observed[:, m] for m in members]
            x = torch.cat([inputs[m][r] for m, r in zip(members, rows, strict=True)]).double()
            y = torch.cat([own[m][r] for m, r in zip(members, rows, strict=True)]).double()
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
            ridge = _RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
            solved = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
            residual = y - x @ solved
            covariance = residual.T @ residual / len(x) + 1e-8 * torch.eye(3, dtype=x.dtype)
            t = torch.linalg.inv(torch.linalg.cholesky(covariance))
            self.regression.weight[g].copy_(solved[:-1])
            self.regression.bias[g].copy_(solved[-1:])
            self.log_diagonal[g, 0].copy_(t.diagonal().log())
            self.lower[g].copy_(t.tril(-1))


def _affine(layer: nn.Module, x: Tensor, groups: Tensor | None) -> Tensor:
    """As `grouped_affine`, with poses last: (P, inputs, B) to (P, outputs, B)."""
    assert isinstance(layer, GroupedLinear)
    if groups is None:
        return torch.baddbmm(layer.bias.mT, layer.weight.mT, x)
    return torch.baddbmm(layer.bias[groups].mT, layer.weight[groups].mT, x)
