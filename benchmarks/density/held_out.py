"""Every prior on the body poses of held-out subjects, in one run: NLL, completion, and zuko's flows beside them.

    python -m benchmarks.density.held_out --data DIR --out runs/held_out

Trains what is not in `--out` yet (interrupt and run again to go on), selects on the val subjects, scores the test subjects
once, and writes `held_out.md` and `held_out.json` there.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import JITTER, file_stem, markdown_table, parser_for, train_once, write_json, write_text
from benchmarks.priors import BODY
from poseprior import PoseDataset, PosePrior, skeleton
from poseprior.evaluation import evaluate
from poseprior.io import read_split

#: Joints that every frame of the data observes: what flows that cannot take masks are compared on.
ALWAYS_OBSERVED = tuple(j for j in skeleton.JOINT_SETS["body"] if j not in (10, 11, 13, 14, 20, 21))
PATTERNS = ("left_arm", "right_arm", "legs", "trunk")
ZUKO = ("zuko MAF", "zuko NSF")


def always_observed_nll(prior: PosePrior, data: PoseDataset) -> float | None:
    """NLL of the always-observed joints alone, for priors that can leave the others out."""
    pose, observed = data.all_poses()
    only = torch.zeros(skeleton.NUM_JOINTS, dtype=torch.bool)
    only[list(ALWAYS_OBSERVED)] = True
    try:
        return nll(prior, PoseDataset(pose, observed & only))
    except ValueError:
        return None


def nll(prior: PosePrior, data: PoseDataset) -> float:
    """Mean negative log-density, Haar nats."""
    return evaluate(prior, data, jitter=JITTER, num_samples=0, num_completed=0)["nll"]


def measure(name: str, out: Path, splits: dict[str, PoseDataset]) -> dict[str, Any]:
    """One row of the table."""
    prior = train_once(out / file_stem(name) / "prior.safetensors", BODY[name], lambda: splits)
    test = evaluate(prior, splits["test"], jitter=JITTER)
    return {
        "name": name, "parameters": prior.num_parameters, "val": nll(prior, splits["val"]), "test": test["nll"],
        "test_rotvec": test["nll_rotvec"], "test_always": always_observed_nll(prior, splits["test"]),
        "completion": test["completion"], "samples": test["samples"], "num_poses": test["num_poses"],
        "training": prior.metadata.get("training", {}),
    }  # fmt: skip


def measure_zuko(name: str, out: Path, data: Path) -> dict[str, Any]:
    """zuko in a process of its own: importing it changes torch.distributions for the whole process."""
    path = out / f"{file_stem(name)}.json"
    if not path.exists():
        command = [sys.executable, "-m", "benchmarks.density.zuko_flows", name.split()[1], "--data", str(data)]
        subprocess.run([*command, "--out", str(path)], check=True)
    return json.loads(path.read_text())


def page(rows: list[dict[str, Any]]) -> str:
    """Both tables."""
    densities = []
    for row in rows:
        values = [row.get(key) for key in ("val", "test", "test_rotvec", "test_always")]
        cells = ["-" if value is None else f"{value:.2f}" for value in values]
        densities.append([row["name"], f"{row['parameters']:,}", *cells])
    completed = [[row["name"], *_completion_cells(row["completion"])] for row in rows if row.get("completion")]
    head = ("prior", "parameters", "val", "test", "test, rotvec", f"test, {len(ALWAYS_OBSERVED)} joints")
    return (
        markdown_table(head, densities)
        + "\nCompletion of hidden parts: conditional log-likelihood (nats, higher is better), best-of-10 and mean joint\n"
        + "error (mm).\n\n"
        + markdown_table(("prior", *(p.replace("_", " ") for p in PATTERNS)), completed)
    )


def _completion_cells(completion: dict[str, dict[str, float | None]]) -> list[str]:
    cells = []
    for pattern in PATTERNS:
        found = completion.get(pattern, {})
        values = [found.get(key) for key in ("cond_log_prob", "best_of_10_mm", "mean_mm")]
        cells.append(" / ".join("-" if value is None else f"{value:.1f}" for value in values))
    return cells


def main() -> None:
    """Train what is missing, score it, print the tables."""
    parser = parser_for(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/held_out"))
    parser.add_argument("--only", nargs="*", default=[*BODY, *ZUKO], choices=[*BODY, *ZUKO], metavar="PRIOR",
                        help="rows to measure, of: %(choices)s; default all")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if set(args.only) & set(ZUKO) and importlib.util.find_spec("zuko") is None:
        parser.error("the zuko rows need zuko: pip install zuko, or name other rows with --only")
    torch.set_num_threads(args.threads)
    splits = read_split(args.data / "body")
    rows = []
    for name in args.only:
        rows.append(measure_zuko(name, args.out, args.data) if name in ZUKO else measure(name, args.out, splits))
        write_json(args.out / "held_out.json", rows)
        write_text(args.out / "held_out.md", page(rows))
    print(
        f"test subjects: {splits['test'].num_subjects}, {len(splits['test']):,} poses, jitter {JITTER} rad, Haar nats\n"
    )
    print(page(rows))
    print(f"results: {args.out / 'held_out.md'}, {args.out / 'held_out.json'}")


if __name__ == "__main__":
    main()
