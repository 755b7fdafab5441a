"""The commands that use a trained prior: evaluate, sample, complete, score, info."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from .._checks import check_whole
from .._text import printable
from ._busy import busy
from ._calibrate import calibrate_file, file_to_rewrite, people_to_calibrate_on
from ._common import check_suffix, generator, held_out, hidden_joints, load_prior
from ._over_files import over_files
from ._parse import Prior

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..prior import PosePrior

#: Characters of a text in the metadata that are shown.
_LONGEST_TEXT = 10_000


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score held-out poses and compare the prior's samples with them."""

    prior: Prior
    data: Path
    """An .npz file, or a folder (its test split is taken when it has one)."""
    json: Path | None = None
    """Write the numbers here."""
    jitter: float = 0.02
    """Tangent noise added to the poses, radians; every NLL depends on it."""
    num_samples: int = 3000
    """Poses to sample for the sample metrics; 0 leaves them out."""
    num_completed: int = 1000
    """Poses to complete for each hidden part; 0 leaves that out."""
    max_poses: int | None = None
    """Score a random subset of at most this many."""
    seed: int = 0
    """Of jitter, samples and subsets."""
    device: str = "cpu"
    """Where to compute."""
    calibrate: bool = False
    """Write percentiles among held-out people into the prior's own file, as poseprior train does: of the val split of a
    folder, or of all poses of a file. They get the jitter, the rig noise and the seed of the training."""

    def run(self) -> None:
        from ..evaluation.report import evaluate, format_table
        from ..io.atomic import write_json

        prior = load_prior(self.prior, self.device)
        check_suffix("--json", self.json, ".json")
        rewritten = file_to_rewrite(self.prior) if self.calibrate else None
        people = people_to_calibrate_on(self.data, prior) if self.calibrate else None
        data = held_out(self.data)
        result = evaluate(
            prior, data, jitter=self.jitter, seed=self.seed, num_samples=self.num_samples,
            num_completed=self.num_completed, max_poses=self.max_poses, progress=True,
        )  # fmt: skip
        print(format_table(result))
        if self.json is not None:
            write_json(self.json, result)
            print(f"results: {self.json}")
        if rewritten is not None and people is not None:
            calibrate_file(prior, rewritten, people)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw poses into an .npz file that AMASS and SMPL-X readers take, and optionally a picture."""

    prior: Prior
    num: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 24
    """How many."""
    out: Path
    """The .npz to write: poses (n, 55, 3) rotvecs, observed (n, 55)."""
    png: Path | None = None
    """Draw them here."""
    seed: int = 0
    """Of the draws."""
    device: str = "cpu"
    """Where to compute."""

    def run(self) -> None:
        import torch

        from ..io import write_poses

        check_whole("--num", self.num, least=1)
        check_suffix("--out", self.out, ".npz")
        check_suffix("--png", self.png, ".png")
        prior = load_prior(self.prior, self.device)
        with busy(f"sampling {self.num:,} poses"):
            poses = prior.sample(self.num, generator=generator(self.seed, prior.device)).cpu()
        observed = torch.zeros(poses.shape[:-1], dtype=torch.bool)
        observed[:, list(prior.joints)] = True
        write_poses(self.out, poses, observed=observed)
        print(f"results: {self.out}")
        if self.png is not None:
            from ..viz import plot_poses

            plot_poses(poses, joints=prior.joints, path=self.png)
            print(f"picture: {self.png}")


@dataclass(frozen=True, kw_only=True)
class Complete:
    """Draw hidden or missing joints given the others, for every pose of a file."""

    prior: Prior
    data: Path
    """An .npz file, or a folder (its test split is taken when it has one). Joints its mask misses are drawn too."""
    out: Path
    """The .npz to write: poses (num_samples x N, 55, 3), all draws of the first sample, then of the second, ..."""
    hide: str = ""
    """Hide these before completing: left_arm, right_arm, legs, trunk, a joint set, or joint names with commas."""
    num_samples: int = 1
    """Draws for each pose."""
    max_poses: int | None = None
    """Complete only the first so many poses."""
    png: Path | None = None
    """Draw the first pose and its completions here."""
    seed: int = 0
    """Of the draws."""
    device: str = "cpu"
    """Where to compute."""
    workers: int | None = None
    """Over every file of a folder, in so many processes: a result for each in the folder --out. Run again to go on."""

    def run(self) -> None:
        import torch

        from ..io import write_poses
        from ..scale.file_tasks import CompleteFile

        if self.workers is not None:
            task = CompleteFile(
                prior=self.prior, hide=",".join(self._hidden_names()), num_samples=self.num_samples, seed=self.seed,
                max_poses=self.max_poses, device=self.device,
            )  # fmt: skip
            return over_files(task, self.data, self.out, self.workers, png=self.png)
        check_whole("--num-samples", self.num_samples, least=1)
        if self.max_poses is not None:
            check_whole("--max-poses", self.max_poses, least=1)
        check_suffix("--out", self.out, ".npz")
        check_suffix("--png", self.png, ".png")
        prior = load_prior(self.prior, self.device)
        poses, observed = held_out(self.data).all_poses()
        poses, observed = poses[: self.max_poses], observed[: self.max_poses].clone()
        if self.hide:
            observed[:, list(self._hidden(prior))] = False
        elif bool(observed[:, list(prior.joints)].all()):
            raise ValueError(
                f"--hide: expected joints to draw, since {self.data} shows all that {self.prior} models; got none."
            )
        with busy(f"completing {len(poses):,} poses"):
            filled = prior.complete(
                poses.to(prior.device), observed.to(prior.device), num_samples=self.num_samples,
                generator=generator(self.seed, prior.device),
            ).cpu()  # fmt: skip
        known = observed.clone()
        known[:, list(prior.joints)] = True
        write_poses(self.out, filled.flatten(0, 1), observed=known.repeat(self.num_samples, 1))
        print(f"results: {self.out}")
        if self.png is not None:
            from ..viz import plot_poses

            shown = torch.cat([poses[:1], filled[:11, 0]])
            plot_poses(shown, titles=["as given", *(f"draw {k + 1}" for k in range(len(shown) - 1))], path=self.png)
            print(f"picture: {self.png}")

    def _hidden_names(self) -> list[str]:
        from .. import skeleton

        joints = self._hidden(load_prior(self.prior)) if self.hide else ()
        return [skeleton.JOINT_NAMES[j] for j in joints]

    def _hidden(self, prior: PosePrior) -> tuple[int, ...]:
        """The joints to hide; those that the prior does not model stay missing, which is said."""
        from .. import skeleton

        joints = hidden_joints(self.hide)
        unknown = [skeleton.JOINT_NAMES[j] for j in joints if j not in prior.joints]
        if len(unknown) == len(joints):
            raise ValueError(
                f"--hide: expected joints that {self.prior} models, got {self.hide!r}, of which it models none; poseprior info "
                "lists its joints."
            )
        if unknown:
            more = f" and {len(unknown) - 2} more" if len(unknown) > 3 else ""
            shown = ", ".join(unknown[:2] if more else unknown)
            print(f"{self.prior} does not model {shown}{more}: hidden, and not drawn")
        return joints


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a prior's file holds: class, joints, options, training, metrics, licence."""

    prior: Prior

    def run(self) -> None:
        from .. import skeleton

        prior = load_prior(self.prior)
        left_out = [name for j, name in enumerate(skeleton.JOINT_NAMES) if j not in prior.joints]
        print(f"{type(prior).__name__}, {prior.num_parameters:,} parameters, log_prob is {prior.log_prob_kind}")
        _wrapped(f"models {len(prior.joints)} joints: {', '.join(skeleton.JOINT_NAMES[j] for j in prior.joints)}")
        _wrapped(f"does not model: {', '.join(left_out) or 'nothing is left out'}")
        facts = {"config": prior.get_config(), **prior.metadata}
        notices = facts.pop("notices", None) or []
        notices = notices if isinstance(notices, list) else [notices]
        for name in ("check", "not_modelled", "num_parameters"):  # numbers for tests, and what is said above
            facts.pop(name, None)
        if isinstance(facts.get("calibration"), Mapping):
            facts["calibration"] = f"percentiles among held-out people, knees: {', '.join(facts['calibration'])}"
        for name, value in facts.items():
            _wrapped(f"{_printable(name)}: {_said(value)}")
        for notice in notices:
            print("notice:\n" + "\n".join(_printable(line) for line in str(notice).strip().splitlines()) + "\n")


def _said(value: Any) -> str:
    """A value of the metadata as text; of rig noise, which is pages of numbers, whether there is any."""
    if isinstance(value, Mapping):
        facts = {name: bool(inside) if name == "rig_noise" else inside for name, inside in value.items()}
        return "; ".join(f"{_printable(name)} {_inside(inside)}" for name, inside in facts.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_inside, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else _printable(str(value))


def _inside(value: Any) -> str:
    """The same within a value: in brackets where it has parts."""
    return f"({_said(value)})" if isinstance(value, Mapping | list | tuple) else _said(value)


def _printable(text: str) -> str:
    return printable(text, _LONGEST_TEXT)


def _wrapped(text: str) -> None:
    """Print a line in pieces of the terminal's width."""
    print(textwrap.fill(text, max(40, shutil.get_terminal_size().columns - 1), subsequent_indent="  "))


@dataclass(frozen=True, kw_only=True)
class List:
    """The priors that ship with the package."""

    def run(self) -> None:
        from ..pretrained.listing import list_pretrained

        print(list_pretrained())
