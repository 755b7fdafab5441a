"""`Table`: scores of held-out people at a few percentiles, every rig and every person counting the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from .._checks import check_mapping, check_number, check_whole, quoted

#: Percentiles that a table holds.
LEVELS = (0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95, 99)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Standard scores of held-out people at the percentiles `LEVELS`.

    Attributes:
        scores: ascending.
        num_people, num_rigs: how many they come from.
    """

    scores: tuple[float, ...]
    num_people: int
    num_rigs: int

    @classmethod
    def of(cls, scores: Tensor, rig: Sequence[str], person: Sequence[str]) -> Table:
        """From standard scores (N,), every rig counting the same, and within a rig every person.

        Args:
            scores: of poses of held-out people.
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
        people, person_index, frames = np.unique(names, return_inverse=True, return_counts=True)
        rig_of_person = np.zeros(len(people), dtype=int)
        rig_of_person[person_index] = rig_index
        people_of_rig = np.bincount(rig_of_person, minlength=len(rigs))
        weight = 1.0 / (frames[person_index] * people_of_rig[rig_index] * len(rigs))
        value = scores.double().cpu().numpy()
        order = np.argsort(value)
        table = np.interp(np.asarray(LEVELS) / 100.0, np.cumsum(weight[order]), value[order])
        return cls(
            scores=tuple(round(float(v), 4) for v in table), num_people=len(people), num_rigs=len(rigs)
        )  # fmt: skip

    @classmethod
    def from_dict(cls, name: str, values: object) -> Table:
        """From the JSON-able form of a table, which messages call `name`.

        Raises:
            ValueError: other fields, or scores that are not ascending numbers, one for each of `LEVELS`.
        """
        table = check_mapping(f"calibration.{name}", values)
        wanted = [entry.name for entry in fields(cls)]
        scores = table.get("scores")
        if sorted(table) != sorted(wanted) or not isinstance(scores, list | tuple) or len(scores) != len(LEVELS):
            raise ValueError(
                f"calibration.{name}: expected {', '.join(wanted)}, with {len(LEVELS)} scores, got {quoted(dict(table))}; "
                "calibrate the prior anew."
            )
        values_of = [check_number(f"calibration.{name}.scores", score) for score in scores]
        if sorted(values_of) != values_of:
            raise ValueError(f"calibration.{name}.scores: expected ascending numbers, got {quoted(list(scores))}.")
        people, rigs = (check_whole(f"calibration.{name}.{key}", table[key]) for key in ("num_people", "num_rigs"))
        return cls(scores=tuple(values_of), num_people=people, num_rigs=rigs)

    def percentile(self, score: Tensor) -> Tensor:
        """Percentile, 0 to 100, of standard scores (*batch,) among held-out people."""
        levels = score.new_tensor((0.0, *LEVELS, 100.0))
        # Beyond the table a percentile falls to 0, or rises to 100, over the length of the table's last step.
        ends = (2.0 * self.scores[0] - self.scores[1], 2.0 * self.scores[-1] - self.scores[-2])
        points = score.new_tensor((ends[0], *self.scores, ends[1]))
        right = torch.searchsorted(points, score.contiguous()).clamp(1, len(points) - 1)
        step = (points[right] - points[right - 1]).clamp_min(1e-9)
        part = ((score - points[right - 1]) / step).clamp(0.0, 1.0)
        return levels[right - 1] + part * (levels[right] - levels[right - 1])
