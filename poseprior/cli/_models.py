"""The models that `poseprior train` offers, each with its options."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ._arguments import flag_of

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..prior import PosePrior


class PriorClass:
    """A class of `poseprior.models` by its name, imported when it is looked at."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> type[PosePrior]:
        from .. import models

        found: type[PosePrior] = getattr(models, self.name)
        return found


@dataclass(frozen=True, kw_only=True)
class Model:
    """Options of a model; what is left out, None, has the library's default."""

    kind: ClassVar[PriorClass]

    def given(self) -> dict[str, Any]:
        """The options of the constructor that were given."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "published"}
        return {name: value for name, value in values.items() if value is not None}

    def build(self, joints: tuple[int, ...], *, context_dim: int = 0) -> PosePrior:
        """The prior, unfitted; given a vector of length `context_dim`, where the class takes one."""
        context = {"context_dim": context_dim} if context_dim else {}
        if getattr(self, "published", False):
            self._check_published()
            return self.kind.published(joints, **self.given(), **context)  # type: ignore[attr-defined]
        return self.kind(joints, **self.given(), **context)

    def _check_published(self) -> None:
        """Refuse options that the published architecture does not have."""
        taken = inspect.signature(self.kind.published).parameters  # type: ignore[attr-defined]
        own = [flag_of(field.name) for field in fields(self) if field.name in taken]
        foreign = [flag_of(name) for name in self.given() if name not in taken]
        if foreign:
            raise ValueError(
                f"{', '.join(foreign)}: --published, whose architecture is fixed, takes {' and '.join(own) or 'none'}"
                f"{' alone' if own else ''} of a model's options; leave {'them' if len(foreign) > 1 else 'it'} out, or "
                "leave out --published."
            )

    def settled(self) -> dict[str, Any]:
        """Every option that the constructor takes, given or not."""
        if getattr(self, "published", False):
            return {"published": True, **self.given()}
        return {**self.defaults(), **self.given()}

    @classmethod
    def name(cls) -> str:
        """What follows `poseprior train`."""
        return next(name for name, model in MODELS.items() if model.kind is cls.kind)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """What the library's constructor takes for an option that is left out."""
        from ..models.vae.base import BaseVAE

        taken = inspect.signature(cls.kind).parameters
        found = {field.name: taken[field.name].default for field in fields(cls) if field.name != "published"}
        if issubclass(cls.kind, BaseVAE):
            found["latent_dim"] = cls.kind._class_defaults().latent_dim
        return found


@dataclass(frozen=True, kw_only=True)
class Gaussian(Model):
    """One Gaussian around each joint's mean rotation: the baseline."""

    kind = PriorClass("GaussianPrior")
    covariance: Literal["diagonal", "full"] | None = None
    """diagonal, or full over all joints."""


@dataclass(frozen=True, kw_only=True)
class Mixture(Model):
    """A mixture of full-covariance Gaussians (the SMPLify family)."""

    kind = PriorClass("GaussianMixturePrior")
    num_components: int | None = None
    """Number of Gaussians."""
    em_iterations: int | None = None
    """Most steps of EM."""
    em_poses: int | None = None
    """EM reads a random subset of at most this many poses."""
    prior_count: float | None = None
    """Pseudo-poses of the pooled covariance in every Gaussian, against collapse."""


@dataclass(frozen=True, kw_only=True)
class Joint(Model):
    """A conditional flow for each joint given its parents."""

    kind = PriorClass("JointFlow")
    published: bool = False
    """The reference architecture of the literature; it takes --num-particles alone of the options below."""
    hidden: int | None = None
    """Width of the networks, one for each joint."""
    layers: int | None = None
    """Hidden layers of the networks."""
    dropout: float | None = None
    """Probability in training that a hidden unit is dropped."""
    num_components: int | None = None
    """Gaussians in each joint's mixture."""
    broad_weight: float | None = None
    """Share of two broad Gaussians in each mixture, for rotations far from the data."""
    input_noise: float | None = None
    """Noise in training on what networks see of other joints, in standard deviations of each joint."""
    input_dropout: float | None = None
    """Probability in training that a network sees a parent as unobserved."""
    extra_parents: bool | None = None
    """Give joints more parents than the nearest modelled ancestor."""
    share_mirror: bool | None = None
    """Right joints use the left joints' networks through the mirror."""
    num_particles: int | None = None
    """Particles of a completion, where it is not exact otherwise."""


