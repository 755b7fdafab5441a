"""The pose files of a recipe: part by part, and put together with what each part misses marked as unobserved."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._text import shown
from ..io import PoseDataset, read_poses, read_split
from ..skeleton import JOINT_NAMES

#: By split ("train", "val", "test"), then by part ("body", "hands", or "all" for a folder without parts).
Splits = dict[str, dict[str, PoseDataset]]

#: Subfolders that hold a part, the first that exists.
FOLDERS = {"body": ("smplx_body", "body"), "hands": ("hands",)}
#: Files of further rigs beside the splits of a part, and the people of theirs that are held out to select weights.
FURTHER_RIGS = {"uiprmd_poses.npz": ("1004", "1008")}
#: Of the poses whose collars come from a rule, every so many have them marked as unobserved, so that a prior that
#: cannot marginalise learns to do without collars.
_COLLARS_HIDDEN_EVERY = 4
_COLLARS = [JOINT_NAMES.index(name) for name in ("left_collar", "right_collar")]


def read_parts(folder: Path, parts: tuple[str, ...]) -> Splits:
    """The splits of each part.

    Args:
        folder: holds the parts as subfolders (`smplx_body/` or `body/`, `hands/`) with `train_poses.npz` and so on; or
            holds split files itself, and then they are the only part, "all" (the part's own name when the recipe has
            just one). Files of further rigs beside them (`uiprmd_poses.npz`) go into train, and the people of them that
            are held out into val.
        parts: what the recipe asks for.

    Raises:
        ValueError: neither, or a part without a train split.
    """
    there = {part: folder / name for part in parts for name in reversed(FOLDERS[part]) if (folder / name).is_dir()}
    if there and len(there) < len(parts):
        absent = ", ".join(part for part in parts if part not in there)
        raise ValueError(
            f"--data: expected the folders {', '.join(parts)} in {shown(folder)}, got no {absent}; give a folder that holds them "
            "all, or one that holds train, val and test files itself."
        )
    folders = there or {parts[0] if len(parts) == 1 else "all": folder}
    splits: Splits = {}
    for part, path in folders.items():
        found = read_split(path)
        if "train" not in found:
            raise ValueError(
                f"--data: {shown(path)} has no train split (found: {', '.join(found)}); name a file train_poses.npz."
            )
        for name, people in FURTHER_RIGS.items():
            if (path / name).exists():
                _add_rig(found, read_poses(path / name), people)
        for name, data in found.items():
            splits.setdefault(name, {})[part] = hide_some_collars(data) if name == "train" else data
    return splits


def _add_rig(found: dict[str, PoseDataset], rig: PoseDataset, held_out: tuple[str, ...]) -> None:
    """Add a rig's people to train, and those that are held out to val."""
    apart = np.isin(np.asarray(rig.subject), held_out)
    found["train"] = PoseDataset.concat([found["train"], rig.select(np.flatnonzero(~apart))])
    if "val" in found:
        found["val"] = PoseDataset.concat([found["val"], rig.select(np.flatnonzero(apart))])


def hide_some_collars(data: PoseDataset) -> PoseDataset:
    """Every fourth pose whose collars come from a rule, with its collars unobserved."""
    if data.imputed is None:
        return data
    pose, observed = data.all_poses()
    rows = data.imputed[:, _COLLARS].all(1).nonzero()[:, 0][::_COLLARS_HIDDEN_EVERY]
    if len(rows) == 0:
        return data
    observed = observed.clone()
    observed[rows[:, None], _COLLARS] = False
    return PoseDataset(
        pose, observed, subject=data.subject, sequence=data.sequence, fps=data.fps, frame=data.frame, rig=data.rig,
        imputed=data.imputed,
    )  # fmt: skip


def together(parts: dict[str, PoseDataset]) -> PoseDataset:
    """All rows of all parts as one data set."""
    return next(iter(parts.values())) if len(parts) == 1 else PoseDataset.concat(list(parts.values()))
