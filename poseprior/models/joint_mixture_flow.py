"""The default conditionals of `JointFlow`: a triangular mixture map for each joint, started from the exact Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .grouped_mlp import GroupedLinear
from .joint_conditionals import JointConditionals, grouped_affine
from .joint_graph import mirror_source
from .triangular_mixture import Mixture, decode, draw, encode, log_prob

_PER_COMPONENT = 10
#: Ridge of the regression on context joints, in units of the chart: shrinks directions the data hardly excites.
_RIDGE = 1e-3


class JointMixtureFlow(JointConditionals):
    """p(w_j | context) = (1 - b) sum_k N(residual; ...) + b broad, through its triangular map.

    The whitened residual of the linear regression on the context joints is the base: with one component at rest this is
    the exact Gaussian conditional. A network for each joint moves weights, centres, scales and shears of the components.
    Joints of the right side use the left joint's network through the mirror where their contexts are mirror images.

    Args:
        contexts: SMPL-X indices of each modelled joint's context joints.
        options: hidden, num_components, dropout, context_noise, context_dropout, broad_weight, share_mirror.
    """

    slots: Tensor
    group: Tensor
    flip: Tensor

    def __init__(self, contexts: Mapping[int, tuple[int, ...]], *, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = dict(options)
        place = {joint: k for k, joint in enumerate(contexts)}
        source = mirror_source(contexts) if options["share_mirror"] else {joint: joint for joint in contexts}
        owners = sorted(set(source.values()))
        width = max(1, *(len(c) for c in contexts.values())) if len(contexts) > 1 else 1
        # One slot past the last joint stands for "no such context joint".
        slots = [[place[c] for c in context] + [len(place)] * (width - len(context)) for context in contexts.values()]
        sign = [[1.0, 1.0, 1.0] if source[j] == j else [1.0, -1.0, -1.0] for j in contexts]
        self.register_buffer("slots", torch.tensor(slots), persistent=False)
        self.register_buffer("group", torch.tensor([owners.index(source[j]) for j in contexts]), persistent=False)
        self.register_buffer("flip", torch.tensor(sign)[:, None], persistent=False)
        self.inputs, self.num_groups = 4 * width, len(owners)
        hidden, outputs = options["hidden"], options["num_components"] * _PER_COMPONENT
        sizes = (self.inputs, hidden, hidden, outputs)
        self.layers = nn.ModuleList(
            GroupedLinear(self.num_groups, a, b, gain=g) for a, b, g in zip(sizes, sizes[1:], (1.0, 1.0, 0.02), strict=False)
        )
        self.dropout = nn.Dropout(options["dropout"])
        self.regression = GroupedLinear(self.num_groups, self.inputs, 3, gain=0.0)
        self.whitener = nn.Parameter(torch.zeros(self.num_groups, 1, 6))
        self._spread_components()

    @torch.no_grad()
    def _spread_components(self) -> None:
        out = self.layers[-1]
        assert isinstance(out, GroupedLinear)
        start = out.bias.view(self.num_groups, -1, _PER_COMPONENT)
        start[..., 1:4].normal_(0.0, 0.7)
        start[..., 4:7] = torch.linspace(-1.2, 0.6, start.shape[1])[:, None]

    def context(self, w: Tensor, known: Tensor, places: Tensor) -> Tensor:
        seen = torch.cat([known, known.new_zeros(len(w), 1)], 1)
        padded = torch.cat([w, w.new_zeros(len(w), 1, 3)], 1)
        slots = self.slots[places]
        value, mask = padded[:, slots], seen[:, slots]  # (B, P, C, 3), (B, P, C)
        if self.training:
            value = value + self.options["context_noise"] * torch.randn_like(value)
            mask = mask & (torch.rand(mask.shape, device=mask.device) >= self.options["context_dropout"])
        absent = (~mask)[..., None].to(value.dtype)
        value = value * self.flip[places] * (1.0 - absent)
        return torch.cat([value, absent], -1).flatten(2).transpose(0, 1)

    def _groups(self, places: Tensor) -> Tensor | None:
        whole = len(places) == len(self.group) == self.num_groups
        return None if whole else self.group[places]

    def _mixture(self, context: Tensor, places: Tensor) -> Mixture:
        groups = self._groups(places)
        h = context
        for layer in self.layers[:-1]:
            h = self.dropout(nn.functional.silu(grouped_affine(layer, h, groups)))
        raw = grouped_affine(self.layers[-1], h, groups).unflatten(-1, (-1, _PER_COMPONENT))
        weight, centre, log_scale, shear = raw.split([1, 3, 3, 3], -1)
        return Mixture(
            log_weight=weight[..., 0].log_softmax(-1),
            centre=centre,
            log_scale=log_scale,
            shear=shear,
            mean=grouped_affine(self.regression, context, groups),
            whitener=self.whitener if groups is None else self.whitener[groups],
            broad_weight=self.options["broad_weight"],
        )

    def log_prob(self, own: Tensor, context: Tensor, places: Tensor) -> Tensor:
        return log_prob(own * self.flip[places], self._mixture(context, places))

    def encode(self, own: Tensor, context: Tensor, places: Tensor) -> Tensor:
        return encode(own * self.flip[places], self._mixture(context, places))

    def decode(self, latent: Tensor, context: Tensor, places: Tensor) -> Tensor:
        return decode(latent, self._mixture(context, places)) * self.flip[places]

    def draw(self, context: Tensor, places: Tensor, generator: torch.Generator | None) -> Tensor:
        return draw(self._mixture(context, places), generator) * self.flip[places]

    @torch.no_grad()
    def fit_start(self, w: Tensor, observed: Tensor) -> None:
        """Closed-form regression on the context and residual covariance, from coordinates (N, J, 3) and their mask."""
        was_training = self.training
        self.eval()
        everything = torch.arange(len(self.group), device=w.device)
        context, own = self.context(w, observed, everything), w.transpose(0, 1) * self.flip
        self.train(was_training)
        for g in range(self.num_groups):
            members = (self.group == g).nonzero()[:, 0].tolist()
            rows = [observed[:, m] for m in members]
            x = torch.cat([context[m][r] for m, r in zip(members, rows, strict=True)]).double()
            y = torch.cat([own[m][r] for m, r in zip(members, rows, strict=True)]).double()
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
            ridge = _RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
            solved = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
            residual = y - x @ solved
            covariance = residual.T @ residual / len(x) + 1e-8 * torch.eye(3, dtype=x.dtype)
            t = torch.linalg.inv(torch.linalg.cholesky(covariance))
            self.regression.weight[g].copy_(solved[:-1])
            self.regression.bias[g].copy_(solved[-1:])
            self.whitener[g, 0] = torch.stack([*t.diagonal().log(), t[1, 0], t[2, 0], t[2, 1]]).to(w.dtype)
