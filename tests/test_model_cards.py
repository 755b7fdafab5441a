"""The cards in docs/models say what the weights' metadata say, and what a card must."""

from __future__ import annotations

from pathlib import Path

import pytest

import poseprior
from benchmarks.density.model_cards import cards
from poseprior.recipes import RECIPES

CARDS = Path(__file__).resolve().parents[1] / "docs" / "models"


def test_cards_agree_with_the_weights() -> None:
    for path, text in cards().items():
        assert path.read_text() == text, f"{path.name} is out of date: run python -m benchmarks.density.model_cards"


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_prior_has_a_whole_card(name: str) -> None:
    text = (CARDS / f"{name}.md").read_text()
    for heading in ("What it is", "Data", "Intended use", "What it cannot do", "How its samples look"):
        assert f"\n## {heading}\n" in text
    info = poseprior.list_pretrained()[name]
    for numbers in info.metrics.values():
        if isinstance(numbers, dict):
            assert f"{numbers['test']['nll']:.2f}" in text
            assert f"{numbers['val']['nll']:.2f}" in text
    for part in RECIPES[name].parts:
        assert f"(README.md#{'body' if part == 'body' else 'hand'}-recordings)" in text


def test_the_common_part_names_licences_and_limits() -> None:
    text = (CARDS / "README.md").read_text()
    for word in ("MIT", "EIA-0196217", "BSD-3-Clause", "toddlers", "floor work", "commercial"):
        assert word in text
