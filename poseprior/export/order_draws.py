"""Draws of order-agnostic priors from noise: one joint after the other, in all fixed orders at once."""

from __future__ import annotations

from collections.abc import Callable

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

_State = tuple[Tensor, Tensor]
_Step = Callable[[_State, dict[str, Tensor]], tuple[_State, Tensor]]
#: Buffers of a chain that have one entry for each step.
_TABLES = (
    "joints", "is_joint", "before", "is_next", "rows", "diagonal", "own_factor", "near_slots", "near_visible",
    "near_whitener", "near_factor",
)  # fmt: skip


class OrderAgnosticDraw(Draw):
    """Of an order-agnostic prior: each group of joints in one of its fixed orders, which the noise picks."""

    def __init__(self, prior: OrderAgnosticPrior, observed: list[bool]) -> None:
        super().__init__()
        groups = prior.groups
        self.chart = groups.chart
        self.lone, self.chains = nn.ModuleList(), nn.ModuleList()
        self._views: list[GroupView] = []
        for place, (mixture, _) in zip(groups.lone, groups.singles._each() if groups.lone else (), strict=True):
            if not observed[place]:
                self.lone.append(GroupDraw(mixture, torch.tensor([place]), [False]))
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

    joints: Tensor  # (S, K), the joint that each of S steps draws in each order
    is_joint: Tensor  # (S, K, J)
    before: Tensor  # (S, K, J), 1 where a joint comes before that joint
    rows: Tensor  # (S, K, 3, 3J) of the Cholesky factor, without the diagonal blocks
    diagonal: Tensor  # (S, K, 3, 3)
    is_next: Tensor  # (S, 3J), where the step's residual stands
    cumulated: Tensor  # cumulated weights of the mixture's terms, in the order of `OrderAgnosticGroup._weights`
    coordinate: Tensor  # (K, 3G), where the G given joints stand, and the inverse of their factor (K, 3G, 3G)
    known_whitener: Tensor
    own_factor: Tensor
    near_slots: Tensor  # (S, K, N)
    near_visible: Tensor  # (S, K, N)
    near_whitener: Tensor
    near_factor: Tensor

    def __init__(self, part: OrderAgnosticGroup, ranks: Tensor, hidden: list[bool]) -> None:
        super().__init__()
        self.part, self.size, self.orders = part, len(hidden), len(ranks)
        self.known, self._steps = self.size - sum(hidden), sum(hidden)
        self._noise = 3 + (part.dof or 0)
        self.normals, self.uniforms = self._noise * self._steps, 1 + 2 * self._steps
        tensors = self._tables((ranks + torch.tensor(hidden) * self.size).argsort(-1))
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().clone())

    def _tables(self, perm: Tensor) -> dict[str, Tensor]:
        """What the steps take, for the orders perm (K, J)."""
        base, known = self.part.base, 3 * self.known
        factor, coordinate = base.factor(perm)
        eye = torch.eye(known, dtype=torch.double).expand(self.orders, -1, -1)
        whitener = torch.linalg.solve_triangular(factor[:, :known, :known].double(), eye, upper=False)
        places = nn.functional.one_hot(perm, self.size)
        joints = perm[:, self.known :].T
        blocks = factor.unflatten(1, (-1, 3))[:, self.known :].transpose(0, 1)
        number = torch.arange(self._steps)
        diagonal = blocks.unflatten(3, (-1, 3))[number, :, :, self.known + number]
        place, start = torch.arange(3 * self.size), known + 3 * number[:, None]
        earlier, is_next = place < start, (place >= start) & (place < start + 3)
        before = (places.cumsum(1) - places)[:, self.known :].transpose(0, 1).to(factor)
        tables = {
            "joints": joints, "is_joint": places[:, self.known :].transpose(0, 1).to(torch.bool), "before": before,
            "rows": blocks * earlier[:, None, None], "diagonal": diagonal, "coordinate": coordinate[:, :known],
            "known_whitener": whitener.to(factor.dtype), "own_factor": base.own_factor()[joints],
            "is_next": is_next, "cumulated": torch.tensor(self.part._weights).cumsum(0),
        }  # fmt: skip
        if self.part.near_net is not None:
            near, slots = base.near_tables(), base.slots[joints]
            visible = before.gather(2, slots) * base.used[joints]
            number = base.near_set(visible)
            tables |= {"near_slots": slots, "near_visible": visible}
            tables |= {"near_whitener": near.whitener[joints, number], "near_factor": near.factor[joints, number]}
        return tables

    def forward(self, z: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """(B, J, 3) chart coordinates with the hidden joints drawn, from (B, J, 3) and noise."""
        normals = normal.unflatten(1, (-1, self._noise)).transpose(0, 1)
        uniforms = uniform[:, 1:].unflatten(1, (-1, 2)).transpose(0, 1)
        centred = z.flatten(1) - self.part.base.mean
        seen = centred[:, self.coordinate].transpose(0, 1) @ self.known_whitener.mT  # (K, B, 3 known)
        white = nn.functional.pad(seen, (0, 3 * self._steps))
        tables = {name: getattr(self, name) for name in _TABLES if hasattr(self, name)}
        steps = {"normal": normals, "uniform": uniforms, **tables}
        each, _ = _over_steps(self._step, (z.expand(self.orders, -1, -1, -1).clone(), white), steps)
        order = (uniform[:, 0] * self.orders).to(torch.long).clamp_max(self.orders - 1)
        picked = nn.functional.one_hot(order, self.orders).to(z.dtype)
        return (each * picked.T[..., None, None]).sum(0)

    def _step(self, state: _State, step: dict[str, Tensor]) -> tuple[_State, Tensor]:
        """The next joint of every order: coordinates (K, B, J, 3) and whitened residuals (K, B, 3J) in the orders."""
        z, white = state
        mean = self.part.base.mean.view(-1, 3)[step["joints"]][:, None] + white @ step["rows"].mT
        diagonal = step["diagonal"][:, None]
        drawn = self._draw(z, mean, diagonal, step)
        new = lower_solve(diagonal, drawn - mean)
        white = torch.where(step["is_next"], new.repeat(1, 1, self.size), white)
        z = torch.where(step["is_joint"][:, None, :, None], drawn[:, :, None], z)
        return (z, white), drawn.clone()

    def _draw(self, z: Tensor, mean: Tensor, diagonal: Tensor, step: dict[str, Tensor]) -> Tensor:
        """(K, B, 3) draws of the next joint of every order, whose base is N(mean, diagonal diagonal^T)."""
        part, joint, normal = self.part, step["joints"], step["normal"]
        inputs, plain = part._inputs(z), standard_of_noise(normal)[None].expand(self.orders, -1, -1)
        kind, level = step["uniform"][:, 0], step["uniform"][:, 1].expand(self.orders, -1)
        raw = _outputs(part.net, joint, part._near_features(inputs, step["before"][:, None].expand(inputs.shape[:-1])))
        centre = part.base.mean.view(-1, 3)[joint][:, None]
        terms = [
            mean + _times(diagonal, mixture_draw_of_noise(raw, plain, level)),
            mean + _times(diagonal, plain),
            centre + _times(step["own_factor"][:, None], plain),
            part.broad.stddev * normal[:, :3] / part.scale[joint][:, None],
        ]
        if part.near_net is not None:
            terms.append(centre + self._near(part.near_net, z, inputs, plain, level, step))
        chosen = (self.cumulated <= kind[:, None]).to(torch.long).sum(-1).clamp_max(len(terms) - 1)
        drawn = terms[0]
        for k, term in enumerate(terms[1:], 1):
            drawn = torch.where((chosen == k)[:, None], term, drawn)
        return drawn

    def _near(
        self, net: GroupedMLP, z: Tensor, inputs: Tensor, plain: Tensor, level: Tensor, step: dict[str, Tensor]
    ) -> Tensor:
        """The draw of the network that sees near joints alone, around the joint's mean."""
        index = step["near_slots"][:, None, :, None].expand(-1, z.shape[1], -1, 3)
        visible = step["near_visible"][:, None].expand(index.shape[:-1])
        raw = _outputs(net, step["joints"], self.part._near_features(inputs.gather(2, index), visible))
        # The residual of the joint's own mean, given the near joints.
        centred = (z - self.part.base.mean.view(-1, 3)) * (~step["is_joint"])[:, None, :, None]
        residual = centred.flatten(2) @ step["near_whitener"].mT
        return _times(step["near_factor"][:, None], mixture_draw_of_noise(raw, plain, level) - residual)


def _over_steps(step: _Step, state: _State, tables: dict[str, Tensor]) -> _State:
    """The state after all steps, each of which takes an entry of every table."""
    if torch.compiler.is_compiling():  # a graph holds the step once: written out, it takes minutes to make
        from torch._higher_order_ops.scan import scan

        state, _ = scan(step, state, tables)
        return state
    for number in range(len(tables["normal"])):
        state, _ = step(state, {name: table[number] for name, table in tables.items()})
    return state


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
