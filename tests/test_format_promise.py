"""Weights of format 1 load forever: committed files, and the densities that the code which wrote them gave.

The files were written by the code of 2026-11-24 (before any release). They must never be written again: when one of these
tests fails, mend the reader, or raise FORMAT_VERSION and keep reading the old format.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import poseprior
from poseprior import checkpoint

FOLDER = Path(__file__).resolve().parent / "data" / "format_1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def test_every_expectation_has_its_file() -> None:
    assert {"gaussian", "order_agnostic", *NAMES} == {k for k, v in EXPECTED.items() if isinstance(v, dict)}


@pytest.mark.parametrize("name", NAMES)
def test_format_1_loads_and_scores_as_it_did(name: str) -> None:
    path = FOLDER / f"{name}.safetensors"
    assert checkpoint.read(path)[1]["format_version"] == 1
    prior = poseprior.load(path).double()  # rounding in single precision differs from processor to processor
    pose = torch.zeros(4, 55, 3, dtype=torch.float64)
    pose[:, EXPECTED["joints"]] = torch.tensor(EXPECTED["pose"], dtype=torch.float64)
    hidden = torch.ones(4, 55, dtype=torch.bool)
    hidden[:, EXPECTED["hidden"]] = False
    expected = EXPECTED[name]
    torch.testing.assert_close(prior.log_prob(pose).tolist(), expected["log_prob"], rtol=0, atol=1e-4)
    if "log_prob_hidden" in expected:
        torch.testing.assert_close(
            prior.log_prob(pose, observed=hidden).tolist(), expected["log_prob_hidden"], rtol=0, atol=1e-4
        )
