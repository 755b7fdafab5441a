"""Adapting to a rig: the density against a change of variables by autograd, recovery of known rest frames, refusals."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch

import poseprior
from poseprior import FitConfig, GaussianPrior, GlobalFlow, LatentPosePrior, PoseDataset
from poseprior.io import synthetic_poses
from poseprior.rigs import AdaptedLatentPrior, AdaptedPrior, adapted
from poseprior.rigs.rig_map import RigMap
from poseprior.rotations import (
    geodesic_distance,
    haar_log_density,
    quat_multiply,
    random_rotvec,
    rotvec_to_unitquat,
    unitquat_log,
)
from poseprior.tasks import adapt
from poseprior.training.rig_noise import RigNoise

KNEE, ELBOW = 4, 18


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def _prior() -> GaussianPrior:
    """A Gaussian of two joints and their partners, a broad knee and a broad elbow."""
    prior = GaussianPrior(("left_knee", "right_knee", "left_elbow", "right_elbow"), covariance="full")
    poses = torch.zeros(4000, 55, 3)
    poses[:, [4, 5]] = torch.tensor([0.8, 0.0, 0.0]) + 0.25 * torch.randn(4000, 2, 3, generator=_generator())
    poses[:, 18] = torch.tensor([0.0, -0.9, 0.0]) + 0.25 * torch.randn(4000, 3, generator=_generator(1))
    poses[:, 19] = torch.tensor([0.0, 0.9, 0.0]) + 0.25 * torch.randn(4000, 3, generator=_generator(2))
    prior.fit(poses, config=FitConfig(progress=False))
    return prior


def _turned(pose: torch.Tensor, joint: int, left: tuple[float, ...], right: tuple[float, ...]) -> torch.Tensor:
    """R'_j = Exp(left) R_j Exp(right), radians."""
    first, last = (rotvec_to_unitquat(torch.tensor(v)) for v in (left, right))
    result = pose.clone()
    result[:, joint] = unitquat_log(quat_multiply(quat_multiply(first, rotvec_to_unitquat(pose[:, joint])), last))[0]
    return result


def _random_map(joints: int) -> RigMap:
    generator = _generator(3)
    frames = random_rotvec(3, joints, generator=generator, dtype=torch.float64)
    spread = (0.4 * torch.randn(joints, 3, generator=generator, dtype=torch.float64)).exp()
    return RigMap(frames[0], frames[1], spread, frames[2])


def test_the_map_and_its_inverse() -> None:
    rig_map, pose = _random_map(6), random_rotvec(200, 6, generator=_generator(), dtype=torch.float64)
    there = rig_map.to_rig(pose)
    assert float(geodesic_distance(rig_map.to_prior(there)[0], pose).max()) < 1e-9
    assert float(there.norm(dim=-1).max()) <= math.pi + 1e-9


def test_the_change_of_volume_is_that_of_autograd() -> None:
    """In rotvec coordinates: log |dR/dR'| against Haar is log |det J| + log h(R) - log h(R')."""
    rig_map = _random_map(1)
    for pose in random_rotvec(20, 1, generator=_generator(7), dtype=torch.float64):
        own, log_volume = rig_map.to_prior(pose)
        jacobian = torch.autograd.functional.jacobian(lambda x: rig_map.to_prior(x)[0], pose)[0, :, 0]
        expected = torch.linalg.slogdet(jacobian)[1] + haar_log_density(own) - haar_log_density(pose)
        torch.testing.assert_close(log_volume, expected, rtol=1e-6, atol=1e-6)


def test_turned_frames_are_the_density_at_the_turned_pose() -> None:
    prior, poses = _prior(), _prior().sample(50, generator=_generator())
    left, right = (20.0, -10.0, 5.0), (0.0, 30.0, 0.0)
    found = AdaptedPrior(prior, parent_frame={"left_knee": left}, child_frame={"left_knee": right})
    there = _turned(poses, KNEE, *(tuple(math.radians(v) for v in frame) for frame in (left, right)))
    torch.testing.assert_close(found.log_prob(there), prior.log_prob(poses), rtol=1e-4, atol=1e-3)
    observed = torch.ones(55, dtype=torch.bool)
    observed[KNEE] = False  # what is not seen has no frame
    torch.testing.assert_close(
        found.log_prob(there, observed=observed), prior.log_prob(poses, observed=observed), rtol=1e-4, atol=1e-3
    )


