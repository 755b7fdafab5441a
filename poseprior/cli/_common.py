"""What several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..io import PoseDataset, read_poses, read_split
from ..io.atomic import replacing


def held_out(path: Path) -> PoseDataset:
    """The poses of a file; of a folder its test split, else its val split, else all."""
    if path.is_dir():
        splits = read_split(path)
        return splits.get("test") or splits.get("val") or read_poses(path)
    return read_poses(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside the target, then rename."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")
