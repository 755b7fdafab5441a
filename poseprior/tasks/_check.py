"""`check`: does a prior hold on somebody's poses?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from .._checks import check_whole
from ..io.dataset import PoseDataset, as_dataset
from ..prior import PosePrior
from ..rotations import rotvec_to_tangent
from ..skeleton import JOINT_NAMES
from ..training.adapt import LEAST_POSES
from ..training.pose_rows import check_fitted, moving_rows, quick_mean
from ._hints import Hint, find_hints
from ._score import sample_percentile

#: Bounds of the histogram, percentiles.
BOUNDS = (0.0, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 100.0)
_SAMPLES = 1024
#: A mean rotation disagrees where it is farther from the prior's than both of these: standard deviations of the prior, and
#: degrees. A spread disagrees where it is more than this many times the prior's.
_FAR, _FAR_DEGREES, _MORE_SPREAD = 2.0, 10.0, 1.5
#: Share of poses below the 5th percentile above which adapting is advised.
_SHARE_BELOW_5 = 0.15
#: A joint is compared where this many poses show it.
_LEAST_POSES = 8


@dataclass(frozen=True)
class JointCheck:
    """How the poses of a joint compare with the prior's.

    Attributes:
        name: of the joint.
        offset: angle between the mean rotations of the poses and of the prior's samples, degrees.
        spread, prior_spread: median angle from their own mean rotation, degrees.
        disagrees: "rest frame" (the offset is above 10 degrees, and above 2 of the prior's standard deviations along
            its direction), "spread" (more than 1.5 times the prior's), or "".
    """

    name: str
    offset: float
    spread: float
    prior_spread: float
    disagrees: Literal["", "rest frame", "spread"]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What `check` found; `print` shows it as a page of text.

    Attributes:
        prior: the prior's class, and its number of joints.
        num_poses: poses that were judged; those that the prior cannot score are left out.
        num_left_out: how many.
        percentile: (num_poses,) as in `ScoreResult`.
        percentile_kind: "held-out people" or "own samples".
        joints: the prior's joints that at least 8 of the poses show.
        hints: conventions that the poses give away.
        advice: "holds", "adapt" or "convert".
    """

    prior: str
    num_poses: int
    num_left_out: int
    percentile: Tensor
    percentile_kind: Literal["held-out people", "own samples"]
    joints: tuple[JointCheck, ...]
    hints: tuple[Hint, ...]
    advice: Literal["holds", "adapt", "convert"]

    @property
    def histogram(self) -> tuple[float, ...]:
        """Shares of the poses between neighbours of `BOUNDS`."""
        inner = self.percentile.new_tensor(BOUNDS[1:-1])
        place = torch.bucketize(self.percentile, inner, right=True)
        return tuple(torch.bincount(place, minlength=len(BOUNDS) - 1).div(max(1, self.num_poses)).tolist())

    def below(self, percentile: float) -> float:
        """Share of the poses below a percentile."""
        return float((self.percentile < percentile).float().mean()) if self.num_poses else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **values,
            "percentile": self.percentile.tolist(),
            "joints": [asdict(joint) for joint in self.joints],
            "hints": [asdict(hint) for hint in self.hints],
        }

    def __repr__(self) -> str:
        return f"CheckResult({self.prior}, {self.num_poses:,} poses, advice: {self.advice})"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        left_out = f"; {self.num_left_out:,} that it cannot score were left out" if self.num_left_out else ""
        yield f"{self.num_poses:,} poses, {self.prior}{left_out}"
        yield f"percentiles among {self.percentile_kind}      found   expected"
        for low, high, share in zip(BOUNDS, BOUNDS[1:], self.histogram, strict=False):
            bar = "#" * round(40 * share)
            yield f"  {low:3.0f} to {high:3.0f}   {100 * share:30.1f} % {high - low:8.0f} %  {bar}"
        odd = [joint for joint in self.joints if joint.disagrees]
        if odd:
            yield "joints that disagree with the prior    mean off by    spread   prior's spread   (degrees)"
            for joint in sorted(odd, key=lambda joint: -joint.offset):
                yield (
                    f"  {joint.name:<16} {joint.disagrees:<12} {joint.offset:18.0f} {joint.spread:9.0f} "
                    f"{joint.prior_spread:16.0f}"
                )
        elif not self.joints:
            yield f"no joint was compared: that takes {_LEAST_POSES} poses that show it"
        else:
            yield "no joint's rest frame or spread disagrees with the prior"
        for hint in self.hints:
            yield f"hint: {hint}"
        yield f"advice: {self._advice()}"

    def _advice(self) -> str:
        if self.advice == "convert":
            return "the poses are not in SMPL-X conventions; follow the hints, then check again."
        if self.advice == "holds":
            return "the prior holds on these poses; use it as it is, or sharpen it for the rig (poseprior adapt)."
        if self.num_poses >= LEAST_POSES:
            return "the rig has conventions of its own; adapt the prior to it (poseprior adapt, poseprior.tasks.adapt)."
        return (
            f"the rig has conventions of its own; with {LEAST_POSES} poses or more the prior can be adapted to it "
            "(poseprior adapt, poseprior.tasks.adapt)."
        )


