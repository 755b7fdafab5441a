"""Calibrated plausibility: where a pose stands among people whom the prior has not seen, for any mask.

A log-density alone says little: its typical value depends on how many joints are observed, and a prior's own samples
are not the poses of other people. So a log-density is first compared with those of the prior's own samples under the
same mask, and the result with that of held-out people under the noise of the training, every rig and every person
counting the same (conformal prediction, Vovk et al. 2005, with weights). The tables of the held-out results travel with
the weights.

Poses of skeleton solvers, whose knees are exact hinges, are far more likely than fits of a body's surface, whose knees
are not. The knees of a pose show which of the two it is, and it is compared with poses of its own kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .._checks import check_mapping, check_number, check_whole, quoted
from ..io.dataset import PoseDataset
from ..prior import PosePrior
from ..rotations import add_tangent_noise, rotvec_to_unitquat
from ..skeleton import JOINT_NAMES, JOINT_SETS
from ..training.rig_noise import RigNoise
from .percentile_table import Table
from .surprise import joint_surprise, rows_by_shown_joints

#: The quantile of the samples whose distance from their median is the unit of standard scores.
_LOW = 0.16
_REFERENCE = 512
#: Where `Calibration.to_dict` has the tables of the most surprising joint.
_WORST_JOINT = "worst_joint"
#: Knees that turn by less than this about axes other than their hinge are those of a skeleton solver, radians.
_HINGED = math.radians(6.0)
_KNEES = [JOINT_NAMES.index(name) for name in ("left_knee", "right_knee")]
#: Parts that calibration hides from some poses, beside what the poses themselves miss.
_HIDDEN_PARTS: tuple[tuple[int, ...], ...] = (
    (), (13, 16, 18, 20), (1, 4, 7, 10), (7, 8, 10, 11, 20, 21), (1, 2, 4, 5, 7, 8, 10, 11),
    JOINT_SETS["left_hand"][::2], JOINT_SETS["left_hand"][:9],
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Tables of scores by kind of pose: "hinged" knees, "free" knees, and "any" where no knee is observed.

    Attributes:
        tables: of the standard scores of whole poses.
        worst_joint: of the scores of each pose's most surprising joint, see `surprise`; empty where it was not measured.
    """

    tables: Mapping[str, Table]
    worst_joint: Mapping[str, Table] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Calibration({', '.join(self.tables)})"

    def percentile(self, pose: Tensor, observed: Tensor, score: Tensor) -> Tensor:
        """Percentiles (B,), 0 to 100, of poses (B, 55, 3) with masks (B, 55) and standard scores (B,)."""
        return _percentile(self.tables, pose, observed, score)

    def joint_percentile(self, pose: Tensor, observed: Tensor, score: Tensor) -> Tensor:
        """As `percentile`, for the scores (B,) of each pose's most surprising joint."""
        return _percentile(self.worst_joint, pose, observed, score)

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form that `from_dict` takes back."""
        whole, joint = ({k: asdict(table) for k, table in some.items()} for some in (self.tables, self.worst_joint))
        return {**whole, _WORST_JOINT: joint} if joint else whole

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """From `to_dict`.

        Raises:
            ValueError: values that it does not give.
        """
        whole = check_mapping("calibration", values)
        joint = check_mapping(f"calibration.{_WORST_JOINT}", whole.get(_WORST_JOINT, {}))
        tables = {name: Table.from_dict(name, table) for name, table in whole.items() if name != _WORST_JOINT}
        worst = {name: Table.from_dict(f"{_WORST_JOINT}.{name}", table) for name, table in joint.items()}
        for name, some in (("calibration", tables), (f"calibration.{_WORST_JOINT}", worst)):
            if "any" not in some and (some or name == "calibration"):
                raise ValueError(f"{name}: expected a table 'any', got {quoted(list(some))}; calibrate the prior anew.")
        return cls(tables=tables, worst_joint=worst)


def calibration_of(prior: PosePrior) -> Calibration | None:
    """The calibration that a prior's file holds."""
    values = prior.metadata.get("calibration")
    return None if values is None else Calibration.from_dict(values)


def _percentile(tables: Mapping[str, Table], pose: Tensor, observed: Tensor, score: Tensor) -> Tensor:
    result = torch.empty_like(score)
    kinds = knee_kinds(pose, observed)
    for k, name in enumerate(KINDS):
        rows = kinds == k
        if bool(rows.any()):
            result[rows] = tables.get(name, tables["any"]).percentile(score[rows])
    return result


KINDS = ("hinged", "free", "any")


def knee_kinds(pose: Tensor, observed: Tensor) -> Tensor:
    """(B,) places in `KINDS` of poses (B, 55, 3) with masks (B, 55).

    The part of a knee's rotation that is not about its hinge, the x axis, is its swing: with the quaternion
    (x, y, z, w), 2 arcsin sqrt(y^2 + z^2).
    """
    seen = observed[:, _KNEES]
    swing = 2.0 * torch.asin(rotvec_to_unitquat(pose[:, _KNEES])[..., 1:3].square().sum(-1).clamp(0.0, 1.0).sqrt())
    mean = (swing * seen).sum(1) / seen.sum(1).clamp_min(1)
    kind = torch.where(mean < _HINGED, 0, 1)
    return torch.where(seen.any(1), kind, torch.full_like(kind, 2))


