"""What `run_files` does with a pose file: score, complete or check its poses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..io import PoseDataset, read_poses, write_poses
from ..io.atomic import replacing, write_json
from ..pretrained.loading import load
from ..prior import PosePrior
from ..skeleton import JOINT_NAMES, resolve_joints
from ..tasks import check, score


class _PriorTask:
    """What tasks have in common: dataclasses whose fields decide the results, all but `device`."""

    def facts(self) -> Mapping[str, Any]:
        """Everything that decides the results."""
        return {name: value for name, value in vars(self).items() if name != "device"}


@dataclass(frozen=True, kw_only=True)
class ScoreFile(_PriorTask):
    """The density of every pose of a file, as `poseprior.tasks.score`.

    A result has `log_prob`, `percentile`, `joint_percentile` (N,), `attribution` (N, J) over the prior's `joints`, and the
    percentiles of parts where the prior judges several. `reading` has what was decided in reading the file.

    Attributes:
        prior: name or file, as `poseprior.load` takes it.
        seed: of the samples that the poses are compared with.
        max_poses: only the first so many poses of a file; None for all.
        device: where to compute.
    """

    prior: str
    seed: int = 0
    max_poses: int | None = None
    device: str = "cpu"
    suffix: ClassVar[str] = ".score.npz"

    def prepare(self) -> Callable[[Path, Path], list[str]]:
        """What scores one file."""
        prior = load(self.prior, device=self.device)
        joints = list(prior.joints)

        def work(path: Path, target: Path) -> list[str]:
            data = read_poses(path)
            pose, observed = _shown(prior, data, self.max_poses)
            generator = torch.Generator(prior.device).manual_seed(self.seed)
            result = score(prior, pose, observed=observed, generator=generator)
            arrays: dict[str, Any] = {
                name: getattr(result, name) for name in ("log_prob", "percentile", "joint_percentile")
            }
            arrays |= {f"{part}_percentile": value for part, value in result.part_percentile.items()}
            arrays["attribution"] = result.attribution[:, joints]
            arrays = {name: value.cpu().numpy() for name, value in arrays.items()}
            arrays |= {"joints": np.array([JOINT_NAMES[j] for j in joints]), "percentile_kind": result.percentile_kind}
            arrays |= {
                "joint_percentile_kind": result.joint_percentile_kind,
                "reading": np.array(_notes(data), np.str_),
            }
            with replacing(target) as beside, beside.open("wb") as file:
                np.savez_compressed(file, **arrays)
            return _said(data)

        return work


@dataclass(frozen=True, kw_only=True)
class CompleteFile(_PriorTask):
    """Missing and hidden joints of every pose of a file, drawn given the others, as `PosePrior.complete`.

    A result is a pose file of (num_samples x N) poses: all draws of the first sample, then of the second.

    Attributes:
        prior, max_poses, device: as in `ScoreFile`.
        hide: joint names or sets to hide, beside what the file misses.
        num_samples: draws of each pose.
        seed: of the draws, the same in every file.
    """

    prior: str
    hide: str = ""
    num_samples: int = 1
    seed: int = 0
    max_poses: int | None = None
    device: str = "cpu"
    suffix: ClassVar[str] = ".completed.npz"

    def prepare(self) -> Callable[[Path, Path], list[str]]:
        """What completes one file."""
        prior = load(self.prior, device=self.device)
        hidden = list(resolve_joints(self.hide)) if self.hide else []

        def work(path: Path, target: Path) -> list[str]:
            data = read_poses(path)
            pose, observed = _shown(prior, data, self.max_poses)
            observed[:, hidden] = False
            generator = torch.Generator(prior.device).manual_seed(self.seed)
            drawn = prior.complete(pose, observed, num_samples=self.num_samples, generator=generator).cpu()
            known = observed.cpu()
            known[:, list(prior.joints)] = True
            write_poses(target, drawn.flatten(0, 1), observed=known.repeat(self.num_samples, 1))
            return _said(data)

        return work


@dataclass(frozen=True, kw_only=True)
class CheckFile(_PriorTask):
    """Whether a prior holds on the poses of a file, as `poseprior.tasks.check`; a result is JSON.

    Attributes:
        prior, device: as in `ScoreFile`.
        max_poses: a random subset of at most this many.
        seed: of the subset and the samples.
    """

    prior: str
    seed: int = 0
    max_poses: int = 1000
    device: str = "cpu"
    suffix: ClassVar[str] = ".check.json"

    def prepare(self) -> Callable[[Path, Path], list[str]]:
        """What checks one file."""
        prior = load(self.prior, device=self.device)

        def work(path: Path, target: Path) -> list[str]:
            data = read_poses(path)
            result = check(prior, data, max_poses=self.max_poses, seed=self.seed)
            write_json(target, {**result.to_dict(), "reading": _notes(data)})
            return _said(data)

        return work


def _notes(data: PoseDataset) -> list[str]:
    """What was decided in reading a file, and which arrays that look like rotations were not read."""
    return [*data.notes, *([f"not read: {', '.join(data.ignored)}"] if data.ignored else [])]


def _said(data: PoseDataset) -> list[str]:
    """The notes, as commands print them."""
    return [f"reading: {note}" for note in _notes(data)]


def _shown(prior: PosePrior, data: PoseDataset, most: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses and masks of a file, on the prior's device."""
    pose, observed = data.all_poses()
    pose, observed = pose[:most], observed[:most].clone()
    if not bool(observed[:, list(prior.joints)].any()):
        raise ValueError(f"expected poses that observe joints of the prior, got {len(pose):,} that observe none.")
    return pose.to(prior.device), observed.to(prior.device)
