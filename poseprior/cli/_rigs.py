"""The commands for poses of one's own rig: check, adapt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ._busy import busy
from ._calibrate import say_own_samples
from ._common import all_of, check_suffix, load_prior
from ._over_files import over_files
from ._parse import Prior

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say whether a prior holds on the poses of a file, which joints disagree, and what conventions the file gives away."""

    prior: Prior
    data: Path
    """An .npz file, or a folder of such files, all of one rig."""
    png: Path | None = None
    """Draw the percentiles and the joints here."""
    json: Path | None = None
    """Write the numbers here."""
    max_poses: int = 1000
    """Judge a random subset of at most this many."""
    seed: int = 0
    """Of the subset and of the samples that the poses are compared with."""
    device: str = "cpu"
    """Where to compute."""
    out: Path | None = None
    """The folder of results, with --workers."""
    workers: int | None = None
    """Over every file of a folder, in so many processes: a result for each in the folder --out. Run again to go on."""

    def run(self) -> None:
        from ..io.atomic import write_json
        from ..scale.file_tasks import CheckFile
        from ..tasks import check

        check_suffix("--png", self.png, ".png")
        check_suffix("--json", self.json, ".json")
        if self.workers is not None:
            task = CheckFile(prior=self.prior, seed=self.seed, max_poses=self.max_poses, device=self.device)
            return over_files(task, self.data, self.out, self.workers, png=self.png, json=self.json)
        if self.out is not None:
            raise ValueError("--out: expected it with --workers alone; --json writes the numbers of one check.")
        data = all_of(self.data)
        prior = load_prior(self.prior, self.device)
        with busy(f"judging {min(len(data), self.max_poses):,} poses"):
            result = check(prior, data, max_poses=self.max_poses, seed=self.seed)
        print(result)
        if result.percentile_kind == "own samples":
            say_own_samples(self.prior)
        if self.json is not None:
            write_json(self.json, result.to_dict())
            print(f"results: {self.json}")
        if self.png is not None:
            from ..viz import plot_check

            plot_check(result, path=self.png)
            print(f"picture: {self.png}")


@dataclass(frozen=True, kw_only=True)
class Adapt:
    """Find a rig's rest frames and spreads from 100 or more of its poses, and write the prior that goes with them."""

    prior: Prior
    data: Path
    """An .npz file, or a folder of such files, all of one rig."""
    out: Path
    """The .safetensors to write; every command and poseprior.load take it."""
    max_poses: int = 5000
    """Learn from a random subset of at most this many."""
    steps: int = 200
    """Of the optimiser."""
    seed: int = 0
    """Of the subset, the noise and the order of poses."""
    device: str = "cpu"
    """Where to compute."""

    def run(self) -> None:
        from ..rigs.adapted import AdaptedLatentPrior, AdaptedPrior
        from ..tasks import adapt

        check_suffix("--out", self.out, ".safetensors")
        data = all_of(self.data)
        data = data.random_subset(self.max_poses, seed=self.seed)
        prior = load_prior(self.prior, self.device)
        with busy(f"learning the rig from {len(data):,} poses"):
            found = adapt(prior, data, steps=self.steps, seed=self.seed)
        found.save(self.out)
        facts = found.metadata["adaptation"]
        people = f" of {facts['num_people']} people" if facts["num_people"] > 1 else ""
        print(
            f"{facts['num_poses']:,} poses{people}: NLL {facts['nll_before']:.1f} -> {facts['nll_after']:.1f} nats on these "
            f"very poses, jitter {facts['jitter']:g} rad"
        )
        if facts["constant_joints"]:
            print(f"never move, left as they are: {', '.join(facts['constant_joints'])}")
        assert isinstance(found, AdaptedPrior | AdaptedLatentPrior)
        config = found.get_config()
        turned = {
            joint: (math.hypot(*config["parent_frame"][joint]), math.hypot(*config["child_frame"][joint]))
            for joint in config["parent_frame"]
        }
        print("joints turned most   degrees: parent's side  child's side   spread x, y, z")
        for joint in sorted(turned, key=lambda joint: -max(turned[joint]))[:_SHOWN]:
            spread = ", ".join(f"{v:.2f}" for v in config["spread"][joint])
            print(f"  {joint:<18} {turned[joint][0]:22.0f} {turned[joint][1]:13.0f}   {spread}")
        print(f"prior: {self.out}")
