"""The models that `poseprior train` offers, each with the options worth a flag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..models.vae.base import BaseVAE
    from ..prior import PosePrior


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian around each joint's mean rotation: the baseline."""

    covariance: Literal["diagonal", "full"] = "diagonal"
    """diagonal, or full over all joints."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        from ..models import GaussianPrior

        return GaussianPrior(joints, covariance=self.covariance)


@dataclass(frozen=True)
class Mixture:
    """A mixture of full-covariance Gaussians (the SMPLify family)."""

    num_components: int = 8
    """Number of Gaussians."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        from ..models import GaussianMixturePrior

        return GaussianMixturePrior(joints, num_components=self.num_components)


@dataclass(frozen=True)
class Joint:
    """A conditional flow for each joint given its parent."""

    published: bool = False
    """The reference architecture of the literature instead of our design."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        from ..models import JointFlow

        return JointFlow.published(joints) if self.published else JointFlow(joints)


@dataclass(frozen=True)
class Global:
    """A flow over the whole pose, with a latent space."""

    published: bool = False
    """The reference architecture of the literature instead of our design."""

    def build(self, joints: tuple[int, ...], *, context_dim: int = 0) -> PosePrior:
        from ..models import GlobalFlow

        make = GlobalFlow.published if self.published else GlobalFlow
        return make(joints, context_dim=context_dim)


@dataclass(frozen=True)
class OrderAgnostic:
    """One model for any observed subset and any completion, trained on incomplete poses."""

    num_orders: int = 24
    """Orders averaged in the density; more are slower and better."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        from ..models import OrderAgnosticPrior

        return OrderAgnosticPrior(joints, num_orders=self.num_orders)


@dataclass(frozen=True)
class Vae:
    """A variational autoencoder over any joints; its log_prob is a lower bound."""

    published: bool = False
    """The architecture of the literature instead of our design."""
    latent_dim: int | None = None
    """Latent numbers for each independent group of joints; default 32, hands 24."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        from ..models import VAEPrior

        return self._of(VAEPrior, joints)

    def _of(self, kind: type[BaseVAE], joints: tuple[int, ...]) -> PosePrior:
        make = kind.published if self.published else kind
        return make(joints, latent_dim=self.latent_dim)


@dataclass(frozen=True)
class HandVae(Vae):
    """A variational autoencoder of one hand or both (--joints hands)."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        from ..models import HandVAE

        return self._of(HandVAE, joints)


@dataclass(frozen=True)
class BodyVae(Vae):
    """A variational autoencoder of the body, as VPoser (--joints body)."""

    def build(self, joints: tuple[int, ...]) -> PosePrior:
        from ..models import BodyVAE

        return self._of(BodyVAE, joints)


Model = (
    Annotated[Gaussian, tyro.conf.subcommand("gaussian")]
    | Annotated[Mixture, tyro.conf.subcommand("mixture")]
    | Annotated[Joint, tyro.conf.subcommand("joint-flow")]
    | Annotated[Global, tyro.conf.subcommand("global-flow")]
    | Annotated[OrderAgnostic, tyro.conf.subcommand("order-agnostic")]
    | Annotated[Vae, tyro.conf.subcommand("vae")]
    | Annotated[HandVae, tyro.conf.subcommand("hand-vae")]
    | Annotated[BodyVae, tyro.conf.subcommand("body-vae")]
)
OptionalModel = Model | Annotated[None, tyro.conf.subcommand("none", description="The model of --recipe.")]
