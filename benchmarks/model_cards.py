"""Write the numbers of the shipped weights into their cards (docs/models/*.md), from the metadata of the files.

    python benchmarks/model_cards.py

Only what stands between the markers changes. tests/test_model_cards.py fails when a card and its weights disagree.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import poseprior
from poseprior import skeleton
from poseprior.io.atomic import replacing
from poseprior.pretrained.loading import PretrainedPrior, pretrained_files

OPEN = "<!-- numbers: python benchmarks/model_cards.py -->\n"
CLOSE = "<!-- /numbers -->"
_BLOCK = re.compile(re.escape(OPEN) + ".*?" + re.escape(CLOSE), re.DOTALL)
FOLDER = Path(__file__).resolve().parents[1] / "docs" / "models"


def _parts(info: PretrainedPrior) -> dict[str, dict[str, dict[str, float]]]:
    return {name: value for name, value in info.metrics.items() if isinstance(value, dict)}


def _sign(info: PretrainedPrior) -> str:
    return "≤ " if any(p["test"]["log_prob_kind"] == "lower_bound" for p in _parts(info).values()) else ""


def overview() -> str:
    """The table of all shipped priors."""
    lines = ["| name | class | joints | parameters | file | test NLL |", "|---|---|---|---|---|---|"]
    for info in poseprior.list_pretrained():
        nll = ", ".join(f"{part} {_sign(info)}{numbers['test']['nll']:.2f}" for part, numbers in _parts(info).items())
        lines.append(
            f"| [`{info.name}`]({info.name}.md) | `{info.class_name}` | {len(info.joints)} | {info.num_parameters:,} | "
            f"{_size(info.num_bytes)} | {nll} |"
        )
    return "\n".join(lines) + "\n"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def numbers(info: PretrainedPrior) -> str:
    """The table of one card."""
    meta = poseprior.load(pretrained_files()[info.name]).metadata
    training, versions = meta["training"], meta["versions"]
    lines = [
        f"`{info.class_name}`, {info.num_parameters:,} parameters, {_size(info.num_bytes)}. Models {len(info.joints)} joints: "
        f"{_spans(info.joints)}.",
        "",
        "| held out | poses | NLL, Haar | NLL, rotvec | BPD |",
        "|---|---|---|---|---|",
    ]
    sign = _sign(info)
    for part, splits in _parts(info).items():
        for split, row in splits.items():
            lines.append(
                f"| {part}, {split} | {row['num_poses']:,} | {sign}{row['nll']:.2f} | {sign}{row['nll_rotvec']:.2f} | "
                f"{sign}{row['bpd']:.3f} |"
            )
    steps = (
        f"{training['steps']:,} steps, weights of step {training['best_step']:,}"
        if training["steps"]
        else "closed form"
    )
    smooth = training["jitter"] != info.metrics["jitter"]
    jitter = f" Trained with {training['jitter']} rad of jitter." if smooth else ""
    lines += [
        "",
        f"Jitter {info.metrics['jitter']} rad, nats a pose{'; `≤`: a bound' if sign else ''}. Weights selected on val. Trained "
        f"in {training['seconds']:,.0f} s ({steps}), seed {training['seed']}, torch {versions['torch']}, poseprior "
        f"{versions['poseprior']}.{jitter} Licence of the weights: {info.licence}.",
    ]
    return "\n".join(lines) + "\n"


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
    blocks |= {FOLDER / f"{info.name}.md": numbers(info) for info in poseprior.list_pretrained()}
    return {path: filled(path.read_text(), block) for path, block in blocks.items()}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for path, text in cards().items():
        with replacing(path) as temporary:
            temporary.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
