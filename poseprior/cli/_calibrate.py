"""`poseprior evaluate --calibrate`: percentiles of held-out people, written into the file of a prior."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ._common import reading, said_of

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from ..io import PoseDataset
    from ..prior import PosePrior


def file_to_rewrite(prior: str) -> Path:
    """The file behind the argument PRIOR.

    Raises:
        ValueError: a shipped prior, or one of a hub: these files belong to others.
    """
    from ..io.atomic import require_writable
    from ..pretrained import hub
    from ..pretrained.listing import pretrained_files
    from ..pretrained.loading import resolve

    path = resolve(prior)
    shipped = {file.resolve() for file in pretrained_files().values()}
    if prior.startswith(hub.PREFIX) or path.resolve() in shipped:
        raise ValueError(
            f"--calibrate: expected a run folder or a .safetensors file of yours, which is rewritten, got {prior}; save a copy "
            f"first: poseprior.load({prior!r}).save('copy.safetensors')."
        )
    with said_of("PRIOR"):
        require_writable(path)
    return path


def people_to_calibrate_on(data: Path, prior: PosePrior) -> PoseDataset:
    """The val split of a folder, or all poses of a file.

    Raises:
        ValueError: a folder without a val split, or the poses that the prior was trained on.
    """
    from .._shown import training_facts
    from ..io import read_poses, read_split

    with reading(data, "--data"):
        splits = read_split(data) if data.is_dir() else {"val": read_poses(data)}
    if "val" not in splits:
        raise ValueError(
            f"--calibrate: expected a folder --data with a val split, got {data} with {', '.join(splits) or 'no split'}; name a "
            "file val_poses.npz, or give one file of people that training did not see."
        )
    found = splits["val"]
    if found.digest() == training_facts(prior.metadata).get("data_digest"):
        raise ValueError(
            f"--calibrate: expected poses of people that training did not see, got those of the training in {data}; give "
            "others."
        )
    return found


def add_percentiles(prior: PosePrior, people: PoseDataset, *, progress: bool) -> None:
    """Calibrate a prior on held-out people, with the jitter, the rig noise and the seed that its training wrote down."""
    from .._shown import training_facts
    from ..evaluation.calibration import calibrate
    from ..training.rig_noise import RigNoise

    facts = training_facts(prior.metadata)
    noise = facts.get("rig_noise")
    prior.metadata["calibration"] = calibrate(
        prior,
        people,
        rig_noise=None if noise is None else RigNoise.from_dict(noise),
        jitter=facts.get("jitter", 0.0),
        seed=facts.get("seed", 0),
        progress=progress,
    ).to_dict()


def calibrate_file(prior: PosePrior, path: Path, people: PoseDataset) -> None:
    """Write percentiles into the file of a prior, as the evaluation after its training does."""
    add_percentiles(prior, people, progress=True)
    prior.save(path)
    print(f"percentiles: {path} now holds those of {people.num_subjects or 'unknown'} held-out people")


def how_to_calibrate(prior: str | Path, data: str | Path = "DIR") -> str:
    """The command that adds percentiles among held-out people."""
    return f"poseprior evaluate {shlex.quote(str(prior))} --data {shlex.quote(str(data))} --calibrate"


def say_own_samples(prior: str) -> None:
    """Print what the percentiles are among where the file of a prior holds none, and what adds some."""
    print(f"percentiles are among the prior's own samples; {how_to_calibrate(prior)} adds those among held-out people")
