"""`OrderAgnosticPrior`: one model for any observed subset and any completion, trained on incomplete poses."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..._checks import check_groups, check_number, check_share, check_switch, check_whole, check_wholes, quoted
from ..._pose_checks import density_dtype, in_full_precision
from ..._weight_checks import check_density
from ...prior import PosePrior
from ...trainable import TrainingPoses
from ..gaussian.grouped_mixture import groups_from_data
from ..shared.masks import unobserved_poses
from .groups import OrderGroups
from .start import fit_start


@final
class OrderAgnosticPrior(PosePrior):
    """An autoregressive density over joints that works in every order.

    p(x_j | S) is modelled for every joint j and every set S of other joints, so any joints can be missing from a pose
    and any can be drawn given any others. For one order of the joints the product of conditionals is an exact density,
    and so is the mixture over the `num_orders` fixed orders that `log_prob` is. The conditionals come from one set of
    networks that is not forced to be consistent: two orders can give the same pose different densities. `order_spread`
    says by how much, and docs/order_agnostic.md what is exact and what is not.

    Each conditional starts from the exact Gaussian conditional. A network for each joint learns how the joint deviates
    from it, as a mixture of 3-D Student-t over the whitened residual; a smaller network, which sees only the joints near
    it, does the same for the Gaussian conditional given those. The mixture also keeps the plain Gaussian conditional and
    the joint's own Gaussian (for unseen subjects) and a broad component (for the tails). Joints never shown together are
    independent by construction, and groups that are mirror images (the hands) share networks.

    Source: Uria et al., "A deep and tractable density estimator" (ICML 2014); Hoogeboom et al., "Autoregressive
    diffusion models" (ICLR 2022) for the order-agnostic objective. The Gaussian start and the mixture are
    specific to this library.

    Args:
        joints: joints to model; `fit` drops those that no pose observes.
        num_orders: orders in the mixture, each of which costs a pass of the networks; may be changed at any time. More
            than a few help where a prior is sharp (trained under little noise).
        hidden: width of the networks, one for each joint.
        layers: hidden layers of the networks.
        dropout: probability in training that a hidden unit is dropped.
        num_components: components of each conditional's mixture.
        dof: degrees of freedom of the components, Student-t; None for Gaussians.
        base_weight: mixture weight of the plain Gaussian conditional.
        own_weight: mixture weight of each joint's own Gaussian, whatever the other joints are.
        broad_weight: mixture weight of the broad component.
        near_weight: mixture weight of the networks that see near joints alone; 0 leaves them out.
        input_noise: noise in training on what networks see of other joints, in standard deviations of each joint (of
            0.1 rad where it moves less).
        groups: independent groups of joints; None puts all in one. `fit` learns them.
        share_mirror: groups that are mirror images of each other share networks. `fit` without `mirror` gives every group
            its own.

    Raises:
        ValueError: an option of another type or out of range.

    >>> prior = OrderAgnosticPrior("left_hand", hidden=8)
    >>> pose = prior.sample(3, generator=torch.Generator().manual_seed(0))
    >>> prior.log_prob(pose).shape, prior.order_spread(pose).shape
    (torch.Size([3]), torch.Size([3]))
    """

    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({
        "max_steps": 3600, "learning_rate": 2e-3, "warmup_steps": 100, "clip_grad_norm": 20.0, "ema_decay": 0.998,
        "subject_balance": 0.8, "eval_every": 150, "patience": 8, "max_val_poses": 2048,
    })  # fmt: skip

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "body",
        *,
        num_orders: int = 3,
        hidden: int = 96,
        layers: int = 2,
        dropout: float = 0.4,
        num_components: int = 8,
        dof: int | None = 8,
        base_weight: float = 0.15,
        own_weight: float = 0.03,
        broad_weight: float = 1e-5,
        near_weight: float = 0.3,
        input_noise: float = 0.0,
        groups: Sequence[Sequence[int]] | None = None,
        share_mirror: bool = True,
    ) -> None:
        super().__init__(joints)
        self._options: dict[str, Any] = {
            "hidden": check_whole("hidden", hidden, least=1, most=2048),
            "layers": check_whole("layers", layers, least=1, most=16),
            "dropout": check_share("dropout", dropout),
            "num_components": check_whole("num_components", num_components, least=1, most=256),
            "dof": None if dof is None else check_whole("dof", dof, least=1, most=1_000_000),
            "base_weight": check_share("base_weight", base_weight),
            "own_weight": check_share("own_weight", own_weight),
            "broad_weight": check_number("broad_weight", broad_weight, above=0.0, below=1.0),
            "near_weight": check_share("near_weight", near_weight),
            "input_noise": check_number("input_noise", input_noise, least=0.0, most=100.0),
        }
        weights = {name: self._options[name] for name in ("base_weight", "own_weight", "broad_weight", "near_weight")}
        if not sum(weights.values()) < 1:
            raise ValueError(
                f"{', '.join(weights)}: expected weights with a sum below 1, got {tuple(weights.values())}; "
                "the defaults are 0.15, 0.03, 0.00001 and 0.3."
            )
        self.share_mirror = check_switch("share_mirror", share_mirror)
        members = check_groups("groups", groups)
        self.groups = OrderGroups(self.joints, members, share_mirror=share_mirror, options=self._options)
        self.num_orders = num_orders

    @property
    def num_orders(self) -> int:
        """Orders in the mixture of `log_prob` and `complete`."""
        return self._num_orders

    @num_orders.setter
    def num_orders(self, value: int) -> None:
        self._num_orders = check_whole("num_orders", value, least=1, most=4096)
        self.groups.set_num_orders(self._num_orders)

    def get_config(self) -> dict[str, Any]:
        return {
            "joints": list(self.joints), "num_orders": self.num_orders, **self._options,
            "groups": self.groups.members, "share_mirror": self.share_mirror,
        }  # fmt: skip

    @classmethod
    def _upgrade_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        options = {"near_weight": 0.0, **config}  # files without the option have no networks for near joints
        if options.pop("context_noise", 0.0):  # an older option, radians; files without noise say 0
            warnings.warn(
                "this prior was trained with context_noise (radians), an option that no longer exists: training it further adds "
                "no noise to what its networks see. input_noise, in standard deviations, does.",
                stacklevel=2,
            )
        return options

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        rebuilt = super()._fitted_config(train)
        groups = groups_from_data(train, tuple(rebuilt["joints"]))
        return {**rebuilt, "groups": groups, "share_mirror": self.share_mirror and train.mirror}

    def _initialise(self, train: TrainingPoses) -> None:
        fit_start(self.groups, train)

    def training_loss(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        """Mean negative log-density of chains in random orders."""
        return -self.groups.random_order_log_prob(rotvec, observed).mean()

    # ------------------------------------------------------------------ densities

    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        return self.groups.log_prob(rotvec, observed)

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        return self.groups.log_prob(rotvec, None)

    @in_full_precision
    def order_log_prob(
        self, pose: Tensor, *, observed: Tensor | None = None, order: Sequence[int] | None = None
    ) -> Tensor:
        """Log-density of each order's own chain, every one of them exact.

        Args:
            pose: (*batch, 55, 3) rotvecs, radians.
            observed: (*batch, 55) bool; None means all.
            order: one order to use instead of the fixed ones, as joint indices; modelled joints left out come last.

        Returns:
            (num_orders, *batch), or (1, *batch) for a given `order`; nats against Haar.

        Raises:
            ValueError: as `log_prob`, or an order of other or repeated joints.
        """
        order = None if order is None else check_wholes("order", order)
        if order is not None and (len(set(order)) < len(order) or not set(order) <= set(self.joints)):
            raise ValueError(
                f"order: expected distinct joint indices among the prior's {list(self.joints)}, got {quoted(order)}; "
                "joints may be left out, and come last then."
            )
        batch, rotvec, seen = self._check_pose(pose, observed)
        if not len(rotvec):
            return pose.new_zeros(self.num_orders if order is None else 1, *batch)
        chains, rest = self.groups.order_log_prob(rotvec, seen, order=order)
        return (chains.sum(-1) + rest).reshape(-1, *batch).to(density_dtype(pose))

    def order_spread(self, pose: Tensor, *, observed: Tensor | None = None) -> Tensor:
        """How much the fixed orders disagree: standard deviation of their log-densities, (*batch,) nats; 0 for one."""
        return self.order_log_prob(pose, observed=observed).std(0, correction=0)

    @in_full_precision
    def conditional_log_prob(self, pose: Tensor, given: Tensor, *, observed: Tensor | None = None) -> Tensor:
        """log p(observed joints not given | given joints): the density that `complete` draws from.

        Args:
            pose: (*batch, 55, 3) rotvecs, radians.
            given: (*batch, 55) bool, the condition.
            observed: (*batch, 55) bool, the joints whose density is asked for, with or without the given ones; None
                means all modelled joints.

        Returns:
            (*batch,) nats against Haar.

        Raises:
            ValueError: as `log_prob`, for both masks.
        """
        if given is None:
            raise ValueError(
                "given: expected a bool tensor (*batch, 55), got None; log_prob is the density without one."
            )
        batch, _, condition = self._check_pose(pose, given)
        if observed is not None:
            self._check_pose(pose, observed)
            observed = observed | given
        _, rotvec, known = self._check_pose(pose, observed)
        value = rotvec.sum((1, 2))
        if len(rotvec):
            value = self.groups.log_prob(rotvec, known, condition)
        return value.reshape(batch).to(density_dtype(pose))

    # ------------------------------------------------------------------ draws

    def _check_weights(self) -> None:
        # Draws take a second look at the conditionals that the density has seen, and long.
        check_density(self._log_prob, self._zeros(1), self.context_dim)

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        missing = unobserved_poses(num, len(self.joints), self._reference_tensor())
        return self.groups.draw(*missing, generator)

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        many = rotvec.expand(num_samples, *rotvec.shape).flatten(0, 1)
        seen = observed.expand(num_samples, *observed.shape).flatten(0, 1)
        return self.groups.draw(many, seen, generator).unflatten(0, (num_samples, -1))
