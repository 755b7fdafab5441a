"""Ctrl-C in a training run: the present step is finished first, so that a saved run resumes to the bit."""

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
        harmless: nothing was left half-done: the only Ctrl-C came during work that may be interrupted (`at_once`).
    """

    def __init__(self) -> None:
        self.asked = self.harmless = self._at_once = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A context for work that may be interrupted in the middle: the first Ctrl-C ends it."""
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
    """A context in which Ctrl-C asks to stop in place of raising `KeyboardInterrupt`.

    It changes nothing in a thread other than the main one, or where the user has installed another handler.

    Args:
        enabled: False changes nothing either, for distributed runs, whose ranks would stop at different steps.
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
