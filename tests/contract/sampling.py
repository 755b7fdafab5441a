"""Checks that `sample`, `complete`, `encode` and `decode` follow the density that `log_prob` reports."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from poseprior import LatentPosePrior, PosePrior

from .density import num_draws
from .oracles import SIGMAS, Average, Frame, effective, full_pose, log_density, mask_of, propose, seeded

_SAMPLES, _DRAWS = 10_000, 12_000
#: For one completed joint: poses, repeats of each, draws of each repeat, draws of the proposal.
_POSES, _REPEATS, _EACH, _INNER = 3, 40, 25, 3_000
#: Of samples whose observed joint lies in a ball: the share that does, and how many samples are nearer to the middle than
#: the ball's centre.
_IN_BALL, _OFF_CENTRE = 0.3, 0.7


def check_sample_moments(prior: PosePrior, near: Tensor, *, context: Tensor | None = None, slack: float = 0.0) -> None:
    """Averages over samples are the averages over SO(3) weighted by the density.

    Args:
        prior: over one or two joints.
        near: (N, 55, 3) poses where the density is.
        context: (context_dim,) a condition.
        slack: how far averages of functions within [-1, 1] may be off for an approximation.
    """
    joints = list(prior.joints)
    frame = Frame.around(near, joints)
    draws = propose(prior, near, joints, num_draws(prior, _DRAWS), context=context)
    log_p = log_density(prior, full_pose(draws.rotvec, joints), context=context)
    log_weight = log_p - draws.log_q
    assert effective(log_weight) > 0.02 * len(log_weight), "the density is not where the poses are"
    samples = prior.sample(_SAMPLES, generator=seeded(2), context=context)
    score = log_density(prior, samples[: len(log_p)], context=context)
    low, high = score.quantile(torch.tensor([0.02, 0.98], dtype=torch.float64))

    def bend(log_p: Tensor) -> Tensor:
        """Density levels within [-1, 1]."""
        return ((log_p - low) / (high - low).clamp_min(1e-3)).clamp(0.0, 1.0)[:, None]

    expected = Average.weighted(frame.features(draws.rotvec), log_weight)
    _assert_same(Average.of(frame.features(samples[:, joints])), expected, slack)
    _assert_same(Average.of(bend(score)), Average.weighted(bend(log_p), log_weight), slack)


def check_marginal_sample_moments(prior: PosePrior, joint: int, *, slack: float = 0.0) -> None:
    """Averages of one joint of whole samples are those of the marginal density of that joint, by its mask."""
    samples = prior.sample(4_000, generator=seeded(4))
    frame = Frame.around(samples, [joint])
    draws = propose(prior, samples, [joint], num_draws(prior, _INNER))
    log_weight = log_density(prior, full_pose(draws.rotvec, [joint]), observed=mask_of(joint)) - draws.log_q
    assert abs(float(log_weight.exp().mean()) - 1.0) < 0.1 + slack, "the mass of one joint is not 1"
    found = Average.of(frame.features(samples[:, [joint]]))
    _assert_same(found, Average.weighted(frame.features(draws.rotvec), log_weight), slack)


def _assert_same(found: Average, expected: Average, slack: float) -> None:
    distance = found.distance(expected, slack)
    worst = int(distance.argmax())
    assert float(distance.max()) < SIGMAS, (
        f"average {worst}: {float(found.value[worst]):.4f} of draws, {float(expected.value[worst]):.4f} of the density, "
        f"{float(distance.max()):.1f} standard errors apart"
    )


def completes(prior: PosePrior, poses: Tensor, observed: Tensor) -> bool:
    """Whether `complete` takes this mask; a prior that cannot must say so, and name one that can."""
    try:
        prior.complete(poses, observed, generator=seeded())
    except ValueError as error:
        if not re.search(r"no exact conditional.*GaussianPrior", str(error)):
            raise
        return False
    return True


def check_completion_moments(prior: PosePrior, near: Tensor, *, slack: float = 0.0) -> None:
    """Draws of one hidden joint given the others follow the density as a function of that joint.

    Args:
        prior: over two joints.
        near: (N, 55, 3) poses where the density is.
        slack: as in `check_sample_moments`.
    """
    conditional: Callable[..., Tensor] | None = getattr(prior, "conditional_log_prob", None)
    for hidden in prior.joints:
        observed = mask_of(*(j for j in range(55) if j != hidden))
        if not completes(prior, near[:1], observed):
            continue
        frame = Frame.around(near, [hidden])
        draws = propose(prior, near, [hidden], num_draws(prior, _INNER))
        for pose in near[:: len(near) // _POSES][:_POSES]:
            trial = full_pose(draws.rotvec, [hidden], pose)
            if conditional is not None:  # orders need not agree: the density that is drawn from has a method of its own
                log_p = conditional(trial.to(prior.dtype), observed.expand(len(trial), 55)).double()
            else:
                log_p = log_density(prior, trial)
            filled = prior.complete(
                pose.expand(_REPEATS, 55, 3), observed, num_samples=_EACH, generator=seeded(7)
            )  # fmt: skip
            keep = [j for j in range(55) if j != hidden]
            assert torch.equal(filled[:, :, keep], pose[keep].expand(_EACH, _REPEATS, -1, -1))
            # Draws of one call may depend on each other (resampling), those of two rows may not.
            rows = frame.features(filled[:, :, [hidden]].flatten(0, 1)).unflatten(0, (_EACH, _REPEATS)).mean(0)
            expected = Average.weighted(frame.features(draws.rotvec), log_p - draws.log_q)
            _assert_same(Average.of(rows), expected, slack)


def check_completion_by_rejection(prior: PosePrior, near: Tensor) -> None:
    """Samples whose observed joint is in a ball keep their law when `complete` draws their other joint anew.

    If x ~ p and an event is about the observed joint alone, then (observed of x, draw of p(missing | observed of x)) given
    the event has the law of x given the event. The ball is off the centre and holds a share of the samples: rejection
    sampling of the condition, which no density takes part in. Averages are those of functions of both joints.

    Args:
        prior: over two joints.
        near: (N, 55, 3) poses where the density is.
    """
    # Where each row takes many draws inside there are fewer rows.
    share = 3 if hasattr(prior, "bound") else 2 if hasattr(prior, "num_particles") else 1
    samples = prior.sample(_SAMPLES // share, generator=seeded(13))
    frame = Frame.around(near, prior.joints)
    for hidden in prior.joints:
        observed = mask_of(*(j for j in range(55) if j != hidden))
        if not completes(prior, samples[:1], observed):
            continue
        shown = [j for j in prior.joints if j != hidden]
        place = Frame.around(near, shown).whiten(samples[:, shown]).flatten(1)
        centre = place[place.norm(dim=1).argsort()[int(_OFF_CENTRE * len(place))]]
        inside = (place - centre).norm(dim=1).argsort()[: int(_IN_BALL * len(place))]
        accepted = samples[inside]
        drawn = prior.complete(torch.where(observed[:, None], accepted, 0.0), observed, generator=seeded(14))[0]
        first, second = (frame.features(rows[:, list(prior.joints)]) for rows in (drawn, accepted))
        change = Average.of(first - second)  # the observed joint is the same in both
        _assert_same(change, Average(torch.zeros_like(change.value), torch.zeros_like(change.error)), 0.0)


def check_completing_everything_is_sampling(prior: PosePrior) -> None:
    """With nothing observed, `complete` draws from what `sample` draws from."""
    poses, nothing = torch.zeros(1, 55, 3), mask_of()
    if not completes(prior, poses, nothing):
        return
    joints = list(prior.joints)
    filled = prior.complete(poses, nothing, num_samples=1_500, generator=seeded(1))[:, 0]
    drawn = prior.sample(1_500, generator=seeded(2))
    frame = Frame.around(drawn, joints)
    first, second = (torch.tanh(frame.whiten(draws[:, joints])) for draws in (filled, drawn))
    _assert_same(Average.of(first.flatten(1)), Average.of(second.flatten(1)), 0.02)
    _assert_same(Average.of(first.square().flatten(1)), Average.of(second.square().flatten(1)), 0.02)


def check_completion_keeps_what_is_observed(prior: PosePrior, poses: Tensor) -> None:
    """Observed joints come back as given, hidden ones are drawn anew in every draw, joints not modelled are zero."""
    poses = poses[:4]
    for hidden in ([prior.joints[0]], [prior.joints[-1]], list(prior.joints[1:])):
        observed = mask_of(*(j for j in range(55) if j not in hidden))
        if not hidden or not completes(prior, poses, observed):
            continue
        filled = prior.complete(poses, observed, num_samples=5, generator=seeded())
        keep = [j for j in range(55) if j not in hidden]
        assert filled.shape == (5, 4, 55, 3)
        assert torch.equal(filled[:, :, keep], poses[:, keep].expand(5, -1, -1, -1))
        assert float((filled[0, :, hidden] - filled[1, :, hidden]).abs().amax()) > 1e-4
        assert float(filled.norm(dim=-1).max()) <= math.pi + 1e-5
        others = mask_of(*prior.joints) & observed
        unmodelled = prior.complete(poses, others, generator=seeded())
        assert not unmodelled[..., [j for j in range(55) if j not in prior.joints], :].any()
        broken = poses.clone()
        broken[:, hidden] = math.nan
        assert torch.equal(prior.complete(broken, observed, num_samples=5, generator=seeded()), filled)


def check_latents(prior: PosePrior, *, wraps: bool = False) -> None:
    """`encode` takes samples to N(0, I): zero means, unit covariance, fourth moments of a normal distribution.

    For a prior whose `encode` is the nearest latent, the latents of decoded ones.

    Args:
        prior: with a latent space.
        wraps: draws may wrap round to other rotations, as those of a density on R^3 do.
    """
    if not isinstance(prior, LatentPosePrior):
        return
    num = 4_000
    if hasattr(prior, "bound"):
        given = torch.randn(600, prior.latent_dim, generator=seeded(8)).to(prior.dtype)
        with torch.no_grad():
            latent = prior.encode(prior.decode(given)).double()
        covariance = latent.T @ latent / len(latent)
        scale = covariance.diagonal().sqrt()
        assert float((scale - 1.0).abs().max()) < 0.15, f"scales of latents {scale.tolist()}"
        assert float((covariance - torch.diag(scale.square())).abs().max()) < 0.3
        return
    with torch.no_grad():
        latent = prior.encode(prior.sample(num, generator=seeded(9))).double()
    if wraps:
        latent = latent[latent.abs().amax(1) < 4.5]
        assert len(latent) > 0.9 * num
    slack = 0.05 if wraps else 0.0
    room = slack + SIGMAS / math.sqrt(num)
    covariance = latent.T @ latent / len(latent)
    error = (covariance - torch.eye(prior.latent_dim, dtype=torch.float64)).abs()
    assert float(latent.mean(0).abs().max()) < room
    assert float(error.diagonal().max()) < 2.0 * room, f"variances of latents {covariance.diagonal().tolist()}"
    assert float((error - torch.diag(error.diagonal())).max()) < room
    fourth = latent.pow(4).mean(0)
    assert float((fourth - 3.0).abs().max()) < 10.0 * room + 10.0 * slack, f"fourth moments {fourth.tolist()}"


def check_latent_round_trip(prior: PosePrior, poses: Tensor) -> None:
    """`decode` inverts `encode` where latents are exact, and both have the shapes of their batches."""
    if not isinstance(prior, LatentPosePrior):
        return
    poses, joints = poses[:6], list(prior.joints)
    latent = prior.encode(poses)
    assert latent.shape == (6, prior.latent_dim)
    decoded = prior.decode(latent)
    assert decoded.shape == (6, 55, 3)
    assert not decoded[:, [j for j in range(55) if j not in joints]].any()
    torch.testing.assert_close(prior.decode(latent.view(2, 3, -1)).view(6, 55, 3), decoded, rtol=1e-4, atol=1e-4)
    if not hasattr(prior, "bound"):
        torch.testing.assert_close(decoded[:, joints], poses[:, joints], rtol=1e-3, atol=2e-4)


def check_context_matters(prior: PosePrior, poses: Tensor, label: Tensor) -> None:
    """Poses are likelier under their own condition than under another, and than under none, on average.

    Args:
        prior: trained on poses with labels.
        poses: (N, 55, 3).
        label: (N, 1), 0 or 1.
    """
    own = prior.log_prob(poses, context=label)
    other = prior.log_prob(poses, context=1.0 - label)
    assert float((own - other).mean()) > 0.2
    assert float((own - prior.log_prob(poses)).mean()) > 0.05
