"""Where to compute: a device by name, or one clear error."""

from __future__ import annotations

import torch


def usable_device(device: str | torch.device) -> torch.device:
    """The device, after a tensor was made on it.

    Raises:
        ValueError: an unknown device, or one that this machine or this build of torch lacks.
    """
    try:
        found = torch.ones(1, device=device).cpu().to(device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device: {str(device)!r} is not usable here ({str(error).splitlines()[0].split('. ')[0]}); use 'cpu'."
        ) from None
    return found
