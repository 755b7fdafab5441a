"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Small tensors everywhere: more threads only wait for each other, and on a shared machine spin while they do.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """The folder of real poses (`body/`, `hands/`): $POSEPRIOR_DATA, else ../shared/data; skips without it."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("POSEPRIOR_DATA") or root.parent / "shared" / "data")
    if not (folder / "body" / "train_poses.npz").is_file():
        pytest.skip(
            f"real pose data not found in {folder}; set POSEPRIOR_DATA to the folder that holds body/ and hands/"
        )
    return folder
