"""`poseprior score`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._checks import check_whole
from ._busy import busy
from ._calibrate import say_own_samples
from ._common import check_suffix, generator, held_out, load_prior
from ._over_files import over_files
from ._parse import Prior

if TYPE_CHECKING:
    from torch import Tensor

    from ..tasks import ScoreResult

#: A pose's worst joint below this percentile does not fit; a pose below this percentile is implausible.
_ODD, _RARE = 5, 1


@dataclass(frozen=True, kw_only=True)
class Score:
    """Say how plausible every pose of a file is, and which joint is to blame.

    The shipped priors were trained on adults who walk, exercise, play and dance,
    recorded by skeleton-solving motion capture (CMU, UI-PRMD), with the conventions
    of capture rigs drawn at random. They hold for such people in SMPL-X. Children,
    acrobats and people on the floor were hardly among them. poseprior check says
    whether a prior holds on your poses.
    """

    prior: Prior
    data: Path
    """An .npz file, or a folder (its test split is taken when it has one)."""
    json: Path | None = None
    """Write log_prob, percentile and attribution of every pose here."""
    max_poses: int | None = None
    """Score only the first so many poses. Default: 1000; with --workers all of every file."""
    worst: int | None = None
    """Print this many of the least plausible poses. Default: 10."""
    seed: int = 0
    """Of the samples the poses are compared with."""
    device: str = "cpu"
    """Where to compute."""
    out: Path | None = None
    """The folder of results, with --workers."""
    workers: int | None = None
    """Over every file of a folder, in so many processes: a result for each in the folder --out. Run again to go on."""

    def run(self) -> None:
        from .. import skeleton
        from ..io.atomic import write_json
        from ..scale.file_tasks import ScoreFile
        from ..tasks import score

        if self.workers is not None:
            task = ScoreFile(prior=self.prior, seed=self.seed, max_poses=self.max_poses, device=self.device)
            return over_files(task, self.data, self.out, self.workers, json=self.json, worst=self.worst)
        if self.out is not None:
            raise ValueError("--out: expected it with --workers alone; --json writes the scores of one file.")
        if self.max_poses is not None:
            check_whole("--max-poses", self.max_poses, least=1)
        worst = check_whole("--worst", 10 if self.worst is None else self.worst)
        check_suffix("--json", self.json, ".json")
        prior = load_prior(self.prior, self.device)
        most = 1000 if self.max_poses is None else self.max_poses
        poses, observed = held_out(self.data).all_poses()
        poses, observed = poses[:most].to(prior.device), observed[:most].to(prior.device)
        shown = observed[:, list(prior.joints)].any(1)
        if not bool(shown.any()):
            names = ", ".join(skeleton.JOINT_NAMES[j] for j in prior.joints[:3])
            raise ValueError(
                f"--data: expected poses that observe joints of {self.prior} ({names}, ...), got {len(poses):,} that observe "
                "none; take another prior or other data."
            )
        with busy(f"scoring {len(poses):,} poses"):
            result = score(prior, poses, observed=observed, generator=generator(self.seed, prior.device))
        kind = "" if prior.log_prob_kind == "exact" else " (lower bound)"
        print(f"{int(shown.sum()):,} poses, mean log_prob {float(result.log_prob[shown].mean()):.2f} nats{kind}")
        if not bool(shown.all()):
            print(f"{int((~shown).sum()):,} poses observe none of the prior's joints: left out")
        judged = observed.clone()
        judged[:, [j for j in range(observed.shape[1]) if j not in prior.joints]] = False
        _print_worst(result, judged, worst)
        if "own samples" in (result.percentile_kind, result.joint_percentile_kind):
            say_own_samples(self.prior)
        if self.json is not None:
            joints = list(prior.joints)
            columns = {
                "log_prob_kind": prior.log_prob_kind,
                "attribution_kind": result.attribution_kind,
                "joints": [skeleton.JOINT_NAMES[j] for j in joints],
                "log_prob": result.log_prob.tolist(),
                "percentile_kind": result.percentile_kind,
                "percentile": result.percentile.tolist(),
                "joint_percentile_kind": result.joint_percentile_kind,
                "joint_percentile": result.joint_percentile.tolist(),
                "part_percentile": {
                    part: [None if math.isnan(v) else v for v in values.tolist()]
                    for part, values in result.part_percentile.items()
                },
                "attribution": result.attribution[:, joints].tolist(),
            }
            write_json(self.json, columns)
            print(f"results: {self.json}")


def _print_worst(result: ScoreResult, judged: Tensor, count: int) -> None:
    """The poses whose worst joint is the most surprising, and what is wrong with each.

    Args:
        result: of B poses.
        judged: (B, 55), the joints that a pose observes and the prior models.
        count: poses to print.
    """
    import torch

    from ..skeleton import JOINT_NAMES

    shown = judged.any(-1)
    excess, joint = result.attribution.masked_fill(~judged, -torch.inf).max(-1)
    odd, rare = (result.joint_percentile < _ODD) & shown, (result.percentile < _RARE) & shown
    print(
        f"{int(odd.sum()):,} poses with a joint that does not fit, {int(rare.sum()):,} that are implausible as a whole"
    )
    print("surprise: of the joint to blame, nats more than usual")
    print(f"worst joint: percentile of that among {result.joint_percentile_kind}; below {_ODD} the joint does not fit")
    print(f"whole pose: percentile among {result.percentile_kind}; below {_RARE} is implausible")
    print("   pose  surprise  joint to blame   worst joint  whole pose   log_prob  verdict")
    for row in excess.where(shown, -torch.inf).argsort(descending=True)[: min(count, int(shown.sum()))].tolist():
        name = JOINT_NAMES[int(joint[row])]
        verdict = [f"{name} does not fit"] * bool(odd[row]) + ["implausible"] * bool(rare[row])
        print(
            f"{row:>7}  {float(excess[row]):>8.1f}  {name:<15}  {float(result.joint_percentile[row]):>11.1f}  "
            f"{float(result.percentile[row]):>10.1f}  {float(result.log_prob[row]):>9.2f}  {', '.join(verdict)}".rstrip()
        )
