"""Untrained priors that several benchmarks compare, by the title of their rows."""

from __future__ import annotations

from collections.abc import Callable

import poseprior
from poseprior import PosePrior
from poseprior.recipes import RECIPES


def published_joint_flow(joints: str) -> poseprior.JointFlow:
    """The reference architecture."""
    return poseprior.JointFlow.published(joints)


def published_global_flow(joints: str) -> poseprior.GlobalFlow:
    """The reference architecture."""
    return poseprior.GlobalFlow.published(joints)


def published_hand_vae(joints: str) -> poseprior.HandVAE:
    """The reference architecture."""
    return poseprior.HandVAE.published(joints)


def small_hand_vae(latent_dim: int) -> poseprior.HandVAE:
    """A HandVAE for reconstruction from few numbers: the rotations' angles join the objective (docs/hand_vae.md)."""
    if latent_dim <= 6:
        return poseprior.HandVAE(
            "hands", latent_dim=latent_dim, train_samples=1, dropout=0.15, flow_hidden=64, reconstruction_weight=400.0,
            refine_steps=2, encode_starts=5, mask_fraction=0.0, hidden=512, kl_weight=0.3, flow_layers=2,
        )  # fmt: skip
    return poseprior.HandVAE(
        "hands", latent_dim=latent_dim, train_samples=1, dropout=0.15, flow_hidden=64, reconstruction_weight=20.0,
        mask_fraction=0.1, flow_layers=4,
    )  # fmt: skip


def recipe_order_agnostic(joints: str, recipe: str) -> poseprior.OrderAgnosticPrior:
    """The order-agnostic prior with the options of a shipped one."""
    return poseprior.OrderAgnosticPrior(joints, **RECIPES[recipe].options)


#: Body priors, each with its own defaults.
BODY: dict[str, Callable[[], PosePrior]] = {
    "Gaussian, diagonal": lambda: poseprior.GaussianPrior("body"),
    "Gaussian, full": lambda: poseprior.GaussianPrior("body", covariance="full"),
    "mixture of 4": lambda: poseprior.GaussianMixturePrior("body", num_components=4),
    "mixture of 8": lambda: poseprior.GaussianMixturePrior("body", num_components=8),
    "mixture of 16": lambda: poseprior.GaussianMixturePrior("body", num_components=16),
    "JointFlow, published": lambda: published_joint_flow("body"),
    "JointFlow": lambda: poseprior.JointFlow("body"),
    "GlobalFlow": lambda: poseprior.GlobalFlow("body"),
    "OrderAgnosticPrior": lambda: poseprior.OrderAgnosticPrior("body"),
}
