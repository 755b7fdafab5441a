"""Fits in closed form, which take no steps: their result."""

from __future__ import annotations

import torch.distributed as dist

from ..io.dataset import PoseDataset
from ..prior import PosePrior
from .config import FitOptions, FitResult
from .tensorboard import TensorBoardLog
from .validation import held_out_rows, mean_nll, scorable


def closed_form_result(prior: PosePrior, train: PoseDataset, val: PoseDataset | None, config: FitOptions) -> FitResult:
    """What a fit without optimiser steps reports of a prior that is set already."""
    prior.eval()
    if config.mirror and not bool(scorable(prior, train.observed).any()):
        train = train.mirrored()  # only reflections show the joints: a left-hand prior of right hands
    train_nll = mean_nll(prior, *held_out_rows(prior, train, "train", config)[:3])
    rows = None if val is None else held_out_rows(prior, val, "val", config)
    val_nll = None if rows is None else mean_nll(prior, *rows[:3])
    is_first_rank = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
    log = TensorBoardLog(config.tensorboard_dir if is_first_rank else None, first_step=-1)
    record = {"step": 0, "train_nll": train_nll, "val_nll": val_nll}
    log.write(prior, record, None if rows is None else (rows.pose, rows.observed))
    log.close()
    return FitResult(
        steps=0, seconds=0.0, train_nll=train_nll, val_nll=val_nll, best_step=0, stopped="closed_form",
        joints=prior.joints,
    )  # fmt: skip
