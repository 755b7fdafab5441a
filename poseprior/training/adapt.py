"""`adapt`: a prior for the conventions of one rig, found from unlabelled poses of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import skeleton
from .._checks import check_number, check_whole
from .._inference_mode import leaves_inference_mode
from .._shown import training_facts
from ..io.dataset import PoseDataset, as_dataset
from ..optim import adam
from ..prior import PosePrior
from ..rigs.adapted import adapted
from ..rigs.rig_map import RigMap
from ..rotations import add_tangent_noise, rotvec_to_tangent
from .pose_rows import check_fitted, moving_rows, quick_mean
from .rig_noise import RigNoise

#: Poses that `adapt` needs at least.
LEAST_POSES = 100
#: Share of the variance of a rig's rest frames that left and right joints have in common, and standard deviation of the
#: logarithm of a rig's spread: chosen on left-out rigs (docs/check_and_adapt.md).
_TIED, _SPREAD = 0.7, 0.3
#: Draws of the prior that one pose counts for at most, since the poses of a recording repeat each other, and one person,
#: since people differ from each other as rigs do.
_DRAWS_A_POSE, _DRAWS_A_PERSON = 0.1, 10.0
#: What of the rig noise's variance is taken off the variance of a prior's samples (the middle of that heavy-tailed
#: distribution is narrower than its variance says), and what of the variance of the samples is left at least.
_NOISE_PART, _LEAST_MOVEMENT = 0.5, 0.25
_JITTER = 0.1
_BATCH = 128
_RATE = 0.05
_SAMPLES = 1024
#: Share of a normal distribution within one standard deviation.
_MIDDLE = 0.68


@dataclass(frozen=True)
class _Poses:
    """What is adapted to: (N, J, 3) rotvecs and (N, J) masks over the prior's joints."""

    rotvec: Tensor
    observed: Tensor
    num_people: int
    most_weight: float
    constant: list[str]


@leaves_inference_mode
def adapt(
    prior: PosePrior,
    poses: PoseDataset | Tensor,
    *,
    rig_noise: RigNoise | None = None,
    jitter: float | None = None,
    steps: int = 200,
    seed: int = 0,
) -> PosePrior:
    """A prior of the same people as one rig records them, exact in the same measure.

    The rig's pose R' is taken for R'_j = A_j N_j(R_j) B_j of a pose R of the prior: A_j and B_j turn the rest frames, N_j
    scales the distance from the prior's mean rotation by factors d_j along its axes (`poseprior.rigs.rig_map.RigMap`).
    They are maximum a posteriori:

        max  n mean_i f(log p(R_i) + log |dR_i / dR'_i|)  +  log N(a; 0, A) + log N(b; 0, B) + log N(log d; 0, 0.3^2)

    with rotvecs a, b of the frames and the covariances A and B of `rig_noise`, of which left and right joints have 70 %
    in common. f lets poses that are far less likely than the prior's samples count less: a few broken ones do no harm.

    n says how many independent draws of the prior the poses are worth. Somebody who only walks is always away from the
    prior's mean, and no rig is the reason. If k movements are drawn and held, their variance is 1 - 1 / k of the whole, so

        n = 1 / (1 - v / v_prior),      at most a tenth of the poses, and 10 for each person where `subject` says who,

    with the variance v of the poses, and v_prior of the prior's samples without its rig noise.

    A joint that never moves was not recorded: it counts as unobserved, and its rest frame stays.
    `metadata["adaptation"]` of the result names it. The prior itself is not changed.

    Args:
        prior: a fitted prior without a context. One that cannot marginalise learns from poses that show all its joints.
        poses: 100 poses or more of one rig: a `PoseDataset`, or (N, 55, 3) rotvecs that are fully observed. Many
            movements of several people say more than many frames of one; `subject` is used where a data set has it.
        rig_noise: sizes of the differences between rigs; None takes those that the prior was trained with, else
            `RigNoise.estimated`. Joints that it does not name keep their rest frames.
        jitter: tangent noise on the poses, radians; None is that of the prior's training, or 0.1 where it is not known.
        steps: of Adam.
        seed: of the noise and the order of poses.

    Returns:
        An `AdaptedPrior` (for priors with a latent space an `AdaptedLatentPrior`) that holds a reference to the prior. It
        models the same joints, and samples, completes, marginalises, saves and loads as the prior does. The held-out
        percentiles of its `metadata["calibration"]` are still those of the prior.

    Raises:
        ValueError: fewer than 100 poses that the prior can score, a prior that is not fitted or takes a context, or
            `rig_noise` that moves none of the joints.

    >>> from poseprior import GaussianPrior
    >>> prior = GaussianPrior("body")
    >>> _ = prior.fit(0.2 * torch.randn(500, 55, 3, generator=torch.Generator().manual_seed(0)))
    >>> mine = 0.2 * torch.randn(200, 55, 3, generator=torch.Generator().manual_seed(1))
    >>> adapt(prior, mine, steps=2).joints == prior.joints
    True
    """
    check_whole("steps", steps, least=1)
    check_whole("seed", seed)
    check_fitted(prior)
    training = training_facts(prior.metadata)
    if jitter is None:
        jitter = training.get("jitter", _JITTER)
    jitter = check_number("jitter", jitter, least=0.0)
    if rig_noise is None:
        stored = training.get("rig_noise")
        rig_noise = RigNoise.from_dict(stored) if stored else RigNoise.estimated("whole_body")
    known = _poses(prior, as_dataset(poses, "poses"))
    search = _Search(prior, known, rig_noise, jitter, seed)
    start = search.start()
    before = search.nll(search.rig_map(start[0]))
    found = search.rig_map(adam(search.energy, start, iterations=steps, learning_rate=_RATE, noisy=True).point[0])
    result = adapted(prior, **search.by_joint(found)).eval().requires_grad_(False)
    result.metadata = {
        **prior._stored_metadata(),
        "adaptation": {
            "num_poses": len(known.rotvec), "num_people": known.num_people, "num_draws": round(search.weight, 2),
            "jitter": jitter, "steps": steps, "seed": seed, "nll_before": round(before, 2),
            "nll_after": round(search.nll(found), 2), "constant_joints": known.constant,
        },
    }  # fmt: skip
    return result