def test_a_spread_widens_the_samples() -> None:
    spread = {"left_knee": (2.0, 1.0, 0.5)}
    found = AdaptedPrior(_prior(), spread=spread, centre={"left_knee": (math.degrees(0.8), 0.0, 0.0)})
    before, after = (
        p.sample(4000, generator=_generator())[:, KNEE] - torch.tensor([0.8, 0.0, 0.0]) for p in (_prior(), found)
    )
    ratio = after[:, 0].abs().median() / before[:, 0].abs().median()
    assert float(ratio) == pytest.approx(2.0, rel=0.1)


def test_adapting_recovers_known_rest_frames() -> None:
    """The density of unseen poses comes back; the frames themselves only where both sides of a joint can be told."""
    prior = _prior()
    turn = ((0.5, 0.1, -0.2), (0.0, 0.3, 0.3))
    mine, others = (_turned(prior.sample(600, generator=_generator(s)), KNEE, *turn) for s in (5, 6))
    wide = [[400.0, 0.0, 0.0], [0.0, 400.0, 0.0], [0.0, 0.0, 400.0]]
    noise = RigNoise(parent_frame={"left_knee": wide}, child_frame={"left_knee": wide})
    found = adapt(prior, mine, rig_noise=noise, jitter=0.0)
    best = float(prior.log_prob(prior.sample(600, generator=_generator(6))).mean())
    before, after = float(prior.log_prob(others).mean()), float(found.log_prob(others).mean())
    assert before < best - 2.0
    assert after > best - 0.25 * (best - before)
    elbow = torch.zeros(55, dtype=torch.bool)
    elbow[ELBOW] = True  # a joint without noise keeps its frames
    torch.testing.assert_close(found.log_prob(others, observed=elbow), prior.log_prob(others, observed=elbow))


def test_broken_poses_do_little_harm() -> None:
    prior = _prior()
    turn = ((0.5, 0.1, -0.2), (0.0, 0.3, 0.3))
    clean, others = (_turned(prior.sample(300, generator=_generator(s)), KNEE, *turn) for s in (5, 6))
    broken = clean.clone()
    broken[::10] = random_rotvec(30, 55, generator=_generator(8))
    from_clean, from_broken = adapt(prior, clean), adapt(prior, broken)
    gain = float((from_clean.log_prob(others) - prior.log_prob(others)).mean())
    kept = float((from_broken.log_prob(others) - prior.log_prob(others)).mean())
    assert gain > 1.0
    assert kept > 0.6 * gain


def test_poses_of_the_prior_itself_change_little() -> None:
    prior = _prior()
    found = adapt(prior, prior.sample(300, generator=_generator(5)))
    others = prior.sample(2000, generator=_generator(6))
    assert float((prior.log_prob(others) - found.log_prob(others)).mean()) < 0.1


def test_adapted_priors_save_and_load_with_their_notes(tmp_path: Path) -> None:
    prior = _prior()
    found = adapt(prior, prior.sample(120, generator=_generator(5)), steps=3)
    found.save(tmp_path / "mine.safetensors")
    again = poseprior.load(tmp_path / "mine.safetensors")
    assert isinstance(again, AdaptedPrior)
    assert again.metadata["adaptation"]["num_poses"] == 120
    assert again.metadata["training"] == prior.metadata["training"]
    poses = prior.sample(5, generator=_generator())
    assert torch.equal(again.log_prob(poses), found.log_prob(poses))


def test_latent_priors_stay_latent() -> None:
    flow = GlobalFlow("body", hidden=16)
    data = synthetic_poses(600, seed=0)
    flow.fit(data, config=FitConfig(max_steps=3, progress=False))
    poses, observed = data.all_poses()
    whole = poses[observed[:, list(flow.joints)].all(1)]
    found = adapt(flow, whole, steps=3)
    assert isinstance(found, LatentPosePrior)
    assert isinstance(found, AdaptedLatentPrior)
    back = found.decode(found.encode(whole[:20]))
    index = list(flow.joints)
    assert float(geodesic_distance(back[:, index], whole[:20, index]).max()) < 1e-3
    with pytest.raises(ValueError, match=r"prior: AdaptedPrior does not hold a GlobalFlow.*adapted chooses"):
        AdaptedPrior(flow)


