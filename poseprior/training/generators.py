"""Torch's own random generators, which weights and dropout are drawn from: seeded for a fit, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def borrowed_generators(device: torch.device) -> Iterator[Callable[[int], None]]:
    """Lend the generators of the CPU and of `device`, when that is a CUDA device, and restore their states at the end.

    Yields a function that seeds them. `torch.manual_seed` would seed every device there is, and a fit on one must not
    move what the user draws on others.
    """
    cuda = [device] if device.type == "cuda" else []

    def seed(value: int) -> None:
        torch.default_generator.manual_seed(value)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(value)

    with torch.random.fork_rng(devices=cuda):
        yield seed