def standard_scores(prior: PosePrior, pose: Tensor, observed: Tensor, reference: Tensor) -> Tensor:
    """How far each log-density is above the median of the prior's own samples under the same mask.

    Args:
        prior: any prior.
        pose: (B, 55, 3) rotvecs, radians.
        observed: (B, 55) bool.
        reference: (N, 55, 3) samples of the prior.

    Returns:
        (B,) in units of the distance from that median to the 16th percentile of the samples; 0 where nothing is
        observed. A Gaussian's standard score, but for the heavier tails of log-densities.
    """
    result = pose.new_zeros(len(pose))
    for rows, mask in rows_by_shown_joints(prior, observed):
        own = prior.log_prob(reference, observed=mask)
        median, low = own.quantile(0.5), own.quantile(_LOW)
        value = prior.log_prob(pose[rows], observed=mask)
        result[rows] = ((value - median) / (median - low).clamp_min(1e-6)).to(result)
    return result


@torch.no_grad()
def calibrate(
    prior: PosePrior,
    data: PoseDataset,
    *,
    rig_noise: RigNoise | None = None,
    jitter: float = 0.0,
    max_poses: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Tables of a prior's standard scores on held-out people.

    Poses with hinged knees are taken as they are and with the rest frames of other rigs; poses with free knees are the
    same poses with the rig noise's unmeasured axes and shares. Parts of a body or a hand are hidden from some of them.

    Args:
        prior: a fitted prior.
        data: poses of people that training did not see.
        rig_noise: what the prior was trained with; None takes the poses with jitter only.
        jitter: added to poses with free knees, radians.
        max_poses: a random subset of at most this many.
        seed: of the subset, the noise, the hidden parts and the samples.
        progress: show a tqdm bar.

    Raises:
        ValueError: no pose that the prior can score, or numbers out of range.
    """
    check_number("jitter", jitter, least=0.0)
    check_whole("max_poses", max_poses, least=1)
    check_whole("seed", seed)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data), generator=generator)[:max_poses].sort().values
    some = data.select(chosen)
    pose, observed = some.all_poses()
    names = ["unknown"] * len(some)
    rig, person = (np.asarray(names if v is None else v) for v in (some.rig, some.subject))
    observed = _hide_parts(prior, observed, generator)
    reference = prior.sample(_REFERENCE, generator=torch.Generator(prior.device).manual_seed(seed))

    keep = observed[:, list(prior.joints)].any(1) & prior.can_score(observed)
    if not bool(keep.any()):
        raise ValueError(f"data: none of the {len(data)} poses is one that the prior can score; give poses that are.")
    rig, person = rig[keep.numpy()], person[keep.numpy()]

    def scores(noise: RigNoise | None, sigma: float) -> tuple[Tensor, Tensor]:
        """Of whole poses, and of the most surprising joint of each."""
        moved = pose if noise is None else noise.apply(pose, observed, some.imputed, generator=generator)
        moved = add_tangent_noise(moved, sigma, generator=generator)
        shown = moved[keep].to(prior.device), observed[keep].to(prior.device)
        joints = joint_surprise(prior, *shown, reference)
        return standard_scores(prior, *shown, reference).cpu(), joints.score.cpu()

    def table(which: int, *names: str) -> Table:
        """From several passes together; `which` of the two scores."""
        pooled = torch.cat([found[name][which] for name in names])
        return Table.of(pooled, np.tile(rig, len(names)), np.tile(person, len(names)))  # type: ignore[arg-type]

    passes: dict[str, tuple[RigNoise | None, float]] = {"raw": (None, 0.0)}
    if rig_noise is None:
        passes["jittered"] = (None, jitter)
    else:
        passes["hinged"] = (replace(rig_noise, unmeasured_probability=0.0), 0.0)
        passes["free"] = (replace(rig_noise, unmeasured_probability=1.0), jitter)
    bar = tqdm(passes.items(), desc="calibration", disable=not progress)
    found = {name: scores(*how) for name, how in bar}
    # Poses with free knees count as often as those with hinged ones.
    kinds = {"any": tuple(passes) if rig_noise is None else ("raw", "hinged", "free", "free")}
    if rig_noise is not None and set(_KNEES) & set(prior.joints):
        kinds |= {"hinged": ("raw", "hinged"), "free": ("free",)}
    whole, joint = ({kind: table(k, *names) for kind, names in kinds.items()} for k in range(2))
    return Calibration(tables=whole, worst_joint=joint)


def _hide_parts(prior: PosePrior, observed: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 55) masks, three in seven of which hide one of `_HIDDEN_PARTS`, where the prior can score what is left."""
    part = torch.randint(2 * len(_HIDDEN_PARTS), (len(observed),), generator=generator)
    hidden = observed.clone()
    for k, joints in enumerate(_HIDDEN_PARTS):
        if joints:
            rows = (part == k).nonzero()[:, 0]
            hidden[rows[:, None], list(joints)] = False
    usable = prior.can_score(hidden) & hidden[:, list(prior.joints)].any(1)
    return torch.where(usable[:, None], hidden, observed)
