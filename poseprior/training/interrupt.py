"""Ctrl-C in a training run: the step under way is finished, so that what is saved goes on to the bit."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interruption:
    """Whether the user asked to stop.

    Attributes:
        asked: the first Ctrl-C sets it, and the loop stops after its step. A second one interrupts at once.
        harmless: nothing was left half-done: the one Ctrl-C came in work that may be left (`at_once`).
    """

    def __init__(self) -> None:
        self.asked = self.harmless = self._at_once = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that may be left in the middle: the first Ctrl-C interrupts it."""
        self._at_once = True
        try:
            if self.asked:
                self.harmless = True
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        self.harmless = self._at_once and not again
        if again or self._at_once:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruption(enabled: bool) -> Iterator[Interruption]:
    """Take Ctrl-C as a wish to stop, where it would be a `KeyboardInterrupt`; elsewhere (threads, own handlers) do nothing.

    Args:
        enabled: False leaves Ctrl-C as it is, for ranks of which each would stop at another step.
    """
    found = Interruption()
    ours = (
        enabled
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, found._handle)
    try:
        yield found
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
