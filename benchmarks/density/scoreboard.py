"""Every prior that ships, and baselines, on people that none of them was trained on: one command, one page.

    python -m benchmarks.density.scoreboard --data DIR --out docs/scoreboard.md

Bodies are those of another laboratory (`hdm05`) and, for the density, other people of the training rig. Baselines are
fitted into `--cache` (runs/scoreboard) on the data and with the noise of the shipped priors, and every prior's numbers are
stored there with the hash of its weights: interrupt and run again to go on. One thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import poseprior
from benchmarks.common import file_digest, file_stem, measure_once, parser_for, train_once, write_text
from benchmarks.density.scoreboard_metrics import measure_body, measure_hands, measure_latency
from benchmarks.density.scoreboard_page import page
from benchmarks.hands.right_hands import read_right
from benchmarks.priors import BODY, published_global_flow
from poseprior import GaussianPrior, PoseDataset, PosePrior, read_poses
from poseprior.recipes import RECIPES, read_parts

#: Shipped priors of each table; the full Gaussian of the body is the shipped one.
SHIPPED = {
    "body": (
        "body-gaussian", "body-mixture", "body-joint-flow", "body-global-flow", "body-order-agnostic", "body-vae",
        "whole-body",
    ),
    "hands": ("hand-vae", "hand-order-agnostic", "whole-body", "hand-mixture"),
}  # fmt: skip
#: Fitted here, with the training options of a recipe: (title, builder, recipe, minutes for those without a closed form).
BASELINES: dict[str, tuple[tuple[str, Callable[[], PosePrior], str, float | None], ...]] = {
    "body": (
        ("Gaussian, diagonal", BODY["Gaussian, diagonal"], "body-gaussian", None),
        ("JointFlow, published", BODY["JointFlow, published"], "body-joint-flow", 1.5),
        ("GlobalFlow, published", lambda: published_global_flow("body"), "body-global-flow", 1.5),
    ),
    "hands": (
        ("Gaussian, diagonal", lambda: GaussianPrior("hands"), "hand-mixture", None),
        ("Gaussian, full", lambda: GaussianPrior("hands", covariance="full"), "hand-mixture", None),
    ),
}


def baseline_file(part: str, title: str, splits: dict[str, PoseDataset], cache: Path) -> Path:
    """The weights of a baseline, fitted now if there are none."""
    path = cache / f"{part}-{file_stem(title)}.safetensors"
    _, build, recipe, minutes = next(row for row in BASELINES[part] if row[0] == title)
    options = {name: value for name, value in vars(RECIPES[recipe].fit_config()).items() if value is not None}
    if minutes is not None:
        options = {**options, "minutes": minutes, "max_steps": None}
    train_once(path, build, lambda: splits, options)
    return path


def measured(part: str, path: Path, data: dict[str, Any], cache: Path, max_poses: int) -> dict[str, Any]:
    """The numbers of a file, from the cache or measured now."""

    def measure() -> dict[str, Any]:
        prior = poseprior.load(path)
        if part == "body":
            return measure_body(prior, data["hdm05"], data["test"], max_poses=max_poses)
        return measure_hands(prior, data["test"], data["right"], max_poses=max_poses)

    conditions = {"weights": file_digest(path), "max_poses": max_poses}
    numbers = measure_once(cache / f"{part}-{path.stem}.json", conditions, measure)
    latency = measure_once(
        cache / f"latency-{path.stem}.json",
        {"weights": file_digest(path)},
        lambda: measure_latency(poseprior.load(path)),
    )
    return {**numbers, "latency_ms": latency}


def read_data(folder: Path) -> dict[str, dict[str, Any]]:
    """Splits of body and hands; the bodies of `hdm05`; the test hands as right hands in random order."""
    splits = {name: parts for name, parts in read_parts(folder, ("body", "hands")).items()}
    data: dict[str, dict[str, Any]] = {
        part: {name: parts[part] for name, parts in splits.items()} for part in ("body", "hands")
    }
    data["body"]["hdm05"] = read_poses(folder / "smplx_body" / "hdm05_poses.npz")
    right = read_right(folder / "hands" / "hands_test.npz").poses
    data["hands"]["right"] = right[torch.randperm(len(right), generator=torch.Generator().manual_seed(0))]
    return data


def main() -> None:
    """Measure what the cache does not hold, and write the page."""
    parser = parser_for(__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/scoreboard.md"), help="the page to write")
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/scoreboard"), help="where baselines and numbers are stored"
    )
    parser.add_argument("--max-poses", type=int, default=4000, help="of each test set, at random; default %(default)s")
    parser.add_argument("--only", nargs="*", choices=sorted({name for names in SHIPPED.values() for name in names}),
                        metavar="PRIOR", help="measure only these shipped priors, into the cache; writes no page")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = read_data(args.data)
    rows: dict[str, list[dict[str, Any]]] = {}
    for part, shipped in SHIPPED.items():
        baselines = [] if args.only else [title for title, *_ in BASELINES[part]]
        files = {title: baseline_file(part, title, data[part], args.cache) for title in baselines}
        known = poseprior.list_pretrained()
        files |= {f"`{name}`": known[name].path for name in shipped if not args.only or name in args.only}
        rows[part] = []
        for title, path in files.items():
            print(f"{part}: {title}", flush=True)
            rows[part].append({"title": title, **measured(part, path, data[part], args.cache, args.max_poses)})
            print(f"  NLL {rows[part][-1]['nll']:.2f}")
    if args.only:
        print(f"results: {args.cache}/*.json")
        return
    write_text(args.out, page(rows, data, args.max_poses))
    print(f"results: {args.out}, {args.cache}/*.json")


if __name__ == "__main__":
    main()
