"""Priors that ship beside other libraries' models with as many parameters, in one run on one thread.

    python -m benchmarks.speed.peers [--only body-global-flow] [--batches 1 64 1024]

For each prior and its peers: log-density with its gradient to the pose, 1,024 samples, and training steps; for large
batches of priors that ship, the share of the matrix multiplication that this processor does at best. Peers: zuko's MAF and NSF
(the width that comes closest to the prior's parameters), normflows' spline couplings, scikit-learn's mixture (a density
without gradient), the published joint flow as a Python loop over joints, and human_body_prior's VPoser beside the encoder
(`posterior`) and decoder of `body-vae`. Peers get 63 coordinates a pose, ready made; priors get rotvecs.

The masks of an autoregressive flow set about half of its stored weights to zero; these do not count as parameters. A second
MAF, as many of whose weights are stored as the prior has, is beside two priors.

Every model runs in a process of its own, and all of them take turns; the fastest round counts, processor time. Needs
`pip install zuko normflows scikit-learn`, and human_body_prior for VPoser; what is not installed is named and left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import poseprior
from benchmarks.common import (
    gradient_step,
    machine_line,
    markdown_head,
    markdown_row,
    parser_for,
    processor_ms,
    write_json,
)
from benchmarks.priors import published_joint_flow
from benchmarks.speed import peer_models
from benchmarks.speed.joint_flow_loop import LoopJointFlow
from benchmarks.speed.peer_models import Timed
from poseprior import BodyVAE, FitConfig
from poseprior.io import synthetic_poses

BATCHES = (1, 64, 1024, 4096, 16384)
#: Batches for which the share of the best matrix multiplication is printed.
LARGE = (4096, 16384)
TRAIN_BATCH = 512
#: Peers by the prior that they stand beside, and the package that each needs.
PEERS: dict[str, dict[str, str]] = {
    "body-gaussian": {"sklearn mixture": "sklearn"},
    "body-mixture": {"sklearn mixture": "sklearn"},
    "body-joint-flow": {"zuko MAF": "zuko", "zuko MAF, stored": "zuko", "zuko NSF": "zuko", "normflows": "normflows"},
    "body-global-flow": {"zuko MAF": "zuko", "zuko MAF, stored": "zuko", "normflows": "normflows"},
    "body-order-agnostic": {"zuko MAF": "zuko", "zuko NSF": "zuko", "normflows": "normflows"},
    "body-vae": {"VPoser": "human_body_prior"},
    "JointFlow.published": {"loop": "torch"},
}


def timed(prior: str, peer: str) -> Timed:
    """What is timed of a prior ("" for the peer), or of one of its peers."""
    if prior == "JointFlow.published":
        flow = published_joint_flow("all").eval().requires_grad_(False)
        log_prob = LoopJointFlow(flow).eval().requires_grad_(False).log_prob if peer else flow.log_prob
        return Timed(flow.num_parameters, lambda x: gradient_step(log_prob, x), _random_poses)
    ours = poseprior.load(prior)
    if peer == "sklearn mixture":
        return peer_models.sklearn_mixture(getattr(ours, "num_components", 1))
    if peer == "VPoser":
        return peer_models.vposer()
    if peer == "normflows":
        return peer_models.normflows_spline(ours.num_parameters)
    if peer:
        kind, *counted = peer.removeprefix("zuko ").split(", ")
        return peer_models.zuko_flow(kind, ours.num_parameters, stored="stored" in counted)
    if isinstance(ours, BodyVAE):
        autoencoder = ours

        def energy(pose: Tensor) -> Tensor:
            return autoencoder.decode(autoencoder.posterior(pose).mean).flatten(1).sum(1)

        return Timed(ours.num_parameters, lambda x: gradient_step(energy, x), ours.sample, lambda: ours.sample(1024))
    return Timed(ours.num_parameters, lambda x: gradient_step(ours.log_prob, x), ours.sample, lambda: ours.sample(1024))


def _random_poses(count: int) -> Tensor:
    return 0.3 * torch.randn(count, 55, 3, generator=torch.Generator().manual_seed(0))


def measure(prior: str, peer: str, batches: list[int], seconds: float) -> dict[str, Any]:
    """All numbers of one model."""
    model = timed(prior, peer)
    row: dict[str, Any] = {"parameters": model.num_parameters, "note": model.note}
    for batch in batches:
        step = model.step(model.inputs(batch))
        row[f"ms at {batch}"] = processor_ms(step, seconds=seconds)
        if not peer and batch in LARGE and prior.startswith("body-"):
            with FlopCounterMode(display=False) as counter:
                step()
            row[f"flops at {batch}"] = counter.get_total_flops()
    if model.sample is not None:
        row["sample ms"] = processor_ms(model.sample, seconds=seconds)
    if model.loss is not None and model.module is not None:
        row["training"] = _peer_training_rate(model, seconds)
    elif not peer and prior.startswith("body-") and not poseprior.load(prior).closed_form:
        row["training"] = _training_rate(prior, steps=20)
    return row


def _peer_training_rate(model: Timed, seconds: float) -> float:
    """Poses a second of plain training steps."""
    assert model.module is not None and model.loss is not None
    module, loss, x = model.module.train().requires_grad_(True), model.loss, peer_models.coordinates(TRAIN_BATCH)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        loss(x).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()

    return 1e3 * TRAIN_BATCH / processor_ms(step, seconds=seconds)


def _training_rate(name: str, steps: int) -> float:
    """Poses a second of `fit`, everything that its steps do: a long fit minus a short one, the best of three."""
    poses, shipped = synthetic_poses(4000, seed=0), poseprior.load(name)

    def seconds(count: int) -> float:
        prior = type(shipped).from_config(shipped.get_config())
        start = time.process_time()
        prior.fit(poses, config=FitConfig(max_steps=count, batch_size=TRAIN_BATCH, progress=False))
        return time.process_time() - start

    seconds(3)  # warms up
    return max(steps * TRAIN_BATCH / (seconds(3 + steps) - seconds(3)) for _ in range(3))


def matmul_peak() -> float:
    """Floating-point operations a second of the largest of a few square matrix multiplications."""
    best = 0.0
    for size in (256, 512, 1024):
        a = torch.randn(size, size)
        best = max(best, 2.0 * size**3 / (1e-3 * processor_ms(lambda a=a: a @ a, seconds=0.5)))  # type: ignore[misc]
    return best


def in_own_process(prior: str, peer: str, batches: list[int], seconds: float) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.peers", "--one", prior, peer, "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, "--batches", *map(str, batches)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    row: dict[str, Any] = json.loads(done.splitlines()[-1])
    return row


def fastest(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The best of every number over the rounds: least time, most poses a second."""
    best = dict(rows[0])
    for row in rows[1:]:
        for key, value in row.items():
            if "ms" in key:
                best[key] = min(best[key], value)
            elif key == "training":
                best[key] = max(best[key], value)
    return best


