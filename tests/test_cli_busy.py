"""What a terminal sees while a command works: bars of what takes longer than two seconds, nothing in a file."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from poseprior.cli import main
from poseprior.cli._busy import busy
from poseprior.io import synthetic_poses, write_poses


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


def test_a_closed_form_says_for_how_long_before_and_after_its_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("poseprior.cli._busy._DELAY", 0.01)
    monkeypatch.setattr("poseprior.cli._busy._TICK", 0.01)
    monkeypatch.setattr("sys.stderr", terminal)
    write_poses(tmp_path / "train_poses.npz", synthetic_poses(1000, seed=0))
    command = ["train", "mixture", "--num-components", "2", "--em-iterations", "2", "--no-evaluate"]
    assert main([*command, "--data", str(tmp_path), "--out", str(tmp_path / "R")]) == 0
    assert "fitting in closed form: 00:0" in terminal.getvalue() and "EM:   0%" in terminal.getvalue()
