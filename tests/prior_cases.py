"""Every prior, small and fitted on synthetic poses: what the contract test runs on. A new prior adds its lines here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from poseprior import (
    FitConfig,
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    JointFlow,
    OrderAgnosticPrior,
    PoseDataset,
    PosePrior,
    ProductPrior,
    VAEPrior,
)
from poseprior.io import synthetic_poses
from poseprior.models import adapted

_SHORT = FitConfig(max_steps=60, batch_size=128, warmup_steps=5, eval_every=30, progress=False)


@dataclass(frozen=True)
class Case:
    """How to build a prior over given joints, and how to fit it quickly."""

    build: Callable[[str | tuple[int, ...]], PosePrior]
    config: FitConfig = _SHORT
    whole_mass: bool = True  # False for densities on R^3 that may put some outside the ball of rotations


_CLOSED = replace(_SHORT, max_steps=0)

CASES: dict[str, Case] = {
    "gaussian-diagonal": Case(lambda joints: GaussianPrior(joints), _CLOSED),
    "gaussian-diagonal-gradient": Case(lambda joints: GaussianPrior(joints), _SHORT),
    "gaussian-full": Case(lambda joints: GaussianPrior(joints, covariance="full"), _CLOSED),
    "gaussian-full-gradient": Case(lambda joints: GaussianPrior(joints, covariance="full"), _SHORT),
    "product": Case(lambda joints: _product(joints), _CLOSED),
    "joint-flow": Case(lambda joints: JointFlow(joints, hidden=24, num_components=4, num_particles=256)),
    "joint-flow-published": Case(lambda joints: JointFlow.published(joints), whole_mass=False),
    "global-flow": Case(lambda joints: GlobalFlow(joints, hidden=32)),
    "vae": Case(lambda joints: VAEPrior(joints, latent_dim=8)),
    "order-agnostic": Case(lambda joints: OrderAgnosticPrior(joints, hidden=24, num_components=4, num_orders=3)),
    "adapted": Case(lambda joints: adapted(GaussianPrior(joints, covariance="full"), **_rig(joints)), _CLOSED),
    "adapted-flow": Case(lambda joints: adapted(GlobalFlow(joints, hidden=32), **_rig(joints))),
    "mixture": Case(lambda joints: GaussianMixturePrior(joints, num_components=3, em_iterations=10), _CLOSED),
}


def _rig(joints: str | tuple[int, ...]) -> dict[str, dict[str, tuple[float, ...]]]:
    """The conventions of a rig whose shoulders and knees are not the prior's."""
    shoulder = {
        "parent_frame": {"left_shoulder": (20.0, -10.0, 5.0)}, "child_frame": {"left_shoulder": (0.0, 15.0, 30.0)},
        "spread": {"left_shoulder": (0.7, 1.2, 0.9)}, "centre": {"left_shoulder": (10.0, 20.0, -40.0)},
    }  # fmt: skip
    if joints != "body":
        return shoulder
    return {name: {**values, "right_knee": (1.0, 2.0, 3.0)} for name, values in shoulder.items()}


def _product(joints: str | tuple[int, ...]) -> PosePrior:
    """Legs and trunk as they are, and one arm that serves both sides."""
    if joints != "body":
        return ProductPrior([GaussianPrior(joints)])
    arm = [13, 16, 18, 20]
    rest = [j for j in range(1, 22) if j not in {*arm, 14, 17, 19, 21}]
    return ProductPrior([GaussianPrior(rest, covariance="full"), GaussianPrior(arm, covariance="full")], mirrored=[1])


@cache
def training_poses() -> PoseDataset:
    """1,500 synthetic poses of 6 subjects."""
    return synthetic_poses(1500, seed=0, num_subjects=6)


@cache
def fitted(name: str, joints: str | tuple[int, ...] = "body") -> PosePrior:
    """The prior of a case, fitted once a session. Tests must not change it."""
    case = CASES[name]
    prior = case.build(joints)
    prior.fit(training_poses(), config=case.config)
    return prior
