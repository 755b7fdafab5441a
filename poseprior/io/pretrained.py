"""`load`: a prior from a file, whichever class it is."""

from __future__ import annotations

import os

import torch

from .. import models  # noqa: F401  (importing it registers every class that a file may name)
from ..prior import PosePrior


def load(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> PosePrior:
    """Read any prior that `PosePrior.save` wrote; nothing in the file is executed.

    Args:
        path: a `.safetensors` file, or a run folder of `poseprior train`.
        device: where to put the weights.

    Returns:
        The prior, in eval mode with frozen weights.

    Raises:
        ValueError: no such file, not a poseprior file, damaged, or of a newer format.
    """
    inside = os.path.join(path, "prior.safetensors")
    return PosePrior.load(inside if os.path.isfile(inside) else path, device=device)
