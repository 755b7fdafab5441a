"""Shipped priors on a GPU, beside zuko's flows of the same size, in one run.

    python -m benchmarks.speed.gpu [--priors body-joint-flow] [--compiled]

Log-density with its gradient to the pose, 1,024 samples, and training steps: median wall times until the GPU has finished.
`--compiled` adds a row for each prior after `prior.compile()`. zuko's flows get 63 coordinates a pose, ready made, and stand
beside the flows; without `pip install zuko` they are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

import poseprior
from benchmarks.common import gradient_step, machine_line, markdown_head, markdown_row, median_ms, parser_for
from benchmarks.speed import peer_models
from poseprior import FitConfig, PosePrior
from poseprior.io import synthetic_poses

BATCHES = (1, 1024, 16384, 131072)
TRAIN_BATCH = 8192
#: Priors that zuko's flows stand beside.
FLOWS = ("body-joint-flow", "body-global-flow")


def main() -> None:
    """Print one row for each model."""
    parser = parser_for(__doc__, data=False)
    names = sorted(poseprior.list_pretrained())
    parser.add_argument("--priors", nargs="+", choices=names, default=names, help="default: all that ship")
    parser.add_argument("--compiled", action="store_true", help="after `prior.compile()` too, which takes minutes")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number; default %(default)s")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no GPU here")
    print(f"{machine_line()}; {torch.cuda.get_device_name()}\n")
    heads = [f"batch {batch:,}, ms" for batch in BATCHES]
    print(markdown_head(["model", "parameters", *heads, "1,024 samples, ms", f"training at {TRAIN_BATCH:,}, poses/s"]))
    for name in args.priors:
        prior = poseprior.load(name, device="cuda")
        row = _row(prior, args.seconds)
        print(markdown_row([f"**{name}**", f"{prior.num_parameters:,}", *row, _training(prior)]), flush=True)
        if args.compiled:
            prior.compile()
            print(markdown_row([f"{name}, compiled", "", *_row(prior, args.seconds), ""]), flush=True)
        if name in FLOWS and not peer_models.missing("zuko"):
            for kind in ("MAF", "NSF"):
                _print_peer(kind, prior.num_parameters, args.seconds)


def _row(prior: PosePrior, seconds: float) -> list[str]:
    some = prior.sample(1024, generator=torch.Generator("cuda").manual_seed(0))
    poses = {batch: some.repeat(-(-batch // 1024), 1, 1)[:batch] for batch in BATCHES}
    steps = [gradient_step(prior.log_prob, poses[batch]) for batch in BATCHES]
    return [_ms(step, seconds) for step in (*steps, lambda: prior.sample(1024))]


def _training(prior: PosePrior) -> str:
    """Poses a second of `fit`, everything that its steps do: a long fit minus a short one."""
    if prior.closed_form:
        return "-"
    poses = synthetic_poses(20000, seed=0)

    def seconds(steps: int) -> float:
        fresh = type(prior).from_config(prior.get_config())
        start = time.perf_counter()
        fresh.fit(poses, config=FitConfig(max_steps=steps, batch_size=TRAIN_BATCH, progress=False))
        torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(3)  # warms up
    return f"{40 * TRAIN_BATCH / (seconds(43) - seconds(3)):,.0f}"


def _print_peer(kind: str, num_parameters: int, seconds: float) -> None:
    peer = peer_models.zuko_flow(kind, num_parameters)
    assert peer.module is not None and peer.sample is not None and peer.loss is not None
    module, loss = peer.module.cuda(), peer.loss
    steps = [peer.step(peer_models.coordinates(batch).cuda()) for batch in BATCHES]
    row = [_ms(step, seconds) for step in (*steps, peer.sample)]
    x = peer_models.coordinates(TRAIN_BATCH).cuda()
    optimiser = torch.optim.AdamW(module.train().requires_grad_(True).parameters(), lr=1e-3)

    def train() -> None:
        optimiser.zero_grad()
        loss(x).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()

    rate = f"{1e3 * TRAIN_BATCH / float(_ms(train, seconds)):,.0f}"
    print(markdown_row([f"zuko {kind}", f"{peer.num_parameters:,}", *row, rate]), flush=True)


def _ms(step: Callable[[], object], seconds: float) -> str:
    """Median milliseconds of a call, until the GPU has finished; "out of memory" where it does not fit."""

    def finished() -> None:
        step()
        torch.cuda.synchronize()

    try:
        return f"{median_ms(finished, seconds=seconds, least=5):.2f}"
    except torch.OutOfMemoryError:
        return "out of memory"


if __name__ == "__main__":
    main()
