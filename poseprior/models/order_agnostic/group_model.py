"""One group of dependent joints of an `OrderAgnosticPrior`: a Gaussian chain and a network for each joint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..shared.broad_tails import BroadComponent
from ..shared.cache import WeightCache, is_frozen
from ..shared.grouped_mlp import GroupedMLP
from ..shared.near_joints import near_joints
from ..shared.student_t import standard_draw, standard_log_prob
from ..shared.triangular import lower_solve
from .mixture_head import MOST_INPUT, NUMBERS, mixture_draw, mixture_log_prob
from .ordered_gaussian import Arrangement, OrderedGaussian

#: Standard deviation of the broad component, radians: wide enough to hold any rotation, narrow enough to pull back.
_BROAD_STDDEV = 0.7
#: The networks see coordinates in units no smaller than this, radians: what moves less is jitter.
_LEAST_FEATURE_SCALE = 0.1
#: Components of the networks that see near joints alone.
_NEAR_COMPONENTS = 4
#: Masks whose tables are cached.
_CACHED_MASKS = 16


class OrderAgnosticGroup(nn.Module):
    """p(x_1, ..., x_J) as a chain over the joints in any order, each conditional in one network evaluation.

    In whitened residuals e_j of the Gaussian chain,

        p(x_j | S) = w_net q_j(e_j | S) / |L_jj|  +  w_near r_j(f_j | S_near) / |M_j|  +  w_base t(e_j) / |L_jj|
                     +  w_own t(x_j; own mean and covariance)  +  w_broad N(x_j; 0, (0.7 rad)^2 I),

    with t a Student-t and q_j a mixture of them, whose numbers come from the network of joint j, which sees the joints of
    S and which they are. r_j is such a mixture from a smaller network, which sees only the joints of S that are near
    joint j on the skeleton; f_j is the residual of the Gaussian conditional given those, and M_j its factor. The other
    terms depend less on S, the last two not at all: they matter for subjects that training has not seen.

    Args:
        joints: the J joints, SMPL-X indices: they say which are near each other.
        hidden, layers, dropout: of the networks.
        num_components: components of each q_j.
        near_weight: w_near; 0 leaves these networks out.
        dof: degrees of freedom of the Student-t; None makes it a Gaussian.
        base_weight: w_base, the weight of the plain Gaussian conditional given the joints of S.
        own_weight: w_own, the weight of the joint's own Gaussian, whatever the other joints are.
        broad_weight: w_broad, the weight of the broad component.
        input_noise: noise in training on what networks see of other joints, in the units in which they see it.

    Attributes:
        scale: (J, 3) radians per unit of the chart.
    """

    scale: Tensor

    def __init__(
        self,
        joints: Sequence[int],
        *,
        hidden: int,
        layers: int,
        dropout: float,
        num_components: int,
        dof: int | None,
        base_weight: float,
        own_weight: float,
        broad_weight: float,
        input_noise: float,
        near_weight: float,
    ) -> None:
        super().__init__()
        num_joints = len(joints)
        self.num_joints, self.input_noise, self.dof = num_joints, input_noise, dof
        near = near_joints(joints) if near_weight else []
        if not any(near):  # joints of a group that are all far from each other
            near, near_weight = [], 0.0
        others = (base_weight, own_weight, broad_weight, near_weight)
        self._weights = (1.0 - sum(others), *others)
        self.log_weights = tuple(math.log(weight) if weight > 0 else -math.inf for weight in self._weights)
        self.broad = BroadComponent(_BROAD_STDDEV, truncated=True)
        self.register_buffer("scale", torch.ones(num_joints, 3))
        self.cache = WeightCache(_CACHED_MASKS)
        self.base = OrderedGaussian(num_joints, near)
        self.net = GroupedMLP(
            num_joints, 4 * num_joints, NUMBERS * num_components, hidden=hidden, layers=layers, dropout=dropout
        )
        self.near_net: GroupedMLP | None = None
        slots = self.base.slots.shape[1]
        if slots:
            self.near_net = GroupedMLP(
                num_joints,
                4 * slots,
                NUMBERS * _NEAR_COMPONENTS,
                hidden=-(-hidden // 2),
                layers=layers,
                dropout=dropout,
            )
        with torch.no_grad():  # components start apart, or their gradients stay equal
            for net in (self.net, self.near_net):
                if net is not None:
                    k = net.out.bias.shape[-1] // NUMBERS
                    net.out.bias[:, :, k : 4 * k] = 0.3 * torch.randn(num_joints, 1, 3 * k)

    def log_prob(self, z: Tensor, table: Arrangement, index: Tensor | None, target: Tensor | None) -> Tensor:
        """Log-density of each row's chain.

        Args:
            z: (R, J, 3) chart coordinates, zero where missing.
            table: of U orders, missing joints last.
            index: (R,) the order of each row; None for U blocks of equal length.
            target: (R, J) bool: joints whose conditionals are summed; None for all.

        Returns:
            (R,) nats, Lebesgue in z.
        """
        white = self.base.whiten(z, table.whitener, index)
        before = table.rows(table.before, index, z.shape[0])
        inputs = self._inputs(z)
        raw = self.net(self._features(inputs, before))
        net = mixture_log_prob(raw.transpose(0, 1), white, self.dof)
        base = standard_log_prob(white.square().sum(-1), self.dof)
        centred = z - self.base.mean.view(-1, 3)
        own_white = (table.own_whitener @ centred[..., None])[..., 0]
        own = standard_log_prob(own_white.square().sum(-1), self.dof) - table.own_log_diagonal
        log_net, log_base, log_own, log_broad, log_near = self.log_weights
        context_based = torch.logaddexp(net + log_net, base + log_base) - table.rows(
            table.log_diagonal, index, z.shape[0]
        )
        context_free = torch.logaddexp(own + log_own, self.broad_log_prob(z) + log_broad)
        joint = torch.logaddexp(context_based, context_free)
        if self.near_net is not None and table.near is not None:
            residual = self.base.whiten(z, table.near.whitener, index)
            visible = table.rows(table.near.visible, index, z.shape[0])
            features = self._near_features(inputs[:, self.base.slots], visible)
            raw = self.near_net(features.transpose(0, 1)).transpose(0, 1)
            near = mixture_log_prob(raw, residual, self.dof) - table.rows(table.near.log_diagonal, index, len(z))
            joint = torch.logaddexp(joint, near + log_near)
        return (joint if target is None else joint * target).sum(-1)

    def input_unit(self) -> Tensor:
        """(J, 3) units of the networks' inputs per chart unit."""
        return self.scale / self.scale.clamp_min(_LEAST_FEATURE_SCALE)

    def tensors(self) -> tuple[Tensor, ...]:
        """Parameters and buffers: what `parameters()` and `buffers()` find, without walking the module tree."""
        near = [] if self.near_net is None else self.near_net.tensors()
        return (*self.net.tensors(), *near, self.scale, self.base.mean, self.base.covariance)

    @property
    def frozen(self) -> bool:
        """Whether `chain_tables.log_sum_over_orders` can be used: in evaluation, without gradients to the weights."""
        return is_frozen(self, self.tensors())

    def _inputs(self, z: Tensor) -> Tensor:
        """(R, J, 3) what the networks see of z: bounded, so that they do not extrapolate."""
        inputs = z * self.input_unit()
        if self.training and self.input_noise:
            inputs = inputs + self.input_noise * torch.randn_like(z)
        return MOST_INPUT * torch.tanh(inputs / MOST_INPUT)

    @staticmethod
    def _features(inputs: Tensor, before: Tensor) -> Tensor:
        """Features (J, R, 4J) of the networks: masked inputs and mask, for inputs (R, J, 3) and before (R, J target, J)."""
        visible = inputs[:, None] * before[..., None]
        return torch.cat((visible.flatten(2), before - 0.5), -1).transpose(0, 1)

    @staticmethod
    def _near_features(inputs: Tensor, visible: Tensor) -> Tensor:
        """Features (*, 4N) of the near networks, for the inputs (*, N, 3) of near joints and visible (*, N)."""
        return torch.cat(((inputs * visible[..., None]).flatten(-2), visible - 0.5), -1)

    def broad_log_prob(self, z: Tensor) -> Tensor:
        """(R, J) log-density of the broad component, Lebesgue in z (R, J, 3)."""
        return self.broad.log_prob(z * self.scale) + self.scale.log().sum(-1)

    # ------------------------------------------------------------------ draws

    @torch.no_grad()
    def draw(self, z: Tensor, observed: Tensor, ranks: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw the missing joints, one after the other in each row's order, given the observed ones.

        Args:
            z: (R, J, 3) chart coordinates, zero where missing.
            observed: (R, J) bool.
            ranks: (R, J) position of each joint; observed joints are moved to the front.
            generator: source of randomness.

        Returns:
            (R, J, 3) with the missing entries drawn.
        """
        perm, index = torch.unique(
            (ranks + (~observed) * ranks.shape[1]).argsort(-1), dim=0, return_inverse=True
        )  # fmt: skip
        factor, coordinate = self.base.factor(perm)
        own_factor = self.base.own_factor()
        z, known, given = z.clone(), observed.clone(), observed.sum(-1)
        rows = torch.arange(len(z), device=z.device)
        centred = (z.flatten(1) - self.base.mean).gather(1, coordinate[index])
        white = torch.cat([
            torch.linalg.solve_triangular(f, part.mT, upper=False).mT
            for f, part in zip(factor, _grouped(centred, index, len(perm)), strict=True)
        ])[index.argsort(stable=True).argsort()]  # fmt: skip
        white = white * (torch.arange(self.num_joints, device=z.device) < given[:, None]).repeat_interleave(3, 1)
        for step in range(int(given.min()), self.num_joints):
            active = rows[given <= step]
            joint, part = perm[index[active], step], factor[index[active], 3 * step : 3 * step + 3]
            mean = self.base.mean.view(-1, 3)[joint] + (part @ white[active, :, None])[..., 0]
            diagonal = part[:, :, 3 * step : 3 * step + 3]
            drawn = self._draw_joint(z[active], known[active], joint, mean, diagonal, own_factor, generator)
            z[active, joint] = drawn
            known[active, joint] = True
            white[active, 3 * step : 3 * step + 3] = lower_solve(diagonal, drawn - mean)
        return z

    def _draw_joint(
        self,
        z: Tensor,
        known: Tensor,
        joint: Tensor,
        mean: Tensor,
        diagonal: Tensor,
        own_factor: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """(R, 3) draws of p(x_joint | known), a different joint in every row, base N(mean, diagonal diagonal^T)."""
        # Terms of the mixture in the order of `_weights`: 0 network, 1 base, 2 own, 3 broad, 4 near network.
        weights = z.new_tensor(self._weights).expand(len(z), -1)
        kind = torch.multinomial(weights, 1, generator=generator)[:, 0]
        before, inputs = known.to(z.dtype), self._inputs(z)
        features = torch.cat(((inputs * before[..., None]).flatten(1), before - 0.5), -1)
        raw = self._by_joint(self.net, joint, features)
        plain = standard_draw(mean, self.dof, generator=generator)
        white = torch.where((kind == 0)[:, None], mixture_draw(raw, self.dof, generator=generator), plain)
        broad = self.broad.draw(mean, generator) / self.scale[joint]
        drawn = mean + (diagonal @ white[..., None])[..., 0]
        centre = self.base.mean.view(-1, 3)[joint]
        own = centre + (own_factor[joint] @ white[..., None])[..., 0]
        drawn = torch.where((kind == 2)[:, None], own, drawn)
        drawn = torch.where((kind == 3)[:, None], broad, drawn)
        if self.near_net is not None:
            rows, tables = torch.arange(len(z), device=z.device), self.base.near_tables()
            slots = self.base.slots[joint]
            visible = before.gather(1, slots) * self.base.used[joint]
            number = self.base.near_set(visible)
            raw = self._by_joint(self.near_net, joint, self._near_features(inputs[rows[:, None], slots], visible))
            centred = z - self.base.mean.view(-1, 3)
            centred[rows, joint] = 0.0  # the residual of the joint's own mean, given the near joints
            residual = (tables.whitener[joint, number] @ centred.flatten(1)[..., None])[..., 0]
            step = mixture_draw(raw, self.dof, generator=generator) - residual
            near = centre + (tables.factor[joint, number] @ step[..., None])[..., 0]
            drawn = torch.where((kind == 4)[:, None], near, drawn)
        return drawn

    def _by_joint(self, net: GroupedMLP, joint: Tensor, features: Tensor) -> Tensor:
        """Output of each row's own network, (R, outputs), for features (R, inputs)."""
        order = joint.argsort(stable=True)
        parts = features[order].split(torch.bincount(joint, minlength=self.num_joints).tolist())
        return torch.cat([net.one(j, part) for j, part in enumerate(parts) if len(part)])[order.argsort()]


def _grouped(values: Tensor, index: Tensor, groups: int) -> tuple[Tensor, ...]:
    """Rows of `values` by group, in the order of a stable sort of `index`."""
    order = index.argsort(stable=True)
    return values[order].split(torch.bincount(index, minlength=groups).tolist())
