"""`VAEPrior`, `HandVAE`, `BodyVAE`: variational autoencoders of poses, after VPoser and the published hand priors."""

from __future__ import annotations

from typing import final

from .base import BaseVAE
from .options import ClassDefaults


@final
class VAEPrior(BaseVAE):
    """A variational autoencoder over any joints (the body by default), with z = 32 for each independent group.

    `BaseVAE` has the options, and says what `log_prob` is; `VAEPrior.published` is the architecture of the literature.

    >>> import torch
    >>> prior = VAEPrior("left_hand", latent_dim=6)
    >>> prior.decode(torch.zeros(2, 6)).shape, prior.log_prob(torch.zeros(2, 55, 3)).shape
    (torch.Size([2, 55, 3]), torch.Size([2]))
    """

    @staticmethod
    def _class_defaults() -> ClassDefaults:
        return ClassDefaults(joints="body", latent_dim=32, within="all")


@final
class HandVAE(BaseVAE):
    """A variational autoencoder of one hand or both (both by default), with z = 24 for each independent hand.

    Trained on hands that were tracked one at a time, it is one hand model that serves both sides through the mirror,
    and the two hands are independent (a latent of twice `latent_dim`). Trained on poses that show both, it is one model
    of 30 joints.

    `BaseVAE` has the options, and says what `log_prob` is; `HandVAE.published` is the architecture of the literature.

    >>> HandVAE.published("hands").num_parameters
    1943718
    """

    @staticmethod
    def _class_defaults() -> ClassDefaults:
        return ClassDefaults(joints="hands", latent_dim=24, within="hands")


@final
class BodyVAE(BaseVAE):
    """A variational autoencoder of the 21 body joints or some of them, as VPoser, with z = 32.

    `BaseVAE` has the options, and says what `log_prob` is; `BodyVAE.published` is the architecture of the literature.

    >>> BodyVAE().latent_dim
    32
    """

    @staticmethod
    def _class_defaults() -> ClassDefaults:
        return ClassDefaults(joints="body", latent_dim=32, within="body")