@dataclass(frozen=True, kw_only=True)
class Global(Model):
    """A flow over the whole pose, with a latent space."""

    kind = PriorClass("GlobalFlow")
    published: bool = False
    """The reference architecture of the literature; it takes none of the options below."""
    couplings: int | None = None
    """Coupling layers of each block of joints."""
    hidden: int | None = None
    """Width of their networks."""
    layers: int | None = None
    """Hidden layers of their networks."""
    dropout: float | None = None
    """Probability in training that a hidden unit is dropped."""
    input_noise: float | None = None
    """Noise in training on what networks see, in standard deviations of the whitened coordinates."""
    max_log_scale: float | None = None
    """Bound of a coupling's log-scales."""


@dataclass(frozen=True, kw_only=True)
class OrderAgnostic(Model):
    """One model for any observed subset and any completion, trained on incomplete poses."""

    kind = PriorClass("OrderAgnosticPrior")
    num_orders: int | None = None
    """Orders averaged in the density; more are slower and better."""
    hidden: int | None = None
    """Width of the networks, one for each joint."""
    layers: int | None = None
    """Hidden layers of the networks."""
    dropout: float | None = None
    """Probability in training that a hidden unit is dropped."""
    num_components: int | None = None
    """Components of each conditional's mixture."""
    dof: int | None = None
    """Degrees of freedom of the components, Student-t."""
    base_weight: float | None = None
    """Share of the plain Gaussian conditional."""
    own_weight: float | None = None
    """Share of each joint's own Gaussian, whatever the other joints are."""
    broad_weight: float | None = None
    """Share of the broad component."""
    near_weight: float | None = None
    """Share of the networks that see near joints alone; 0 leaves them out."""
    input_noise: float | None = None
    """Noise in training on what networks see of other joints, in standard deviations of each joint."""
    share_mirror: bool | None = None
    """Groups that are mirror images of each other share networks."""


@dataclass(frozen=True, kw_only=True)
class Vae(Model):
    """A variational autoencoder over any joints; its log_prob is a lower bound."""

    kind = PriorClass("VAEPrior")
    published: bool = False
    """The architecture of the literature; it takes --latent-dim and --bound-samples alone of the options below."""
    latent_dim: int | None = None
    """Latent numbers for each independent group of joints (a hand, the body)."""
    hidden: int | None = None
    """Width of the encoder's and the decoder's networks."""
    depth: int | None = None
    """Residual blocks of each."""
    dropout: float | None = None
    """Probability in training that a number in those blocks is dropped."""
    linear_path: bool | None = None
    """Start encoder and decoder as probabilistic PCA."""
    posterior: Literal["diagonal", "full"] | None = None
    """Covariance of the encoder's posterior."""
    flow_layers: int | None = None
    """Coupling layers of the learned prior on the latent; 0 for a plain N(0, I)."""
    flow_hidden: int | None = None
    """Width of the coupling networks. Default: 128."""
    adaptive_noise: bool | None = None
    """The decoder gives every joint's noise covariance too; otherwise it is one for all poses."""
    train_samples: int | None = None
    """Samples of the importance-weighted objective; 1 is the evidence lower bound."""
    bound_samples: int | None = None
    """Samples of the bound that log_prob is."""
    kl_weight: float | None = None
    """Weight of the KL term, the beta of a beta-VAE; below 1 favours reconstruction."""
    kl_warmup: int | None = None
    """Steps over which that weight rises from 0."""
    free_bits: float | None = None
    """Nats of every latent number that cost nothing, against collapse."""
    reconstruction_weight: float | None = None
    """Weight of the decoded rotations' angles (radians, summed over joints) in the objective."""
    refine_steps: int | None = None
    """Gauss-Newton steps from the posterior mean to a nearer latent, with --reconstruction-weight."""
    mask_fraction: float | None = None
    """Share of training poses with joints hidden from the encoder, so that it learns marginals."""
    encode_steps: int | None = None
    """Gauss-Newton steps of encode; 0 gives the posterior mean."""
    encode_starts: int | None = None
    """Latents that these steps start from; the nearest end is taken."""


@dataclass(frozen=True, kw_only=True)
class HandVae(Vae):
    """A variational autoencoder of one hand or both (--joints hands)."""

    kind = PriorClass("HandVAE")


@dataclass(frozen=True, kw_only=True)
class BodyVae(Vae):
    """A variational autoencoder of the body, as VPoser (--joints body)."""

    kind = PriorClass("BodyVAE")


#: By the name that follows `poseprior train`.
MODELS: dict[str, type[Model]] = {
    "gaussian": Gaussian,
    "mixture": Mixture,
    "joint-flow": Joint,
    "global-flow": Global,
    "order-agnostic": OrderAgnostic,
    "vae": Vae,
    "hand-vae": HandVae,
    "body-vae": BodyVae,
}
