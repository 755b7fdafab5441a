"""Write the numbers of the shipped weights into their cards (docs/models/*.md), from the metadata of the files.

    python -m benchmarks.density.model_cards

Only what stands between the markers changes. tests/test_model_cards.py fails when a card and its weights disagree.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import poseprior
from benchmarks.common import markdown_table, parser_for, write_text
from poseprior import skeleton

OPEN = "<!-- numbers: python -m benchmarks.density.model_cards -->\n"
CLOSE = "<!-- /numbers -->"
_BLOCK = re.compile(re.escape(OPEN) + ".*?" + re.escape(CLOSE), re.DOTALL)
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "models"


def _parts(info: Any) -> dict[str, dict[str, dict[str, float]]]:
    return {name: value for name, value in info.metrics.items() if isinstance(value, dict)}


def _sign(info: Any) -> str:
    return "≤ " if any(p["test"]["log_prob_kind"] == "lower_bound" for p in _parts(info).values()) else ""


def overview() -> str:
    """The table of all shipped priors."""
    rows = []
    for info in poseprior.list_pretrained().values():
        nll = ", ".join(f"{part} {_sign(info)}{numbers['test']['nll']:.2f}" for part, numbers in _parts(info).items())
        rows.append([
            f"[`{info.name}`]({info.name}.md)", str(len(info.joints)), f"{info.num_parameters:,}", _size(info.num_bytes), nll,
        ])  # fmt: skip
    return markdown_table(("name", "joints", "parameters", "file", "test NLL"), rows)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def numbers(info: Any) -> str:
    """The table of one card."""
    meta = poseprior.load(info).metadata
    training, versions = meta["training"], meta["versions"]
    rows = []
    sign = _sign(info)
    for part, splits in _parts(info).items():
        for split, row in splits.items():
            rows.append([
                f"{part}, {split}", f"{row['num_poses']:,}", f"{sign}{row['nll']:.2f}", f"{sign}{row['nll_rotvec']:.2f}",
                f"{sign}{row['bpd']:.3f}",
            ])  # fmt: skip
    steps = (
        f"{training['steps']:,} steps, weights of step {training['best_step']:,}"
        if training["steps"]
        else "closed form"
    )
    jitter = f" Trained with {training['jitter']} rad of jitter{' and rig noise' if training.get('rig_noise') else ''}."
    what = (
        f"`{info.class_name}`, {info.num_parameters:,} parameters, {_size(info.num_bytes)}. Models {len(info.joints)} joints: "
        f"{_spans(info.joints)}."
    )
    how = (
        f"Jitter {info.metrics['jitter']} rad, nats a pose{'; `≤`: a bound' if sign else ''}. Weights selected on val. "
        f"Trained in {training['seconds']:,.0f} s ({steps}), seed {training['seed']}, torch {versions['torch']}, poseprior "
        f"{versions['poseprior']}.{jitter} Licence of the weights: {info.licence}."
    )
    table = markdown_table(("held out", "poses", "NLL, Haar", "NLL, rotvec", "BPD"), rows)
    return f"{_wrapped(what)}\n\n{table}\n{_wrapped(how)}\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _spans(joints: tuple[str, ...]) -> str:
    """Joint names, whole hands as one word."""
    words = [name for name in joints if skeleton.JOINT_NAMES.index(name) < 25]
    for side in ("left_hand", "right_hand"):
        fingers = {skeleton.JOINT_NAMES[j] for j in skeleton.JOINT_SETS[side]}
        if fingers <= set(joints):
            words.append(f"all of the {side.replace('_', ' ')}")
    return ", ".join(words)


def filled(text: str, block: str) -> str:
    """A card with its block replaced."""
    if not _BLOCK.search(text):
        raise ValueError(f"text: expected the markers {OPEN.strip()} and {CLOSE} in the card, got none.")
    return _BLOCK.sub(lambda _: f"{OPEN}{block}{CLOSE}", text)


def cards() -> dict[Path, str]:
    """Every card as it should be."""
    blocks = {FOLDER / "README.md": overview()}
    blocks |= {FOLDER / f"{info.name}.md": numbers(info) for info in poseprior.list_pretrained().values()}
    return {path: filled(path.read_text(), block) for path, block in blocks.items()}


def main() -> None:
    """Rewrite the cards."""
    parser_for(__doc__, data=False).parse_args()
    for path, text in cards().items():
        write_text(path, text)
        print(path)


if __name__ == "__main__":
    main()
