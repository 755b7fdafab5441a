"""Training curves for TensorBoard, written when it is installed."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import torch
from torch import Tensor

from ..prior import LatentPosePrior, PosePrior
from ..rotations import geodesic_distance
from .validation import mean_active_dims, mean_haar_log_density

_NUM_POSES = 256


def tensorboard_installed() -> bool:
    """Whether events can be written."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoardLog:
    """Writes NLLs, BPD, round-trip error and sample statistics; does nothing without a folder or without tensorboard.

    Args:
        folder: where the events go, or None.
        first_step: events after this step that an earlier, killed run wrote are superseded.
    """

    def __init__(self, folder: str | None, *, first_step: int = 0) -> None:
        self._writer: Any = None
        if folder is not None and tensorboard_installed():
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(folder, purge_step=first_step + 1)

    def write(self, prior: PosePrior, record: dict[str, Any], val: tuple[Tensor, Tensor] | None) -> None:
        """Add the scalars of one validation; `prior` holds the averaged weights."""
        if self._writer is None:
            return
        step = record["step"]
        for name in ("train_nll", "val_nll"):
            if record.get(name) is not None:
                self._writer.add_scalar(f"nll/{name.removesuffix('_nll')}", record[name], step)
        if val is not None:
            rotvec_nll = record["val_nll"] - mean_haar_log_density(prior, *val)
            self._writer.add_scalar("bpd/val", rotvec_nll / (math.log(2.0) * mean_active_dims(prior, val[1])), step)
            self._round_trip(prior, val, step)
        self._samples(prior, step)
        self._writer.flush()

    @torch.no_grad()
    def _round_trip(self, prior: PosePrior, val: tuple[Tensor, Tensor], step: int) -> None:

        whole = val[1][:, list(prior.joints)].all(1).nonzero()[:_NUM_POSES, 0]
        if not isinstance(prior, LatentPosePrior) or prior.log_prob_kind != "exact" or len(whole) == 0:
            return
        pose = val[0][whole]
        index = list(prior.joints)
        again = prior.decode(prior.encode(pose))[:, index]
        error = geodesic_distance(pose[:, index].to(again.device), again)
        self._writer.add_scalar("round_trip/max_rad", float(error.max()), step)

    def _samples(self, prior: PosePrior, step: int) -> None:
        generator = torch.Generator(device=prior.device).manual_seed(0)
        angle = prior.sample(_NUM_POSES, generator=generator)[:, list(prior.joints)].norm(dim=-1)
        self._writer.add_scalar("samples/mean_angle_rad", float(angle.mean()), step)
        self._writer.add_scalar("samples/max_angle_rad", float(angle.max()), step)

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
