"""Every block of code in docs/data_formats.md runs by itself, and every layout stands in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from poseprior.io._keypoints.units import UNITS
from poseprior.io._poses import keys
from poseprior.io._poses.forms import FORMS
from poseprior.io._poses.orders import FINGERS, ORDERS
from poseprior.keypoint_layouts import LAYOUTS

PAGE = Path(__file__).parents[2] / "docs" / "data_formats.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"{PAGE.name} block {number}", "exec"), {})
    assert any(name in BLOCKS[number] for name in ("read_poses", "read_keypoints", "write_mesh"))


def test_every_layout_and_key_is_listed() -> None:
    text = PAGE.read_text()
    names = [
        *LAYOUTS, *FORMS, *FINGERS, *ORDERS, *keys.WHOLE, *keys.SIDES, *keys.SUBJECTS,
        *keys.SEQUENCES, *keys.RATES, keys.EYES, *keys.HANDS, *(u for group in UNITS.values() for u in group),
    ]  # fmt: skip
    for part, others in keys.PARTS.items():
        names += [name for name in others if not part.startswith("right_hand")]
    missing = [n for n in names if f"`{n}`" not in text and f'`"{n}"`' not in text and f'"{n}"' not in text]
    assert not missing, missing
