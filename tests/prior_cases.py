"""Every prior, small and fitted on synthetic poses: what the contract test runs on. A new prior adds its line here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from poseprior import (
    BodyVAE,
    FitConfig,
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    HandVAE,
    JointFlow,
    OrderAgnosticPrior,
    PoseDataset,
    PosePrior,
    ProductPrior,
    VAEPrior,
    skeleton,
)
from poseprior.io import synthetic_poses
from poseprior.rigs import adapted

Joints = tuple[int, ...]

#: Legs, arms and a spine joint; wrists and toes are missing in a third of the poses.
LIMBS: Joints = (1, 2, 4, 5, 6, 10, 11, 16, 17, 20, 21)
#: A shoulder and a wrist.
PAIR: Joints = (16, 20)
FINGERS: Joints = (25, 26, 37, 40, 41, 52)
FINGER_PAIR: Joints = (25, 26)
_SHORT = FitConfig(max_steps=60, batch_size=128, warmup_steps=5, eval_every=30, progress=False)
_CLOSED = FitConfig(max_steps=0, progress=False)


@dataclass(frozen=True)
class Case:
    """How to build and fit a small prior, and what it does not claim.

    Attributes:
        build: the prior over given joints.
        config: a quick fit.
        joints: of the prior that is checked as a whole.
        pair: two joints, of the prior whose density is integrated.
        data: the training poses.
        mirrored: (joints, joints on the other side) that share weights through the mirror.
        whole_mass: False for densities on R^3 that may put some outside of the rotations.
        slack: how far averages of samples, in [-1, 1], may be off, where `log_prob` is a bound.
        heavy: its integrals take long, and are left to slow tests.
        loose_bound: `log_prob` is a bound that a quick fit leaves loose: all that is known is that its mass is at most one.
        marginal_slack: nats that marginals may be off, where they are estimates.
        completion_slack: as `slack`, of completions, where they are estimates.
    """

    build: Callable[[Joints], PosePrior]
    config: FitConfig = _SHORT
    joints: Joints = LIMBS
    pair: Joints = PAIR
    data: Callable[[], PoseDataset] = lambda: training_poses()
    mirrored: tuple[Joints, Joints] | None = None
    whole_mass: bool = True
    slack: float = 0.0
    marginal_slack: float = 0.0
    completion_slack: float = 0.0
    heavy: bool = False
    loose_bound: bool = False

    def few_steps(self) -> FitConfig:
        """A fit of two training steps at most."""
        return replace(self.config, max_steps=2, eval_every=2) if self.config.max_steps else self.config


def _product(joints: Joints) -> PosePrior:
    """Two parts, each with half of the joints."""
    half = (len(joints) + 1) // 2
    parts: list[PosePrior] = [GaussianPrior(joints[:half], covariance="full")]
    if joints[half:]:
        parts.append(GaussianMixturePrior(joints[half:], num_components=2, em_iterations=5))
    return ProductPrior(parts)


def _both_sides(joints: Joints) -> PosePrior:
    """One part, which serves the joints of the other side too."""
    left = [j for j in joints if skeleton.JOINT_NAMES[j].startswith("left")]
    return ProductPrior([GaussianPrior(left, covariance="full")], mirrored=[0])


def _small_vae(kind: Any, joints: Joints, **options: Any) -> PosePrior:
    small = {"latent_dim": min(6, 2 * len(joints)), "hidden": 32, "depth": 1, "flow_layers": 2, "flow_hidden": 16}
    return kind(joints, **small, **options)


def _example(name: str) -> ModuleType:
    """A module of the examples."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that its classes can be pickled
    spec.loader.exec_module(module)
    return module


_KernelDensity: Any = _example("kernel_density").KernelDensity
_SIDES = ((25, 26, 37), (40, 41, 52))
_HANDS: dict[str, Any] = {"joints": FINGERS, "pair": FINGER_PAIR, "data": lambda: hands_apart(), "mirrored": _SIDES}
_LONG = replace(_SHORT, max_steps=150)
_RAW: dict[str, Any] = {"config": replace(_LONG, learning_rate=5e-3), "whole_mass": False, "slack": 0.02}
_LATENT: dict[str, Any] = {"slack": 0.05, "marginal_slack": 0.3, "completion_slack": 0.15, "config": _LONG}
_LARGE: dict[str, Any] = {
    **_LATENT, "config": replace(_SHORT, max_steps=20), "heavy": True, "loose_bound": True
}  # fmt: skip

