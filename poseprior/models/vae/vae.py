"""`VAEPrior`, `HandVAE`, `BodyVAE`: variational autoencoders of poses, after VPoser and the published hand priors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, final

from ... import skeleton
from .base import BaseVAE
from .options import VAEOptions, make_options


@final
class VAEPrior(BaseVAE):
    """A variational autoencoder over any joints; see `BaseVAE` for what `log_prob` is.

    Args:
        joints: joints to model; `fit` drops those that no pose observes.
        preset: "default" or "published".
        latent_dim: latent numbers for each independent group; 32 unless told.
        options: everything at once, instead of the two above.
        groups: independent groups of joints; `fit` learns them.

    >>> import torch
    >>> prior = VAEPrior("left_hand", latent_dim=6)
    >>> prior.decode(torch.zeros(2, 6)).shape, prior.log_prob(torch.zeros(2, 55, 3)).shape
    (torch.Size([2, 55, 3]), torch.Size([2]))
    """

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "body",
        *,
        preset: Literal["default", "published"] | None = None,
        latent_dim: int | None = None,
        options: VAEOptions | Mapping[str, Any] | None = None,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(joints, make_options(options, preset, latent_dim, 32), groups)


@final
class HandVAE(BaseVAE):
    """A variational autoencoder of one hand or both; see `BaseVAE` for what `log_prob` is.

    Trained on hands that were tracked one at a time, it is one hand model that serves both sides through the mirror,
    and the two hands are independent (a latent of twice `latent_dim`). Trained on poses that show both, it is one model
    of 30 joints.

    Args:
        joints: "left_hand", "right_hand", "hands", or some finger joints.
        preset: "default", or "published" (about 2 million parameters).
        latent_dim: 24 unless told.
        options: everything at once, instead of the two above.
        groups: independent groups of joints; `fit` learns them.

    Raises:
        ValueError: a joint that is not of a hand.

    >>> HandVAE("hands", preset="published").num_parameters
    1943718
    """

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "hands",
        *,
        preset: Literal["default", "published"] | None = None,
        latent_dim: int | None = None,
        options: VAEOptions | Mapping[str, Any] | None = None,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        _require_within(joints, "hands", "HandVAE")
        super().__init__(joints, make_options(options, preset, latent_dim, 24), groups)


@final
class BodyVAE(BaseVAE):
    """A variational autoencoder of the 21 body joints, as VPoser; see `BaseVAE` for what `log_prob` is.

    Args:
        joints: "body", or some of its joints.
        preset: "default", or "published" (about 2 million parameters).
        latent_dim: 32 unless told.
        options: everything at once, instead of the two above.
        groups: independent groups of joints; `fit` learns them.

    Raises:
        ValueError: a joint that is not of the body.

    >>> BodyVAE().latent_dim
    32
    """

    def __init__(
        self,
        joints: str | int | Iterable[str | int] = "body",
        *,
        preset: Literal["default", "published"] | None = None,
        latent_dim: int | None = None,
        options: VAEOptions | Mapping[str, Any] | None = None,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        _require_within(joints, "body", "BodyVAE")
        super().__init__(joints, make_options(options, preset, latent_dim, 32), groups)


def _require_within(joints: str | int | Iterable[str | int], name: str, kind: str) -> None:
    allowed = set(skeleton.JOINT_SETS[name])
    odd = [skeleton.JOINT_NAMES[j] for j in skeleton.resolve_joints(joints) if j not in allowed]
    if odd:
        raise ValueError(
            f"joints: {kind} takes joints of {name!r}, got {', '.join(odd[:4])}; use VAEPrior for other joint sets."
        )
