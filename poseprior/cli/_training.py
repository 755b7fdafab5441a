"""What `poseprior train` reads, starts and says."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..io import PoseDataset
    from ..training import RigNoise
    from ..training.config import FitOptions


def read_rig_noise(name: str) -> RigNoise | None:
    """What `--rig-noise` names."""
    from ..training import RigNoise

    if name == "none":
        return None
    if not name.endswith(".json"):
        try:
            return RigNoise.estimated(name)
        except ValueError as error:
            raise ValueError(f"--rig-noise: expected a .json file, none, or a part; {error}") from None
    try:
        values = json.loads(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"--rig-noise: {name} is not a readable JSON file ({error}).") from None
    if not isinstance(values, dict):
        raise ValueError(f"--rig-noise: expected a JSON object in {name}, got {type(values).__name__}.")
    return RigNoise.from_dict(values)


def reproducible(options: FitOptions) -> dict[str, Any]:
    """The options that decide the weights."""
    places = ("checkpoint_dir", "checkpoint_every", "resume", "tensorboard_dir", "device", "progress")
    return {name: value for name, value in asdict(options).items() if name not in places}


def weighty(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the loop that a run must share with the one it goes on from: all but how long it is."""
    kept = {name: value for name, value in options.items() if name not in ("max_steps", "minutes", "patience")}
    return {**kept, "closed form": options.get("max_steps") == 0}


def start_distributed() -> bool:
    """Join the process group when torchrun started us; whether this process is the one that speaks and writes."""
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def read_splits(path: Path, context: str | None) -> dict[str, PoseDataset]:
    """Train and, where the files have them, val and test; a lone file or an unsplit folder is all train."""
    from ..io import read_poses, read_split

    splits = read_split(path, context=context) if path.is_dir() else {"train": read_poses(path, context=context)}
    if "train" not in splits:
        found = ", ".join(splits)
        raise ValueError(f"--data: {path} has no train split (found: {found}); name a file train_poses.npz.")
    return splits


def describe(data: PoseDataset) -> str:
    return f"{len(data):,} poses of {data.num_subjects or 'unknown'} subjects"


def say(main_rank: bool, text: str) -> None:
    if main_rank:
        print(text, flush=True)
