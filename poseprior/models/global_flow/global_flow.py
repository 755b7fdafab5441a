"""`GlobalFlow`: the whole pose as one vector, with a latent space that is one pass away in both directions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from ..._tracing import is_traced
from ...prior import LatentPosePrior
from ...trainable import TrainingPoses
from ..charts.axis_angle import AxisAngleChart
from ..charts.chart import observed_weight
from ..charts.compact import CompactChart
from ..fused.density import Poses
from ..shared.architectures import from_architecture
from ..shared.conditioning import flagged_context, settled_context_dropout
from ..shared.select import select
from .blocks import blocks_from_masks, check_blocks, refuse_broken_blocks, trailing_blocks, whole_blocks
from .options import checked_options, without_idle_options
from .realnvp import GlobalRealNVP
from .residual_flow import ResidualFlow
from .whitening import block_membership

_START_POSES = 60_000
_LOG_TWO_PI = math.log(2.0 * math.pi)


@final
class GlobalFlow(LatentPosePrior):
    """A normalising flow over all joints at once: `encode` and `decode` are exact inverses, z ~ N(0, I).

    A flow cannot marginalise. So the joints are in blocks, each a flow given some of the earlier blocks, and trailing
    blocks can be left out exactly: `fit` learns the blocks from what the data misses (toes in some takes, wrists in
    others). Other partial masks are refused. `complete` draws whole missing blocks exactly and refuses other masks.

    It starts as the exact Gaussian, gives every block Student-like tails, and lets couplings with dropout learn the rest:
    few of them, since unseen subjects gain most from the tails (docs/flows.md). `GlobalFlow.published` builds the
    reference architecture instead.

    Args:
        joints: joints to model; `fit` drops those that no pose observes.
        couplings: coupling layers of each block that is not given others.
        hidden: width of their networks.
        layers: hidden layers of their networks.
        dropout: probability in training that a hidden unit is dropped.
        input_noise: noise in training on what networks see, in standard deviations of the whitened coordinates.
        max_log_scale: bound of a coupling's log-scales.
        blocks: (joints, positions of earlier blocks it is given) of each block; None makes one block. `fit` learns it.
        context_dim: length of an optional conditioning vector (class label, shape betas, image feature).
        context_dropout: probability in training that the conditioning vector is withheld, so that one model serves
            without it; None means 0.2. Only with `context_dim`.

    The options of the networks, and `context_dim`, which the networks see, go with `couplings` above 0 alone.

    Attributes:
        architecture: "default" or "published".

    Raises:
        ValueError: an option of another type, out of range or without effect.

    >>> prior = GlobalFlow("body")
    >>> prior.decode(torch.zeros(2, prior.latent_dim)).shape
    torch.Size([2, 55, 3])
    >>> GlobalFlow.published("all").num_parameters
    343950
    """

    order: Tensor
    place: Tensor
    membership: Tensor
    latent_membership: Tensor

    can_marginalise = False
    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({
        "max_steps": 3000, "warmup_steps": 100, "clip_grad_norm": 5.0, "ema_decay": 0.998, "subject_balance": 0.5,
        "eval_every": 50, "patience": 12,
    })  # fmt: skip

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "body",
        *,
        couplings: int = 2,
        hidden: int = 96,
        layers: int = 1,
        dropout: float = 0.2,
        input_noise: float = 0.1,
        max_log_scale: float = 2.0,
        blocks: Sequence[tuple[Sequence[int], Sequence[int]]] | None = None,
        context_dim: int = 0,
        context_dropout: float | None = None,
    ) -> None:
        networks = {
            "hidden": hidden, "layers": layers, "dropout": dropout, "input_noise": input_noise,
            "max_log_scale": max_log_scale,
        }  # fmt: skip
        options = checked_options(GlobalFlow, couplings, context_dim, networks)
        self._build(joints, blocks, context_dim, context_dropout, options)

    @classmethod
    def published(
        cls,
        joints: str | int | Iterable[str | int] = "body",
        *,
        context_dim: int = 0,
        context_dropout: float | None = None,
    ) -> GlobalFlow:
        """The reference architecture: seven times (ActNorm, affine coupling, ActNorm, permutation) on the raw axis-angle.

        343,950 parameters at 165 dimensions, in one block: it needs poses that observe all its joints. Its
        `log_prob_kind` is "lower_bound": rotvecs beyond pi are left out, see `AxisAngleChart`.

        Args:
            joints: joints to model; `fit` drops those that no pose observes.
            context_dim, context_dropout: as of the class.
        """
        prior = cls.__new__(cls)
        prior._build(joints, None, context_dim, context_dropout, options=None)
        return prior

    def _build(
        self,
        joints: str | int | Iterable[str | int],
        blocks: Sequence[tuple[Sequence[int], Sequence[int]]] | None,
        context_dim: int,
        context_dropout: float | None,
        options: dict[str, Any] | None,
    ) -> None:
        """Make the modules; `options` of the couplings, None for the published architecture."""
        super().__init__(joints, context_dim=context_dim)
        self.architecture: Literal["default", "published"] = "published" if options is None else "default"
        self._options = options or {}
        self.context_dropout = settled_context_dropout(context_dropout, self.context_dim)
        self.blocks = check_blocks([(list(self.joints), [])] if blocks is None else blocks, self.joints)
        place = {joint: k for k, joint in enumerate(self.joints)}
        self._members = [[place[j] for j in members] for members, _ in self.blocks]
        dims = [3 * len(own) for own in self._members]
        self.latent_dim = sum(dims)
        order = torch.tensor([k for own in self._members for k in own])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("place", order.argsort(), persistent=False)
        membership = block_membership([len(own) for own in self._members])[order.argsort()]
        self.register_buffer("membership", membership, persistent=False)  # (J, K) ones where a joint is in a block
        self.register_buffer("latent_membership", block_membership(dims), persistent=False)
        width = self.context_dim + 1 if self.context_dim else 0  # with a flag, see `flagged_context`
        self.chart: AxisAngleChart | CompactChart
        self.flow: GlobalRealNVP | ResidualFlow
        if options is None:
            self.chart = AxisAngleChart()
            # What the flow puts beyond |r| = pi belongs to other rotations and is not added there (see AxisAngleChart).
            self.log_prob_kind = "lower_bound"
            self.flow = GlobalRealNVP(self.latent_dim, width)
        else:
            self.chart = CompactChart(len(self.joints))
            self.flow = ResidualFlow(dims, [given for _, given in self.blocks], width, **options)

    def get_config(self) -> dict[str, Any]:
        config = {
            "joints": list(self.joints), "context_dim": self.context_dim, "context_dropout": self.context_dropout
        }  # fmt: skip
        if self.architecture == "published":
            return {"architecture": "published", **config}
        blocks = [[list(members), list(given)] for members, given in self.blocks]
        return {**config, **self._options, "blocks": blocks}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GlobalFlow:
        renamed = {"noise": "input_noise", "most_log_scale": "max_log_scale"}
        return from_architecture(cls, cls.published, without_idle_options(config), renamed=renamed)

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        rebuilt = super()._fitted_config(train)
        seen = tuple(rebuilt["joints"])
        observed = torch.as_tensor(train.observed)
        if self.architecture == "default":
            return {**rebuilt, "blocks": blocks_from_masks(observed, seen, mirror=train.mirror)}
        if not bool(observed[:, list(seen)].all(1).any()):
            raise ValueError(
                "train: no pose observes all of the prior's joints, which GlobalFlow.published needs; use GlobalFlow(), "
                "which learns blocks, or fewer joints."
            )
        return rebuilt

    def _initialise(self, train: TrainingPoses) -> None:
        rotvec, observed = train.poses(self.joints, max_poses=_START_POSES)
        if isinstance(self.chart, CompactChart):
            self.chart.fit(rotvec, observed)
        whole = self._whole(observed) > 0
        coordinates, _ = self._coordinates(rotvec.to(self.dtype), observed)
        was_training = self.training
        self.eval()
        self.flow.fit_start(coordinates, whole)
        self.train(was_training)

    def _whole(self, observed: Tensor) -> Tensor:
        """(B, K) ones where a whole block is observed."""
        missing = (~observed).to(self.membership.dtype) @ self.membership
        return (missing == 0).to(self.membership.dtype)

    def _coordinates(self, rotvec: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, D) chart coordinates, block by block, and the log-volume (B,)."""
        w, volume = self.chart(rotvec, observed)
        return self._by_block(w), volume

    def _by_block(self, w: Tensor) -> Tensor:
        """(B, D) of chart coordinates (B, J, 3), block by block."""
        return (select(w, self.order) if len(self.blocks) > 1 else w).flatten(1)

    # ------------------------------------------------------------------ densities

    def _condition(self, context: Tensor | None, rows: int) -> Tensor:
        """What the couplings see of conditioning vectors (rows, context_dim) or None; see `flagged_context`."""
        dropout = self.context_dropout if self.training else None
        return flagged_context(context, rows, self.context_dim, dropout, self._reference_tensor())

    def _log_prob(self, rotvec: Tensor, observed: Tensor | None, context: Tensor | None) -> Tensor:
        # A block with a missing joint is left out as a whole. Only training shows such rows: `log_prob` refuses them.
        whole = observed is None or (not is_traced() and bool(observed.all()))
        counted = None if observed is None or whole else self._whole(observed)
        used = None if counted is None else counted @ self.membership.T > 0
        if not self.context_dim and isinstance(self.flow, ResidualFlow):
            poses = Poses(rotvec, self.chart, observed_weight(used, rotvec))
            value = self.flow.fused_log_prob(poses, self.order, counted)
            if value is not None:
                return value
        w, volume = self.chart(rotvec, used)
        latent, log_det = self.flow(self._by_block(w), self._condition(context, rotvec.shape[0]))
        each = log_det - 0.5 * ((latent.square() + _LOG_TWO_PI) @ self.latent_membership)
        return (each if counted is None else each * counted).sum(-1) - volume

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        return self._log_prob(rotvec, None, context)

    def can_score(self, observed: Tensor) -> Tensor:
        """(*batch,) bool of masks (*batch, 55): whether `log_prob` takes them.

        It takes those that show every block whole or not at all, none without the blocks it is given, and at least one.
        """
        return self._can_score(observed[..., list(self.joints)])

    def _can_score(self, seen: Tensor) -> Tensor:
        return whole_blocks(seen, self._members, [given for _, given in self.blocks])

    def _refuse_partial(self, seen: Tensor) -> None:
        """Allow the masks of `can_score`, refuse others."""
        refuse_broken_blocks(seen, self._can_score(seen), self.joints, self.blocks)

    # ------------------------------------------------------------------ both directions

    def _encode(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        coordinates, _ = self._coordinates(rotvec, None)
        latent: Tensor = self.flow(coordinates, self._condition(context, rotvec.shape[0]))[0]
        return latent

    def _decode(self, latent: Tensor, context: Tensor | None) -> Tensor:
        w = self.flow.inverse(latent, self._condition(context, latent.shape[0])).unflatten(1, (-1, 3))
        return self.chart.inverse(w.index_select(1, self.place))

    # ------------------------------------------------------------------ draws

    def _noise(self, rows: int, generator: torch.Generator | None) -> Tensor:
        return torch.randn(rows, self.latent_dim, generator=generator, dtype=self.dtype, device=self.device)

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        return self._decode(self._noise(num, generator), context)

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        if not bool((self._can_score(observed) | ~observed.any(1)).all()):
            trailing = trailing_blocks(self.blocks)
            raise ValueError(
                f"complete: GlobalFlow has no exact conditional for this mask; it draws whole poses"
                f"{f', or {trailing} given the rest' if trailing else ''}. Use GaussianPrior, GaussianMixturePrior or "
                "OrderAgnosticPrior."
            )
        many = rotvec.expand(num_samples, *rotvec.shape).flatten(0, 1)
        seen = observed.expand(num_samples, *observed.shape).flatten(0, 1)
        contexts = None if context is None else context.expand(num_samples, *context.shape).flatten(0, 1)
        # Latents of observed blocks come from the pose, those of missing blocks are drawn; `decode` makes the blocks in
        # order, so that a missing block is drawn given the earlier ones.
        known = self._whole(seen) @ self.latent_membership.T > 0
        coordinates, _ = self._coordinates(many, seen)
        encoded = self.flow(coordinates, self._condition(contexts, len(many)))[0]
        latent = torch.where(known, encoded, self._noise(len(many), generator))
        return self._decode(latent, contexts).unflatten(0, (num_samples, -1))
