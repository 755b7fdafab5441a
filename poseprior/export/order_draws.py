"""Draws of order-agnostic priors from noise: one joint after the other, in all fixed orders at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models import OrderAgnosticPrior
from ..models.order_agnostic.group_model import OrderAgnosticGroup
from ..models.order_agnostic.mixture_head import mixture_draw_of_noise
from ..models.shared.grouped_mlp import GroupedMLP
from ..models.shared.mirror import GroupView
from ..models.shared.student_t import standard_of_noise
from ..models.shared.triangular import lower_solve
from .draw import Draw
from .gaussian_draws import GroupDraw


class OrderAgnosticDraw(Draw):
    """Of an order-agnostic prior: each group of joints in one of its fixed orders, which the noise picks."""

    def __init__(self, prior: OrderAgnosticPrior, observed: list[bool]) -> None:
        super().__init__()
        groups = prior.groups
        self.chart = groups.chart
        self.lone, self.chains = nn.ModuleList(), nn.ModuleList()
        self._views: list[GroupView] = []
        for part, place in zip(groups.singles.parts if groups.lone else (), groups.lone, strict=True):
            self.lone.append(GroupDraw(part, torch.tensor([place]), [observed[place]]))
        for part, views in groups.each():
            for view in views:
                hidden = [not observed[k] for k in view.places]
                if any(hidden):
                    self.chains.append(_ChainDraw(part, groups.ranks(len(hidden)), hidden))
                    self._views.append(view)
        self.normals = 3 * len(self.lone) + sum(chain.normals for chain in self._each())
        self.uniforms = len(self.lone) + sum(chain.uniforms for chain in self._each())

    def _each(self) -> list[_ChainDraw]:
        return [chain for chain in self.chains if isinstance(chain, _ChainDraw)]

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        z, _ = self.chart(rotvec, None)
        normals = normal.split([3] * len(self.lone) + [chain.normals for chain in self._each()], 1)
        uniforms = uniform.split([1] * len(self.lone) + [chain.uniforms for chain in self._each()], 1)
        for k, group in enumerate(self.lone):
            # The group looks up its own place among the noise of all joints.
            noise = normals[k][:, None].expand(-1, z.shape[1], -1)
            z = z.index_copy(1, group.place, group(z, noise, uniforms[k][:, 0]))
        start = len(self.lone)
        for chain, view, own, level in zip(self._each(), self._views, normals[start:], uniforms[start:], strict=True):
            index = torch.tensor(view.places, device=z.device)
            drawn = chain(view.reflect(z.index_select(1, index)), own, level)
            z = z.index_copy(1, index, view.reflect(drawn))
        return self.chart.inverse(z)


class _ChainDraw(nn.Module):
    """The hidden joints of one group, one after the other in each of K orders, then the order that the noise picks.

    Args:
        part: the group's networks, with frozen weights.
        ranks: (K, J) positions of the joints in the orders; observed joints are moved to the front.
        hidden: which of the J joints are drawn.
    """

    perm: Tensor
    factor: Tensor
    coordinate: Tensor
    known_whitener: Tensor
    own_factor: Tensor
    before: Tensor  # (S, K, J), 1 where a joint comes before the joint that step S draws
    near_visible: Tensor  # (S, K, N), and for the joint of each step its tables given the near joints that do
    near_whitener: Tensor
    near_factor: Tensor

    def __init__(self, part: OrderAgnosticGroup, ranks: Tensor, hidden: list[bool]) -> None:
        super().__init__()
        self.part, self.size, self.orders = part, len(hidden), len(ranks)
        self.known = self.size - sum(hidden)
        self._noise = 3 + (part.dof or 0)
        self.normals, self.uniforms = self._noise * sum(hidden), 1 + 2 * sum(hidden)
        perm = (ranks + torch.tensor(hidden) * self.size).argsort(-1)
        factor, coordinate = part.base.factor(perm)
        lead = factor[:, : 3 * self.known, : 3 * self.known].double()
        eye = torch.eye(3 * self.known, dtype=lead.dtype).expand_as(lead)
        known_whitener = torch.linalg.solve_triangular(lead, eye, upper=False).to(factor.dtype)
        steps = range(self.known, self.size)
        before = torch.stack([nn.functional.one_hot(perm[:, :step], self.size).sum(1) for step in steps]).to(factor)
        tensors = {"perm": perm, "factor": factor, "coordinate": coordinate, "known_whitener": known_whitener}
        tensors |= {"own_factor": part.base.own_factor(), "before": before}
        if part.near_net is not None:
            joints, tables = perm[:, self.known :].T, part.base.near_tables()
            visible = before.gather(2, part.base.slots[joints]) * part.base.used[joints]
            number = part.base.near_set(visible)
            tensors |= {"near_visible": visible, "near_whitener": tables.whitener[joints, number]}
            tensors["near_factor"] = tables.factor[joints, number]
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().clone())

    def forward(self, z: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """(B, J, 3) chart coordinates with the hidden joints drawn, from (B, J, 3) and noise."""
        normals, uniforms = normal.unflatten(1, (-1, self._noise)), uniform[:, 1:].unflatten(1, (-1, 2))
        centred = z.flatten(1) - self.part.base.mean
        seen = centred[:, self.coordinate[:, : 3 * self.known]].transpose(0, 1)  # (K, B, 3 known)
        white = [seen @ self.known_whitener.mT]
        each = z.expand(self.orders, *z.shape)
        for step in range(self.known, self.size):
            joint, number = self.perm[:, step], step - self.known
            rows = self.factor[:, 3 * step : 3 * step + 3]
            mean = self.part.base.mean.view(-1, 3)[joint][:, None] + torch.cat(white, -1) @ rows[:, :, : 3 * step].mT
            diagonal = rows[:, None, :, 3 * step : 3 * step + 3]
            drawn = self._draw(each, step, mean, diagonal, normals[:, number], uniforms[:, number])
            white.append(lower_solve(diagonal, drawn - mean))
            place = nn.functional.one_hot(joint, self.size).to(torch.bool)[:, None, :, None]
            each = torch.where(place, drawn[:, :, None], each)
        order = (uniform[:, 0] * self.orders).to(torch.long).clamp_max(self.orders - 1)
        picked = nn.functional.one_hot(order, self.orders).to(z.dtype)
        return (each * picked.T[..., None, None]).sum(0)

    def _draw(
        self, z: Tensor, step: int, mean: Tensor, diagonal: Tensor, normal: Tensor, uniform: Tensor
    ) -> Tensor:
        """(K, B, 3) draws of the next joint of every order, whose base is N(mean, diagonal diagonal^T)."""
        part, joint = self.part, self.perm[:, step]
        seen = self.before[step - self.known][:, None]
        inputs, plain = part._inputs(z), standard_of_noise(normal)[None].expand(self.orders, -1, -1)
        kind, level = uniform[:, 0], uniform[:, 1].expand(self.orders, -1)
        raw = _outputs(part.net, joint, part._near_features(inputs, seen.expand(inputs.shape[:-1])))
        centre = part.base.mean.view(-1, 3)[joint][:, None]
        terms = [
            mean + _times(diagonal, mixture_draw_of_noise(raw, plain, level)),
            mean + _times(diagonal, plain),
            centre + _times(self.own_factor[joint][:, None], plain),
            part.broad.stddev * normal[:, :3] / part.scale[joint][:, None],
        ]
        if part.near_net is not None:
            terms.append(self._near(z, step, inputs, plain, level))
        # The terms of the mixture in the order of `OrderAgnosticGroup._weights`.
        weights = torch.tensor(part._weights[: len(terms)], dtype=z.dtype, device=z.device)
        chosen = (weights.cumsum(0) <= kind[:, None]).to(torch.long).sum(-1).clamp_max(len(terms) - 1)
        drawn = terms[0]
        for k, term in enumerate(terms[1:], 1):
            drawn = torch.where((chosen == k)[:, None], term, drawn)
        return drawn

    def _near(self, z: Tensor, step: int, inputs: Tensor, plain: Tensor, level: Tensor) -> Tensor:
        """The draw of the network that sees near joints alone."""
        base, joint, number, net = self.part.base, self.perm[:, step], step - self.known, self.part.near_net
        assert net is not None
        index = base.slots[joint][:, None, :, None].expand(-1, z.shape[1], -1, 3)
        visible = self.near_visible[number][:, None].expand(index.shape[:-1])
        raw = _outputs(net, joint, self.part._near_features(inputs.gather(2, index), visible))
        own = nn.functional.one_hot(joint, self.size).to(z.dtype)[:, None, :, None]
        centred = (z - base.mean.view(-1, 3)) * (1.0 - own)  # the residual of the joint's own mean, given the near joints
        residual = centred.flatten(2) @ self.near_whitener[number].mT
        moved = _times(self.near_factor[number][:, None], mixture_draw_of_noise(raw, plain, level) - residual)
        return base.mean.view(-1, 3)[joint][:, None] + moved


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrices (..., 3, 3) times vectors (..., 3)."""
    return (matrix @ vector[..., None])[..., 0]


def _outputs(net: GroupedMLP, joint: Tensor, x: Tensor) -> Tensor:
    """(K, B, outputs) of the networks of K joints, for inputs (K, B, inputs)."""
    first, *others = net.layers()
    x = torch.baddbmm(first.bias[joint], x, first.weight[joint])
    for layer in others:
        x = torch.baddbmm(layer.bias[joint], nn.functional.silu(x), layer.weight[joint])
    return x
