"""What the hand-written gradients of `poseprior.models.fused` gain over the eager models, in one run on one thread.

    python -m benchmarks.speed.fused_densities

For each prior that has one: log_prob with its gradient to the pose, through the fused density and through the eager model
(which is what weights that take gradients use; both have the hand-written gradients of the charts). The two take turns, and
the fastest tenth of the processor times counts, so that other processes on the machine disturb little. A fused density is
worth its lines where it gains 1.3 times at batch 1 or 1.5 times at batch 64.
"""

from __future__ import annotations

import statistics
import time

import torch

import poseprior
from benchmarks.common import gradient_step, machine_line, markdown_head, markdown_row, parser_for
from poseprior import PosePrior

BATCHES = (1, 64)
#: Shipped priors with a fused density.
SHIPPED = ("body-joint-flow", "body-global-flow", "body-order-agnostic", "hand-order-agnostic", "whole-body")


def processor_ms(prior: PosePrior, batch: int, seconds: float) -> tuple[float, float]:
    """Processor time of value and gradient, fused and eager, in milliseconds: the fastest tenth ends here."""
    pose = prior.sample(batch, generator=torch.Generator().manual_seed(0))
    step = gradient_step(prior.log_prob, pose)
    times: dict[bool, list[float]] = {False: [], True: []}
    end = time.perf_counter() + seconds
    while len(times[True]) < 9 or time.perf_counter() < end:
        for eager in (False, True):
            prior.requires_grad_(eager)
            step()
            for _ in range(5 if batch == 1 else 1):
                start = time.process_time()
                step()
                times[eager].append(time.process_time() - start)
    prior.requires_grad_(False)
    fastest = {key: 1e3 * statistics.quantiles(each, n=10)[0] for key, each in times.items()}
    return fastest[False], fastest[True]


def main() -> None:
    """Measure and print one row for each prior."""
    parser = parser_for(__doc__, data=False)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each cell; default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line() + "\n")
    heads = [f"batch {batch}: {what}" for batch in BATCHES for what in ("fused, ms", "eager, ms", "gain")]
    print(markdown_head(["prior", *heads]))
    for name in SHIPPED:
        prior, cells = poseprior.load(name), []
        for batch in BATCHES:
            fused, eager = processor_ms(prior, batch, args.seconds)
            cells += [f"{fused:.2f}", f"{eager:.2f}", f"{eager / fused:.2f}"]
        print(markdown_row([name, *cells]), flush=True)


if __name__ == "__main__":
    main()
