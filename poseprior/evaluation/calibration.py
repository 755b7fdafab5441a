"""Calibrated plausibility: where a pose stands among people whom the prior has not seen, for any mask.

A log-density alone says little: its typical value depends on how many joints are observed, and a prior's own samples
are not the poses of other people. So a log-density is first compared with those of the prior's own samples under the
same mask, and the result with that of held-out people, every rig and every person counting the same (conformal
prediction, Vovk et al. 2005, with weights). The table of the held-out results travels with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.shared.masks import rows_by_mask
from ..prior import PosePrior
from ..skeleton import NUM_JOINTS

#: Percentiles that a table holds.
LEVELS = (0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95, 99)
#: Where samples are compared with: the median, and the point that a sixth of them lies below.
_LOW = 0.16
_MAX_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Standard scores of held-out people at some percentiles.

    Attributes:
        levels: percentiles, ascending.
        scores: the standard scores at these, ascending.
        num_people, num_rigs: how many they come from.
    """

    levels: tuple[float, ...]
    scores: tuple[float, ...]
    num_people: int
    num_rigs: int

    def percentile(self, score: Tensor) -> Tensor:
        """Percentile, 0 to 100, of standard scores (*batch,) among held-out people."""
        levels = score.new_tensor((0.0, *self.levels, 100.0))
        # Beyond the table a percentile falls to 0, or rises to 100, over the length of the table's last step.
        ends = (2.0 * self.scores[0] - self.scores[1], 2.0 * self.scores[-1] - self.scores[-2])
        points = score.new_tensor((ends[0], *self.scores, ends[1]))
        right = torch.searchsorted(points, score.contiguous()).clamp(1, len(points) - 1)
        step = (points[right] - points[right - 1]).clamp_min(1e-9)
        part = ((score - points[right - 1]) / step).clamp(0.0, 1.0)
        return levels[right - 1] + part * (levels[right] - levels[right - 1])

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form that `from_dict` takes back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """From `to_dict`."""
        return cls(
            levels=tuple(values["levels"]), scores=tuple(values["scores"]), num_people=values["num_people"],
            num_rigs=values["num_rigs"],
        )  # fmt: skip


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
    modelled = torch.zeros(NUM_JOINTS, dtype=torch.bool, device=pose.device)
    modelled[list(prior.joints)] = True
    result = pose.new_zeros(len(pose))
    for rows, mask in rows_by_mask(observed & modelled):
        if not bool(mask.any()):
            continue
        rows = torch.arange(len(pose), device=pose.device) if rows is None else rows
        own = log_prob_rows(prior, reference, mask.expand(len(reference), -1))
        median, low = own.quantile(0.5), own.quantile(_LOW)
        value = log_prob_rows(prior, pose[rows], mask.expand(len(rows), -1))
        result[rows] = ((value - median) / (median - low).clamp_min(1e-6)).to(result)
    return result


@torch.no_grad()
def log_prob_rows(prior: PosePrior, pose: Tensor, observed: Tensor) -> Tensor:
    """(B,) log-densities, some rows at a time."""
    parts = zip(pose.split(_MAX_ROWS), observed.split(_MAX_ROWS), strict=True)
    return torch.cat([prior.log_prob(p, observed=o) for p, o in parts])


def calibrate(scores: Tensor, rig: Sequence[str], person: Sequence[str]) -> Calibration:
    """A table of standard scores in which every rig counts the same, and within a rig every person.

    Args:
        scores: (N,) standard scores of poses of held-out people.
        rig, person: of each pose.

    Raises:
        ValueError: lengths that differ, or no pose.
    """
    if not len(scores) == len(rig) == len(person) or len(scores) == 0:
        raise ValueError(
            f"scores, rig, person: expected equal lengths above 0, got {len(scores)}, {len(rig)} and {len(person)}."
        )
    rigs, rig_index = np.unique(np.asarray(rig, dtype=str), return_inverse=True)
    names = np.char.add(np.char.add(np.asarray(rig, dtype=str), "/"), np.asarray(person, dtype=str))
    people, person_index = np.unique(names, return_inverse=True)
    frames = np.bincount(person_index)
    rig_of_person = np.zeros(len(people), dtype=int)
    rig_of_person[person_index] = rig_index
    people_of_rig = np.bincount(rig_of_person, minlength=len(rigs))
    weight = 1.0 / (frames[person_index] * people_of_rig[rig_index] * len(rigs))
    value = scores.double().cpu().numpy()
    order = np.argsort(value)
    # The pose to judge counts as one more, which may be anywhere: what makes the percentiles conservative.
    below = np.cumsum(weight[order]) / (1.0 + weight.mean())
    table = np.interp(np.asarray(LEVELS) / 100.0, below, value[order])
    table = np.maximum.accumulate(table)
    return Calibration(
        levels=tuple(float(v) for v in LEVELS), scores=tuple(round(float(v), 4) for v in table),
        num_people=len(people), num_rigs=len(rigs),
    )  # fmt: skip
