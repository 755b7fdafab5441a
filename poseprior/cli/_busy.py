"""A line that says what is being done, and for how long already, where work has no bar of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tqdm import tqdm

_DELAY, _TICK = 2.0, 0.5  # seconds


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Show `what` and the time it has taken on standard error, once that is two seconds, while the block runs.

    Nothing is shown where standard error is no terminal.
    """
    bar = tqdm(desc=what, bar_format="{desc}: {elapsed}", delay=_DELAY, leave=False, disable=None)
    done = threading.Event()

    def tick() -> None:
        while not done.wait(_TICK):
            bar.update(0)

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()
        bar.close()
