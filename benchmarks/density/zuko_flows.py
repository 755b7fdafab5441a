"""zuko's MAF or NSF on the 15 body joints that every frame observes: same charts, jitter, mirroring, early stopping.

    python -m benchmarks.density.zuko_flows NSF --data DIR --out runs/held_out/zuko-nsf.json

Writes one row of `benchmarks.density.held_out`, which runs this in a process of its own: importing zuko switches off the
argument checks of torch.distributions for the whole process.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path

import torch
from tqdm import trange

from benchmarks.common import JITTER, parser_for, write_json
from benchmarks.density.held_out import ALWAYS_OBSERVED
from poseprior import FitConfig
from poseprior.io import read_split
from poseprior.models.charts import TangentChart
from poseprior.training import BatchSource, InitialPoses, jittered_rows

#: Widths that come closest to the parameters of the order-agnostic prior (464,816 for 19 joints).
SHAPES = {"MAF": (5, (256, 256)), "NSF": (3, (128, 128))}
EVAL_EVERY, PATIENCE = 100, 8


def main() -> None:
    """Train one flow and write its row."""
    parser = parser_for(__doc__)
    parser.add_argument("flow", choices=sorted(SHAPES))
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--steps", type=int, default=3000, help="at most this many optimiser steps")
    args = parser.parse_args()
    import zuko  # not at the top: it changes torch.distributions

    torch.set_num_threads(1)
    torch.manual_seed(0)
    splits = read_split(args.data / "body")
    index = list(ALWAYS_OBSERVED)
    options = FitConfig(batch_size=512, subject_balance=0.5, jitter=JITTER).resolve({})
    chart = TangentChart(len(index))
    chart.fit(*InitialPoses(splits["train"], options).poses(ALWAYS_OBSERVED, max_poses=60_000))

    def held_out(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        pose, observed = jittered_rows(splits[split], ALWAYS_OBSERVED, JITTER, seed=0)
        z, volume = chart(pose[:, index], observed[:, index])
        return z.flatten(1), volume

    val, test = held_out("val"), held_out("test")
    transforms, hidden = SHAPES[args.flow]
    flow = getattr(zuko.flows, args.flow)(3 * len(index), transforms=transforms, hidden_features=hidden)
    average, best, best_value, stale = copy.deepcopy(flow), copy.deepcopy(flow), float("inf"), 0
    optimiser = torch.optim.AdamW(flow.parameters(), lr=1e-3, weight_decay=1e-2)
    source = BatchSource(splits["train"], ALWAYS_OBSERVED, options)

    @torch.no_grad()
    def nll(model: torch.nn.Module, z: torch.Tensor, volume: torch.Tensor) -> float:
        parts = zip(z.split(2048), volume.split(2048), strict=True)
        return -float(torch.cat([model().log_prob(a) - v for a, v in parts]).mean())

    start, steps = time.monotonic(), 0
    for step in (bar := trange(args.steps, desc=f"zuko {args.flow}")):
        z, _ = chart(*source.batch(step))
        loss = -flow().log_prob(z.flatten(1)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
        steps += 1
        with torch.no_grad():
            for a, p in zip(average.parameters(), flow.parameters(), strict=True):
                a.lerp_(p, 1.0 - min(0.998, (1 + step) / (10 + step)))
        if (step + 1) % EVAL_EVERY == 0:
            value = nll(average, *val)
            bar.set_postfix(val=f"{value:.2f}", best=f"{best_value:.2f}")
            if value < best_value:
                best, best_value, stale = copy.deepcopy(average), value, 0
            else:
                stale += 1
                if stale >= PATIENCE:
                    break
    seconds = time.monotonic() - start
    row = {
        "name": f"zuko {args.flow}", "parameters": sum(p.numel() for p in flow.parameters()), "val_always": best_value,
        "test_always": nll(best, *test), "steps": steps, "poses_per_second": steps * options.batch_size / seconds,
        "zuko": zuko.__version__,
    }  # fmt: skip
    write_json(args.out, row)
    print(row)


if __name__ == "__main__":
    main()
