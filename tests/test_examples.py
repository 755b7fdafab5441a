"""The examples run, on synthetic poses, as a stranger would run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def _run(name: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, check=True, cwd=cwd, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_demo_leaves_priors_and_pictures(tmp_path: Path) -> None:
    out = _run("demo.py", cwd=tmp_path)
    assert "results: demo/" in out
    assert {p.name for p in (tmp_path / "demo").iterdir()} >= {
        "samples.png",
        "completions.png",
        "gaussian-full.safetensors",
    }


@pytest.mark.slow
def test_your_own_loop_learns_the_context(tmp_path: Path) -> None:
    out = _run("use_your_own_loop.py", "--steps", "200", cwd=tmp_path)
    knees = [float(line.split()[-2]) for line in out.splitlines() if line.startswith("label")]
    assert knees[1] > knees[0] + 0.1
