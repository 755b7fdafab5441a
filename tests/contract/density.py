"""Checks of `log_prob` as a density: its mass, its marginals, its change of variables, its derivatives."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor

from poseprior import LatentPosePrior, PosePrior
from poseprior.rotations import random_rotvec

from .oracles import (
    SIGMAS,
    Average,
    effective,
    full_pose,
    haar_log_density,
    log_density,
    mask_of,
    propose,
    seeded,
)

#: Draws of the proposal for each integral, and for each of the inner ones.
_DRAWS, _INNER = 12_000, 3_000


def num_draws(prior: PosePrior, draws: int = _DRAWS) -> int:
    """How many draws an integral takes: a bound that takes samples of its own costs more."""
    return draws // 4 if hasattr(prior, "bound") else draws


def check_mass(
    prior: PosePrior, near: Tensor, *, context: Tensor | None = None, whole: bool = True, slack: float = 0.0
) -> None:
    """The integral of the density over all joints is one, or at most one where `whole` is False.

    Args:
        prior: over one or two joints.
        near: (N, 55, 3) poses where the density is.
        context: (context_dim,) a condition.
        whole: whether no mass may be missing.
        slack: how far the mass may be off for an approximation.
    """
    draws = propose(prior, near, prior.joints, num_draws(prior), context=context)
    log_weight = log_density(prior, full_pose(draws.rotvec, prior.joints), context=context) - draws.log_q
    mass = Average.of(log_weight.exp())
    assert effective(log_weight) > 0.02 * len(log_weight), "the density is not where the poses are"
    room = slack + SIGMAS * float(mass.error)
    assert float(mass.error) < 0.08, f"the density is too uneven to integrate: {float(mass.error):.3f}"
    assert float(mass.value) < 1.0 + room, f"mass {float(mass.value):.4f}"
    if whole:
        assert float(mass.value) > 1.0 - room, f"mass {float(mass.value):.4f}"


def check_marginals(prior: PosePrior, near: Tensor, *, slack: float = 0.0) -> None:
    """`observed` without one of two joints gives the integral over that joint, where the prior takes the mask.

    Args:
        prior: over two joints or more.
        near: (N, 55, 3) poses where the density is.
        slack: nats by which an approximate marginal may be off.
    """
    for hidden in prior.joints[:2]:
        observed = mask_of(*(j for j in prior.joints if j != hidden))
        if not bool(prior.can_score(observed)):
            continue
        draws = propose(prior, near, [hidden], num_draws(prior, _INNER))
        for pose in near[:: len(near) // 4][:4]:
            joint = log_density(prior, full_pose(draws.rotvec, [hidden], pose))
            integral = Average.of((joint - draws.log_q - joint.max()).exp())
            expected = float(integral.value.log() + joint.max())
            found = float(log_density(prior, pose[None], observed=observed))
            room = slack + SIGMAS * float(integral.error / integral.value)
            assert abs(found - expected) < room, f"joint {hidden} hidden: {found:.3f}, integral {expected:.3f}"


def check_log_determinant(prior: PosePrior, poses: Tensor) -> None:
    """An exact latent prior reports log N(z; 0, I) + log|det dz/d rotvec| - log h(rotvec), with autograd's Jacobian."""
    if not isinstance(prior, LatentPosePrior) or hasattr(prior, "bound"):
        return
    double, index = deepcopy(prior).double(), list(prior.joints)
    for pose in poses[[0, len(poses) // 2]].double():
        rotvec = pose[index].flatten()

        def encode(flat: Tensor, pose: Tensor = pose) -> Tensor:
            return double.encode(pose.index_put((torch.tensor(index),), flat.view(-1, 3)))

        jacobian = torch.autograd.functional.jacobian(encode, rotvec)
        latent = encode(rotvec)
        normal = -0.5 * latent.square().sum() - 0.5 * len(latent) * math.log(2.0 * math.pi)
        measure = haar_log_density(rotvec.view(-1, 3)).sum()
        expected = normal + torch.linalg.slogdet(jacobian)[1] - measure
        torch.testing.assert_close(double.log_prob(pose), expected, rtol=1e-6, atol=1e-4)


def check_unobserved_values_are_ignored(prior: PosePrior, poses: Tensor) -> None:
    """Values of joints that the mask hides, NaN among them, change nothing, and a mask without joints scores 0."""
    poses = poses[:32]
    nothing = [mask_of()] if prior.can_marginalise else []
    masks = [mask for mask in _trial_masks(prior) if bool(prior.can_score(mask))]
    for mask in [*nothing, *masks]:
        broken = poses.clone()
        broken[:, ~mask] = math.nan
        moved = poses.clone()
        moved[:, ~mask] += 0.7
        expected = prior.log_prob(poses, observed=mask)
        assert torch.equal(prior.log_prob(broken, observed=mask), expected)
        torch.testing.assert_close(prior.log_prob(moved, observed=mask), expected, rtol=1e-5, atol=1e-4)
        leaf = poses.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(prior.log_prob(leaf, observed=mask).sum(), leaf)
        assert not gradient[:, ~mask].any(), "gradient at an unobserved joint"
    if prior.can_marginalise:
        zero = prior.log_prob(poses, observed=mask_of())
        torch.testing.assert_close(zero, torch.zeros_like(zero), rtol=0, atol=1e-5)
        whole = prior.log_prob(poses)
        assert all(bool((prior.log_prob(poses, observed=mask) != whole).any()) for mask in masks), "a mask is ignored"


def _trial_masks(prior: PosePrior) -> list[Tensor]:
    """Some joints hidden: one, some, and all but one."""
    joints = prior.joints
    hidden = [joints[:1], joints[-1:], joints[::2], joints[1:]] if len(joints) > 1 else []
    return [mask_of(*(j for j in range(55) if j not in gone)) for gone in hidden]


def check_rows_have_masks_of_their_own(prior: PosePrior, poses: Tensor) -> None:
    """A batch of different masks gives what every row gives alone, and gradients of the same rows."""
    poses = poses[:8]
    generator = seeded()
    masks = torch.rand(64, 55, generator=generator) < 0.6
    masks[::3] = True
    masks = masks[prior.can_score(masks)][: len(poses)]
    poses = poses[: len(masks)]
    together = prior.log_prob(poses, observed=masks)
    alone = torch.stack([prior.log_prob(p, observed=m) for p, m in zip(poses, masks, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-2)


def check_rotations_not_rotvecs(prior: PosePrior, poses: Tensor) -> None:
    """Whole turns more along the axis are the same rotation, with the same density."""
    double, poses = deepcopy(prior).double(), poses[:16].double()
    angle = poses.norm(dim=-1, keepdim=True)
    for turns in (-2, -1, 1, 2):
        again = torch.where(angle > 1e-6, poses * (1 + 2 * math.pi * turns / angle.clamp_min(1e-6)), poses)
        torch.testing.assert_close(double.log_prob(again), double.log_prob(poses), rtol=1e-5, atol=1e-4)


def special_poses(rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """(6 rows, 55, 3): axes everywhere, at angles where maps of rotations have series or folds."""
    axis = random_rotvec(rows, 55, generator=seeded(7), dtype=dtype)
    axis = axis / axis.norm(dim=-1, keepdim=True)
    return torch.cat([axis * angle for angle in (0.0, 1e-7, 1e-3, math.pi, 2 * math.pi, 50.0)])


def check_finite_everywhere(prior: PosePrior) -> None:
    """Values and gradients of uniform rotations and of special angles are finite, in both precisions."""
    for dtype in (torch.float32, torch.float64):
        double = deepcopy(prior).to(dtype)
        poses = torch.cat([random_rotvec(150, 55, generator=seeded(), dtype=dtype), special_poses(6, dtype)])
        poses.requires_grad_()
        value = double.log_prob(poses)
        assert value.dtype == dtype
        assert torch.isfinite(value).all()
        (gradient,) = torch.autograd.grad(value.sum(), poses)
        assert torch.isfinite(gradient).all()


def check_derivatives(prior: PosePrior, poses: Tensor, *, smooth: bool = True) -> None:
    """First and second derivatives along random lines agree with differences: at poses, at 0, 1e-7, pi, 2 pi and far off.

    Args:
        prior: any.
        poses: (N, 55, 3).
        smooth: False for a density of the raw rotvec by networks of ReLU: it jumps at pi, and kinks crowd around rest.
            Elsewhere a kink may lie within a step, so that of several steps the best counts.
    """
    double = deepcopy(prior).double()
    base = torch.cat([poses[:3].double(), special_poses(1)])
    base = base if smooth else base[[0, 1, 2, 8]]
    line = torch.randn(base.shape, generator=seeded(3), dtype=torch.float64)

    def value(t: float) -> Tensor:
        return double.log_prob(base + t * line)

    def slope(t: Tensor, *, again: bool = False) -> Tensor:
        """(N,) derivatives along the lines at t (N,)."""
        pose = base + t[:, None, None] * line
        return torch.autograd.grad(double.log_prob(pose).sum(), t, create_graph=again)[0]

    def at(t: float) -> Tensor:
        return torch.full((len(base),), t, dtype=torch.float64, requires_grad=True)

    steps = (1e-5,) if smooth else (1e-5, 1e-6, 1e-7)

    def nearest(exact: Tensor, differences: list[Tensor]) -> Tensor:
        """Of the differences by steps, each row's nearest to the derivative."""
        every = torch.stack(differences)
        return every.gather(0, (every - exact).abs().argmin(0, keepdim=True))[0]

    with torch.no_grad():
        numeric = [(value(step) - value(-step)) / (2 * step) for step in steps]
    exact = slope(at(0.0))
    torch.testing.assert_close(exact, nearest(exact, numeric), rtol=1e-4, atol=1e-3)
    leaf = at(0.0)
    first = slope(leaf, again=True)
    torch.testing.assert_close(first.detach(), exact, rtol=1e-6, atol=1e-6)
    assert first.requires_grad, "second derivatives are lost"
    (second,) = torch.autograd.grad(first.sum(), leaf)
    numeric = [(slope(at(step)) - slope(at(-step))) / (2 * step) for step in steps]
    torch.testing.assert_close(second, nearest(second, numeric), rtol=2e-3, atol=0.05)


def check_far_poses_are_pulled_back(prior: PosePrior, poses: Tensor) -> None:
    """From anywhere, small steps along the gradient gain a good part of what is to be gained."""
    pose = random_rotvec(12, 55, generator=seeded(1))
    start = prior.log_prob(pose).mean()
    for _ in range(60):
        pose = pose.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(prior.log_prob(pose).sum(), pose)
        length = gradient.square().sum((-1, -2), keepdim=True).sqrt().clamp_min(1e-12)
        pose = pose.detach() + 0.05 * math.sqrt(len(prior.joints)) * gradient / length
    typical = prior.log_prob(poses).mean()
    assert prior.log_prob(pose).mean() > start + 0.3 * (typical - start)


def check_mirror(prior: PosePrior, left: tuple[int, ...], right: tuple[int, ...], poses: Tensor) -> None:
    """Joints of one side are as likely as their mirror images on the other: swapped sides, (x, -y, -z).

    Args:
        prior: claims to serve both sides with the same weights.
        left, right: joints of the two sides.
        poses: (N, 55, 3).
    """
    image = torch.zeros_like(poses)
    image[:, list(right)] = poses[:, list(left)] * torch.tensor([1.0, -1.0, -1.0])
    expected = prior.log_prob(poses, observed=mask_of(*left))
    torch.testing.assert_close(prior.log_prob(image, observed=mask_of(*right)), expected, rtol=1e-4, atol=2e-3)
    assert float(expected.std()) > 1e-2


def check_weights_matter(prior: PosePrior, poses: Tensor) -> None:
    """A change of weights in place is seen by the next call, and a copy is no view of the original."""
    before, copy = prior.log_prob(poses[:4]), deepcopy(prior)
    assert torch.equal(copy.log_prob(poses[:4]), before)
    with torch.no_grad():
        for tensor in list(copy.parameters()) or [t for t in copy.buffers() if t.is_floating_point()]:
            tensor.mul_(0.97)
        for tensor in copy.parameters():
            tensor.sub_(0.01)
    changed = copy.log_prob(poses[:4])
    assert not torch.allclose(changed, before)
    fresh = type(prior).from_config(prior.get_config()).to(prior.dtype)
    fresh.load_state_dict(copy.state_dict())
    torch.testing.assert_close(fresh.eval().log_prob(poses[:4]), changed, rtol=1e-4, atol=1e-3)
    assert torch.equal(prior.log_prob(poses[:4]), before)
