"""What a terminal sees while a command works: bars of what takes longer than two seconds, nothing in a file."""

from __future__ import annotations

import io
import time

import pytest

from poseprior.cli._busy import busy


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [_Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_work_without_a_bar_says_what_it_is_and_for_how_long(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poseprior.cli._busy._DELAY", 0.1)
    monkeypatch.setattr("poseprior.cli._busy._TICK", 0.02)
    monkeypatch.setattr("sys.stderr", stream)
    with busy("reading DIR"):
        time.sleep(0.4)
    assert ("reading DIR: 00:0" in stream.getvalue()) == stream.isatty()