def print_tables(rows: dict[str, dict[str, Any]], batches: list[int], peak: float) -> None:
    """Densities, sampling and training; a peer's figures are followed by how many times as long it takes."""
    print("\nLog-density and gradient, ms; in brackets how many times as long as the prior\n")
    print(
        markdown_head(["model", "parameters", *(f"batch {b}" for b in batches), "1,024 samples", "training, poses/s"])
    )
    for key, row in rows.items():
        prior, peer = key.split("/")
        ours = rows[f"{prior}/"]
        cells = [f"{row[f'ms at {b}']:,.2f}{_ratio(row, ours, f'ms at {b}', peer)}" for b in batches]
        cells.append(f"{row['sample ms']:,.1f}{_ratio(row, ours, 'sample ms', peer)}" if "sample ms" in row else "-")
        cells.append(f"{row['training']:,.0f}" if "training" in row else "-")
        note = f" ({row['note']})" if row["note"] else ""
        name = f"{peer.removesuffix(', stored')}{note}" if peer else f"**{prior}**"
        print(markdown_row([name, f"{row['parameters']:,}", *cells]))
    large = [b for b in batches if b in LARGE]
    if large:
        print(f"\nShare of the best matrix multiplication of this processor, {peak / 1e9:,.0f} GFLOP/s\n")
        print(markdown_head(["prior", *(f"batch {b}" for b in large)]))
        for key, row in rows.items():
            if f"flops at {large[0]}" in row:
                rates = [row[f"flops at {b}"] / (1e-3 * row[f"ms at {b}"]) for b in large]
                print(markdown_row([key[:-1], *(f"{rate / peak:.0%}" for rate in rates)]))


def _ratio(row: dict[str, Any], ours: dict[str, Any], key: str, peer: str) -> str:
    if not peer or key not in ours:
        return ""
    ratio = row[key] / ours[key]
    return f" ({ratio:.2f})" if ratio < 2 else f" ({ratio:.1f})"


def main() -> None:
    """Measure and print."""
    parser = parser_for(__doc__, data=False)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number; default %(default)s")
    parser.add_argument("--rounds", type=int, default=2, help="turns that every model takes; default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/peers.json"), help="where the numbers are written")
    parser.add_argument("--one", nargs=2, metavar=("PRIOR", "PEER"), help="measure one model and print it as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        print(json.dumps(measure(args.one[0], args.one[1], args.batches, args.seconds)))
        return
    models = []
    for prior in args.only:
        models.append((prior, ""))
        for peer, package in PEERS[prior].items():
            if peer_models.missing(package):
                print(f"left out: {peer} beside {prior}, {package} is not installed")
            else:
                models.append((prior, peer))
    found: dict[str, list[dict[str, Any]]] = {f"{prior}/{peer}": [] for prior, peer in models}
    for prior, peer in tqdm(models * args.rounds, desc="models"):
        found[f"{prior}/{peer}"].append(in_own_process(prior, peer, args.batches, args.seconds))
    rows = {key: fastest(each) for key, each in found.items()}
    peak = matmul_peak()
    write_json(args.out, {"machine": machine_line(), "matmul peak": peak, "rows": rows})
    print(f"\n{machine_line()}; numbers in {args.out}")
    print_tables(rows, args.batches, peak)


if __name__ == "__main__":
    main()