CASES: dict[str, Case] = {
    "gaussian-diagonal": Case(lambda joints: GaussianPrior(joints), _CLOSED),
    "gaussian-diagonal-gradient": Case(lambda joints: GaussianPrior(joints), _SHORT, heavy=True),
    "gaussian-full": Case(lambda joints: GaussianPrior(joints, covariance="full"), _CLOSED),
    "gaussian-full-gradient": Case(lambda joints: GaussianPrior(joints, covariance="full"), _SHORT, heavy=True),
    "adapted": Case(lambda joints: adapted(GaussianPrior(joints, covariance="full"), **_rig(joints)), _CLOSED),
    "adapted-flow": Case(lambda joints: adapted(GlobalFlow(joints, hidden=32), **_rig(joints)), heavy=True),
    "mixture": Case(lambda joints: GaussianMixturePrior(joints, num_components=3, em_iterations=10), _CLOSED),
    "product": Case(_product, _CLOSED),
    "product-mirrored": Case(_both_sides, _CLOSED, **{**_HANDS, "pair": (25, 40)}),
    "joint-flow": Case(
        lambda joints: JointFlow(joints, hidden=24, num_components=4), marginal_slack=0.3, completion_slack=0.03
    ),
    "joint-flow-published": Case(
        lambda joints: JointFlow.published(joints), marginal_slack=2.0, completion_slack=0.1, **_RAW
    ),
    "global-flow": Case(lambda joints: GlobalFlow(joints, hidden=32)),
    "global-flow-published": Case(lambda joints: GlobalFlow.published(joints), **_RAW),
    "global-flow-context": Case(
        lambda joints: GlobalFlow(joints, hidden=32, context_dim=1), replace(_LONG, learning_rate=5e-3)
    ),
    "global-flow-published-context": Case(
        lambda joints: GlobalFlow.published(joints, context_dim=1), **{**_RAW, "heavy": True}
    ),
    "order-agnostic": Case(
        lambda joints: OrderAgnosticPrior(joints, hidden=24, num_components=4, num_orders=3, broad_weight=0.01),
        marginal_slack=0.5,
    ),
    "order-agnostic-hands": Case(
        lambda joints: OrderAgnosticPrior(joints, hidden=16, num_components=3, num_orders=3),
        marginal_slack=0.5,
        **_HANDS,
    ),
    "whole-body": Case(
        lambda joints: OrderAgnosticPrior(joints, hidden=16, num_components=3, num_orders=3),
        **{**_HANDS, "joints": (*LIMBS, *FINGERS), "pair": (16, 25), "data": lambda: parts_apart()},
    ),
    "vae": Case(lambda joints: _small_vae(VAEPrior, joints), **_LATENT),
    "vae-published": Case(lambda joints: VAEPrior.published(joints, latent_dim=4), **_LARGE),
    "body-vae": Case(lambda joints: _small_vae(BodyVAE, joints, posterior="diagonal"), **{**_LATENT, "heavy": True}),
    "body-vae-published": Case(lambda joints: BodyVAE.published(joints, latent_dim=4), **_LARGE),
    "hand-vae": Case(lambda joints: _small_vae(HandVAE, joints), **{**_HANDS, **_LATENT}),
    "hand-vae-published": Case(lambda joints: HandVAE.published(joints, latent_dim=4), **{**_HANDS, **_LARGE}),
    "kernel-density": Case(lambda joints: _KernelDensity(joints, num_poses=200), _CLOSED),
}


def _rig(joints: Joints) -> dict[str, dict[str, tuple[float, ...]]]:
    """The conventions of a rig whose shoulder (or first joint) and knee are not the prior's."""
    name = skeleton.JOINT_NAMES[16 if 16 in joints else joints[0]]
    values = {
        "parent_frame": {name: (20.0, -10.0, 5.0)}, "child_frame": {name: (0.0, 15.0, 30.0)},
        "spread": {name: (0.7, 1.2, 0.9)}, "centre": {name: (10.0, 20.0, -40.0)},
    }  # fmt: skip
    if 5 not in joints:
        return values
    return {key: {**value, "right_knee": (1.0, 2.0, 3.0)} for key, value in values.items()}


@cache
def training_poses() -> PoseDataset:
    """1,500 synthetic poses of 6 subjects."""
    return synthetic_poses(1500, seed=0, num_subjects=6)


@cache
def whole_poses() -> Tensor:
    """(N, 55, 3): those of the training poses that show all joints."""
    poses, observed = training_poses().all_poses()
    return poses[observed.all(1)]


@cache
def shown_poses() -> Tensor:
    """(N, 55, 3): whole poses and their reflections, as training shows them."""
    return torch.cat([whole_poses(), skeleton.mirror(whole_poses())])


def _with_masks(*parts: Sequence[int]) -> PoseDataset:
    """Whole poses once for each part, which is all that they show."""
    masks = torch.zeros(len(parts), len(whole_poses()), 55, dtype=torch.bool)
    for mask, part in zip(masks, parts, strict=True):
        mask[:, list(part)] = True
    return PoseDataset(whole_poses().repeat(len(parts), 1, 1), masks.flatten(0, 1))


@cache
def hands_apart() -> PoseDataset:
    """Hands that were recorded one at a time."""
    return _with_masks(range(25, 40), range(40, 55))


@cache
def parts_apart() -> PoseDataset:
    """Bodies without fingers, and hands that were recorded one at a time."""
    return _with_masks(range(1, 22), range(25, 40), range(40, 55))


@cache
def fitted(name: str, joints: Joints | None = None) -> PosePrior:
    """The prior of a case, over its own joints unless told, fitted once a session. Tests must not change it."""
    case = CASES[name]
    prior = case.build(case.joints if joints is None else joints)
    data = case.data()
    if prior.context_dim:
        data = PoseDataset(whole_poses(), context=labels(prior, whole_poses()))
    prior.fit(data, config=case.config)
    return prior.eval()


def labels(prior: PosePrior, poses: Tensor) -> Tensor:
    """(N, 1), 0 or 1, a condition of poses: whether the prior's first joint is turned more than usual about its main axis."""
    usual = whole_poses()[:, prior.joints[0]]
    axis = int(usual.std(0).argmax())
    return (poses[:, prior.joints[0], axis] > usual[:, axis].median()).float()[:, None]
