"""The pose files of a recipe: part by part, and put together with what each part misses marked as unobserved."""

from __future__ import annotations

from pathlib import Path

from ..io import PoseDataset, read_split

#: By split ("train", "val", "test"), then by part ("body", "hands", or "all" for a folder without parts).
Splits = dict[str, dict[str, PoseDataset]]


def read_parts(folder: Path, parts: tuple[str, ...]) -> Splits:
    """The splits of each part.

    Args:
        folder: holds the parts as subfolders (`body/`, `hands/`) with `train_poses.npz` and so on; or holds split files
            itself, and then they are the only part, "all" (the part's own name when the recipe has just one).
        parts: what the recipe asks for.

    Raises:
        ValueError: neither, or a part without a train split.
    """
    there = [part for part in parts if (folder / part).is_dir()]
    if there and len(there) < len(parts):
        absent = ", ".join(part for part in parts if part not in there)
        raise ValueError(
            f"--data: expected the folders {', '.join(parts)} in {folder}, got no {absent}; give a folder that holds them "
            "all, or one that holds train, val and test files itself."
        )
    folders = {part: folder / part for part in there} or {parts[0] if len(parts) == 1 else "all": folder}
    splits: Splits = {}
    for part, path in folders.items():
        found = read_split(path)
        if "train" not in found:
            raise ValueError(
                f"--data: {path} has no train split (found: {', '.join(found)}); name a file train_poses.npz."
            )
        for name, data in found.items():
            splits.setdefault(name, {})[part] = data
    return splits


def together(parts: dict[str, PoseDataset]) -> PoseDataset:
    """All rows of all parts as one data set."""
    return next(iter(parts.values())) if len(parts) == 1 else PoseDataset.concat(list(parts.values()))
