"""The commands for poses of one's own rig: check, adapt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import tyro

from ._common import check_suffix

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say whether a prior holds on the poses of a file, which joints disagree, and what conventions the file gives away."""

    prior: tyro.conf.Positional[str]
    """A shipped prior's name (poseprior list), a .safetensors file, a run folder, or hf://owner/repo/file."""
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

    def run(self) -> None:
        from ..io import read_poses
        from ..io.atomic import write_json
        from ..pretrained.loading import load
        from ..tasks import check

        check_suffix("--png", self.png, ".png")
        if self.png is not None:
            _need_pictures()
        data = read_poses(self.data)
        result = check(load(self.prior, device=self.device), data, max_poses=self.max_poses, seed=self.seed)
        for note in data.notes:
            print(f"reading: {note}")
        print(result)
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

    prior: tyro.conf.Positional[str]
    """A shipped prior's name (poseprior list), a .safetensors file, a run folder, or hf://owner/repo/file."""
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
        from ..io import read_poses
        from ..pretrained.loading import load
        from ..rigs.adapted import AdaptedLatentPrior, AdaptedPrior
        from ..tasks import adapt

        check_suffix("--out", self.out, ".safetensors")
        data = read_poses(self.data)
        for note in data.notes:
            print(f"reading: {note}")
        data = data.random_subset(self.max_poses, seed=self.seed)
        found = adapt(load(self.prior, device=self.device), data, steps=self.steps, seed=self.seed)
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
        print("joints turned most      parent's side   child's side (degrees)   spread x, y, z")
        for joint in sorted(turned, key=lambda joint: -max(turned[joint]))[:_SHOWN]:
            spread = ", ".join(f"{v:.2f}" for v in config["spread"][joint])
            print(f"  {joint:<18} {turned[joint][0]:16.0f} {turned[joint][1]:14.0f}             {spread}")
        print(f"prior: {self.out}")


def _need_pictures() -> None:
    """Refuse `--png` before any work is done where pictures cannot be drawn."""
    from ..viz import new_figure

    try:
        new_figure()
    except ModuleNotFoundError as error:
        raise ValueError(f"--png: {error}.") from error
