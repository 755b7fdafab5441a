"""Priors that benchmarks train once and keep in a file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import poseprior
from poseprior import PoseDataset, PosePrior


def kept_prior(
    path: Path, build: Callable[[], PosePrior], splits: Callable[[], Mapping[str, PoseDataset]], **changes: Any
) -> PosePrior:
    """The prior in `path`, trained first if there is none; an interrupted training goes on where it stopped.

    Args:
        path: the weights; delete the file to train anew.
        build: the untrained prior.
        splits: reads "train" and "val"; called only to train.
        changes: fields of the prior's own `default_fit` that are to differ.

    Raises:
        SystemExit: the training was interrupted.
    """
    if not path.exists():
        prior, data = build(), splits()
        checkpoint = path.with_suffix(".checkpoint")
        config = replace(prior.default_fit, checkpoint_dir=str(checkpoint), **changes)
        if prior.fit(data["train"], val=data["val"], config=config).stopped == "interrupted":
            # `fit` returns the best weights so far; keeping them would pass them off as trained.
            sys.exit("interrupted: run the same command again to go on")
        path.parent.mkdir(parents=True, exist_ok=True)
        prior.save(path)
        shutil.rmtree(checkpoint, ignore_errors=True)
    return poseprior.load(path)