def test_constant_joints_are_left_out_and_named() -> None:
    prior = _prior()
    mine = prior.sample(150, generator=_generator(5))
    mine[:, ELBOW] = 0.0
    found = adapt(prior, mine, steps=20)
    assert found.metadata["adaptation"]["constant_joints"] == ["left_elbow"]
    elbow = torch.zeros(55, dtype=torch.bool)
    elbow[ELBOW] = True
    poses = prior.sample(20, generator=_generator(6))
    spread_alone = found.log_prob(poses, observed=elbow) - prior.log_prob(poses, observed=elbow)
    assert float(spread_alone.abs().max()) < 1.0


def test_refusals() -> None:
    prior = _prior()
    with pytest.raises(
        ValueError, match=r"poses: expected 100 or more .* got 99 of 99: fewer poses show what a person did"
    ):
        adapt(prior, prior.sample(99, generator=_generator()))
    with pytest.raises(ValueError, match=r"poses: expected finite rotvecs within 1e\+15 radians on observed joints"):
        adapt(prior, 1e20 * prior.sample(150, generator=_generator()))
    few = PoseDataset(torch.zeros(300, 55, 3))
    with pytest.raises(ValueError, match=r"got 0 of 300; left_knee, .* never move and count as unobserved"):
        adapt(prior, few)
    with pytest.raises(ValueError, match=r"prior: expected a fitted prior"):
        adapt(GaussianPrior("body"), prior.sample(150, generator=_generator()))
    with pytest.raises(ValueError, match=r"rig_noise: expected sizes for some of the prior's joints, got none"):
        adapt(prior, prior.sample(150, generator=_generator()), rig_noise=RigNoise())
    with pytest.raises(ValueError, match=r"centre: expected one for every joint with a spread, got none for left_knee"):
        adapted(prior, spread={"left_knee": (1.0, 1.0, 2.0)})
    with pytest.raises(ValueError, match=r"parent_frame: expected names of joints that the prior models, got 'head'"):
        adapted(prior, parent_frame={"head": (1.0, 1.0, 2.0)})
    with pytest.raises(ValueError, match=r"spread\['left_knee'\]: expected a finite number of 0.05 or more"):
        adapted(prior, spread={"left_knee": (0.0, 1.0, 2.0)}, centre={"left_knee": (0.0, 0.0, 0.0)})
    with pytest.raises(ValueError, match=r"prior: expected a prior, got 3"):
        AdaptedPrior(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"prior: expected a prior, got .*Nobody.* does not know"):
        AdaptedPrior({"class": "Nobody", "config": {}})


def test_an_adapted_prior_is_fitted_through_its_map() -> None:
    """Fitting to the rig's poses is fitting the held prior to the poses behind them."""
    frames = {"parent_frame": {"left_knee": (25.0, 0.0, 10.0)}}
    joints = ("left_knee", "right_knee")
    poses = _prior().sample(500, generator=_generator(5))
    there = _turned(poses, KNEE, (math.radians(25.0), 0.0, math.radians(10.0)), (0.0, 0.0, 0.0))
    config = FitConfig(progress=False, mirror=False, jitter=0.0)
    plain, held = GaussianPrior(joints), adapted(GaussianPrior(joints), **frames)
    plain.fit(poses, config=config)
    held.fit(there, config=config)
    torch.testing.assert_close(held.log_prob(there), plain.log_prob(poses), rtol=1e-4, atol=1e-3)


def test_the_method_is_the_function() -> None:
    prior = _prior()
    mine = prior.sample(150, generator=_generator(5))
    by_method, by_function = prior.adapt(mine, steps=3, seed=1), adapt(prior, mine, steps=3, seed=1)
    assert by_method.get_config() == by_function.get_config()
