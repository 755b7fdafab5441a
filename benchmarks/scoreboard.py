"""Every prior that ships, and the baselines, on held-out subjects: one command, one page.

    python benchmarks/scoreboard.py --data ../shared/data --out docs/scoreboard.md

Baselines are fitted into `--cache` (runs/scoreboard) and every prior's numbers kept there, by the hash of its weights:
interrupt and run again to go on. One thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import scoreboard_page
import torch
from hands import read_right
from kept_prior import file_stem, kept_prior
from scoreboard_metrics import measure_body, measure_hands

import poseprior
from poseprior import GaussianMixturePrior, GaussianPrior, GlobalFlow, JointFlow, PoseDataset, PosePrior
from poseprior.io import read_split
from poseprior.io.atomic import replacing
from poseprior.pretrained.loading import pretrained_files

#: Shipped priors of each table; the full Gaussian of the body is the shipped one.
SHIPPED = {
    "body": (
        "body-gaussian", "body-joint-flow", "body-global-flow", "body-order-agnostic", "body-vae", "whole-body",
        "body-mixture-smooth", "body-global-flow-smooth", "body-joint-flow-smooth", "body-order-agnostic-smooth",
    ),
    "hands": ("hand-vae", "hand-order-agnostic", "whole-body", "hand-mixture-smooth"),
}  # fmt: skip
#: Fitted here: (title, builder, minutes for those without a closed form).
BASELINES: dict[str, tuple[tuple[str, Callable[[], PosePrior], float | None], ...]] = {
    "body": (
        ("Gaussian, diagonal", lambda: GaussianPrior("body"), None),
        ("mixture of 4 Gaussians", lambda: GaussianMixturePrior("body", num_components=4), None),
        ("JointFlow, published", lambda: JointFlow("body", preset="published"), 1.5),
        ("GlobalFlow, published", lambda: GlobalFlow("body", preset="published"), 1.5),
    ),
    "hands": (
        ("Gaussian, diagonal", lambda: GaussianPrior("hands"), None),
        ("Gaussian, full", lambda: GaussianPrior("hands", covariance="full"), None),
        ("mixture of 8 Gaussians", lambda: GaussianMixturePrior("hands", num_components=8), None),
    ),
}


def baseline_file(part: str, title: str, splits: dict[str, PoseDataset], cache: Path) -> Path:
    """The weights of a baseline, fitted now if there are none."""
    path = cache / f"{part}-{file_stem(title)}.safetensors"
    _, build, minutes = next(row for row in BASELINES[part] if row[0] == title)
    kept_prior(path, build, lambda: splits, lambda own: replace(own, minutes=minutes))
    return path


def measured(part: str, path: Path, data: dict[str, Any], cache: Path, max_poses: int | None) -> dict[str, Any]:
    """The numbers of a file, from the cache or measured now."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = cache / f"{part}-{path.stem}.json"
    if record.exists():
        known = json.loads(record.read_text())
        if known["weights"] == digest and known["max_poses"] == max_poses:
            return known
    prior = poseprior.load(path)
    if part == "body":
        result = measure_body(prior, data["test"], max_poses=max_poses)
    else:
        result = measure_hands(prior, data["test"], data["right"], max_poses=max_poses)
    result |= {"weights": digest, "max_poses": max_poses, "bytes": path.stat().st_size}
    with replacing(record) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    return result


def read_data(folder: Path) -> dict[str, dict[str, Any]]:
    """Splits of body and hands, and the test hands as right hands in random order."""
    data: dict[str, dict[str, Any]] = {part: dict(read_split(folder / part)) for part in ("body", "hands")}
    right = read_right(folder / "hands" / "hands_test.npz").poses
    data["hands"]["right"] = right[torch.randperm(len(right), generator=torch.Generator().manual_seed(0))]
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with body/ and hands/")
    parser.add_argument("--out", type=Path, default=Path("docs/scoreboard.md"), help="the page to write")
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/scoreboard"), help="baselines and numbers are kept here"
    )
    parser.add_argument("--max-poses", type=int, help="score a random subset of the test poses; default all")
    parser.add_argument("--only", nargs="*", help="measure only these shipped priors, into the cache; writes no page")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.cache.mkdir(parents=True, exist_ok=True)
    data = read_data(args.data)
    rows: dict[str, list[dict[str, Any]]] = {}
    for part, shipped in SHIPPED.items():
        baselines = [] if args.only else [title for title, _, _ in BASELINES[part]]
        files = {title: baseline_file(part, title, data[part], args.cache) for title in baselines}
        files |= {f"`{name}`": pretrained_files()[name] for name in shipped if not args.only or name in args.only}
        rows[part] = []
        for title, path in files.items():
            print(f"{part}: {title}", flush=True)
            rows[part].append({"title": title, **measured(part, path, data[part], args.cache, args.max_poses)})
    if args.only:
        return
    with replacing(args.out) as temporary:
        temporary.write_text(scoreboard_page.page(rows, {part: data[part]["test"] for part in rows}))
    print(f"results: {args.out}, {args.cache}/*.json")


if __name__ == "__main__":
    main()
