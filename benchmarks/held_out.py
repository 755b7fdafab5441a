"""Every prior on the body poses of held-out subjects, in one run: NLL, completion, and zuko's flows beside them.

    python benchmarks/held_out.py --data ../shared/data/body --out runs/held_out

Trains what is not in `--out` yet (interrupt and run again to go on), selects on the val subjects, scores the test subjects
once, and writes `held_out.md` and `held_out.json` there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kept_prior import file_stem, kept_prior

import poseprior
from poseprior import PosePrior, skeleton
from poseprior.evaluation.report import evaluate
from poseprior.io import PoseDataset, read_split
from poseprior.io.atomic import replacing
from poseprior.training.validation import jittered_rows, mean_nll

#: Joints that every frame of the shared data observes: what flows that cannot take masks are compared on.
ALWAYS = tuple(j for j in skeleton.JOINT_SETS["body"] if j not in (10, 11, 13, 14, 20, 21))
JITTER = 0.02
PATTERNS = ("left_arm", "right_arm", "legs", "trunk")

MODELS: dict[str, Callable[[], PosePrior]] = {
    "Gaussian, diagonal": lambda: poseprior.GaussianPrior("body"),
    "Gaussian, full": lambda: poseprior.GaussianPrior("body", covariance="full"),
    "mixture of 4": lambda: poseprior.GaussianMixturePrior("body", num_components=4),
    "mixture of 8": lambda: poseprior.GaussianMixturePrior("body", num_components=8),
    "mixture of 16": lambda: poseprior.GaussianMixturePrior("body", num_components=16),
    "JointFlow, published": lambda: poseprior.JointFlow("body", preset="published"),
    "JointFlow": lambda: poseprior.JointFlow("body"),
    "GlobalFlow": lambda: poseprior.GlobalFlow("body"),
    "OrderAgnosticPrior": lambda: poseprior.OrderAgnosticPrior("body"),
}
PEERS = ("zuko MAF", "zuko NSF")


def always_nll(prior: PosePrior, data: PoseDataset) -> float | None:
    """NLL of the always-observed joints alone, for priors that can leave the others out."""
    pose, observed = jittered_rows(data, ALWAYS, JITTER, seed=0)
    only = torch.zeros(skeleton.NUM_JOINTS, dtype=torch.bool)
    only[list(ALWAYS)] = True
    try:
        return mean_nll(prior, pose, observed & only)
    except ValueError:
        return None


def measure(name: str, out: Path, splits: dict[str, PoseDataset]) -> dict[str, Any]:
    """One row of the table."""
    prior = kept_prior(out / file_stem(name) / "prior.safetensors", MODELS[name], lambda: splits)
    pose, observed = jittered_rows(splits["val"], prior.joints, JITTER, seed=0)
    test = evaluate(prior, splits["test"], jitter=JITTER)
    return {
        "name": name, "parameters": prior.num_parameters, "val": mean_nll(prior, pose, observed), "test": test["nll"],
        "test_rotvec": test["nll_rotvec"], "test_always": always_nll(prior, splits["test"]),
        "completion": test["completion"], "samples": test["samples"], "num_poses": test["num_poses"],
        "training": prior.metadata.get("training", {}),
    }  # fmt: skip


def peer(name: str, out: Path, data: Path) -> dict[str, Any]:
    """zuko in a process of its own: importing it changes torch.distributions for the whole process."""
    path = out / f"{file_stem(name)}.json"
    if not path.exists():
        command = [sys.executable, str(Path(__file__).with_name("zuko_peer.py")), name.split()[1], "--data", str(data)]
        subprocess.run([*command, "--out", str(path)], check=True)
    return json.loads(path.read_text())


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = "| prior | parameters | val | test | test, rotvec | test, 15 joints |"
    lines = [head, "|---|---|---|---|---|---|"]
    for row in rows:
        numbers = [row.get(key) for key in ("val", "test", "test_rotvec", "test_always")]
        cells = ["-" if n is None else f"{n:.2f}" for n in numbers]
        lines.append(f"| {row['name']} | {row['parameters']:,} | {' | '.join(cells)} |")
    lines += [
        "", "Completion of hidden parts: conditional log-likelihood (nats, higher is better), best-of-10 and mean joint",
        "error (mm).", "",
        "| prior | " + " | ".join(p.replace("_", " ") for p in PATTERNS) + " |", "|---" * (len(PATTERNS) + 1) + "|",
    ]  # fmt: skip
    for row in rows:
        if row.get("completion"):
            cells = []
            for pattern in PATTERNS:
                got = row["completion"].get(pattern, {})
                keys = ("cond_log_prob", "best_of_10_mm", "mean_mm")
                cells.append(" / ".join("-" if got.get(k) is None else f"{got[k]:.1f}" for k in keys))
            lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/body"))
    parser.add_argument("--out", type=Path, default=Path("runs/held_out"))
    parser.add_argument("--only", nargs="*", default=[*MODELS, *PEERS], help="rows to measure")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    splits = read_split(args.data)
    rows = []
    for name in args.only:
        rows.append(peer(name, args.out, args.data) if name in PEERS else measure(name, args.out, splits))
        with replacing(args.out / "held_out.json") as temporary:
            temporary.write_text(json.dumps(rows, indent=2))
        with replacing(args.out / "held_out.md") as temporary:
            temporary.write_text(table(rows))
    print(
        f"test subjects: {splits['test'].num_subjects}, {len(splits['test']):,} poses, jitter {JITTER} rad, Haar nats\n"
    )
    print(table(rows))
    print(f"results: {args.out / 'held_out.md'}, {args.out / 'held_out.json'}")


if __name__ == "__main__":
    main()
