"""`RECIPES`: how each prior that ships was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .._checks import nearest
from ..models import (
    BodyVAE,
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    HandVAE,
    JointFlow,
    OrderAgnosticPrior,
)
from ..prior import PosePrior
from ..training.config import FitConfig
from ..training.rig_noise import RigNoise


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to make a prior, from nothing but pose files.

    Attributes:
        name: of the weights.
        description: one line for lists.
        prior: the class.
        joints: a joint set; joints that no pose observes are dropped by `fit`.
        parts: subfolders of the data to read, `body`, `hands` or both; joints of the other part are unobserved.
        options: constructor arguments beside `joints`.
        fit: options of the loop; fields left out have the class's own defaults.
        seed: of everything random.
        licence: of the weights, when they are trained on the recordings of `sources.SOURCES`.
    """

    name: str
    description: str
    prior: type[PosePrior]
    joints: str
    parts: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    fit: FitConfig = field(default_factory=FitConfig)
    seed: int = 0
    licence: str = "MIT"

    def build(self) -> PosePrior:
        """The prior, unfitted."""
        return self.prior(self.joints, **self.options)

    def fit_config(self) -> FitConfig:
        """Options of the loop, with the recipe's seed."""
        return replace(self.fit, seed=self.seed)


_BODY, _HANDS = ("body",), ("hands",)
#: Tangent noise, radians. The mode of a density that is as narrow as a solver's hinges is not a typical pose; under this
#: noise a MAP fit is (docs/fitting.md).
_JITTER = 0.1
#: Every rig's conventions are noise to a prior (docs/rig_noise.md); people and rigs count more evenly than frames.
_BODY_FIT = FitConfig(
    jitter=_JITTER, rig_noise=RigNoise.estimated("body"), subject_balance=0.5, rig_balance=0.5
)  # fmt: skip

_HAND_FIT = FitConfig(jitter=_JITTER, rig_noise=RigNoise.estimated("hands"))
#: One tracker's hands leave less to overfit than people's bodies, and the networks for near joints add little to them.
_HAND_NETWORK = MappingProxyType({"near_weight": 0.0, "dropout": 0.2})

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="body-gaussian",
            description="full-covariance Gaussian of the body: smallest and fastest, exact marginals and conditionals",
            prior=GaussianPrior, joints="body", parts=_BODY, options=MappingProxyType({"covariance": "full"}),
            fit=_BODY_FIT,
        ),
        Recipe(
            name="body-mixture",
            description="sixteen Gaussians of the body: for fits, nearly as fast as one Gaussian",
            prior=GaussianMixturePrior, joints="body", parts=_BODY,
            options=MappingProxyType({"num_components": 16, "em_poses": 60_000}), fit=_BODY_FIT,
        ),
        Recipe(
            name="body-joint-flow",
            description="conditional flow for each body joint: a strong density, with a latent space",
            prior=JointFlow, joints="body", parts=_BODY, fit=_BODY_FIT,
        ),
        Recipe(
            name="body-global-flow",
            description="flow over the whole body with exact encode and decode: a latent space that is one pass away",
            prior=GlobalFlow, joints="body", parts=_BODY, fit=replace(_BODY_FIT, max_steps=4000),
        ),
        Recipe(
            name="body-order-agnostic",
            description="any observed body joints in, any missing ones out: the best completion of the body",
            prior=OrderAgnosticPrior, joints="body", parts=_BODY, fit=_BODY_FIT,
        ),
        Recipe(
            name="body-vae",
            description="variational autoencoder of the body, z = 32: a smooth latent space for code written for VPoser",
            prior=BodyVAE, joints="body", parts=_BODY, fit=_BODY_FIT,
        ),
        Recipe(
            name="hand-mixture",
            description="eight Gaussians of a hand: for fits of hands beside a body prior",
            prior=GaussianMixturePrior, joints="hands", parts=_HANDS, options=MappingProxyType({"num_components": 8}),
            fit=_HAND_FIT,
        ),
        Recipe(
            name="hand-order-agnostic",
            description="any observed finger joints in, any missing ones out; one network serves both sides",
            prior=OrderAgnosticPrior, joints="hands", parts=_HANDS, options=_HAND_NETWORK, fit=_HAND_FIT,
        ),
        Recipe(
            name="hand-vae",
            description="variational autoencoder of a hand, z = 24 a side; one network serves both sides",
            prior=HandVAE, joints="hands", parts=_HANDS, fit=_HAND_FIT,
        ),
        Recipe(
            name="whole-body",
            description="body and both hands in one order-agnostic prior; hands independent of the body and each other",
            prior=OrderAgnosticPrior, joints="whole_body", parts=("body", "hands"), options=_HAND_NETWORK,
            fit=replace(_BODY_FIT, rig_noise=RigNoise.estimated("whole_body")),
        ),
    )
}  # fmt: skip


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: no such recipe; the message lists them.
    """
    if name not in RECIPES:
        raise ValueError(
            f"recipe: no recipe {name!r}; the recipes are {', '.join(RECIPES)}.{nearest(name, list(RECIPES))}"
        )
    return RECIPES[name]
