"""Priors that benchmarks train once and keep in a file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import poseprior
from poseprior import FitConfig, PoseDataset, PosePrior


def file_stem(title: str) -> str:
    """A row's title as the name of a file."""
    return title.replace(",", "").replace(" ", "-").lower()


def kept_prior(
    path: Path,
    build: Callable[[], PosePrior],
    splits: Callable[[], Mapping[str, PoseDataset]],
    change: Callable[[FitConfig], FitConfig] = lambda own: own,
) -> PosePrior:
    """The prior in `path`, trained first if there is none; an interrupted training goes on where it stopped.

    Args:
        path: the weights; delete the file to train anew.
        build: the untrained prior.
        splits: reads "train" and "val"; called only to train.
        change: makes the options of the training out of the prior's own `default_fit`.

    Raises:
        SystemExit: the training was interrupted.
    """
    if not path.exists():
        prior, data = build(), splits()
        checkpoint = path.with_suffix(".checkpoint")
        config = replace(change(prior.default_fit), checkpoint_dir=str(checkpoint))
        if prior.fit(data["train"], val=data["val"], config=config).stopped == "interrupted":
            # `fit` returns the best weights so far; keeping them would pass them off as trained.
            sys.exit("interrupted: run the same command again to go on")
        path.parent.mkdir(parents=True, exist_ok=True)
        prior.save(path)
        shutil.rmtree(checkpoint, ignore_errors=True)
    return poseprior.load(path)
