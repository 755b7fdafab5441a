"""Checks of a prior as a module and as an interface: shapes, files, copies, randomness, errors."""

from __future__ import annotations

import math
import pickle
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior import LatentPosePrior, PosePrior

from .oracles import mask_of, seeded
from .sampling import completes

OfPoses = Callable[[PosePrior, Tensor], None]
OfPrior = Callable[[PosePrior], None]


def check_shapes(prior: PosePrior, poses: Tensor) -> None:
    """Any batch shape in, the same out; joints that are not modelled are ignored and come out zero."""
    poses = poses[:6]
    flat = prior.log_prob(poses)
    assert flat.shape == (6,)
    assert prior.log_prob(poses[0]).shape == ()
    torch.testing.assert_close(prior.log_prob(poses[0]), flat[0], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(prior.log_prob(poses.reshape(2, 3, 55, 3)), flat.reshape(2, 3), rtol=1e-4, atol=1e-3)
    samples = prior.sample((2, 4), generator=seeded())
    assert samples.shape == (2, 4, 55, 3)
    assert prior.sample(generator=seeded()).shape == (55, 3)
    assert prior.sample(3, generator=seeded()).shape == (3, 55, 3)
    assert float(samples.norm(dim=-1).max()) <= math.pi + 1e-5
    others = [j for j in range(55) if j not in prior.joints]
    assert not samples[..., others, :].any()
    assert bool(samples[..., list(prior.joints), :].any(-1).all())
    changed = poses.clone()
    changed[:, others] += 0.5
    torch.testing.assert_close(prior.log_prob(changed), flat, rtol=1e-5, atol=1e-4)


def check_no_pose_is_a_batch_too(prior: PosePrior) -> None:
    seen = torch.ones(55, dtype=torch.bool)
    for batch in ((0,), (0, 3), (2, 0)):
        poses = torch.zeros(*batch, 55, 3, requires_grad=True)
        value = prior.log_prob(poses)
        assert value.shape == batch
        assert torch.autograd.grad(value.sum(), poses)[0].shape == poses.shape
        assert prior.sample(batch).shape == (*batch, 55, 3)
        assert prior.complete(poses, seen, num_samples=2).shape == (2, *batch, 55, 3)
        if isinstance(prior, LatentPosePrior):
            assert prior.encode(poses).shape == (*batch, prior.latent_dim)
            assert prior.decode(torch.zeros(*batch, prior.latent_dim)).shape == (*batch, 55, 3)


def check_joints_go_where_they_belong(prior: PosePrior, poses: Tensor) -> None:
    """The median of each joint over samples is within two standard deviations of its median over the poses."""
    joints = list(prior.joints)
    drawn = prior.sample(600, generator=seeded())[:, joints].median(0).values
    given = poses[:, joints].median(0).values
    spread = poses[:, joints].std(0).norm(dim=-1).clamp_min(0.1)
    assert float(((drawn - given).norm(dim=-1) / spread).max()) < 2.0


def check_samples_score_like_poses(prior: PosePrior) -> None:
    samples = prior.log_prob(prior.sample(200, generator=seeded()))
    random = prior.log_prob(poseprior.rotations.random_rotvec(200, 55, generator=seeded()))
    assert float(samples.median()) > float(random.median()) + 0.5 * len(prior.joints)


def check_randomness_is_the_generators(prior: PosePrior, poses: Tensor) -> None:
    """Equal seeds give equal draws, other seeds others; no call uses the global generator; densities are deterministic."""
    observed = mask_of(*(j for j in range(55) if j != prior.joints[-1]))
    draws: list[Callable[[int], Tensor]] = [lambda seed: prior.sample(3, generator=seeded(seed))]
    if completes(prior, poses[:2], observed):
        draws.append(lambda seed: prior.complete(poses[:2], observed, num_samples=2, generator=seeded(seed)))
    state = torch.get_rng_state()
    for draw in draws:
        assert torch.equal(draw(5), draw(5))
        assert not torch.equal(draw(5), draw(6))
    assert torch.equal(prior.log_prob(poses[:4]), prior.log_prob(poses[:4]))
    if isinstance(prior, LatentPosePrior):
        assert torch.equal(prior.decode(prior.encode(poses[:4])), prior.decode(prior.encode(poses[:4])))
    assert torch.equal(torch.get_rng_state(), state)


def _assert_equal(first: PosePrior, second: PosePrior, poses: Tensor) -> None:
    """Two priors that answer every call alike, to the bit."""
    assert type(second) is type(first)
    assert second.joints == first.joints
    assert second.get_config() == first.get_config()
    stored, again = first.state_dict(), second.state_dict()
    assert stored.keys() == again.keys()
    assert all(torch.equal(stored[name], again[name]) for name in stored)
    assert torch.equal(second.log_prob(poses), first.log_prob(poses))
    assert torch.equal(second.sample(3, generator=seeded()), first.sample(3, generator=seeded()))
    if isinstance(first, LatentPosePrior) and isinstance(second, LatentPosePrior):
        assert torch.equal(second.encode(poses), first.encode(poses))
    observed = mask_of(*(j for j in range(55) if j != first.joints[-1]))
    if completes(first, poses, observed):
        drawn = [p.complete(poses, observed, num_samples=2, generator=seeded(1)) for p in (first, second)]
        assert torch.equal(*drawn)


def check_save_and_load(prior: PosePrior, poses: Tensor) -> None:
    """A saved prior comes back as it was: options, tensors, metadata, and every answer; frozen and in evaluation."""
    poses = poses[:5]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prior.safetensors"
        prior.save(path)
        again = poseprior.load(path)
        assert type(prior).load(path).joints == prior.joints
    _assert_equal(prior, again, poses)
    assert again.fitted
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert again._stored_metadata().get("training") == prior._stored_metadata().get("training")


def check_copies(prior: PosePrior, poses: Tensor) -> None:
    """`deepcopy` and `pickle` give equal priors."""
    poses = poses[:5]
    _assert_equal(prior, deepcopy(prior), poses)
    _assert_equal(prior, pickle.loads(pickle.dumps(prior)), poses)


def check_precisions_agree(prior: PosePrior, poses: Tensor) -> None:
    double, poses = deepcopy(prior).double(), poses[:8]
    torch.testing.assert_close(double.log_prob(poses.double()).float(), prior.log_prob(poses), rtol=1e-3, atol=3e-2)
    assert double.sample(2, generator=seeded()).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = prior.log_prob(poses)
    torch.testing.assert_close(inside, prior.log_prob(poses))


def check_mode_of_a_parent(prior: PosePrior, poses: Tensor) -> None:
    """A loaded prior stays deterministic when a module that holds it is trained, and is so again once it is frozen again."""
    with tempfile.TemporaryDirectory() as folder:
        prior.save(Path(folder) / "prior.safetensors")
        loaded = poseprior.load(Path(folder) / "prior.safetensors")
    expected = loaded.log_prob(poses[:4])
    parent = nn.ModuleList([loaded])
    parent.train()
    torch.testing.assert_close(loaded.log_prob(poses[:4]), expected, rtol=1e-5, atol=1e-4)
    drawn = loaded.sample(3, generator=seeded())
    for holder in (parent, loaded):
        parent.requires_grad_(True).train()
        holder.requires_grad_(False)
        torch.testing.assert_close(loaded.log_prob(poses[:4]), expected, rtol=1e-5, atol=1e-4)
        assert not any(module.training for module in loaded.modules())
        parent.requires_grad_(True).train()
        holder.requires_grad_(False)
        torch.testing.assert_close(loaded.sample(3, generator=seeded()), drawn, rtol=1e-4, atol=1e-4)


def check_errors(prior: PosePrior, poses: Tensor) -> None:
    """One clear error for what cannot be: the argument, what was expected, what arrived."""
    poses, joint = poses[:2], prior.joints[0]
    with pytest.raises(ValueError, match=r"pose: expected shape \(\*batch, 55, 3\), got \(2, 53, 3\).*joints53"):
        prior.log_prob(poses[:, :53])
    with pytest.raises(ValueError, match=r"pose: expected shape .* got \(2, 165\).*pose_from_vector"):
        prior.log_prob(poses.flatten(1))
    with pytest.raises(ValueError, match=r"pose: expected a floating-point tensor"):
        prior.log_prob(poses.long())
    broken = poses.clone()
    broken[1, joint, 2] = math.nan
    name = poseprior.skeleton.JOINT_NAMES[joint]
    with pytest.raises(ValueError, match=rf"NaN or infinity at {name} of pose 1; mark missing"):
        prior.log_prob(broken)
    with pytest.raises(ValueError, match=r"observed: expected a bool tensor"):
        prior.log_prob(poses, observed=torch.ones(55))
    with pytest.raises(ValueError, match=r"observed: shape \(3, 55\) does not broadcast"):
        prior.log_prob(poses, observed=torch.ones(3, 55, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"num_samples: expected a whole number of 1 or more"):
        prior.complete(poses, torch.ones(55, dtype=torch.bool), num_samples=0)
    with pytest.raises(ValueError, match=r"sample_shape: expected whole sizes of 0 or more"):
        prior.sample(-1)
    if not prior.context_dim:
        with pytest.raises(ValueError, match=r"context: .* built without context_dim"):
            prior.log_prob(poses, context=torch.zeros(2, 3))
    else:
        with pytest.raises(ValueError, match=r"context: expected \(\*batch, \d+\), got"):
            prior.log_prob(poses, context=torch.zeros(2, prior.context_dim + 1))
    if not prior.can_marginalise:
        with pytest.raises(ValueError, match=r"observed: .* cannot marginalise.*GaussianPrior"):
            prior.log_prob(poses, observed=mask_of())
    fresh = type(prior).from_config(prior.get_config())
    if not prior.context_dim:
        with pytest.raises(ValueError, match=r"train: expected a PoseDataset or a \(N, 55, 3\) tensor, got list"):
            fresh.fit([1, 2])  # type: ignore[arg-type]
        hidden = poseprior.PoseDataset(torch.zeros(4, 55, 3), torch.zeros(4, 55, dtype=torch.bool))
        with pytest.raises(ValueError, match=r"train: none of the prior's joints .* is observed"):
            fresh.fit(hidden)
