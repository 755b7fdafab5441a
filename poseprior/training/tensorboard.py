"""Training curves for TensorBoard, written when it is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .._text import shown
from ..prior import LatentPosePrior, PosePrior
from ..rotations import geodesic_distance
from .validation import mean_active_dims, mean_haar_log_density

#: Poses to encode; a VAE finds each latent by iteration.
_NUM_POSES, _NUM_BOUNDED = 256, 64


def tensorboard_installed() -> bool:
    """Whether events can be written."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoardLog:
    """Writes NLLs, BPD, learning rate, and statistics of latents and samples; needs a folder and tensorboard.

    Where the events cannot be written, as on a full disk, it warns once, and training goes on without them.

    Args:
        folder: where the events go, or None.
        first_step: events after this step that an earlier, killed run wrote are superseded.
    """

    def __init__(self, folder: str | None, *, first_step: int = 0) -> None:
        self._writer: Any = None
        self._folder = folder
        if folder is not None and tensorboard_installed():
            from torch.utils.tensorboard import SummaryWriter

            with self._or_without():
                self._writer = SummaryWriter(folder, purge_step=first_step + 1)

    def write(self, prior: PosePrior, record: dict[str, Any], val: tuple[Tensor, Tensor] | None) -> None:
        """Add the scalars of one validation, or of a closed form (step 0); `prior` holds the weights that are judged.

        Args:
            prior: in evaluation mode.
            record: `step`, and where they are known `train_nll`, `val_nll` and `learning_rate`.
            val: (N, 55, 3) held-out poses with their jitter, and (N, 55) observed.
        """
        if self._writer is None:
            return
        step = record["step"]
        scalars = {
            f"nll/{name.removesuffix('_nll')}": record[name]
            for name in ("train_nll", "val_nll")
            if record.get(name) is not None
        }
        if record.get("learning_rate") is not None:
            scalars["learning_rate"] = record["learning_rate"]
        if val is not None:
            rotvec_nll = record["val_nll"] - mean_haar_log_density(prior, *val)
            scalars["bpd/val"] = rotvec_nll / (math.log(2.0) * mean_active_dims(prior, val[1]))
            scalars |= _latents(prior, val)
        scalars |= _samples(prior)
        with self._or_without():
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, step)
            self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            with self._or_without():
                self._writer.close()

    @contextlib.contextmanager
    def _or_without(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            warnings.warn(
                f"tensorboard_dir: cannot write {shown(str(self._folder))} ({error.strerror or error}); training goes on "
                "without its curves. Make room there, or give another place.",
                stacklevel=3,
            )


@torch.no_grad()
def _latents(prior: PosePrior, val: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Mean and deviation of the latents of whole poses, which are 0 and 1 for a prior that holds, and the round trip."""
    whole = val[1][:, list(prior.joints)].all(1).nonzero()[:, 0]
    if not isinstance(prior, LatentPosePrior) or len(whole) == 0:
        return {}
    pose, index = val[0][whole[: _NUM_POSES if prior.log_prob_kind == "exact" else _NUM_BOUNDED]], list(prior.joints)
    latent = prior.encode(pose.to(prior.device))
    error = geodesic_distance(pose[:, index].to(latent.device), prior.decode(latent)[:, index])
    return {
        "latent/mean": float(latent.mean()),
        "latent/std": float(latent.std()),
        "round_trip/mse_rad2": float(error.square().mean()),
        "round_trip/max_rad": float(error.max()),
    }


def _samples(prior: PosePrior) -> dict[str, float]:
    """Mean and deviation of the rotvec components of samples, and their angles."""
    generator = torch.Generator(device=prior.device).manual_seed(0)
    drawn = prior.sample(_NUM_POSES, generator=generator)[:, list(prior.joints)]
    angle = drawn.norm(dim=-1)
    return {
        "samples/mean_rad": float(drawn.mean()),
        "samples/std_rad": float(drawn.std(0).mean()),
        "samples/mean_angle_rad": float(angle.mean()),
        "samples/max_angle_rad": float(angle.max()),
    }
