"""What the hand-written gradients of `poseprior.models.fused` gain over the eager models, in one run on one thread.

    python -m benchmarks.speed.fused_densities

For each prior that has one: log_prob with its gradient to the pose, through the fused density and through the eager model
(which is what weights that take gradients use; both have the hand-written gradients of the charts). The two take turns, and
the fastest tenth of the processor times counts, so that other processes on the machine disturb little. A fused density is
worth its lines where it gains 1.3 times at batch 1 or 1.5 times at batch 64.
"""

from __future__ import annotations

import torch

import poseprior
from benchmarks.common import gradient_step, in_turns_ms, machine_line, markdown_head, markdown_row, parser_for

BATCHES = (1, 64)
#: Shipped priors with a fused density.
SHIPPED = ("body-joint-flow", "body-global-flow", "body-order-agnostic", "hand-order-agnostic", "whole-body")


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
        fused_prior, eager_prior, cells = poseprior.load(name), poseprior.load(name).requires_grad_(True), []
        for batch in BATCHES:
            pose = fused_prior.sample(batch, generator=torch.Generator().manual_seed(0))
            steps = [gradient_step(prior.log_prob, pose) for prior in (fused_prior, eager_prior)]
            fused, eager = in_turns_ms(steps, seconds=args.seconds)
            cells += [f"{fused:.2f}", f"{eager:.2f}", f"{eager / fused:.2f}"]
        print(markdown_row([name, *cells]), flush=True)


if __name__ == "__main__":
    main()
