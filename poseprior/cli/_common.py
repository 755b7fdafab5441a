"""What several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._checks import check_whole

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    import torch

    from ..io import PoseDataset


def held_out(path: Path) -> PoseDataset:
    """The poses of a file; of a folder its test split, else its val split, else all."""
    from ..io import read_poses, read_split

    if path.is_dir():
        splits = read_split(path)
        return splits.get("test") or splits.get("val") or read_poses(path)
    return read_poses(path)


def generator(seed: int, device: torch.device) -> torch.Generator:
    """A source of randomness on the device, from `--seed`."""
    import torch

    check_whole("--seed", seed)
    return torch.Generator(device=device).manual_seed(seed)


def check_suffix(flag: str, path: Path | None, *allowed: str) -> None:
    """Refuse an output of a kind that is not written, or where nothing can be written, before any work is done."""
    from ..io.atomic import require_writable

    if path is None:
        return
    if path.suffix.lower() not in allowed:
        raise ValueError(f"{flag}: expected a name that ends in {' or '.join(allowed)}, got {path.name!r}.")
    try:
        require_writable(path)
    except ValueError as error:
        raise ValueError(f"{flag}, {error}") from None
