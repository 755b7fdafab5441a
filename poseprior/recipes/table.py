"""`RECIPES`: how each prior that ships was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ..models import BodyVAE, GaussianMixturePrior, GaussianPrior, GlobalFlow, HandVAE, JointFlow, OrderAgnosticPrior
from ..prior import PosePrior
from ..training.config import FitConfig


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
#: Tangent noise, radians, of the priors for fits. The mode of a density that is only as wide as the usual jitter of 0.02
#: along hinges and copied joints is not a typical pose; at 0.1 a MAP fit is (docs/fitting.md).
_SMOOTH = 0.1
#: Trained before `OrderAgnosticPrior` had networks for near joints; measured on bodies without smoothing only.
_ONE_NETWORK = MappingProxyType({"near_weight": 0.0, "dropout": 0.2, "num_orders": 32})

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="body-gaussian",
            description="full-covariance Gaussian of the body: smallest and fastest, exact marginals and conditionals",
            prior=GaussianPrior, joints="body", parts=_BODY, options=MappingProxyType({"covariance": "full"}),
        ),
        Recipe(
            name="body-joint-flow",
            description="conditional flow for each body joint: a strong exact density, with a latent space",
            prior=JointFlow, joints="body", parts=_BODY,
        ),
        Recipe(
            name="body-global-flow",
            description="flow over the whole body with exact encode and decode: a latent space that is one pass away",
            prior=GlobalFlow, joints="body", parts=_BODY, fit=FitConfig(max_steps=6000),
        ),
        Recipe(
            name="body-order-agnostic",
            description="any observed body joints in, any missing ones out: the best density and completion of the body",
            prior=OrderAgnosticPrior, joints="body", parts=_BODY,
        ),
        Recipe(
            name="body-mixture-smooth",
            description="four Gaussians of the body under 0.1 rad of noise: for fits, nearly as fast as one Gaussian",
            prior=GaussianMixturePrior, joints="body", parts=_BODY, options=MappingProxyType({"num_components": 4}),
            fit=FitConfig(jitter=_SMOOTH),
        ),
        Recipe(
            name="body-global-flow-smooth",
            description="flow over the whole body under 0.1 rad of noise: for fits in its latent space",
            prior=GlobalFlow, joints="body", parts=_BODY, fit=FitConfig(jitter=_SMOOTH),
        ),
        Recipe(
            name="body-joint-flow-smooth",
            description="conditional flow for each body joint under 0.1 rad of noise: a strong density for fits and noisy poses",
            prior=JointFlow, joints="body", parts=_BODY, fit=FitConfig(jitter=_SMOOTH),
        ),
        Recipe(
            name="body-order-agnostic-smooth",
            description="order-agnostic prior of the body under 0.1 rad of noise: for fits, and for scores of noisy poses",
            prior=OrderAgnosticPrior, joints="body", parts=_BODY, options=_ONE_NETWORK,
            fit=FitConfig(jitter=_SMOOTH, max_steps=900, patience=5),
        ),
        Recipe(
            name="body-vae",
            description="variational autoencoder of the body, z = 32: a smooth latent space for code written for VPoser",
            prior=BodyVAE, joints="body", parts=_BODY,
        ),
        Recipe(
            name="hand-vae",
            description="variational autoencoder of a hand, z = 24 a side; one network serves both sides",
            prior=HandVAE, joints="hands", parts=_HANDS,
        ),
        Recipe(
            name="hand-order-agnostic",
            description="any observed finger joints in, any missing ones out; one network serves both sides",
            prior=OrderAgnosticPrior, joints="hands", parts=_HANDS, options=_ONE_NETWORK,
            # one device's hands leave less to overfit than people's bodies: val gains 1.8 nats from 900 steps to 4,000
            fit=FitConfig(max_steps=4000, patience=8),
        ),
        Recipe(
            name="hand-mixture-smooth",
            description="four Gaussians of a hand under 0.1 rad of noise: for fits of hands beside a body prior",
            prior=GaussianMixturePrior, joints="hands", parts=_HANDS, options=MappingProxyType({"num_components": 4}),
            fit=FitConfig(jitter=_SMOOTH),
        ),
        Recipe(
            name="whole-body",
            description="body and both hands in one order-agnostic prior; hands independent of the body and each other",
            prior=OrderAgnosticPrior, joints="whole_body", parts=("body", "hands"), options=_ONE_NETWORK,
            fit=FitConfig(max_steps=3600, patience=8),
        ),
    )
}  # fmt: skip


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: no such recipe; the message lists them.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe: no recipe {name!r}; the recipes are {', '.join(RECIPES)}.")
    return RECIPES[name]
