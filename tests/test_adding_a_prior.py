"""examples/kernel_density.py stays as short as docs/adding_a_prior.md says; the page's blocks run in test_docs.py."""

from __future__ import annotations

from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "kernel_density.py"


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