def check(prior: PosePrior, poses: PoseDataset | Tensor, *, max_poses: int = 1000, seed: int = 0) -> CheckResult:
    """Say whether a prior holds on poses, which joints disagree, and which conventions the poses give away.

    Args:
        prior: a fitted prior without a context.
        poses: a `PoseDataset`, or (N, 55, 3) rotvecs that are fully observed.
        max_poses: judge a random subset of at most this many.
        seed: of the subset and of the samples that the poses are compared with.

    Returns:
        `CheckResult`. Joints that never move count as unobserved. The advice is "convert" where a hint spoils the
        poses; "adapt" where a rest frame disagrees or more than 15 % of the poses are below the 5th percentile; else
        "holds".

    Raises:
        ValueError: a prior that is not fitted or takes a context, or no pose that it can score.

    >>> from poseprior import GaussianPrior
    >>> prior = GaussianPrior("body")
    >>> _ = prior.fit(0.2 * torch.randn(500, 55, 3, generator=torch.Generator().manual_seed(0)))
    >>> check(prior, prior.sample(200, generator=torch.Generator().manual_seed(1))).advice
    'holds'
    """
    check_whole("max_poses", max_poses, least=1)
    check_whole("seed", seed)
    check_fitted(prior)
    data = as_dataset(poses, "poses").random_subset(max_poses, seed=seed)
    raw, observed = data.all_poses()
    rows = moving_rows(prior, raw, observed)
    pose, seen, usable = rows.pose, rows.seen, rows.usable
    if not bool(usable.any()):
        lost = ", ".join(rows.constant)
        raise ValueError(
            f"poses: expected poses that the prior can score, got none in {len(data)}; it models "
            f"{', '.join(JOINT_NAMES[j] for j in prior.joints[:3])}, ...{f'; {lost} never move' if lost else ''}. Take "
            "another prior (GaussianMixturePrior scores any part of a pose) or other poses."
        )
    generator = torch.Generator(prior.device).manual_seed(seed)
    samples = prior.sample(_SAMPLES, generator=generator)
    percentile = sample_percentile(prior, pose[usable], seen[usable], samples)
    hints = find_hints(prior, rows, observed.to(pose.device), samples)
    joints = _compare(prior, pose, seen, samples)
    far = any(joint.disagrees == "rest frame" for joint in joints)
    low = float((percentile < 5.0).float().mean()) > _SHARE_BELOW_5
    return CheckResult(
        prior=f"{type(prior).__name__} of {len(prior.joints)} joints",
        num_poses=int(usable.sum()),
        num_left_out=int((~usable).sum()),
        percentile=percentile.cpu(),
        percentile_kind="held-out people" if "calibration" in prior.metadata else "own samples",
        joints=joints,
        hints=hints,
        advice="convert" if any(hint.spoils for hint in hints) else "adapt" if far or low else "holds",
    )


def _compare(prior: PosePrior, pose: Tensor, seen: Tensor, samples: Tensor) -> tuple[JointCheck, ...]:
    """Means and spreads of the joints that enough of the poses (N, 55, 3) show and of the prior's samples (M, 55, 3)."""
    chosen = [j for j in prior.joints if int(seen[:, j].sum()) >= _LEAST_POSES]
    if not chosen:  # there is no mean rotation of nothing
        return ()
    pose, seen, samples = pose[:, chosen].double(), seen[:, chosen], samples[:, chosen].double()
    own, usual = quick_mean(pose, seen), quick_mean(samples)
    away = rotvec_to_tangent(own, usual)
    about, usual_about = rotvec_to_tangent(pose, own), rotvec_to_tangent(samples, usual)
    result = []
    for k, joint in enumerate(chosen):
        spread, prior_spread = (
            math.degrees(float(values.square().sum(-1).median().sqrt()))
            for values in (about[seen[:, k], k], usual_about[:, k])
        )
        covariance = usual_about[:, k].T @ usual_about[:, k] / len(samples)
        covariance = covariance + 1e-6 * torch.eye(3, dtype=covariance.dtype, device=covariance.device)
        distance = float((away[k] @ torch.linalg.solve(covariance, away[k])).sqrt())
        offset = math.degrees(float(away[k].norm()))
        disagrees: Literal["", "rest frame", "spread"] = ""
        if offset > _FAR_DEGREES and distance > _FAR:
            disagrees = "rest frame"
        elif spread > _MORE_SPREAD * prior_spread:
            disagrees = "spread"
        result.append(JointCheck(JOINT_NAMES[joint], offset, spread, prior_spread, disagrees))
    return tuple(result)