def _poses(prior: PosePrior, data: PoseDataset) -> _Poses:
    pose, seen, usable, _, constant = moving_rows(prior, *data.all_poses())
    count = int(usable.sum())
    if count < LEAST_POSES:
        why = (
            "" if prior.can_marginalise else f", and {type(prior).__name__} only scores poses that show all its joints"
        )
        why += f"; {', '.join(constant)} never move and count as unobserved" if constant else ""
        raise ValueError(
            f"poses: expected {LEAST_POSES} or more that the prior can score, got {count} of {len(data)}{why}: fewer "
            "poses show what a person did, not how the rig's joints are turned; give more poses, or use the prior as it is."
        )
    rows = usable.nonzero()[:, 0]
    people = 1 if data.subject is None else len(np.unique(np.asarray(data.subject)[rows.cpu().numpy()]))
    most = _DRAWS_A_POSE * count
    if data.subject is not None:
        most = min(most, _DRAWS_A_PERSON * people)
    index = list(prior.joints)
    return _Poses(pose[rows][:, index], seen[rows][:, index], people, most, constant)


class _Search:
    """The posterior of a rig's conventions, as an energy of whitened unknowns.

    The unknowns are `shared` and `own` (2, J, 3) of the two frames and `spread` (J, 3), 15 J numbers in all.
    """

    def __init__(self, prior: PosePrior, poses: _Poses, noise: RigNoise, jitter: float, seed: int) -> None:
        self._prior, self._poses, self._jitter, self._seed = prior, poses, jitter, seed
        self._generator = torch.Generator(prior.device).manual_seed(seed)
        self._factor = torch.stack(noise.frame_factors(prior.joints)).to(poses.rotvec)
        if not bool(self._factor.any()):
            raise ValueError(
                "rig_noise: expected sizes for some of the prior's joints, got none; RigNoise.estimated() has some."
            )
        self._partner = [
            prior.joints.index(skeleton.MIRROR[j]) if skeleton.MIRROR[j] in prior.joints else k
            for k, j in enumerate(prior.joints)
        ]
        alone = [k == partner for k, partner in enumerate(self._partner)]
        self._alone = torch.tensor(alone, device=prior.device)[:, None]
        samples = prior.sample(_SAMPLES, generator=self._generator)
        seen = poses.observed.any(0)
        # A joint that is not seen keeps its spread, and so does one that the rig noise does not move.
        self._free = (seen & self._factor.flatten(2).any(2).any(0))[:, None]
        self.centre = quick_mean(samples[:, list(prior.joints)]).to(poses.rotvec)
        #: n, how many draws of the prior the poses count for.
        self.weight = self._count_draws(
            samples[:, list(prior.joints)], bool(training_facts(prior.metadata).get("rig_noise"))
        )
        with torch.no_grad():
            full = torch.ones_like(poses.observed[:1]).expand(_SAMPLES, -1)
            usual = prior._log_prob(samples[:, list(prior.joints)], full, None)
        self._typical = usual.median() / len(prior.joints)

    def _count_draws(self, samples: Tensor, noisy: bool) -> float:
        """n, see `adapt`; `noisy`: whether the prior was trained with rig noise."""
        usual = rotvec_to_tangent(samples.double(), self.centre.double())
        # A few samples from broad tails decide a variance, so the middle 68 per cent do where they are closer.
        usual = torch.minimum(usual.square().mean(0), usual.abs().quantile(_MIDDLE, 0).square()).sum(1)
        noise = self._factor.double().square().sum((0, 2, 3)) if noisy else torch.zeros_like(usual)
        usual = torch.maximum(usual - _NOISE_PART * noise, _LEAST_MOVEMENT * usual)
        seen, rotvec = self._poses.observed, self._poses.rotvec.double()
        spread = rotvec_to_tangent(rotvec, quick_mean(rotvec, seen)).square().sum(-1)
        shown = ((spread * seen).sum(0) / seen.sum(0).clamp_min(1)).sum()
        whole = (usual * seen.any(0)).sum()
        return min(1.0 / max(1e-6, 1.0 - float(shown / whole)), max(1.0, self._poses.most_weight))

    def start(self) -> Tensor:
        """(1, 15 J) unknowns of a rig that has the prior's own conventions."""
        return self._prior._zeros(5).view(1, -1)

    def rig_map(self, unknown: Tensor) -> RigMap:
        """The conventions that unknowns (15 J,) stand for."""
        shared, own, spread = unknown.view(5, -1, 3).split([2, 2, 1])
        both = torch.where(self._alone, shared, (shared + skeleton.reflect(shared[:, self._partner])) / math.sqrt(2.0))
        white = math.sqrt(_TIED) * both + math.sqrt(1.0 - _TIED) * own
        frames = (self._factor @ white[..., None])[..., 0]
        factor = torch.where(self._free, (_SPREAD * spread[0]).exp(), torch.ones_like(spread[0]))
        return RigMap(frames[0], frames[1], factor, self.centre)

    def energy(self, unknown: Tensor) -> Tensor:
        """(1,) negative log-posterior over n of unknowns (1, 15 J), from a random batch of the poses."""
        poses, generator = self._poses, self._generator
        rows = torch.randperm(len(poses.rotvec), generator=generator, device=self._prior.device)[:_BATCH]
        noisy = add_tangent_noise(poses.rotvec[rows], self._jitter, generator=generator)
        seen = poses.observed[rows]
        shortfall = self._typical * seen.sum(1) - self._log_prob(self.rig_map(unknown[0]), noisy, seen)
        scale = 3.0 * seen.sum(1)  # a nat for each coordinate
        far = scale * torch.log1p(shortfall.clamp_min(0.0) / scale)
        loss = torch.where(shortfall > 0, far, shortfall).mean()
        return loss + 0.5 * unknown.square().sum(1) / self.weight

    def nll(self, rig_map: RigMap) -> float:
        """Mean NLL of the poses under the jitter, the same noise in every call."""
        generator = torch.Generator(self._prior.device).manual_seed(self._seed)
        total = 0.0
        with torch.no_grad():
            for rotvec, seen in zip(self._poses.rotvec.split(2048), self._poses.observed.split(2048), strict=True):
                noisy = add_tangent_noise(rotvec, self._jitter, generator=generator)
                total -= float(self._log_prob(rig_map, noisy, seen).sum())
        return total / len(self._poses.rotvec)

    def _log_prob(self, rig_map: RigMap, rotvec: Tensor, observed: Tensor) -> Tensor:
        own, log_volume = rig_map.to_prior(rotvec)
        own = torch.where(observed[..., None], own, torch.zeros_like(own))
        return self._prior._log_prob(own, observed, None) + (log_volume * observed).sum(1)

    def by_joint(self, rig_map: RigMap) -> dict[str, dict[str, tuple[float, ...]]]:
        """Options of an adapted prior: rotvecs in degrees and factors, of the joints that changed."""
        result = {}
        for name, values in rig_map._asdict().items():
            numbers = values.detach().double() * (1.0 if name == "spread" else 180.0 / math.pi)
            result[name] = {
                skeleton.JOINT_NAMES[j]: tuple(round(float(v), 4) for v in numbers[k])
                for k, j in enumerate(self._prior.joints)
                if bool(self._free[k])
            }
        return result
